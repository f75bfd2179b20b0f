"""`nimdrum.base.secret`: a key is not printed by accident."""

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.base.secret import MASK, Secret, redact

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


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(alphabet="abcd", min_size=3, max_size=6), min_size=1, max_size=3), st.data())
def test_nothing_of_a_secret_is_left(secrets: list[str], data: st.DataObject) -> None:
    """Secrets set apart by other text leave nothing but masks and that text, whatever their order."""
    parts = data.draw(st.lists(st.sampled_from(secrets), max_size=4))
    assert redact("".join(f"<{part}>" for part in parts), secrets) == f"<{MASK}>" * len(parts)
