"""What is the user's own in a code folder: found as DRUM finds it, loaded, called with what it takes."""

import sys
from pathlib import Path

import pytest

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


def test_what_stands_beside_it(tmp_path: Path) -> None:
    """A user's custom.py can import what stands beside it; one further down is not theirs: weights bring their own code."""
    (tmp_path / "beside_of_model.py").write_text("BESIDE = 2")
    (tmp_path / "model-repo").mkdir()
    (tmp_path / "model-repo" / "custom.py").write_text("raise RuntimeError")
    assert load_own(tmp_path, "custom") is None
    (tmp_path / "custom.py").write_text("from beside_of_model import BESIDE\nSUM = BESIDE + 1")
    module = load_own(tmp_path, "custom")
    assert module is not None
    assert (module.SUM, module.__name__) == (3, "custom")


def test_keywords_that_a_hook_takes() -> None:
    """A hook without **kwargs gets only what it names, never TypeError."""
    keywords = {"headers": 1, "base_url": 2}
    assert accepted(lambda params, model: None, keywords) == {}
    assert accepted(lambda params, model, headers: None, keywords) == {"headers": 1}
    assert accepted(lambda params, model, *, base_url=None: None, keywords) == {"base_url": 2}
    assert accepted(lambda params, model, **kwargs: None, keywords) == keywords
