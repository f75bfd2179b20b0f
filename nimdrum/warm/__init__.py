"""Filling a model cache ahead of time, with NIM's own tools, inside its image."""
