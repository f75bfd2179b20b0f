"""What to start, and all that is known of an engine: plan, weights' route, causes of failure, words on the wire."""
