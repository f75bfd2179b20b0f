"""The fingerprint of a row changes with all that is asked, and with nothing else."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from nimdrum.base.settings import Settings, load_settings
from nimdrum.scoring.fingerprint import fingerprint, fingerprint_of
from nimdrum.scoring.request import Own, Sampling, sampling_of

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = load_settings(ROOT, {}.get)
PLAIN = Sampling("llama", "Be brief.", 1, {"max_tokens": 64, "temperature": 0.5})
ASKED = {field.name for field in dataclasses.fields(Sampling)} - {"model"} | {"split_reasoning"}


def test_it_stays_the_same_over_releases() -> None:
    """Pinned: where this fails, a journal of an older release is asked again as a whole. Count REQUEST_FORMAT up only
    where the same body means another request."""
    assert fingerprint(PLAIN, "hello") == "13f44516f1e2fbc4c8c2e2d3528d4ee0"


def other(value: Any, kind: str) -> Any:
    if "Mapping" in kind:
        return {**value, "seed": 3}
    if "bool" in kind:
        return not value
    return (value or 0) + 3 if "int" in kind or "float" in kind else "Another text."


@pytest.mark.parametrize("field", dataclasses.fields(Settings), ids=lambda field: str(field.name))
def test_each_setting_is_in_it_or_not(field: Any) -> None:
    """What changes the request or the reading of its answer changes it; timeouts, concurrency and the like do not."""
    value = getattr(SETTINGS, field.name)
    changed = dataclasses.replace(SETTINGS, **{field.name: other(value, str(field.type))})
    assert (fingerprint_of(changed, "m") != fingerprint_of(SETTINGS, "m")) == (field.name in ASKED)


def test_the_row_is_in_it() -> None:
    """The model, the prompt, and each thing that a row sets for itself; what it sets to the same is the same."""
    owns = [Own(system_prompt="x"), Own(model="legal"), Own(messages=({"role": "user"},))]
    owns += [Own(fields=fields) for fields in ({"max_tokens": 1}, {"max_tokens": None}, {"extra_body": {"top_k": 1}})]
    prints = [fingerprint(PLAIN, "hello", own) for own in owns]
    prints += [fingerprint(PLAIN, "hello"), fingerprint(PLAIN, "hello "), fingerprint(PLAIN, "")]
    prints.append(fingerprint(sampling_of(SETTINGS, "other"), "hello"))
    assert len(set(prints)) == len(prints)
    assert fingerprint(PLAIN, "hello", Own(fields={"max_tokens": 64})) == fingerprint(PLAIN, "hello")


def test_messages_nested_too_deeply() -> None:
    """RecursionError, as for the request itself; the row is a bad_row there."""
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        fingerprint(PLAIN, "", Own(messages=({"role": "user", "content": deep},)))
