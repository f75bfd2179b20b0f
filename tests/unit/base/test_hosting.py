"""`nimdrum.base.hosting`: what DRUM's command line and environment say about the process."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest
from fake_nim.run import wait_for

from nimdrum.base.hosting import Hosting, gunicorn_master, gunicorn_starter, is_drum_score, parent_of, read_hosting

SCORE = ["drum", "score", "--code-dir", "."]
SERVER = ["drum", "server", "--code-dir", "."]
MASTER = 4711
GUNICORN = {"DRUM_GUNICORN_DRUM_ARGS": "server --code-dir ."}


STARTER = 4710
OLD, NEW = "1.17.18", "1.18.1"


def hosting(environ: dict[str, str] | None = None, argv: list[str] | None = None, drum: str = NEW) -> Hosting:
    return read_hosting("/opt/code", environ or {}, argv or SCORE, lambda: MASTER, lambda master: STARTER, drum)


@pytest.mark.parametrize(
    ("argv", "environ", "facts"),
    [
        pytest.param(SCORE, {}, {"server": False, "gunicorn_master": None, "error_server": False}, id="score"),
        pytest.param(SERVER, {}, {"server": True, "gunicorn_master": None}, id="werkzeug"),
        pytest.param(SERVER, GUNICORN, {"server": True, "gunicorn_master": MASTER}, id="gunicorn"),
        pytest.param(["script.py"], {}, {"server": False}, id="a script"),
        pytest.param(["drum", "score", "--input", "server"], {}, {"server": False}, id="server as a file name"),
        pytest.param([*SERVER, "--with-error-server"], {}, {"error_server": True}, id="error server by option"),
        pytest.param(SERVER, {"WITH_ERROR_SERVER": "1"}, {"error_server": True}, id="error server 1"),
        pytest.param(SERVER, {"WITH_ERROR_SERVER": "True"}, {"error_server": True}, id="error server True"),
        pytest.param(SERVER, {"WITH_ERROR_SERVER": "0"}, {"error_server": False}, id="error server 0"),
        pytest.param(SERVER, {"WITH_ERROR_SERVER": "false"}, {"error_server": False}, id="error server false"),
        pytest.param(SERVER, {"WITH_ERROR_SERVER": ""}, {"error_server": False}, id="error server empty"),
        pytest.param(SCORE, {"TARGET_NAME": "answer"}, {"target_column": "answer"}, id="target"),
        pytest.param(SCORE, {"TARGET_NAME": '"my answer"'}, {"target_column": "my answer"}, id="quoted target"),
        pytest.param(SCORE, {"TARGET_NAME": '""x""'}, {"target_column": '"x"'}, id="one pair of quotes only"),
        pytest.param(SCORE, {"TARGET_NAME": '"half'}, {"target_column": '"half'}, id="half a pair"),
        pytest.param(SCORE, {"TARGET_NAME": '"'}, {"target_column": '"'}, id="one quote is a name"),
        pytest.param(SCORE, {"TARGET_NAME": '""'}, {"target_column": "resultText"}, id="empty quoted target"),
        pytest.param(SCORE, {}, {"target_column": "resultText"}, id="no target"),
        pytest.param([*SERVER, "--address", "0.0.0.0:6789"], {}, {"drum_port": 6789}, id="port by option"),
        pytest.param([*SERVER, "--address=localhost:6789"], {}, {"drum_port": 6789}, id="port by option with ="),
        pytest.param(SERVER, {"ADDRESS": "0.0.0.0:8080"}, {"drum_port": 8080}, id="port by variable"),
        pytest.param([*SERVER, "--address", "0.0.0.0:1"], {"ADDRESS": "0.0.0.0:2"}, {"drum_port": 1}, id="option wins"),
        pytest.param([*SERVER, "--address", "[::1]:6789"], {}, {"drum_port": 6789}, id="IPv6"),
        pytest.param([*SERVER, "--address", "localhost"], {}, {"drum_port": None}, id="no port"),
        pytest.param([*SERVER, "--address"], {}, {"drum_port": None}, id="option without value"),
        pytest.param(SCORE, {}, {"drum_port": None, "image_root": Path("/")}, id="no address"),
        pytest.param(SCORE, {"NIMDRUM_IMAGE_ROOT": "/tmp/image"}, {"image_root": Path("/tmp/image")}, id="image root"),
        pytest.param(SCORE, {"NIMDRUM_STATE_DIR": "/run/mine"}, {"state_root": Path("/run/mine")}, id="state folder"),
        pytest.param(
            SCORE,
            {"XDG_RUNTIME_DIR": "/run/user/7"},
            {"state_root": Path(tempfile.gettempdir(), f"nimdrum-{os.getuid()}")},
            id="not a folder that a logout deletes",
        ),
    ],
)
def test_facts(argv: list[str], environ: dict[str, str], facts: dict[str, Any]) -> None:
    """One fact, or a few, for each way to start DRUM."""
    found = hosting(environ, argv)
    assert {name: getattr(found, name) for name in facts} == facts


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/opt/drum/bin/drum", "score", "--input", "x"], True),
        (SERVER, False),
        (["mine.py", "score"], False),
        ([], False),
    ],
)
def test_only_drums_own_command_is_ended(argv: list[str], expected: bool) -> None:
    """A script that uses the hooks gets exceptions, whatever its arguments."""
    assert is_drum_score(argv) is expected


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor works in another folder than DRUM, so a relative path would mean two places."""
    monkeypatch.chdir(tmp_path)
    found = read_hosting(".", {"NIMDRUM_STATE_DIR": "state"}, SCORE)
    assert found.code_dir == tmp_path
    assert found.state_root == tmp_path / "state"


def test_the_environment_is_not_printed() -> None:
    """It holds keys and tokens."""
    assert "nvapi-do-not-show-me" not in repr(hosting({"NGC_API_KEY": "nvapi-do-not-show-me"}))


@pytest.mark.parametrize(
    ("worker_class", "timeout", "seconds"),
    [
        pytest.param(None, None, 600, id="DRUM's default"),
        pytest.param("sync", 1200, 1200, id="longer"),
        pytest.param("sync", "1200", 1200, id="as text"),
        pytest.param("sync", 0, None, id="0 is off"),
        pytest.param("sync", 3600, 3600, id="DRUM's longest"),
        pytest.param("gevent", 1200, None, id="gevent kills nothing"),
        pytest.param("GEVENT", None, None, id="gevent in capitals"),
        pytest.param("tornado", None, 600, id="DRUM ignores an unknown class"),
        pytest.param("sync", 7200, 600, id="DRUM ignores a number that is too high"),
        pytest.param("sync", -5, 600, id="DRUM ignores a number that is too low"),
    ],
)
def test_when_gunicorn_kills_a_worker(
    monkeypatch: pytest.MonkeyPatch, worker_class: str | None, timeout: object, seconds: float | None
) -> None:
    """The same time as DRUM's gunicorn.conf.py gives its workers: a row must end before."""
    for name, kind, value in (
        ("DRUM_GUNICORN_WORKER_CLASS", "string", worker_class),
        ("DRUM_CLIENT_REQUEST_TIMEOUT", "numeric", timeout),
    ):
        monkeypatch.delenv(f"MLOPS_RUNTIME_PARAM_{name}", raising=False)
        if value is not None:
            monkeypatch.setenv(f"MLOPS_RUNTIME_PARAM_{name}", json.dumps({"type": kind, "payload": value}))
    assert hosting(GUNICORN, SERVER).request_timeout_sec == seconds


def test_without_gunicorn_nothing_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """werkzeug's time-out is one of the socket."""
    monkeypatch.setenv("MLOPS_RUNTIME_PARAM_DRUM_CLIENT_REQUEST_TIMEOUT", '{"type":"numeric","payload":60}')
    assert hosting({}, SERVER).request_timeout_sec is None


def test_the_older_drum(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts gunicorn instead of becoming it, and gives its workers another time."""
    monkeypatch.delenv("MLOPS_RUNTIME_PARAM_DRUM_CLIENT_REQUEST_TIMEOUT", raising=False)
    monkeypatch.delenv("MLOPS_RUNTIME_PARAM_DRUM_GUNICORN_WORKER_CLASS", raising=False)
    seen = [(found.gunicorn_starter, found.request_timeout_sec) for found in map(serving, (OLD, NEW))]
    assert seen == [(STARTER, 120), (None, 600)]
    assert hosting({}, SERVER, OLD).gunicorn_starter is None  # werkzeug


def serving(drum: str) -> Hosting:
    return hosting(GUNICORN, SERVER, drum)


def test_who_started_gunicorn() -> None:
    """Its parent, as the kernel tells; not one that is no DRUM, which has the orphans of a DRUM that ended."""
    assert parent_of(os.getpid()) == os.getppid()
    script = "import subprocess, sys; subprocess.run(['sleep', '60'])"
    with subprocess.Popen([sys.executable, "-c", script, "drum", "server"]) as starter:
        try:
            wait_for(lambda: bool(psutil.Process(starter.pid).children()))
            (master,) = psutil.Process(starter.pid).children()
            assert gunicorn_starter(master.pid) == starter.pid
            starter.kill()
            wait_for(lambda: gunicorn_starter(master.pid) == 0)
            master.kill()
        finally:
            starter.kill()
    assert gunicorn_starter(2**22 + 1) == 0  # no process


def test_init_is_not_taken_for_the_master() -> None:
    """The parent of an orphaned worker is init: an engine that waits for its end would never stop."""
    assert gunicorn_master(os.getpid()) == 0  # pytest is no gunicorn
    assert gunicorn_master(2**22 + 1) == 0  # and this is no process
