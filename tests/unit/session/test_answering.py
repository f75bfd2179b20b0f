"""Whether a server that ends waits for the answers that it still owes."""

import threading
from pathlib import Path

import pytest
from http_face import LIMIT_SEC, Face, face  # noqa: F401 - a fixture

from nimdrum.session.caller import answering, wait_for_answers
from nimdrum.supervisor.rundir import RunDir, create_run_dir
from nimdrum.supervisor.state import Phase


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    return create_run_dir(tmp_path, "x-1")


def test_it_waits_for_all(run_dir: RunDir) -> None:
    """Several may be answered at once; the last one counts."""
    first, second = answering(run_dir), answering(run_dir)
    first()
    first()
    assert not wait_for_answers(run_dir, 0.05)
    waited: list[bool] = []
    waiting = threading.Thread(target=lambda: waited.append(wait_for_answers(run_dir, LIMIT_SEC)))
    waiting.start()
    second()
    waiting.join(LIMIT_SEC)
    assert waited == [True]


def test_nobody_waits_where_nothing_is_asked(run_dir: RunDir) -> None:
    """And a request that comes later is answered without being waited for."""
    assert wait_for_answers(run_dir, 0)
    answering(run_dir)()


def test_a_lock_that_cannot_be_made_costs_no_answer(tmp_path: Path) -> None:
    """The state folder is gone."""
    answering(RunDir(tmp_path / "gone"))()
    assert not wait_for_answers(RunDir(tmp_path / "gone"), 0)


@pytest.mark.parametrize("path", ["/predict/", "/v1/chat/completions", "/nim/v1/models"])
def test_a_request_is_being_answered_until_its_answer_is_sent(face: Face, path: str) -> None:  # noqa: F811
    """Not only until it is made: whoever sends it may still be at it."""
    face.says(Phase.FATAL, cause="The disk is full.")
    response = face.client().post(path, data=b"{}")
    assert not wait_for_answers(face.run_dir, 0)
    response.close()
    assert wait_for_answers(face.run_dir, LIMIT_SEC)
