"""Rows answered on many machines: Ray Data reads, spreads, counts and writes; ours is what answers one batch.

Ray is an extra, `pip install 'nimdrum[ray]'`; only `pipeline.py` and `checkpoints.py` import it (docs/scale.md).
"""
