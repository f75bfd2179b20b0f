"""What start-up failures come from, looked at before the start: facts are gathered at the edge, then judged."""
