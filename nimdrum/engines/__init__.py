"""What to start: one room for each kind of engine, and the choice between them."""
