"""`next_delay`: when a row is sent again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.scoring.retry import FIRST_DELAY_SEC, LONGEST_DELAY_SEC, MOST_BROKEN, MOST_REFUSED, Attempts, next_delay

WITHIN = st.builds(Attempts, st.integers(0, MOST_BROKEN), st.integers(0, MOST_REFUSED)).filter(
    lambda a: a.broken + a.refused > 0
)
CHANCES = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("attempts", "chance", "after_sec", "delay"),
    [
        pytest.param(Attempts(refused=1), 0.0, None, FIRST_DELAY_SEC / 2, id="first, shortest"),
        pytest.param(Attempts(broken=1), 0.5, None, FIRST_DELAY_SEC * 0.75, id="first, middle"),
        pytest.param(Attempts(refused=3), 0.0, None, FIRST_DELAY_SEC * 2, id="third"),
        pytest.param(Attempts(broken=2, refused=1), 0.0, None, FIRST_DELAY_SEC * 2, id="both kinds count"),
        pytest.param(Attempts(refused=1), 0.0, 7.0, 7.0, id="as long as the engine asked for"),
        pytest.param(Attempts(refused=1), 0.0, 0.0, FIRST_DELAY_SEC / 2, id="the engine asked for nothing"),
        pytest.param(Attempts(refused=MOST_REFUSED), 0.0, None, LONGEST_DELAY_SEC / 2, id="last refusal"),
        pytest.param(Attempts(refused=MOST_REFUSED + 1), 0.0, None, None, id="too many refusals"),
        pytest.param(Attempts(broken=MOST_BROKEN + 1), 0.0, 7.0, None, id="too many lost connections"),
    ],
)
def test_delays(attempts: Attempts, chance: float, after_sec: float | None, delay: float | None) -> None:
    """One case each."""
    assert next_delay(attempts, chance, after_sec) == delay


@settings(max_examples=200)
@given(WITHIN, CHANCES, st.none() | st.floats(0, 1e6))
def test_a_delay_is_within_its_bounds(attempts: Attempts, chance: float, after_sec: float | None) -> None:
    """At least half of the step and what the engine asked for; never above the longest but for the latter."""
    delay = next_delay(attempts, chance, after_sec)
    assert delay is not None
    assert delay >= max(FIRST_DELAY_SEC / 2, after_sec or 0)
    assert delay <= max(LONGEST_DELAY_SEC, after_sec or 0)


@settings(max_examples=200)
@given(st.builds(Attempts, st.integers(0, 50), st.integers(0, 50)), CHANCES, st.none() | st.floats(0, 1e6))
def test_it_ends(attempts: Attempts, chance: float, after_sec: float | None) -> None:
    """Exactly when one of the two budgets is used up, whatever chance and engine say."""
    used_up = attempts.broken > MOST_BROKEN or attempts.refused > MOST_REFUSED
    assert (next_delay(attempts, chance, after_sec) is None) == used_up


@settings(max_examples=150)
@given(WITHIN, CHANCES)
def test_the_next_delay_is_never_shorter(attempts: Attempts, chance: float) -> None:
    """With the same chance, one failure more waits as long or longer."""
    delay, longer = next_delay(attempts, chance), next_delay(Attempts(attempts.broken, attempts.refused + 1), chance)
    assert delay is not None
    assert longer is None or longer >= delay
