"""What to start, and all that is known of an engine: plan, route of its weights, causes of failure, words on the wire."""
