"""`python -m nimdrum.supervisor RUN_DIR`, with the plan as JSON on standard input (it holds secrets)."""

import logging
import sys
from pathlib import Path

from nimdrum.engines.plan import EnginePlan
from nimdrum.errors import SupervisorError
from nimdrum.supervisor.locks import lock
from nimdrum.supervisor.run import Supervisor
from nimdrum.supervisor.rundir import RunDir

LOCK_TIMEOUT_SEC = 5.0


def main() -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    run_dir = RunDir(Path(sys.argv[1]))
    plan = EnginePlan.from_json(sys.stdin.read())
    try:
        lock(run_dir.supervisor_lock, LOCK_TIMEOUT_SEC)  # held until this process ends, whatever ends it
    except SupervisorError:
        return 0  # another one was faster, and its engine is everybody's
    Supervisor(plan, run_dir).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
