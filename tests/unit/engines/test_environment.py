"""`nimdrum.engines.environment`: what of DRUM's environment an engine may see."""

import sys
from pathlib import PurePath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.engines.environment import inherited, without_venv

SECRET = "do-not-pass-me-on"


@pytest.mark.parametrize(
    "name",
    "NGC_API_KEY NGC_CLI_API_KEY HF_TOKEN HUGGING_FACE_HUB_TOKEN MODELSCOPE_API_TOKEN NVIDIA_API_KEY VLLM_API_KEY "
    "OPENAI_API_KEY AWS_SECRET_ACCESS_KEY DATAROBOT_API_TOKEN DATAROBOT_ENDPOINT MLOPS_API_TOKEN "
    "MLOPS_RUNTIME_PARAM_NGC_API_KEY MLOPS_RUNTIME_PARAM_NIM_LOG_LEVEL "
    "PYTHONPATH PYTHONHOME VIRTUAL_ENV DRUM_GUNICORN_DRUM_ARGS DRUM_SERVER_TYPE "
    "PORT HOST ADDRESS VLLM_PORT WEB_CONCURRENCY MAX_WORKERS SERVER_SOFTWARE TARGET_NAME CODE_DIR URL_PREFIX "
    "SAGEMAKER_BIND_TO_PORT OTEL_EXPORTER_OTLP_ENDPOINT NIMDRUM_STATE_DIR".split(),
)
def test_what_an_engine_must_not_see(name: str) -> None:
    """Keys and tokens, DRUM's own variables, Python's paths, and names that would change an engine's port."""
    assert inherited({name: SECRET}) == {}


@pytest.mark.parametrize(
    "name",
    "HOME LANG TZ TMPDIR LD_LIBRARY_PATH LC_ALL SSL_CERT_FILE CUDA_VISIBLE_DEVICES NVIDIA_VISIBLE_DEVICES "
    "NCCL_P2P_DISABLE NIM_CACHE_PATH NIM_RELAX_MEM_CONSTRAINTS VLLM_LOGGING_LEVEL HF_HOME HF_HUB_OFFLINE "
    "OUTLINES_CACHE_DIR OMP_NUM_THREADS".split(),
)
def test_what_an_engine_may_see(name: str) -> None:
    """What the image and its user set for the engine, its GPUs and its libraries."""
    assert inherited({name: "x"}) == {name: "x"}


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["DRUM_", "MLOPS_", "DATAROBOT_", "KUBERNETES_", "AWS_", "PYTHON"]).flatmap(
            lambda prefix: st.text("ABC_", max_size=6).map(lambda rest: prefix + rest)
        ),
        st.text(max_size=5),
    )
)
def test_the_list_is_one_of_what_is_allowed(environ: dict[str, str]) -> None:
    """A name that nobody thought of does not pass."""
    assert inherited(environ) == {}


@pytest.mark.parametrize(
    ("path", "venv", "left"),
    [
        pytest.param("/opt/venv/bin:/usr/bin:/bin", "/opt/venv", "/usr/bin:/bin", id="first"),
        pytest.param("/usr/bin:/opt/venv/bin/:/bin", "/opt/venv/", "/usr/bin:/bin", id="slashes at the end"),
        pytest.param("/opt/venv/bin:/usr/bin:/opt/venv/bin", "/opt/venv", "/usr/bin", id="twice"),
        pytest.param(
            "/opt/venv/bin2:/opt/venv:/usr/bin",
            "/opt/venv",
            "/opt/venv/bin2:/opt/venv:/usr/bin",
            id="similar names stay",
        ),
        pytest.param("/usr/bin:/bin", None, "/usr/bin:/bin", id="no venv"),
        pytest.param("/usr/bin::/bin:", "", "/usr/bin:/bin", id="empty entries mean the current folder"),
        pytest.param("", "/opt/venv", "", id="empty"),
    ],
)
def test_the_virtual_environment_leaves_the_path(path: str, venv: str | None, left: str) -> None:
    """The engine has its own Python; nothing else of PATH changes."""
    assert without_venv(path, venv) == left


def test_the_running_interpreter_is_left_out_too() -> None:
    """DRUM may have been started by the full path, without VIRTUAL_ENV."""
    mine = str(PurePath(sys.prefix, "bin"))
    in_venv = sys.prefix != sys.base_prefix
    assert inherited({"PATH": f"{mine}:/usr/games"}) == {"PATH": "/usr/games" if in_venv else f"{mine}:/usr/games"}


LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@pytest.mark.parametrize(
    ("environ", "own"),
    [
        pytest.param({"HTTPS_PROXY": "http://proxy:3128"}, set(), id="no exceptions yet"),
        pytest.param({"https_proxy": "http://proxy:3128", "no_proxy": "a.corp"}, {"a.corp"}, id="lower case"),
        pytest.param(
            {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "a.corp,b.corp"}, {"a.corp", "b.corp"}, id="upper case"
        ),
        pytest.param(
            {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "a.corp", "no_proxy": "a.corp"}, {"a.corp"}, id="both"
        ),
    ],
)
def test_a_proxy_leaves_loopback_alone(environ: dict[str, str], own: set[str]) -> None:
    """Both spellings hold loopback and the user's exceptions: some programs read one of them, some the other."""
    env = inherited(environ)
    assert set(env["NO_PROXY"].split(",")) == own | LOOPBACK
    assert set(env["no_proxy"].split(",")) == own | LOOPBACK
    assert {name: env[name] for name in environ if "no_" not in name.lower()} == {
        name: value for name, value in environ.items() if "no_" not in name.lower()
    }


def test_without_a_proxy_nothing_is_added() -> None:
    """An engine without proxy has no exceptions from one."""
    assert inherited({"HOME": "/root"}) == {"HOME": "/root"}
