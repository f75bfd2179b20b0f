"""`nimdrum.base.secret`: a key is not printed by accident."""

import dataclasses
import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.base.secret import MASK, Secret, redact, secrets_among

KEY = "nvapi-do-not-show-me"


@dataclasses.dataclass(frozen=True)
class Holder:
    key: Secret


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(str, id="str"),
        pytest.param(repr, id="repr"),
        pytest.param(lambda secret: f"{secret}", id="f-string"),
        pytest.param(lambda secret: f"{secret!r}", id="f-string repr"),
        pytest.param(lambda secret: "%s %r" % (secret, secret), id="percent"),  # noqa: UP031 - logging formats this way
        pytest.param(lambda secret: str([secret, {"key": secret}]), id="in containers"),
        pytest.param(lambda secret: repr(Holder(secret)), id="in a dataclass"),
        pytest.param(lambda secret: str(dataclasses.asdict(Holder(secret))), id="in dataclasses.asdict"),
        pytest.param(lambda secret: repr(ValueError(secret)), id="in an error"),
    ],
)
def test_a_secret_shows_a_mask(shown: Callable[[Secret], str]) -> None:
    """However it is turned into text, only `reveal` gives the value."""
    text = shown(Secret(KEY))
    assert KEY not in text
    assert MASK in text
    assert Secret(KEY).reveal() == KEY


def test_secrets_are_compared_by_value() -> None:
    """Settings with another key are other settings."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")


@pytest.mark.parametrize(
    ("text", "secrets", "redacted"),
    [
        pytest.param("plain", [KEY], "plain", id="not there"),
        pytest.param(f"key={KEY}, again {KEY}", [KEY], f"key={MASK}, again {MASK}", id="twice"),
        pytest.param("key=a-1 token=b-2", ["a-1", "b-2"], f"key={MASK} token={MASK}", id="two secrets"),
        pytest.param("plain", [""], "plain", id="an empty secret masks nothing"),
        pytest.param("plain", [], "plain", id="no secrets"),
        pytest.param(
            "key=abc-and-more", ["abc", "abc-and-more"], f"key={MASK}", id="one secret begins another, shorter first"
        ),
        pytest.param(
            "key=abc-and-more", ["abc-and-more", "abc"], f"key={MASK}", id="one secret begins another, longer first"
        ),
    ],
)
def test_redact(text: str, secrets: list[str], redacted: str) -> None:
    """Every occurrence is masked, and the rest of the line stays."""
    assert redact(text, secrets) == redacted


@settings(max_examples=150)
@given(st.lists(st.text(alphabet="abcd", min_size=3, max_size=6), min_size=1, max_size=3), st.data())
def test_nothing_of_a_secret_is_left(secrets: list[str], data: st.DataObject) -> None:
    """Secrets set apart by other text leave nothing but masks and that text, whatever their order."""
    parts = data.draw(st.lists(st.sampled_from(secrets), max_size=4))
    assert redact("".join(f"<{part}>" for part in parts), secrets) == f"<{MASK}>" * len(parts)


HANDED_OVER = {
    "HTTPS_PROXY": ("http://user:pr0xy%40word@proxy:3128", ["pr0xy%40word", "pr0xy@word", "dXNlcjpwcjB4eUB3b3Jk"]),
    "http_proxy": ("http://user:abc@proxy:3128", ["user:abc"]),
    "NIM_CLONE": ("https://ghp_token1@github.com/x", ["ghp_token1"]),
    "NIM_GIT_PAT": ("a-pat-1234", ["a-pat-1234"]),
    "NIM_REGISTRY_AUTH": ("dXNlcjpwYXNz", ["dXNlcjpwYXNz"]),
    "NIM_STORE": ("AccountName=me;AccountKey=abc/def+gh==;Suffix=x", ["abc/def+gh==", "abc%2Fdef%2Bgh%3D%3D"]),
    "NIM_DB": ("Server=tcp:db;User ID=me;Password=hunter22;", ["hunter22"]),
    "NIM_LINK": ("https://b/k?X-Amz-Credential=AKIA123%2Fx&X-Amz-Signature=deadbeef01", ["AKIA123/x", "deadbeef01"]),
    "NIM_SAS_LINK": ("https://b/c?sv=2022&sig=aB%2Bcd1234%3D", ["aB%2Bcd1234%3D", "aB+cd1234="]),
    "NIM_JSON": ('{"user": "x", "password": "hunter 22\\\\n"}', ["hunter 22\\\\n"]),
    "NIM_HEADERS": ("Authorization: Bearer abcdef123", ["abcdef123"]),
    "NIM_TLS_CERT": ("-----BEGIN X-----\nMIIabcdef\n", ["MIIabcdef"]),
}


@pytest.mark.parametrize("name", HANDED_OVER)
def test_what_an_engine_was_handed_is_masked_by_value(name: str) -> None:
    """In each spelling in which a program may print it, on whichever line."""
    value, secrets = HANDED_OVER[name]
    printed = "\n".join([f"{name}={value}", json.dumps(value), repr({name: value}), *secrets])
    masked = redact(printed, secrets_among({name: value}))
    assert [secret for secret in secrets if secret in masked] == []


def test_ordinary_variables_stay_readable() -> None:
    """What is no secret is not masked, whatever it is called: a log full of masks would help nobody."""
    plain = {
        "PATH": "/usr/local/bin:/bin",
        "NIM_USE_AUTH": "true",
        "NIM_KEY": "/etc/keys/a.pem",
        "NIM_MAX_TOKENS": "1024000",
        "NIM_ARGS": "--tokenizer-mode=mistral --max-tokens=4096",
        "NIM_AUTHOR": "somebody",
        "NIM_PROXY": "http://proxy.example:3128",
        "NIM_PASS": "short",
    }
    assert secrets_among(plain) == ()


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=60), max_size=4))
def test_any_variables_are_read(variables: dict[str, str]) -> None:
    """Nothing raises, and no secret is so short that masking it everywhere would spoil the log."""
    assert all(len(secret) >= 6 for secret in secrets_among(variables))
