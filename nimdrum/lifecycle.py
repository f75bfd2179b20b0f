"""The end of a DRUM process, and what must happen before: the engine is let go, watched, or given up.

DRUM has no hook for its own end, and each of its servers ends in another way (docs/decisions/0001 and 0002).
"""

import atexit
import contextlib
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from nimdrum.base.errors import NimdrumError
from nimdrum.base.hosting import Hosting, parent_of
from nimdrum.base.log import get_logger
from nimdrum.session.attach import Attachment, Endpoint, describe_failure
from nimdrum.session.caller import wait_for_answers
from nimdrum.session.facts import log_facts
from nimdrum.supervisor.state import Phase
from nimdrum.supervisor.users import first_to_halt

WATCH_EVERY_SEC = 1.0
LONGEST_PAUSE_SEC = 30.0
GOODBYE_MARGIN_SEC = 12.0  # after the engine's own time to stop: SIGKILL, and the supervisor's end
ORPHAN_GRACE_SEC = 10.0
LOST_SEC = 120.0
"""A state that stays away for so long will not come back: the disk is full, or who deletes it does it again."""
LAST_ANSWERS_SEC = 30.0
"""At most, from the engine's end to the server's: batches in flight answer with what they have."""
HALT_GUNICORN = 3  # gunicorn's code for "could not boot": the master ends instead of starting another worker

log = get_logger("hooks")


def let_go(attachment: Attachment) -> None:
    """Release the engine, and wait until it is stopped if nobody else uses it."""
    attachment.release(attachment.plan.stop_timeout_sec + GOODBYE_MARGIN_SEC)


def say_goodbye_at_exit(attachment: Attachment) -> None:
    """Stop the engine before this process ends, so that the command returns with nothing left behind.

    DRUM's own handlers of SIGINT and SIGTERM end in `os._exit`, which skips atexit. Without this the engine
    would still be stopped, by the supervisor that finds the lease free, but a moment after the prompt is back.
    Only in processes that are not replaced: of gunicorn's workers only the master knows which end it is.
    """
    owner = os.getpid()

    def goodbye() -> None:
        if os.getpid() == owner:  # werkzeug's request forks inherit atexit and handlers
            let_go(attachment)

    atexit.register(goodbye)
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        previous = signal.getsignal(number)

        def handler(number: int, frame: Any, previous: Any = previous) -> None:
            goodbye()
            if callable(previous):
                previous(number, frame)
            else:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)

        signal.signal(number, handler)


def remove_journal_at_exit(journal: Path, rows: Path, output: Path) -> None:
    """Remove the journal of `drum score` when `output` is written: DRUM does that after its last hook, and calls none.

    It is written when it has changed and holds as many rows as `rows`. In all other cases the journal stays.
    """
    from nimdrum.scoring.journal import journal_at
    from nimdrum.scoring.rows_file import look_through

    before = _stamp(output)

    def remove() -> None:
        with contextlib.suppress(NimdrumError):
            if _stamp(output) != before and look_through(output).rows == look_through(rows).rows:
                journal_at(journal).remove()

    atexit.register(remove)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns
    return None


class EndOfCommand(SystemExit):
    """Ends `drum score` with code 1; Python prints its text when all else is done."""


def end_command(error: NimdrumError, attachment: Attachment | None) -> NoReturn:
    """End `drum score` so that `error` is the last that its user reads: after the engine's end, and without a stack.

    DRUM logs whatever ends it, with its traceback, and lets it through.
    """
    if attachment is not None:
        let_go(attachment)
    logging.getLogger("drum").addFilter(_is_not_our_end)
    raise EndOfCommand(f"ERROR: {error}")


def _is_not_our_end(record: logging.LogRecord) -> bool:
    return not (record.exc_info and record.exc_info[0] is EndOfCommand)


def watch_engine(hosting: Hosting, attachment: Attachment) -> None:
    """Start the thread that watches over the engine of a server."""
    threading.Thread(target=_watch, args=(hosting, attachment), name="nimdrum-watch", daemon=True).start()


def _watch(hosting: Hosting, attachment: Attachment) -> None:
    """Bring a killed supervisor back, and end the server when the engine is finally dead."""
    told: int | None = 0  # the engine whose facts are in the log; an external one has no pid
    seen_at = time.monotonic()
    pause_sec = WATCH_EVERY_SEC
    while True:
        time.sleep(pause_sec)
        try:
            state = attachment.state()
            seen_at = time.monotonic() if state else seen_at
            if time.monotonic() - seen_at >= LOST_SEC and not hosting.error_server:
                log.critical("For %g s nobody could tell how the engine is. %s", LOST_SEC, attachment.trouble)
                _halt(hosting, attachment)
            if state is None or attachment.has_lost_lease():
                attachment.ensure_supervisor()
            elif state.phase is Phase.FATAL:
                log.critical("%s", describe_failure(state))
                if hosting.error_server:
                    return  # health answers 513 with the cause from now on
                wait_for_answers(attachment.run_dir, LAST_ANSWERS_SEC)
                _halt(hosting, attachment)
            elif state.phase is Phase.RUNNING and state.engine_pid != told:
                told = state.engine_pid
                log_facts(state.line, Endpoint(state.host, state.port, state.model or ""))
            pause_sec = WATCH_EVERY_SEC
        except Exception as error:  # who watches must not end for it, and it may last, as a full disk does
            log.error("%s", error, exc_info=not isinstance(error, (NimdrumError, OSError)))
            pause_sec = min(2 * pause_sec, LONGEST_PAUSE_SEC)


def _halt(hosting: Hosting, attachment: Attachment) -> None:
    """End the server for good. One worker speaks for all: gunicorn trips over a second one with this code."""
    if hosting.gunicorn_master is not None and not first_to_halt(attachment.run_dir, hosting.gunicorn_master):
        time.sleep(ORPHAN_GRACE_SEC)  # the master, halted by another one, ends this worker
    os._exit(HALT_GUNICORN)


def watch_owners(hosting: Hosting) -> None:
    """Start the thread that notices the end of those above a gunicorn worker: nobody else tells it in time."""
    if hosting.gunicorn_master is not None:
        owners = (hosting.gunicorn_master, hosting.gunicorn_starter)
        threading.Thread(target=_watch_owners, args=owners, name="nimdrum-owners", daemon=True).start()


def _watch_owners(master: int, starter: int | None) -> None:
    """For as long as the worker lives, also where the error server stands in for a dead engine."""
    while True:
        time.sleep(WATCH_EVERY_SEC)
        if master != os.getppid():
            _end_orphaned_worker()
        if starter is not None and _is_orphan(master, starter):
            _end_orphaned_master(master)
            starter = None


def _is_orphan(master: int, starter: int) -> bool:
    try:
        return parent_of(master) != starter
    except OSError:
        return False  # gone itself


def _end_orphaned_master(master: int) -> None:
    """End gunicorn: before DRUM 1.17.19 a signal that is to end the server ends the DRUM that started it, no more."""
    log.critical("The DRUM that started gunicorn is gone; gunicorn ends too.")
    with contextlib.suppress(OSError):
        os.kill(master, signal.SIGTERM)


def _end_orphaned_worker() -> None:
    """End this worker, whose master was killed: gunicorn itself would notice after minutes, with port and GPU held."""
    log.critical("gunicorn's master is gone; this worker ends too.")
    os.kill(os.getpid(), signal.SIGTERM)  # finishes the request that it is in
    time.sleep(ORPHAN_GRACE_SEC)
    os._exit(1)
