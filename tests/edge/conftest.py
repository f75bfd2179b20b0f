"""Makes the fixtures of `edge_world`, `shell` and `upload_world` known to all tests in this folder."""

from edge_world import no_key_is_printed, s3, s3_process, world
from shell import shell
from upload_world import at_home, code_dir, fake, upload_world

__all__ = ["at_home", "code_dir", "fake", "no_key_is_printed", "s3", "s3_process", "shell", "upload_world", "world"]
