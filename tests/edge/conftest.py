"""Makes the fixtures of `edge_world`, `s3_server`, `shell` and `upload_world` known to all tests in this folder."""

from edge_world import no_key_is_printed, world
from s3_server import s3, s3_process
from shell import shell
from upload_world import at_home, code_dir, fake, upload_world

__all__ = ["at_home", "code_dir", "fake", "no_key_is_printed", "s3", "s3_process", "shell", "upload_world", "world"]
