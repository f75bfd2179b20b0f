"""The steps of an upload: each is one request that writes, or one wait, and returns what is there afterwards."""
