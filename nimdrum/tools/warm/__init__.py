"""Filling a cache or a folder of weights with NIM's own tools."""
