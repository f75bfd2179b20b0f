"""`drum_reader` against DRUM's own RuntimeParameters.

Through real environment variables, because DRUM reads os.environ itself.
"""

import json
import traceback
from pathlib import Path

import pytest

from nimdrum.base.errors import SettingsError
from nimdrum.base.settings import drum_reader, load_settings

ROOT = Path(__file__).resolve().parents[3]
NAME = "SOME_PARAMETER"
VARIABLE = f"MLOPS_RUNTIME_PARAM_{NAME}"
KEY = "nvapi-do-not-show-me"


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ('{"type":"string","payload":"abc"}', "abc"),
        ('{"type":"string","payload":null}', None),
        ('{"type":"string","payload":""}', ""),
        ('{"type":"numeric","payload":5}', 5),
        ('{"type":"numeric","payload":0}', 0),
        ('{"type":"numeric","payload":2.5}', 2.5),
        ('{"type":"numeric","payload":"5"}', "5"),
        ('{"type":"numeric","payload":""}', ""),
        ('{"type":"numeric","payload":null}', None),
        ('{"type":"boolean","payload":false}', False),
        ('{"type":"boolean","payload":null}', None),
        ('{"type":"credential","payload":null}', None),
        ('{"type":"credential","payload":""}', ""),
        (
            '{"type":"credential","payload":{"credentialType":"api_token","apiToken":"k"}}',
            {"credentialType": "api_token", "apiToken": "k"},
        ),
        ("", ""),
        ("  ", ""),
    ],
)
def test_what_drum_accepts_and_what_counts_as_unset(monkeypatch: pytest.MonkeyPatch, raw: str, value: object) -> None:
    """DRUM's value as it is; null is not set, and the empty payload (which DRUM refuses) is the empty text."""
    monkeypatch.setenv(VARIABLE, raw)
    assert drum_reader(NAME) == value


def test_plain_variables_of_drums_own_road(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_HOST and OPENAI_PORT count where the parameter is not set, as they do there."""
    monkeypatch.setenv("OPENAI_HOST", "sidecar")
    monkeypatch.setenv("OPENAI_PORT", "9998")
    assert (drum_reader("DR_NIM_SERVER_HOST"), drum_reader("DR_NIM_SERVER_PORT")) == ("sidecar", "9998")
    monkeypatch.setenv("MLOPS_RUNTIME_PARAM_DR_NIM_SERVER_PORT", '{"type":"numeric","payload":9997}')
    assert drum_reader("DR_NIM_SERVER_PORT") == 9997


def test_a_missing_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """DRUM raises for it."""
    monkeypatch.delenv(VARIABLE, raising=False)
    assert drum_reader(NAME) is None


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(KEY, id="bare value"),
        pytest.param(f'{{"type":"string","payload":"{KEY}"', id="bad JSON"),
        pytest.param(json.dumps({"type": "string", "payload": KEY, "extra": 1}), id="extra key"),
        pytest.param(json.dumps({"type": "string", "value": KEY}), id="no payload"),
        pytest.param(json.dumps({"type": "secret", "payload": KEY}), id="unknown type"),
        pytest.param(json.dumps({"type": "boolean", "payload": KEY}), id="no boolean"),
        pytest.param(json.dumps({"type": "boolean", "payload": "true"}), id="boolean as text"),
        pytest.param(json.dumps({"type": "numeric", "payload": KEY}), id="no number"),
        pytest.param(json.dumps({"type": "string", "payload": [KEY]}), id="no text"),
        pytest.param(json.dumps({"type": "credential", "payload": KEY}), id="credential as text"),
        pytest.param(
            json.dumps({"type": "credential", "payload": {"apiToken": KEY}}), id="credential without its type"
        ),
        pytest.param(json.dumps([KEY]), id="a list"),
        pytest.param("5", id="bare number"),
    ],
)
def test_what_drum_refuses_is_named_and_never_shown(monkeypatch: pytest.MonkeyPatch, raw: str) -> None:
    """DRUM's error texts hold the value; ours has the name only, and neither cause nor context brings theirs back."""
    monkeypatch.setenv(VARIABLE, raw)
    with pytest.raises(SettingsError, match=NAME) as caught:
        drum_reader(NAME)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_settings_come_from_the_environment_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way, with the forms that the platform mixes."""
    values = {
        "max_tokens": {"type": "numeric", "payload": "64"},
        "temperature": {"type": "numeric", "payload": 0.0},
        "system_prompt": {"type": "string", "payload": ""},
        "extra_output_columns": {"type": "boolean", "payload": False},
        "NGC_API_KEY": {"type": "credential", "payload": {"credentialType": "api_token", "apiToken": KEY}},
    }
    for name, value in values.items():
        monkeypatch.setenv(f"MLOPS_RUNTIME_PARAM_{name}", json.dumps(value))
    settings = load_settings(ROOT)
    assert (settings.fields, settings.system_prompt) == ({"max_tokens": 64, "temperature": 0}, None)
    assert settings.extra_output_columns is False
    assert settings.ngc_api_key is not None
    assert settings.ngc_api_key.reveal() == KEY
