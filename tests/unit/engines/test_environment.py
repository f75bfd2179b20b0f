"""`nimdrum.engines.environment`: what of DRUM's environment an engine may see."""

import sys
from pathlib import PurePath

import pytest

from nimdrum.base.parameters import PACKAGE
from nimdrum.engines.environment import inherited, without_venv

SECRET = "do-not-pass-me-on"


@pytest.mark.parametrize(
    "name",
    "NGC_API_KEY NGC_CLI_API_KEY HF_TOKEN HUGGING_FACE_HUB_TOKEN MODELSCOPE_API_TOKEN NVIDIA_API_KEY VLLM_API_KEY "
    "OPENAI_API_KEY AWS_SECRET_ACCESS_KEY DATAROBOT_API_TOKEN DATAROBOT_ENDPOINT MLOPS_API_TOKEN "
    "MLOPS_RUNTIME_PARAM_NGC_API_KEY MLOPS_RUNTIME_PARAM_NIM_LOG_LEVEL "
    "PYTHONHOME VIRTUAL_ENV DRUM_GUNICORN_DRUM_ARGS DRUM_SERVER_TYPE "
    "PORT HOST ADDRESS VLLM_PORT WEB_CONCURRENCY PROMETHEUS_MULTIPROC_DIR MAX_WORKERS SERVER_SOFTWARE TARGET_NAME CODE_DIR URL_PREFIX "
    "SAGEMAKER_BIND_TO_PORT OTEL_EXPORTER_OTLP_HEADERS NIMDRUM_STATE_DIR OPENAI_HOST".split(),
)
def test_what_an_engine_must_not_see(name: str) -> None:
    """Keys and tokens, DRUM's own variables, Python's paths, and names that would change an engine's port."""
    assert inherited({name: SECRET}) == {}


@pytest.mark.parametrize(
    "name",
    "HOME LANG TZ TMPDIR LD_LIBRARY_PATH LC_ALL SSL_CERT_FILE CUDA_VISIBLE_DEVICES NVIDIA_VISIBLE_DEVICES "
    "NCCL_P2P_DISABLE NIM_CACHE_PATH NIM_RELAX_MEM_CONSTRAINTS VLLM_LOGGING_LEVEL HF_HOME HF_HUB_OFFLINE "
    "OUTLINES_CACHE_DIR OMP_NUM_THREADS BASH_ENV ENV _CUDA_COMPAT_PATH LIBRARY_PATH OTEL_SERVICE_NAME DYN_LOG "
    "GLOO_SOCKET_IFNAME LMCACHE_CONFIG_FILE NIXL_PLUGIN_DIR TIKTOKEN_CACHE_DIR MY_OWN VLLM_MAX_TOKENS_PER_CHUNK "
    "TOKENIZERS_PARALLELISM MODEL_NAME KEYBOARD PYTHONUNBUFFERED AUTHOR".split(),
)
def test_what_an_engine_may_see(name: str) -> None:
    """What the image and its user set for the engine, its GPUs and its libraries."""
    assert inherited({name: "/x"}) == {name: "/x"}


PLANTED = {
    # by name
    **dict.fromkeys(
        "NGC_API_KEY HF_TOKEN AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN MINE_AWS_ACCESS_KEY_ID DB_PASSWORD REDIS_PASS "
        "SMTP_PASSWD MYAPIKEY OAUTH_CLIENT_SECRET GIT_CREDENTIALS SSH_PASSPHRASE SENTRY_DSN STORAGE_SAS GITHUB_PAT "
        "SESSION_COOKIE BASIC_AUTH".split(),
        "plain",
    ),
    # by value
    "WEIGHTS": "https://bucket.s3.amazonaws.com/w?X-Amz-Credential=AK%2F1&X-Amz-Signature=0f1e2d",
    "WEIGHTS_GCS": "https://storage.googleapis.com/b/w?X-Goog-Signature=0f1e2d",
    "WEIGHTS_AZURE": "https://a.blob.core.windows.net/c/w?sv=2024&sig=0f1e2d%3D",
    "DATABASE_URL": "postgresql://user:hunter2@db.internal:5432/models",
    "BROKER": "amqp://guest:guest@rabbit//",
    "AZURE_STORAGE": "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=abc123==;EndpointSuffix=core.windows.net",
    "SQL": "Server=tcp:db;User Id=sa;Password=hunter2;",
    "OTHER_HEADERS": "authorization=Bearer%20abcdefghij",
    "CURL_OPTIONS": "-H 'Authorization: Bearer abcdefghij'",
    "PEM": "-----BEGIN RSA PRIVATE KEY-----\nMIIE",
    "SERVICE_ACCOUNT": '{"type": "service_account", "private_key": "x"}',
    "SOMETHING": "nvapi-abcdefghijklmnop",
    "OPTIONS": "--model x --hf hf_abcdefghijklmnop",
    "JWT_OF_MINE": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
    "WITH_A_STORED_ONE": "prefix:stored-credential-value:suffix",
}
STORED = '{"type": "credential", "payload": {"credentialType": "api_token", "apiToken": "stored-credential-value"}}'


def test_no_planted_secret_passes() -> None:
    """Thirty and more of them, known by name, by what they look like, or from a credential parameter."""
    assert len(PLANTED) >= 30
    assert inherited({**PLANTED, "MLOPS_RUNTIME_PARAM_MINE": STORED, "HOME": "/root"}) == {"HOME": "/root"}


@pytest.mark.parametrize(
    "value",
    [
        *("/opt/key.pem", "Asia/Tokyo", "a=1;b=2", "https://example.com/a?b=c", "cuda>=12.8 brand=tesla,driver>=535"),
        *('{"max_num_seqs": 64, "speculative_config": {"num_speculative_tokens": 3}}', "task-parallel-mode", "basic"),
    ],
)
def test_what_only_looks_a_little_like_a_secret_passes(value: str) -> None:
    assert inherited({"MINE": value}) == {"MINE": value}


def test_drum_leaves_the_python_path() -> None:
    """What DRUM's gunicorn and its venv put there goes; what the image has there stays."""
    venv = "/opt/venv/lib/python3.12/site-packages"
    path = f"{venv}/datarobot_drum/drum/gunicorn:/opt/nim/lib:{PACKAGE.parent}"
    env = {"PYTHONPATH": path, "VIRTUAL_ENV": "/opt/venv"}
    assert inherited(env) == {"PYTHONPATH": "/opt/nim/lib"}
    assert inherited({**env, "PYTHONPATH": venv}) == {}


@pytest.mark.parametrize(
    ("path", "venv", "left"),
    [
        pytest.param("/opt/venv/bin:/usr/bin:/bin", "/opt/venv", "/usr/bin:/bin", id="first"),
        pytest.param("/usr/bin:/opt/venv/bin/:/bin", "/opt/venv/", "/usr/bin:/bin", id="slashes at the end"),
        pytest.param("/opt/venv/bin:/usr/bin:/opt/venv/bin", "/opt/venv", "/usr/bin", id="twice"),
        pytest.param(
            "/opt/venv2/bin:/opt/my/venv/bin:/usr/bin",
            "/opt/venv",
            "/opt/venv2/bin:/opt/my/venv/bin:/usr/bin",
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
