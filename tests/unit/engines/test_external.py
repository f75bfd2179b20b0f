"""The plan of an external engine: it runs elsewhere, so there is nothing to start."""

from pathlib import Path
from typing import Any

import pytest

from nimdrum.base.errors import SettingsError
from nimdrum.base.hosting import read_hosting
from nimdrum.base.settings import load_settings
from nimdrum.engines import external
from nimdrum.engines.choose import plan_engine
from nimdrum.engines.plan import EnginePlan

ROOT = Path(__file__).resolve().parents[3]
KEY = "nvapi-do-not-show-me"


def plan(**raw: Any) -> EnginePlan:
    environ = {"NGC_API_KEY": KEY, "HF_TOKEN": KEY, "HOME": "/root"}
    hosting = read_hosting("/opt/code", environ, ["drum", "score"])
    raw = {"engine": "external", "NGC_API_KEY": {"credentialType": "api_token", "apiToken": KEY}, **raw}
    return plan_engine(load_settings(ROOT, raw.get), hosting, (external.KIND,))


def test_it_has_its_weights_already() -> None:
    """Fetching for it is a contradiction."""
    with pytest.raises(SettingsError, match=r"model_artifacts_uri.*external"):
        plan(model_artifacts_uri="s3://bucket/llm/")


@pytest.mark.parametrize(
    ("raw", "host", "port", "health_path", "model"),
    [
        pytest.param({}, "127.0.0.1", 8000, "/v1/health/ready", None, id="a sidecar"),
        pytest.param({"DR_NIM_SERVER_HOST": "nim.example"}, "nim.example", 8000, "/v1/health/ready", None, id="host"),
        pytest.param(
            {"DR_NIM_SERVER_PORT": 8080},
            "127.0.0.1",
            8080,
            "/v1/health/ready",
            None,
            id="a port that is reserved only here",
        ),
        pytest.param({"DR_NIM_HEALTH_ROUTE": "/health"}, "127.0.0.1", 8000, "/health", None, id="health route"),
        pytest.param({"served_model_name": "llama"}, "127.0.0.1", 8000, "/v1/health/ready", "llama", id="model"),
    ],
)
def test_where_it_is_and_what_it_serves(
    raw: dict[str, Any], host: str, port: int, health_path: str, model: str | None
) -> None:
    """Without a name the first model that it lists is taken."""
    made = plan(**raw)
    assert (made.host, made.port, made.health_path, made.model) == (host, port, health_path, model)


def test_nothing_is_started_and_nothing_is_passed_on() -> None:
    """No argument list, no environment, no key."""
    made = plan()
    assert (made.engine, made.argv, made.env, made.other_ports, made.secrets) == ("external", (), {}, (), ())
    assert KEY not in made.to_json()


@pytest.mark.parametrize("content", ['{"env": {"A": 1}}', '{"args": ["--x"]}'])
def test_an_engine_config_without_an_engine_is_refused(tmp_path: Path, content: str) -> None:
    """It would have no effect, and whoever wrote it expects one. An empty one is nothing."""
    hosting = read_hosting(tmp_path, {}, ["drum", "score"])
    settings = load_settings(ROOT, {"engine": "external"}.get)
    file = tmp_path / "engine_config.json"
    file.write_text(content)
    with pytest.raises(SettingsError, match=r"engine_config\.json is there.*not started here"):
        plan_engine(settings, hosting, (external.KIND,))
    file.write_text('{"env": {}}')
    assert plan_engine(settings, hosting, (external.KIND,)).engine == "external"
