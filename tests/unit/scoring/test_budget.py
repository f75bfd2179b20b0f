"""A batch with a budget: how many tokens it takes, when it is over, and what the other rows say."""

import heapq
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimdrum.base.errors import SettingsError
from nimdrum.base.settings import load_settings
from nimdrum.scoring.answer import Completion, RowFailure
from nimdrum.scoring.budget import Budget
from nimdrum.scoring.frame import assemble
from nimdrum.scoring.row import Result


def answer(tokens: int) -> Completion:
    return Completion(("text",), "stop", 0, tokens)


def used_up(budget: Budget, lengths: list[int], window: int) -> tuple[int, int]:
    """Tokens used and rows begun when rows of these lengths run, `window` at a time, each as long as its answer."""
    now, used, begun = 0, 0, 0
    under_way: list[tuple[int, int]] = []
    while True:
        while begun < len(lengths) and len(under_way) < window and not budget.is_over() and budget.has_room():
            budget.begin()
            heapq.heappush(under_way, (now + lengths[begun], lengths[begun]))
            begun += 1
        if not under_way:
            return used, begun
        now, length = heapq.heappop(under_way)
        budget.end(answer(length))
        used += length


@pytest.mark.parametrize("window", [32, 256, 512])
@pytest.mark.parametrize("spread", [(60, 68), (1, 512)], ids=["alike", "mixed"])
def test_ten_thousand_rows_stop_within_two_per_cent(window: int, spread: tuple[int, int]) -> None:
    """With a limit of half of what they would take, whatever the window and however the lengths differ."""
    chance = random.Random(1)
    lengths = [chance.randint(*spread) for _ in range(10_000)]
    limit = sum(lengths) // 2
    used, begun = used_up(Budget(limit, tokens_of_a_row=spread[1]), lengths, window)
    assert abs(used - limit) <= 0.02 * limit
    assert begun < len(lengths)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60), st.integers(1, 20), st.integers(1, 20_000))
def test_a_budget_ends_and_lets_the_first_row_go(lengths: list[int], window: int, limit: int) -> None:
    """It never stops with all rows waiting for each other; a limit under the first row's tokens lets that one go."""
    budget = Budget(limit)
    _, begun = used_up(budget, lengths, window)
    assert begun >= 1
    assert begun == len(lengths) or budget.is_over()


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60), st.integers(1, 20))
def test_no_limit_is_none(lengths: list[int], window: int) -> None:
    """0 tokens and 0 seconds let every row begin."""
    assert used_up(Budget(), lengths, window)[1] == len(lengths)


def test_time_is_over_at_the_deadline() -> None:
    """On its clock, and what is told names the limit that was met."""
    now = 100.0
    budget = Budget(seconds=60, clock=lambda: now)
    assert budget.deadline == 160 and not budget.is_over()
    now = 160.0
    assert budget.is_over()
    assert str(budget.skipped()) == "skipped: batch_time_limit_sec (60) was over before this row had its answer"


def test_tokens_that_are_used_up_are_told() -> None:
    """With the number that was used."""
    budget = Budget(100)
    budget.begin()
    budget.end(answer(90))
    assert budget.is_over()
    assert "batch_token_limit (100) was reached: 90 tokens were used" in budget.skipped().message


def test_failed_rows_cost_nothing() -> None:
    """An engine that refuses a row has made no tokens."""
    budget = Budget(100)
    for _ in range(50):
        budget.begin()
        budget.end(RowFailure("refused", "no", 400))
    assert budget.has_room() and not budget.is_over()


def test_skipped_rows_fail_no_batch() -> None:
    """Not even when no row at all was answered: the caller wanted no more."""
    results: list[Result] = [replace(Budget(1).skipped(), attempts=0)] * 3
    assert assemble(results, "answer", 1, True)["row_error"].str.startswith("skipped: ").all()


@pytest.mark.parametrize("limit", ["batch_token_limit", "batch_time_limit_sec"])
def test_a_limit_needs_a_column_that_says_skipped(limit: str) -> None:
    """Without the extra columns a skipped row would be a silent blank."""
    values = {limit: 10, "extra_output_columns": False}
    with pytest.raises(SettingsError, match=limit):
        load_settings(None, values.get)
