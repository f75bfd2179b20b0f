"""Becomes the engine: asks the kernel to be killed with its parent, then replaces itself by the engine's program.

Run by path (`python -I -S launch.py PARENT_PID PROGRAM ARGUMENTS...`) in a process of its own, because code
between fork and exec is not safe in a process that has threads. The request outlives exec.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
CANNOT_START = 127  # as a shell says it


def main() -> int:
    parent, program = int(sys.argv[1]), sys.argv[2]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return CANNOT_START  # the parent died before the request was made
    try:
        os.execvpe(program, sys.argv[2:], os.environ)  # noqa: S606 - a plan's argument list, never a shell
    except OSError as error:
        print(f"{program} cannot be started: {error.strerror}", file=sys.stderr, flush=True)
    return CANNOT_START


if __name__ == "__main__":
    sys.exit(main())
