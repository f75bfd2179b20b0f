"""DRUM's server for a person at a terminal: one line when it is ready, and quiet afterwards."""
