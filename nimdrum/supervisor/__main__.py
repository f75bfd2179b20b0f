"""`python -m nimdrum.supervisor RUN_DIR`, with the plan as JSON on standard input (it holds secrets)."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from nimdrum.base.errors import SupervisorError
from nimdrum.base.log import JsonFormatter, get_logger
from nimdrum.engines.plan import EnginePlan
from nimdrum.supervisor.run import Supervisor
from nimdrum.supervisor.rundir import RunDir
from nimdrum.system.locks import lock
from nimdrum.system.output import Forwarder

LOCK_TIMEOUT_SEC = 5.0
LAST_WORDS_SEC = 2.0
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

log = get_logger("supervisor")


def main() -> int:
    plan = EnginePlan.from_json(sys.stdin.read())
    forwarder = Forwarder()
    forwarder.setFormatter(JsonFormatter() if plan.json_logs else logging.Formatter(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[forwarder])
    run_dir = RunDir(Path(sys.argv[1]))
    try:
        held = lock(run_dir.supervisor_lock, LOCK_TIMEOUT_SEC)  # until this process ends, whatever ends it
    except SupervisorError as error:
        log.warning("This supervisor is not needed, or cannot be one: %s", error)
        forwarder.drain(LAST_WORDS_SEC)
        return 0  # another one was faster, and its engine is everybody's
    try:
        Supervisor(plan, run_dir, held, _record_of(forwarder) if plan.json_logs else forwarder.put).run()
    except (SupervisorError, OSError) as error:
        log.critical("The supervisor ends, and its engine with it: %s", error)
        return 1
    finally:
        forwarder.drain(LAST_WORDS_SEC)
    return 0


def _record_of(forwarder: Forwarder) -> Callable[[str], None]:
    """Makes records of the engine's lines, so that they are JSON too."""
    record = {"name": "nimdrum.engine.output", "levelno": logging.INFO, "levelname": "INFO"}
    return lambda line: forwarder.emit(logging.makeLogRecord({**record, "msg": line}))


if __name__ == "__main__":
    sys.exit(main())
