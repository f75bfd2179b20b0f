"""The HTTP face: what DRUM's server answers besides predictions, and how requests reach the engine."""
