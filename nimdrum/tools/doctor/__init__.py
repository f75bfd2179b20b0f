"""What may keep the engine from starting, looked at before it does."""
