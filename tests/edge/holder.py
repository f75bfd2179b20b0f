"""A stand-in for one DRUM process: attaches to the engine of a world, says where it is, and waits for a line on stdin.

Run as `python holder.py WORLD_FOLDER [MASTER_PID]`. Prints "PORT ENGINE_PID" once the engine is ready.
"""

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests"), str(Path(__file__).parent)]

from edge_world import READY_SEC, World  # noqa: E402

from nimdrum.supervisor.users import register_master  # noqa: E402


def main() -> None:
    model = World(Path(sys.argv[1]), {"PATH": "/usr/bin:/bin"}).model()
    if len(sys.argv) > 2:
        register_master(model.attachment.run_dir, int(sys.argv[2]))
    endpoint = model.ready(READY_SEC)
    state = model.attachment.state()
    assert state is not None
    print(endpoint.port, state.engine_pid, flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
