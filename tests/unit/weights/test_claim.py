"""`Claim`: one fetches, the others wait, and a holder that is gone does not hold."""

import json
from pathlib import Path

import pytest

from nimdrum.weights.claim import STALE_SEC, Claim


class Clock:
    """A time that the test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def left_behind(lock: Path, boot: str, beat: int = 3, mount: int = 0) -> None:
    """What a holder leaves that was killed; `mount` is the difference to the number of this mount."""
    where = f"{boot}:{lock.parent.stat().st_dev + mount}"
    lock.write_text(json.dumps({"id": "x", "mount": where, "host": "elsewhere", "pid": 17, "beat": beat}))


def test_one_has_it_until_it_lets_go(lock: Path) -> None:
    """The second gets it after the first, and is told who has it before."""
    first, second = Claim(lock), Claim(lock)
    assert first.take()
    assert not second.take()
    assert ":" in second.holder
    first.release()
    assert lock.read_bytes() == b""
    assert second.take()
    second.release()


def test_a_dead_holder_of_this_machine_is_seen_at_once(lock: Path) -> None:
    """The kernel has ended its lock, so no time is lost."""
    left_behind(lock, "this boot")
    claim = Claim(lock, boot_id="this boot")
    assert claim.take()
    claim.release()


@pytest.mark.parametrize(("boot", "mount"), [("another boot", 0), ("this boot", 1)], ids=["machine", "mount"])
def test_a_holder_on_another_machine_is_believed_while_it_beats(lock: Path, boot: str, mount: int) -> None:
    """Where its lock does not reach us, its number does; one that stands still for a minute is gone."""
    clock = Clock()
    claim = Claim(lock, boot_id="this boot", clock=clock)
    for beat in range(3):
        left_behind(lock, boot, beat, mount)
        assert not claim.take()
        clock.now += STALE_SEC - 1
        assert not claim.take()
        clock.now += 2
    assert claim.holder == "elsewhere:17"
    clock.now += STALE_SEC
    assert claim.take()
    claim.release()


def test_a_holder_beats(lock: Path) -> None:
    """Its number grows, so that others see it live."""
    claim = Claim(lock, beat_sec=0.5)
    assert claim.take()
    try:
        from fake_nim.run import wait_for

        wait_for(lambda: json.loads(lock.read_bytes() or b"{}").get("beat", 0) >= 2)
    finally:
        claim.release()


def test_garbage_in_the_file_is_a_holder_that_went(lock: Path) -> None:
    """A half-written line has no beat, so it counts as gone after the same time."""
    clock = Clock()
    lock.write_bytes(b'{"id": "x", "bo')
    claim = Claim(lock, clock=clock)
    assert not claim.take()
    clock.now += STALE_SEC
    assert claim.take()
    claim.release()
