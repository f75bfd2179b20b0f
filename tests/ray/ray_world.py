"""A Ray cluster whose nodes are processes of this machine, fake engines, and `nimdrum ray-score` as a real child."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from fake_nim.config import FakeNimConfig
from fake_nim.run import Running, fake_nim

REPOSITORY = Path(__file__).resolve().parents[2]
STORE_BYTES = 80 * 2**20
NODE_CPUS = 3  # of Ray's own count: an actor, a reader and a writer
WAIT_SEC = 300.0
TOKEN = {"RAY_AUTH_TOKEN": "made-up-token-of-the-tests-0123456789ab"}
QUIET = {"RAY_DATA_DISABLE_PROGRESS_BARS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
PARAMETER = "MLOPS_RUNTIME_PARAM_"


@dataclass
class RayWorld:
    """One cluster, below one folder; its head runs no rows."""

    folder: Path
    cluster: Any
    nodes: list[Any] = field(default_factory=list)

    def add_node(self, name: str, gpus: int = 0, **environ: str) -> Any:
        """A node with a state folder of its own, and with `environ`."""
        variables = {"NIMDRUM_STATE_DIR": str(self.folder / f"state-{name}"), **environ}
        node = self.cluster.add_node(
            num_cpus=NODE_CPUS, num_gpus=gpus, object_store_memory=STORE_BYTES, env_vars=variables
        )
        self.nodes.append(node)
        return node

    def add_node_for(self, engine: Running, name: str, **environ: str) -> Any:
        """A node that is told where its engine is."""
        host = '{"type": "string", "payload": "127.0.0.1"}'
        port = f'{{"type": "numeric", "payload": {engine.port}}}'
        names = (f"{PARAMETER}DR_NIM_SERVER_HOST", f"{PARAMETER}DR_NIM_SERVER_PORT")
        return self.add_node(name, **environ, **dict(zip(names, (host, port), strict=True)))

    def kill_node(self, node: Any) -> None:
        """As when a machine goes: nothing of it is told to end. Returns when the others know."""
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)
        wait_for(lambda: self._living() == len(self.nodes) + 1, "the cluster knows that the node is dead")

    def _living(self) -> int:
        return sum(bool(node["Alive"]) for node in self.cluster.global_state.node_table())

    def remove_nodes(self) -> None:
        """Those of this test; and wait until their engines' supervisors have seen that nobody is left."""
        for node in self.nodes:
            self.cluster.remove_node(node)
        self.nodes.clear()
        wait_for(lambda: not supervisors_of(self.folder), "the supervisors of the nodes have ended")

    def start(self, *arguments: object, log: Path, alone: bool = False) -> "subprocess.Popen[bytes]":
        """`nimdrum ray-score` on this cluster; or `alone`, with a Ray that it starts for itself."""
        command = [sys.executable, "-m", "nimdrum", "ray-score"]
        command += [] if alone else ["--address", self.cluster.address]
        with log.open("ab") as output:
            return subprocess.Popen(
                [*command, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=REPOSITORY,
                env=environment() | {"NIMDRUM_STATE_DIR": str(self.folder / "state-driver")},
            )

    def score(self, *arguments: object, log: Path, alone: bool = False) -> int:
        """The exit code of the whole run."""
        process = self.start(*arguments, log=log, alone=alone)
        try:
            return process.wait(WAIT_SEC)
        finally:
            process.kill()


def environment() -> dict[str, str]:
    """Of every child, and of this process while a cluster is up: without what a developer set."""
    ours = (PARAMETER, "RAY_ADDRESS", "NIMDRUM_", "TARGET_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | TOKEN | QUIET


@contextlib.contextmanager
def ray_world(folder: Path) -> Iterator[RayWorld]:
    """A cluster with a head and no other node."""
    before, temporary = dict(os.environ), tempfile.mkdtemp(prefix="nimdrum-ray-")  # short: sockets lie below it
    os.environ.clear()
    os.environ.update(environment() | {"RAY_TMPDIR": temporary, "RAY_worker_niceness": "0"})
    from ray.cluster_utils import Cluster

    head = {
        "num_cpus": 0,
        "object_store_memory": STORE_BYTES,
        "include_dashboard": False,
        # A dead node is known after 3 seconds, not half a minute.
        "_system_config": {"health_check_period_ms": 500, "health_check_failure_threshold": 6},
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    world = RayWorld(folder, cluster)
    try:
        yield world
    finally:
        try:
            world.remove_nodes()
        finally:
            cluster.shutdown()
            shutil.rmtree(temporary, ignore_errors=True)
            os.environ.clear()
            os.environ.update(before)


@contextlib.contextmanager
def engines(folder: Path, count: int, **switches: Any) -> Iterator[list[Running]]:
    """Fake engines that write down what they are asked."""
    with contextlib.ExitStack() as stack:
        running = []
        for number in range(count):
            records = {"record_requests": True, "record_dir": str(folder / f"record-{number}")}
            config = FakeNimConfig(line="2.x", **{**records, **switches})
            running.append(stack.enter_context(fake_nim(folder / f"engine-{number}", config)))
        yield running


def asked(running: list[Running]) -> list[str]:
    """The prompts that were sent, in all."""
    return [
        request["body"]["messages"][-1]["content"]
        for engine in running
        for request in engine.requests()
        if request["path"].endswith("/chat/completions")
    ]


def ray_processes(title: str = "ray::MapWorker") -> list[psutil.Process]:
    """The processes of this cluster's actors."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[:1] and process.cmdline()[0].startswith(title):
                found.append(process)
    return found


def supervisors_of(folder: Path) -> list[psutil.Process]:
    """Those whose run folder is below `folder`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            if "nimdrum.supervisor" in line and line[-1].startswith(str(folder)):
                found.append(process)
    return found


def wait_for(condition: Callable[[], bool], what: str, timeout_sec: float = WAIT_SEC) -> None:
    deadline = time.monotonic() + timeout_sec
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_sec:g} s: {what}")
        time.sleep(0.1)
