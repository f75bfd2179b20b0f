"""What one DRUM process holds of an engine: its attachment, connections and callers, what it counts and traces."""
