"""The one process that owns the engine.

Start with `run.py`, its loop; `policy.py` decides, `state.py` is what others see. DRUM processes attach to it from
`nimdrum.session`.
"""
