"""The retries of one call: as many as rows, and none while nothing helps."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.scoring.retry import FREE_RETRIES, RETRIES_PER_ROW, RetryBudget


@settings(max_examples=50)
@given(st.integers(0, 300))
def test_there_is_an_end(rows: int) -> None:
    """A call never sends more than about twice its rows."""
    budget = RetryBudget()
    for _ in range(rows):
        budget.begin()
    taken = sum(budget.take() for _ in range(10 * FREE_RETRIES + rows))
    assert taken == FREE_RETRIES + RETRIES_PER_ROW * rows


def test_an_invited_retry_costs_nothing() -> None:
    """The engine itself said when to come back."""
    budget = RetryBudget()
    assert all(budget.take(invited=True) for _ in range(10 * FREE_RETRIES))
    assert budget.take()


def test_nothing_is_tried_twice_while_nothing_helps() -> None:
    """One row was given up and no other was answered since it began: the next are tried once, until one is answered."""
    budget = RetryBudget()
    began = budget.begin()
    budget.give_up(began)
    assert not budget.take()
    assert not budget.take(invited=True)
    budget.answered()
    assert budget.take()


def test_a_row_given_up_among_answers_is_its_own_fault() -> None:
    """The others may still be tried again."""
    budget = RetryBudget()
    began = budget.begin()
    budget.answered()
    budget.give_up(began)
    assert budget.take()
