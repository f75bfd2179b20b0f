"""Bringing environment and model into DataRobot."""
