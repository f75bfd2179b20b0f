"""How many files and connections this process may have open at once (RLIMIT_NOFILE, `ulimit -n`)."""

import resource
from pathlib import Path

MOST = 65_536
"""Up to here the soft limit is raised where the hard one allows it: some programs look at each number below it."""
SHARE = 0.75
KEPT = 8


def connections_left() -> int:
    """How many connections this process may still open and have some descriptors left, for the answers' file too.

    The soft limit, which is often 1,024, is raised first.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return left(MOST if soft == resource.RLIM_INFINITY else soft, sum(1 for _ in Path("/proc/self/fd").iterdir()))


def left(limit: int, opened: int) -> int:
    """A share of what is not open yet, at least one. Pure."""
    return max(1, int((limit - opened) * SHARE) - KEPT)
