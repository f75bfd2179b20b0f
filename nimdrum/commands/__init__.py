"""The longer commands of `python -m nimdrum`, one file each."""
