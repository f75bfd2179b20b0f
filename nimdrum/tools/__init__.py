"""A person's door: `python -m nimdrum`."""

from pathlib import Path

CODE_DIR = Path(__file__).resolve().parents[2]
"""The folder that holds this package: the code folder, unless a command is told another."""
