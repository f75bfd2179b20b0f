"""Weights: by which route an engine gets them (`route.py`), and fetching them from a store (`fetch`).

Begin with `tree.py` for the fetch and `child.py` for the process that it runs in.
"""

from nimdrum.weights.child import fetch

__all__ = ["fetch"]
