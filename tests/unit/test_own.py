"""What is the user's own in a code folder: found as DRUM finds it, loaded, called with what it takes."""

import sys
from pathlib import Path

import pytest

from nimdrum.base.errors import SettingsError
from nimdrum.base.own import MODEL_LINK, accepted, load_own, model_dir_of


@pytest.fixture(autouse=True)
def sys_path_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_model_dir(tmp_path: Path) -> None:
    """A made code folder names the user's; every other is the user's itself."""
    made, model = tmp_path / "made", tmp_path / "model"
    made.mkdir()
    model.mkdir()
    assert model_dir_of(made) == made
    (made / MODEL_LINK).symlink_to(model)
    assert model_dir_of(str(made)) == model


def test_nothing_of_the_users(tmp_path: Path) -> None:
    assert load_own(tmp_path, "custom") is None


def test_beside_and_below(tmp_path: Path) -> None:
    """The file may lie in a folder; it can import what stands beside it and what stands at the top."""
    (tmp_path / "top_of_model.py").write_text("TOP = 1")
    below = tmp_path / "src"
    below.mkdir()
    (below / "beside_of_model.py").write_text("BESIDE = 2")
    (below / "custom.py").write_text("from beside_of_model import BESIDE\nfrom top_of_model import TOP\nSUM = BESIDE + TOP")
    module = load_own(tmp_path, "custom")
    assert module is not None
    assert (module.SUM, module.__name__) == (3, "custom")


def test_two_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "custom.py").touch()
    with pytest.raises(SettingsError, match=r"more than one custom\.py"):
        load_own(tmp_path, "custom")


def test_keywords_that_a_hook_takes() -> None:
    """A hook without **kwargs gets only what it names, never TypeError."""
    keywords = {"headers": 1, "base_url": 2}
    assert accepted(lambda params, model: None, keywords) == {}
    assert accepted(lambda params, model, headers: None, keywords) == {"headers": 1}
    assert accepted(lambda params, model, *, base_url=None: None, keywords) == {"base_url": 2}
    assert accepted(lambda params, model, **kwargs: None, keywords) == keywords
