"""Starting an engine: the fake NIM of both lines through the launcher and supervisor that start the real one."""

import contextlib
import json
import os
import shlex
import socket
import urllib.request

import pytest
from edge_world import KEY, READY_SEC, TOKEN, World
from fake_nim.config import FakeNimConfig
from fake_nim.run import fake_nim, wait_for

from nimdrum.base.errors import EngineStartError, EngineUnavailableError, SettingsError
from nimdrum.base.secret import MASK
from nimdrum.supervisor.state import Phase

IMAGES = {
    "1.x": {"line": "1.x", "start_delay_sec": 0.3},
    "1.x old script name": {"line": "1.x", "legacy_script_name": True},
    "1.x shell stays": {"line": "1.x", "shell_stays": True},
    "2.x": {"line": "2.x", "start_delay_sec": 0.3},
}


@pytest.mark.parametrize("switches", IMAGES.values(), ids=IMAGES)
def test_a_nim_of_each_line_becomes_ready_and_is_stopped(world: World, switches: dict[str, object]) -> None:
    """Ready is reported with the address where it answers; letting go stops the whole tree and frees the port."""
    world.fake(**switches)
    model = world.model()
    endpoint = model.ready(READY_SEC)
    assert endpoint.model == "datarobot-deployed-llm"
    state = model.attachment.state()
    assert state is not None
    assert (state.phase, state.restarts, state.cause) == (Phase.RUNNING, 0, None)
    model.attachment.release(READY_SEC)
    assert model.attachment.state() is None
    world.wait_until_empty()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", endpoint.port))


@pytest.mark.parametrize("line", ["1.x", "2.x"])
def test_the_engine_gets_the_environment_that_it_needs_and_no_other(world: World, line: str) -> None:
    """Settings arrive under NIM's names; DRUM's keys, tokens, Python paths and old values do not."""
    world.environ |= {
        "NIM_LOG_LEVEL": "injected by the platform",
        "VIRTUAL_ENV": "/opt/venv",
        "PATH": f"/opt/venv/bin:{world.environ['PATH']}",
        "PYTHONPATH": "/opt/venv/lib:/somewhere",
        "DATAROBOT_API_TOKEN": TOKEN,
        "MLOPS_RUNTIME_PARAM_NGC_API_KEY": KEY,
        "SERVER_SOFTWARE": "gunicorn",
    }
    world.fake(line=line)
    profile = "a" * 64
    parameters = {"NIM_MODEL_PROFILE": profile, "NIM_MAX_MODEL_LEN": "4096", "NIM_LOG_LEVEL": "debug"}
    key = {"credentialType": "api_token", "apiToken": KEY}
    endpoint = world.ready_model(NGC_API_KEY=key, served_model_name="mine", **parameters).ready()
    (start,) = world.starts()
    env = start["env"]
    expected = {
        "NIM_SERVER_PORT": str(endpoint.port),
        "NIM_HEALTH_PORT": str(endpoint.port),
        "NIM_SERVED_MODEL_NAME": "mine",
        "NIM_MODEL_PROFILE": profile,
        "NIM_MAX_MODEL_LEN": "4096",
        "NIM_LOG_LEVEL": "DEBUG",
        "NIM_CACHE_PATH": str(world.folder / "cache"),
        "NGC_API_KEY": KEY,
    }
    assert {name: env.get(name) for name in expected} == expected
    assert "/opt/venv/bin" not in env["PATH"].split(":")
    assert env["PYTHONPATH"] == "/somewhere"
    forbidden = ("VIRTUAL_ENV", "DATAROBOT_API_TOKEN", "SERVER_SOFTWARE", "NIM_MODEL_NAME")
    assert not [name for name in env if name in forbidden or name.startswith(("MLOPS_", "DRUM_"))]


def test_a_local_model_goes_without_keys(world: World) -> None:
    """With weights in model-repo both lines' variables name the folder, and no key is set: a key means going online."""
    world.environ |= {"HF_TOKEN": KEY, "NGC_API_KEY": KEY}
    world.fake(line="2.x")
    folder = world.code_dir / "model-repo"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    world.ready_model()
    (start,) = world.starts()
    env = start["env"]
    assert (env["NIM_MODEL_NAME"], env["NIM_MODEL_PATH"], env["HF_HUB_OFFLINE"]) == (str(folder), str(folder), "1")
    assert not [name for name in env if KEY in env[name]]


def test_a_key_that_the_engine_prints_is_masked(world: World) -> None:
    """Forwarded lines, the kept log and the error show a mask where the engine printed its key."""
    world.fake(die_before_ready=True, last_lines=(f"login with {KEY} failed: 401 Unauthorized by api.ngc.nvidia.com",))
    model = world.model(NGC_API_KEY={"credentialType": "api_token", "apiToken": KEY})
    with pytest.raises(EngineStartError) as failure:
        model.ready(READY_SEC)
    assert KEY not in str(failure.value)
    assert MASK in str(failure.value)
    assert "refused the key" in str(failure.value)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("Could not find a profile that is currently runnable with the detected hardware.", "No model profile runs"),
        ("OSError: [Errno 13] Permission denied: '/opt/nim/.cache'", "may not write or run a file"),
        ("torch.OutOfMemoryError: CUDA out of memory.", "memory does not suffice"),
        ("something nobody has seen before", "something nobody has seen before"),
    ],
    ids=["profile", "permission", "memory", "unknown"],
)
def test_a_start_that_fails_says_why(world: World, line: str, sentence: str) -> None:
    """The cause in one sentence, the last log lines below it, and no second try."""
    world.fake(die_before_ready=True, last_lines=("loading", line), exit_code=7)
    model = world.model()
    with pytest.raises(EngineStartError) as failure:
        model.ready(READY_SEC)
    assert sentence in str(failure.value)
    assert f"| {line}" in str(failure.value)
    assert len(world.starts()) == 1
    with pytest.raises(EngineStartError):  # and it stays given up, for everybody who asks
        model.ready(READY_SEC)
    state = model.attachment.state()
    assert state is not None
    assert state.phase is Phase.FATAL


def test_a_start_that_takes_too_long_is_given_up(world: World) -> None:
    """The time limit ends a start that would go on for ever, and says which parameter sets it."""
    world.fake(line="2.x", never_ready=True)
    with pytest.raises(EngineStartError, match="startup_timeout_sec"):
        world.model(startup_timeout_sec=1).ready(READY_SEC)


def test_waiting_ends_at_the_callers_deadline(world: World) -> None:
    """A caller with little time gets its own error while the engine goes on loading."""
    world.fake(line="2.x", never_ready=True)
    model = world.model()
    with pytest.raises(EngineUnavailableError, match="STARTING"):
        model.ready(0.3)
    assert model.attachment.state() is not None


def test_a_program_that_cannot_be_started_says_so(world: World) -> None:
    """A start script without the right to be executed is a cause, not a traceback."""
    world.fake(line="2.x").chmod(0o600)
    with pytest.raises(EngineStartError, match="may not write or run a file"):
        world.model().ready(READY_SEC)


def test_a_taken_port_is_named(world: World) -> None:
    """When the port that the user chose is taken, the start fails at once and names it."""
    world.fake()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(EngineStartError, match=f"Port {port}"):
            world.model(DR_NIM_SERVER_PORT=port).ready(READY_SEC)
    assert world.starts() == []


def test_another_server_on_the_port_is_not_our_engine(world: World) -> None:
    """Health alone does not make an engine ready: it must list the model that was asked for."""
    with fake_nim(world.folder / "other", FakeNimConfig(line="2.x")) as other:
        model = world.model(engine="external", DR_NIM_SERVER_PORT=other.port, served_model_name="mine")
        with pytest.raises(EngineUnavailableError):
            model.ready(1.0)


def test_an_external_engine_is_attached_to(world: World) -> None:
    """Nothing is started; the name is the first that the engine lists, and its end is noticed."""
    with fake_nim(world.folder / "other", FakeNimConfig(line="2.x")) as other:
        model = world.model(engine="external", DR_NIM_SERVER_PORT=other.port)
        assert model.ready(READY_SEC).model == "fake/model"
        state = model.attachment.state()
        assert state is not None
        assert state.engine_pid is None
    wait_for(lambda: (s := model.attachment.state()) is not None and s.phase is Phase.STARTING, READY_SEC)


def test_engine_config_wins(world: World) -> None:
    """engine_config.json beside the hooks has the last word, as in DataRobot's own road."""
    world.fake(line="2.x")
    args = ["--max-num-seqs", "64", "--compilation-config", '{"level": 3}']
    (world.code_dir / "engine_config.json").write_text(json.dumps({"env": {"NIM_LOG_LEVEL": "WARNING"}, "args": args}))
    world.ready_model(NIM_LOG_LEVEL="DEBUG")
    (start,) = world.starts()
    assert start["env"]["NIM_LOG_LEVEL"] == "WARNING"
    assert shlex.split(start["env"]["NIM_PASSTHROUGH_ARGS"]) == args
    assert start["argv"][2:] == []  # in 2.x they are the engine's, not the start script's


def test_a_container_that_wants_the_impossible(world: World) -> None:
    """TLS, a key, several nodes: NIM starts without them and becomes ready. In engine_config.json each is told before
    anything starts."""
    impossible = {"NIM_SSL_MODE": "TLS", "VLLM_API_KEY": KEY, "NIM_NUM_COMPUTE_NODES": "2", "NIM_DYNAMO_WORKER": "1"}
    world.fake(line="2.x")
    world.environ |= impossible
    model = world.ready_model()
    (start,) = world.starts()
    assert not impossible.keys() & start["env"].keys()
    assert model.attachment.plan.warning.count("is not passed to the engine") == len(impossible)
    for name, value in impossible.items():
        (world.code_dir / "engine_config.json").write_text(json.dumps({"env": {name: value}}))
        with pytest.raises(SettingsError, match=f"sets {name}, with which the engine cannot work here: "):
            world.model()
    assert len(world.starts()) == 1


def test_dynamo_gets_the_port_that_is_asked(world: World) -> None:
    """Its front must listen where NIM's proxy would, and answer health where we ask."""
    world.fake(line="2.x")
    world.environ["NIM_DYNAMO_SINGLE"] = "1"
    world.ready_model()
    (start,) = world.starts()
    assert start["env"]["DYN_HTTP_PORT"] == start["env"]["NIM_SERVER_PORT"]
    assert start["env"]["DYN_HTTP_SVC_HEALTH_PATH"] == "/v1/health/ready"


def test_two_code_folders_have_two_engines(world: World, tmp_path) -> None:
    """Another code folder is another engine on another port, at the same time."""
    world.fake()
    first = world.ready_model().ready()
    other = World(tmp_path / "other", world.environ)
    other.fake()
    try:
        second = other.ready_model().ready()
        assert first.port != second.port
        assert len(world.starts()) == len(other.starts()) == 1
    finally:
        for model in other.models:
            model.attachment.release()


def test_files_are_for_their_owner_only(world: World) -> None:
    """Folders 0700 and files 0600: state and log may hold prompts."""
    world.fake(chatty_lines=3)
    model = world.ready_model()
    wait_for(lambda: model.attachment.run_dir.log.exists(), READY_SEC)
    for path in [world.state_root, *world.state_root.rglob("*")]:
        with contextlib.suppress(FileNotFoundError):  # a temporary one, which has its final name by now
            assert path.stat().st_mode & 0o077 == 0, path


def test_a_chatty_engine_is_never_blocked_by_its_own_output(world: World) -> None:
    """50,000 lines before ready: the pipe is drained, the last 200 lines are kept."""
    world.fake(chatty_lines=50_000)
    model = world.ready_model()
    log = model.attachment.run_dir.log  # written each second, and once more when all is there
    wait_for(lambda: log.exists() and len(log.read_text().splitlines()) == 200, READY_SEC)


def test_a_proxy_is_not_used_for_the_engine(world: World) -> None:
    """Proxy variables reach the engine for its downloads, with loopback excepted."""
    world.environ |= {"HTTPS_PROXY": "http://127.0.0.1:9"}
    world.fake()
    endpoint = world.ready_model().ready()
    env = world.starts()[0]["env"]
    assert env["HTTPS_PROXY"] == "http://127.0.0.1:9"
    assert "127.0.0.1" in env["NO_PROXY"]
    with urllib.request.urlopen(f"{endpoint.url}/v1/models") as response:  # noqa: S310 - loopback
        assert response.status == 200


def test_a_stubborn_engine_is_killed(world: World) -> None:
    """One that ignores SIGTERM, with children that ignore it and left the process group, is gone all the same."""
    world.fake(ignore_sigterm=True, grandchildren=2, grandchildren_ignore_sigterm=True, grandchildren_own_session=True)
    model = world.ready_model(stop_timeout_sec=1)
    (start,) = world.starts()
    assert len(start["grandchildren"]) == 2
    model.attachment.release(READY_SEC)
    world.wait_until_empty()
    for pid in (start["pid"], *start["grandchildren"]):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
