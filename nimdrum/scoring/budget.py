"""What a batch may use up, tokens or time; rows that were not asked by then say so. Pure but for the clock."""

import time
from collections.abc import Callable

from nimdrum.base.settings import Settings
from nimdrum.scoring.answer import Completion, RowFailure
from nimdrum.scoring.row import Result


class Budget:
    """The tokens and the seconds of one batch. Rows begin in order, so the skipped ones are its last."""

    def __init__(
        self,
        tokens: int = 0,
        seconds: float = 0.0,
        tokens_of_a_row: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """At most `tokens` of prompts and answers, for `seconds` from now; 0 is no limit.

        `tokens_of_a_row` is how many a row may take as far as is known before the first answer.
        """
        self._tokens, self._seconds = tokens, seconds
        self._expected = float(tokens_of_a_row or tokens)
        self._clock = clock
        self._used = self._squares = 0
        self._under_way = 0
        self._is_over = False
        self.deadline = clock() + seconds if seconds else float("inf")
        """On the clock; rows that are under way then are cut."""

    def has_room(self) -> bool:
        """Whether one more row may begin now. If not, it may when those that are under way took less than expected."""
        if not self._tokens or not (self._used or self._under_way):
            return True
        return self._used + (self._under_way + 1) * self._expected <= self._tokens

    def is_over(self) -> bool:
        """Whether no row may begin any more."""
        self._is_over = self._is_over or self._clock() >= self.deadline or not (self._under_way or self.has_room())
        return self._is_over

    def begin(self) -> None:
        self._under_way += 1

    def end(self, result: Result | None) -> None:
        """A row that had begun has its result, or was cut."""
        self._under_way -= 1
        if isinstance(result, Completion):
            used = (result.prompt_tokens or 0) + (result.completion_tokens or 0)
            self._used += used
            self._squares += used * used
            # Long answers are under way for longer, so of those under way they are more than their share: their mean is
            # that of all rows weighted by length.
            self._expected = self._squares / self._used if self._used else self._expected

    def skipped(self) -> RowFailure:
        """Why a row is not asked any more."""
        if self._clock() >= self.deadline:
            limit = f"batch_time_limit_sec ({self._seconds:g}) was over"
        else:
            limit = f"batch_token_limit ({self._tokens}) was reached: {self._used} tokens were used"
        return RowFailure("skipped", f"{limit} before this row had its answer", 503)


def budget_of(settings: Settings) -> Budget:
    return Budget(settings.batch_token_limit, settings.batch_time_limit_sec, settings.fields.get("max_tokens"))
