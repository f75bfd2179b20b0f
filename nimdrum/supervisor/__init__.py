"""The one process that owns the engine, and what the DRUM processes need to attach to it.

Start with `attach.py` (the DRUM side) and `run.py` (the supervisor's own loop); `policy.py` decides.
"""
