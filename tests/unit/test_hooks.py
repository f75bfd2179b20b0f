"""DRUM's hooks, where they end before anything is started."""

import json
from pathlib import Path

import pytest

from nimdrum import hooks
from nimdrum.base.errors import SettingsError

ROOT = Path(__file__).resolve().parents[2]


def test_a_target_that_no_answer_can_have_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DRUM's TARGET_NAME is known before the engine is started, so that is when a bad one is told."""
    monkeypatch.setenv("TARGET_NAME", "row_error")
    monkeypatch.setenv("NIMDRUM_IMAGE_ROOT", str(tmp_path))  # no NIM in there, so nothing could start
    monkeypatch.setenv("MLOPS_RUNTIME_PARAM_engine", json.dumps({"type": "string", "payload": "nim"}))
    with pytest.raises(SettingsError, match="TARGET_NAME"):
        hooks.load_model(str(ROOT))
