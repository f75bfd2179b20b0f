"""What the gateway is told: URLs as people write them, headers, and nothing of a key where it may be seen."""

import json
from pathlib import Path
from typing import Any

import pytest

from nimdrum.base.errors import SettingsError
from nimdrum.base.hosting import read_hosting
from nimdrum.base.settings import load_settings
from nimdrum.engines import external, nim
from nimdrum.engines.choose import plan_engine
from nimdrum.engines.endpoints import VARIABLE, EndpointUrl, GatewayConfig, read_headers, read_urls
from nimdrum.engines.image import NimImage
from nimdrum.engines.plan import EnginePlan

ROOT = Path(__file__).resolve().parents[3]
KEY = "nvapi-do-not-show-me"
CREDENTIAL = {"credentialType": "api_token", "apiToken": KEY}


def plan(**raw: Any) -> EnginePlan:
    hosting = read_hosting("/opt/code", {"HOME": "/root", "HTTPS_PROXY": "http://proxy:1"}, ["drum", "score"])
    return plan_engine(load_settings(ROOT, {"engine": "external", **raw}.get), hosting, (external.KIND,))


def config_of(made: EnginePlan) -> GatewayConfig:
    return GatewayConfig.from_json(made.env[VARIABLE])


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://a.example", EndpointUrl("https://a.example")),
        ("https://a.example:8443/x/y/", EndpointUrl("https://a.example:8443", "/x/y")),
        ("https://a.example/v1", EndpointUrl("https://a.example")),
        ("https://a.example/x/v1/chat/completions", EndpointUrl("https://a.example", "/x")),
        ("http://[::1]:8000", EndpointUrl("http://[::1]:8000")),
        ("http://a:1/x?api-version=1", EndpointUrl("http://a:1", "/x", "api-version=1")),
        ("http://a#model=meta/llama", EndpointUrl("http://a", model="meta/llama")),
        ("http://a#model=a%20b+c", EndpointUrl("http://a", model="a b+c")),
        ("http://a#each-address&model=x", EndpointUrl("http://a", model="x", each_address=True)),
    ],
)
def test_one_url(text: str, url: EndpointUrl) -> None:
    """Prefix, query and what stands behind #; what was copied along is cut off."""
    assert read_urls(text) == (url,)


def test_several_urls() -> None:
    """Blanks, commas and line ends between them."""
    assert [each.shown for each in read_urls("http://a:1/, http://b:2\nhttps://c/x")] == [
        "http://a:1",
        "http://b:2",
        "https://c/x",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"a.example:8000 {KEY}", "does not begin with http"),
        (f"ftp://a.example/{KEY}", "does not begin with http"),
        (f"https://user:{KEY}@a.example", "user or password before a.example"),
        (f"https://a.example:{KEY}", "no URL"),
        ("http://a#modell=x", "stands modell; known are model, each-address"),
        ("http://a http://a/", "names http://a twice"),
    ],
)
def test_what_is_no_endpoint(text: str, sentence: str) -> None:
    """Refused with a sentence that shows no key."""
    with pytest.raises(SettingsError, match=sentence) as error:
        read_urls(text)
    assert KEY not in str(error.value)


@pytest.mark.parametrize(
    "text", [KEY, f'["{KEY}"]', '{"a": 1}', f'{{"a b": "{KEY}"}}', f'{{"a": "{KEY}\\n"}}', '{"": "x"}']
)
def test_what_is_no_header(text: str) -> None:
    """Refused without showing a value."""
    with pytest.raises(SettingsError, match="engine_headers") as error:
        read_headers(text)
    assert KEY not in str(error.value)


def test_the_plan_starts_the_gateway() -> None:
    """On loopback and a free port; what is secret is in one variable, masked in logs, and nowhere else."""
    headers = json.dumps({"X-Api-Key": f"{KEY}-2", "X-Auth": f"Token {KEY}-3"})
    made = plan(
        engine_urls="https://a/x https://b?code=secret-in-query", engine_credential=CREDENTIAL, engine_headers=headers
    )
    assert (made.host, made.port, made.health_path, made.model) == ("127.0.0.1", 0, "/v1/health/ready", None)
    assert made.line == "external engine at https://a/x, 2 endpoints"
    assert KEY not in repr(made)
    assert KEY not in " ".join(made.argv)
    assert {KEY, f"{KEY}-2", f"{KEY}-3", "code=secret-in-query"} <= set(made.secrets)
    config = config_of(made)
    assert dict(config.headers)["Authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(config)
    assert made.env["HTTPS_PROXY"] == "http://proxy:1"
    assert "127.0.0.1" in made.env["NO_PROXY"]
    assert made.bounds.ceiling == 2 * config.bounds.ceiling


def test_a_short_value_does_not_spoil_the_log() -> None:
    """Masked everywhere it would: a header with the value "a", say."""
    made = plan(engine_urls="https://a", engine_headers='{"azureml-model-deployment": "blue", "X-Team": "a"}')
    assert made.secrets == ()
    assert config_of(made).headers == (("azureml-model-deployment", "blue"), ("X-Team", "a"))


def test_another_key_is_another_engine() -> None:
    """Whoever has another key must not use what this one opened."""
    other = {**CREDENTIAL, "apiToken": "another"}
    first, second = (plan(engine_urls="https://a", engine_credential=each) for each in (CREDENTIAL, other))
    assert first.fingerprint != second.fingerprint
    assert first.fingerprint == plan(engine_urls="https://a", engine_credential=CREDENTIAL).fingerprint


@pytest.mark.parametrize(
    "raw",
    [
        {"engine_credential": CREDENTIAL},
        {"engine_headers": '{"Host": "x"}'},
        {"engine_ca": "/etc"},
        {"requests_per_minute": 40},
    ],
    ids=lambda raw: next(iter(raw)),
)
def test_host_and_port_with_more_go_through_the_gateway_too(raw: dict[str, Any]) -> None:
    """Alone they do not: nothing is started then."""
    made = plan(DR_NIM_SERVER_HOST="nim.example", DR_NIM_SERVER_PORT=81, **raw)
    assert config_of(made).endpoints == (EndpointUrl("http://nim.example:81"),)
    assert plan(DR_NIM_SERVER_HOST="nim.example", DR_NIM_SERVER_PORT=81).argv == ()


def test_basic_credentials() -> None:
    """User and password, as the stored credential of that type has them."""
    made = plan(engine_urls="https://a", engine_credential={"credentialType": "basic", "user": "me", "password": KEY})
    assert config_of(made).headers == (("Authorization", "Basic bWU6bnZhcGktZG8tbm90LXNob3ctbWU="),)
    assert {KEY, "bWU6bnZhcGktZG8tbm90LXNob3ctbWU="} <= set(made.secrets)


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ({"engine_urls": "http://a", "DR_NIM_SERVER_PORT": 1}, "Empty the one or the others"),
        ({"engine_urls": "http://a", "engine_ca": "/not/there.pem"}, "no such file or folder"),
        ({"engine_urls": "http://a", "engine_credential": {"credentialType": "s3"}}, "without an apiToken"),
        (
            {"engine_credential": CREDENTIAL, "engine_headers": '{"authorization": "x"}'},
            "engine_headers has Authorization",
        ),
    ],
)
def test_what_contradicts_itself(raw: dict[str, Any], sentence: str) -> None:
    """Is told before anything is started."""
    with pytest.raises(SettingsError, match=sentence):
        plan(**raw)


def test_auto_takes_the_urls_and_nim_refuses_them() -> None:
    """As with a host: never the wrong model by accident."""
    hosting = read_hosting("/opt/code", {}, ["drum", "score"])
    settings = load_settings(ROOT, {"engine_urls": "http://a"}.get)
    assert plan_engine(settings, hosting, (external.KIND,)).engine == "external"
    image = NimImage(Path("/opt/nim/start_server.sh"), None, 2, "test")
    with pytest.raises(SettingsError, match="engine_urls"):
        nim.plan_nim(plan(), settings, hosting, None, image)  # type: ignore[arg-type]
