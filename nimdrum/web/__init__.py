"""Chat and everything else that DRUM's server answers besides predictions."""
