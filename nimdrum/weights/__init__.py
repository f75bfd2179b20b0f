"""Fetching weights from a store, in a process of its own.

Begin with `tree.py` for the fetch and `child.py` for the process that it runs in.
"""

from nimdrum.weights.child import fetch

__all__ = ["fetch"]
