"""Rows to requests to completions: reading, sending many at once, retrying what is safe, one row out for each row in.

`score.py` is the way through; `answer.py`, `retry.py`, `limiter.py`, `request.py` and `frame.py` are pure.
"""
