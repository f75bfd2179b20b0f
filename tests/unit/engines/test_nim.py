"""The plan of NIM: argument list and environment for NIM 1.x and 2.x, from settings, folder and image alone."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nimdrum.base.errors import SettingsError
from nimdrum.base.hosting import read_hosting
from nimdrum.base.settings import load_settings
from nimdrum.engines.choose import plan_engine
from nimdrum.engines.image import NimImage
from nimdrum.engines.nim import KIND, plan_nim
from nimdrum.engines.plan import PORT, EnginePlan, Limits

ROOT = Path(__file__).resolve().parents[3]
KEY = "nvapi-do-not-show-me"
HF_KEY = "hf-do-not-show-me"
CREDENTIAL = {"credentialType": "api_token", "apiToken": KEY}
WRAPPER = Path("/opt/nvidia/nvidia_entrypoint.sh")
NIM_1 = NimImage(Path("/opt/nim/start_server.sh"), WRAPPER, 1, "test")
NIM_1_OLD = NimImage(Path("/opt/nim/start-server.sh"), WRAPPER, 1, "test")
NIM_2 = NimImage(Path("/opt/nim/start_server.sh"), None, 2, "test")
BASE = {
    "NIM_SERVER_PORT": PORT,
    "NIM_HEALTH_PORT": PORT,
    "NIM_SERVED_MODEL_NAME": "datarobot-deployed-llm",
    "NIM_LOG_LEVEL": "INFO",
}
BASE_1 = {**BASE, "NIM_LOG_LEVEL": "DEFAULT"}  # a word that 2.x does not know


def plan(
    code_dir: Path,
    image: NimImage = NIM_2,
    environ: dict[str, str] | None = None,
    argv: list[str] | None = None,
    cores: int = 2,
    **raw: Any,
) -> EnginePlan:
    """The plan for these raw parameter values in a process with this environment, command line and machine."""
    hosting = read_hosting(code_dir, environ or {}, argv or ["drum", "score"])
    here = partial(plan_nim, cores=lambda: cores, gpus=lambda: 1)
    kinds = (replace(KIND, find=lambda settings, hosting: image, plan=here),)
    return plan_engine(load_settings(ROOT, {"engine": KIND.name, **raw}.get), hosting, kinds)


def config(code_dir: Path, **env: object) -> Path:
    (code_dir / "engine_config.json").write_text(json.dumps({"env": env}))
    return code_dir


def weights(code_dir: Path) -> Path:
    folder = code_dir / "model-repo"
    folder.mkdir()
    (folder / "config.json").touch()
    return folder


@pytest.mark.parametrize(
    ("image", "argv", "line", "other_ports"),
    [
        pytest.param(NIM_1, (str(WRAPPER), "/opt/nim/start_server.sh"), "NIM 1.x", (), id="1.x"),
        pytest.param(NIM_1_OLD, (str(WRAPPER), "/opt/nim/start-server.sh"), "NIM 1.x", (), id="1.0"),
        pytest.param(NIM_2, ("/opt/nim/start_server.sh",), "NIM 2.x", (8001,), id="2.x"),
    ],
)
def test_the_plain_plan(
    tmp_path: Path, image: NimImage, argv: tuple[str, ...], line: str, other_ports: tuple[int, ...]
) -> None:
    """With nothing set: the whole environment, and the backend's port that must be free behind 2.x's nginx."""
    made = plan(tmp_path, image)
    assert made.argv == argv
    assert made.env == (BASE if image is NIM_2 else BASE_1)
    assert (made.engine, made.line, made.other_ports) == ("nim", line, other_ports)
    assert (made.host, made.port, made.health_path) == ("127.0.0.1", 0, "/v1/health/ready")
    assert (made.model, made.cwd, made.secrets) == ("datarobot-deployed-llm", "/opt/nim", ())


@pytest.mark.parametrize("image", [NIM_1, NIM_2], ids=["1.x", "2.x"])
def test_everything_set(tmp_path: Path, image: NimImage) -> None:
    """Each setting arrives in its variable or field, as text."""
    made = plan(
        tmp_path,
        image,
        NGC_API_KEY=CREDENTIAL,
        NIM_MODEL_PROFILE="ab12",
        NIM_MAX_MODEL_LEN=4096.0,
        NIM_LOG_LEVEL="error",
        served_model_name="llama",
        DR_NIM_SERVER_HOST="localhost",
        DR_NIM_SERVER_PORT=12345,
        DR_NIM_HEALTH_ROUTE="/ready",
        startup_timeout_sec=60,
        max_watchdog_restarts=2,
        max_watchdog_backoff_sec=5,
    )
    assert made.env == {
        **BASE,
        "NIM_SERVED_MODEL_NAME": "llama",
        "NIM_LOG_LEVEL": "ERROR",
        "NIM_MODEL_PROFILE": "ab12",
        "NIM_MAX_MODEL_LEN": "4096",
        "NGC_API_KEY": KEY,
    }
    assert (made.host, made.port, made.health_path, made.model) == ("127.0.0.1", 12345, "/ready", "llama")
    assert made.limits == Limits(max_restarts=2, max_backoff_sec=5, startup_timeout_sec=60)
    assert made.secrets == (KEY,)


@pytest.mark.parametrize(
    ("level", "first_line", "second_line"),
    [
        ("TRACE", "TRACE", "DEBUG"),
        ("DEBUG", "DEBUG", "DEBUG"),
        ("INFO", "INFO", "INFO"),
        ("DEFAULT", "DEFAULT", "INFO"),
        ("WARNING", "WARNING", "WARNING"),
        ("ERROR", "ERROR", "ERROR"),
        ("CRITICAL", "CRITICAL", "CRITICAL"),
    ],
)
def test_log_levels(tmp_path: Path, level: str, first_line: str, second_line: str) -> None:
    """1.x knows seven words and dies of others; 2.x has no TRACE and no DEFAULT."""
    assert plan(tmp_path, NIM_1, NIM_LOG_LEVEL=level).env["NIM_LOG_LEVEL"] == first_line
    assert plan(tmp_path, NIM_2, NIM_LOG_LEVEL=level).env["NIM_LOG_LEVEL"] == second_line


@pytest.mark.parametrize("image", [NIM_1, NIM_2], ids=["1.x", "2.x"])
def test_jsonl_logging_is_one_or_zero(tmp_path: Path, image: NimImage) -> None:
    """`true` kills 1.x, so the word is mapped wherever it comes from."""
    assert plan(tmp_path, image, {"NIM_JSONL_LOGGING": "true"}).env["NIM_JSONL_LOGGING"] == "1"
    assert plan(config(tmp_path, NIM_JSONL_LOGGING="true"), image).env["NIM_JSONL_LOGGING"] == "1"


@pytest.mark.parametrize("image", [NIM_1, NIM_2], ids=["1.x", "2.x"])
def test_local_weights_mean_no_key_at_all(tmp_path: Path, image: NimImage) -> None:
    """With weights in model-repo both lines get their variable, and no key or token that the environment holds."""
    folder = weights(tmp_path)
    environ = {"HF_TOKEN": HF_KEY, "NGC_API_KEY": KEY, "NGC_CLI_API_KEY": KEY, "NIM_CACHE_PATH": "/cache"}
    made = plan(tmp_path, image, environ)
    assert made.env == {
        **(BASE if image is NIM_2 else BASE_1),
        "NIM_CACHE_PATH": "/cache",
        "NIM_MODEL_NAME": str(folder),
        "NIM_MODEL_PATH": str(folder),
        "HF_HUB_OFFLINE": "1",
    }
    assert KEY not in made.to_json()
    assert HF_KEY not in made.to_json()


def test_a_key_beside_local_weights_is_dropped_and_told(tmp_path: Path) -> None:
    """As on DRUM's own road, whose example asks for both; the log says so, and shows no key."""
    weights(tmp_path)
    made = plan(tmp_path, NGC_API_KEY=CREDENTIAL)
    assert KEY not in made.to_json()
    assert "no key is passed on. NGC_API_KEY is dropped." in made.route_reason


def test_an_empty_model_repo_is_none(tmp_path: Path) -> None:
    """The folder may be there as a mount point."""
    (tmp_path / "model-repo").mkdir()
    assert plan(tmp_path).env == BASE


def test_keys_are_added_where_the_route_is_online(tmp_path: Path) -> None:
    """The plain variable NGC_API_KEY stands in for the parameter; both keys are masked in the engine's log."""
    environ = {"HF_TOKEN": HF_KEY, "NGC_API_KEY": f" {KEY}\n"}
    made = plan(tmp_path, environ=environ)
    assert made.env == {**BASE, "HF_TOKEN": HF_KEY, "NGC_API_KEY": KEY}
    assert set(made.secrets) == {KEY, HF_KEY}
    other = {"credentialType": "api_token", "apiToken": "the parameter"}
    assert plan(tmp_path, environ=environ, NGC_API_KEY=other).env["NGC_API_KEY"] == "the parameter"


def test_the_environment_is_the_images_and_the_settings(tmp_path: Path) -> None:
    """The image's variables pass, DRUM's do not, and what DataRobot injects as plain variables is not taken twice."""
    environ = {
        "NIM_CACHE_PATH": "/opt/code/nim/cache",
        "PATH": "/opt/venv/bin:/usr/bin",
        "VIRTUAL_ENV": "/opt/venv",
        "PYTHONPATH": "/opt/venv/lib",
        "max_tokens": "5",
        "NIM_MODEL_PROFILE": "old",
        "NIM_MAX_MODEL_LEN": "1",
        "NIM_LOG_LEVEL": "LOUD",
        "NIM_SERVED_MODEL_NAME": "old",
        "NIM_SERVER_PORT": "8000",
        "MLOPS_RUNTIME_PARAM_NGC_API_KEY": KEY,
    }
    assert plan(tmp_path, environ=environ).env == {**BASE, "NIM_CACHE_PATH": "/opt/code/nim/cache", "PATH": "/usr/bin"}


@pytest.mark.parametrize("image", [NIM_1, NIM_2], ids=["1.x", "2.x"])
def test_engine_config_wins(tmp_path: Path, image: NimImage) -> None:
    """Over settings, over the image and over the launcher's own choice."""
    weights(tmp_path)
    config(
        tmp_path,
        NIM_LOG_LEVEL="DEBUG",
        NIM_MAX_MODEL_LEN=10,
        NIM_CACHE_PATH="/mine",
        HF_HUB_OFFLINE=False,
    )
    made = plan(tmp_path, image, {"NIM_CACHE_PATH": "/cache"}, NIM_MAX_MODEL_LEN=4096, NIM_LOG_LEVEL="INFO")
    assert made.env["NIM_LOG_LEVEL"] == "DEBUG"
    assert made.env["NIM_MAX_MODEL_LEN"] == "10"
    assert made.env["NIM_CACHE_PATH"] == "/mine"
    assert made.env["HF_HUB_OFFLINE"] == "0"


def test_a_key_in_engine_config_wins_too(tmp_path: Path) -> None:
    """It is masked in the log; with local weights it is a contradiction like any chosen key."""
    config(tmp_path, NGC_API_KEY="other-key")
    made = plan(tmp_path, NGC_API_KEY=CREDENTIAL)
    assert made.env["NGC_API_KEY"] == "other-key"
    assert "other-key" in made.secrets
    weights(tmp_path)
    with pytest.raises(SettingsError, match=r"NGC_API_KEY.*model-repo"):
        plan(tmp_path)


@pytest.mark.parametrize("name", ["NGC_API_KEY", "HF_TOKEN", "NIM_MODEL_NAME", "NIM_MODEL_PATH"])
def test_engine_config_does_not_undo_the_local_route(tmp_path: Path, name: str) -> None:
    """With weights in model-repo neither a key nor another model comes in by the back door."""
    weights(tmp_path)
    with pytest.raises(SettingsError, match=f"{name}.*(local|model-repo)"):
        plan(config(tmp_path, **{name: "other"}))
    config(tmp_path, HF_HUB_OFFLINE=False)
    assert plan(tmp_path).env["HF_HUB_OFFLINE"] == "0"


def test_a_backend_elsewhere_is_watched_there(tmp_path: Path) -> None:
    """NIM_BACKEND_PORT moves 2.x's backend: that port must be free, and 8001 need not be."""
    assert plan(config(tmp_path, NIM_BACKEND_PORT=8101)).other_ports == (8101,)


@pytest.mark.parametrize("port", [7777, 8001])
def test_ports_that_belong_to_others_are_refused(tmp_path: Path, port: int) -> None:
    """8001 is the backend's of 2.x, and at 7777 this DRUM listens."""
    with pytest.raises(SettingsError, match=f"DR_NIM_SERVER_PORT is {port}"):
        plan(tmp_path, NIM_2, argv=["drum", "server", "--address", "0.0.0.0:7777"], DR_NIM_SERVER_PORT=port)


def test_the_port_of_a_backend_is_free_where_there_is_none(tmp_path: Path) -> None:
    """1.x has no backend, and that of 2.x can be moved."""
    assert plan(tmp_path, NIM_1, DR_NIM_SERVER_PORT=8001).port == 8001
    assert plan(config(tmp_path, NIM_BACKEND_PORT=8101), NIM_2, DR_NIM_SERVER_PORT=8001).port == 8001


@pytest.mark.parametrize("port", [0, 8000, 8080, 9090, 9999, 12345])
def test_other_ports_are_the_users_choice(tmp_path: Path, port: int) -> None:
    """0 leaves it to the supervisor."""
    assert plan(tmp_path, DR_NIM_SERVER_PORT=port).port == port


@pytest.mark.parametrize("host", ["10.0.0.1", "nim.example", "::"])
def test_an_engine_that_is_started_here_listens_here(tmp_path: Path, host: str) -> None:
    """Another host is a contradiction, and the error says both ways out of it."""
    with pytest.raises(SettingsError, match=f"DR_NIM_SERVER_HOST is '{host}'.*engine to external.*empty"):
        plan(tmp_path, DR_NIM_SERVER_HOST=host)


@pytest.mark.parametrize(
    "change",
    [
        {"NGC_API_KEY": CREDENTIAL},
        {"NIM_MODEL_PROFILE": "ab12"},
        {"NIM_MAX_MODEL_LEN": 10},
        {"NIM_LOG_LEVEL": "DEBUG"},
        {"served_model_name": "other"},
        {"DR_NIM_SERVER_PORT": 12345},
        {"DR_NIM_HEALTH_ROUTE": "/ready"},
        {"api_server_count": 1},
        {"api_server_count": 3},
    ],
    ids=lambda change: " ".join(f"{name}={value}" for name, value in change.items()),
)
def test_settings_that_make_another_engine(tmp_path: Path, change: dict[str, object]) -> None:
    """Each of them gives another fingerprint."""
    assert plan(tmp_path, **change).fingerprint != plan(tmp_path).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0},
        {"max_tokens": 1},
        {"system_prompt": "x"},
        {"row_timeout_sec": 5},
        {"startup_timeout_sec": 5},
        {"max_concurrency": 2},
    ],
    ids=lambda change: " ".join(change),
)
def test_settings_that_share_an_engine(tmp_path: Path, change: dict[str, object]) -> None:
    """How rows are sent is not the engine's business."""
    assert plan(tmp_path, **change).fingerprint == plan(tmp_path).fingerprint


def test_an_engine_config_makes_another_engine(tmp_path: Path) -> None:
    """So do weights that were put beside the hooks."""
    plain = plan(tmp_path).fingerprint
    weights(tmp_path)
    with_weights = plan(tmp_path).fingerprint
    config(tmp_path, VLLM_LOGGING_LEVEL="DEBUG")
    assert len({plain, with_weights, plan(tmp_path).fingerprint}) == 3


@pytest.mark.parametrize("model", ["", "hf://org/model"], ids=["model-specific", "model-free"])
def test_a_cache_that_the_engine_fills_does_not_make_another_engine(tmp_path: Path, model: str) -> None:
    """A worker that is replaced when the cache is full attaches to the engine that filled it."""
    environ = {"NIM_CACHE_PATH": str(tmp_path / "cache"), **({"NIM_MODEL_PATH": model} if model else {})}
    before = plan(tmp_path, environ=environ)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/ngc").mkdir()
    after = plan(tmp_path, environ=environ)
    assert before.route != after.route
    assert before.fingerprint == after.fingerprint


def test_a_plan_prints_no_key(tmp_path: Path) -> None:
    """Neither from the settings nor from engine_config.json."""
    shown = repr(plan(config(tmp_path, HF_TOKEN=HF_KEY), NGC_API_KEY=CREDENTIAL))
    assert KEY not in shown
    assert HF_KEY not in shown


SEVERAL = "--api-server-count 4"


def test_a_wide_machine_gets_several_api_servers(tmp_path: Path) -> None:
    """Behind the flags that the image has, that engine_config.json has, or that nobody has; told in the plan."""
    assert plan(tmp_path, cores=16).env == {**BASE, "NIM_PASSTHROUGH_ARGS": SEVERAL}
    images = {"NIM_PASSTHROUGH_ARGS": "--foo '{\"a\": 1}' "}
    assert plan(tmp_path, environ=images, cores=16).env["NIM_PASSTHROUGH_ARGS"] == f"--foo '{{\"a\": 1}}'  {SEVERAL}"
    (tmp_path / "engine_config.json").write_text(json.dumps({"args": ["--max-num-seqs", "64"]}))
    made = plan(tmp_path, environ=images, cores=16)
    assert made.env["NIM_PASSTHROUGH_ARGS"] == f"--max-num-seqs 64 {SEVERAL}"
    assert made.api_servers == "4, for 16 cores and 1 GPU"


def test_a_narrow_machine_or_an_old_image_gets_none(tmp_path: Path) -> None:
    """Nothing is passed then, and so nothing can be refused."""
    for made in (plan(tmp_path, cores=2), plan(tmp_path, NIM_1, cores=16)):
        assert "NIM_PASSTHROUGH_ARGS" not in made.env
        assert made.optional_flags == ""


@pytest.mark.parametrize("flags", ["", "--max-num-seqs 64", "--foo '{\"a\": 1}'"])
def test_an_optional_flag_can_be_taken_back(tmp_path: Path, flags: str) -> None:
    """The plan without it is the one of a narrow machine, and it is still optional after the way to the supervisor."""
    environ = {"NIM_PASSTHROUGH_ARGS": flags} if flags else {}
    wide = EnginePlan.from_json(plan(tmp_path, environ=environ, cores=16).to_json())
    assert wide.optional_flags == SEVERAL
    narrow = wide.without_optional_flags()
    assert narrow.env == plan(tmp_path, environ=environ, cores=2).env
    assert (narrow.optional_flags, narrow.api_servers) == ("", "as the engine has it: it refused the flag")


def test_a_number_of_api_servers_that_was_asked_for_is_not_optional(tmp_path: Path) -> None:
    """It is passed whatever the cores are; 1 passes nothing on any machine."""
    asked = plan(tmp_path, cores=2, api_server_count=3)
    assert asked.env["NIM_PASSTHROUGH_ARGS"] == "--api-server-count 3"
    assert asked.optional_flags == ""
    assert plan(tmp_path, cores=64, api_server_count=1).env == BASE


def test_the_machine_makes_no_other_engine(tmp_path: Path) -> None:
    """A worker that is replaced after its container was given more cores attaches to the engine that runs."""
    assert plan(tmp_path, cores=2).fingerprint == plan(tmp_path, cores=16).fingerprint


def test_a_profile_tells_how_many_gpus_want_cores(tmp_path: Path) -> None:
    """Eight workers leave fewer cores for API servers."""
    made = plan(tmp_path, cores=16, NIM_MODEL_PROFILE="vllm-bf16-tp8-pp1")
    assert made.env["NIM_PASSTHROUGH_ARGS"] == "--api-server-count 3"


@pytest.mark.parametrize(
    ("model_config", "several"), [('{"vision_config": {}}', False), ('{"model_type": "llama"}', True)]
)
def test_local_weights_of_a_multimodal_model_get_one(tmp_path: Path, model_config: str, several: bool) -> None:
    """Their config.json says so."""
    (weights(tmp_path) / "config.json").write_text(model_config)
    assert ("NIM_PASSTHROUGH_ARGS" in plan(tmp_path, cores=16).env) is several


def test_a_number_that_cannot_be_is_refused(tmp_path: Path) -> None:
    """With the parameter and the way out."""
    with pytest.raises(SettingsError, match=r"api_server_count is 4, but NIM 1.x takes no flags.*Set it to 0"):
        plan(tmp_path, NIM_1, api_server_count=4)


def test_other_gpus_are_another_engine(tmp_path: Path) -> None:
    """Two processes that see different GPUs of one machine share no engine; two that see the same ones do."""
    first, second, again = (plan(tmp_path, environ={"CUDA_VISIBLE_DEVICES": gpus}) for gpus in ("0", "1", "0"))
    assert first.fingerprint == again.fingerprint
    assert len({first.fingerprint, second.fingerprint, plan(tmp_path).fingerprint}) == 3
    assert second.env["CUDA_VISIBLE_DEVICES"] == "1"
