"""Who is still being answered, in all of a server's processes: told by a kernel lock that each request shares."""

from collections.abc import Callable
from contextlib import suppress

from nimdrum.base.errors import SupervisorError
from nimdrum.supervisor.rundir import RunDir
from nimdrum.system.locks import lock, try_lock, unlock


def answering(run_dir: RunDir) -> Callable[[], None]:
    """Say that a request is being answered. The result ends that and may be called again; so does the process's end."""
    held: list[int] = []
    with suppress(SupervisorError):  # an answer matters more than that somebody waits for it
        if (descriptor := try_lock(run_dir.answering, shared=True)) is not None:
            held.append(descriptor)

    def done() -> None:
        while held:
            unlock(held.pop())

    return done


def wait_for_answers(run_dir: RunDir, timeout_sec: float) -> bool:
    """Until no request is being answered; False when it takes longer. For a process that ends afterwards: later
    requests do not count any more."""
    with suppress(SupervisorError):
        lock(run_dir.answering, timeout_sec)
        return True
    return False
