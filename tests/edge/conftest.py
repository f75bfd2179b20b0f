"""Makes the fixtures of `edge_world` known to all tests in this folder."""

from edge_world import no_key_is_printed, world
from shell import shell

__all__ = ["no_key_is_printed", "shell", "world"]
