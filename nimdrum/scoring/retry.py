"""When to send a row again. Pure but for the count that `RetryBudget` keeps: the caller brings time and chance."""

from dataclasses import dataclass

FIRST_DELAY_SEC = 0.25
LONGEST_DELAY_SEC = 15.0
LONGEST_LOST_DELAY_SEC = 2.0
"""After a lost connection: the wait until the engine is ready again comes on top of it."""


@dataclass(frozen=True)
class Attempts:
    """How often one row was sent and failed. `broken` counts lost connections, `refused` retryable answers."""

    broken: int = 0
    refused: int = 0


MOST_BROKEN = 6
MOST_REFUSED = 8


def next_delay(attempts: Attempts, chance: float, after_sec: float | None = None) -> float | None:
    """Seconds to wait before the row is sent again, or None when it has been tried often enough.

    Exponential with half of it random (`chance` in [0, 1)), so that rows that failed together do not come back
    together; never less than the engine asked for (`after_sec`, its Retry-After).
    """
    if attempts.broken > MOST_BROKEN or attempts.refused > MOST_REFUSED:
        return None
    step = max(0, attempts.broken + attempts.refused - 1)
    longest = LONGEST_DELAY_SEC if attempts.refused else LONGEST_LOST_DELAY_SEC
    delay = min(longest, FIRST_DELAY_SEC * 2.0**step) * (0.5 + 0.5 * chance)
    return max(delay, after_sec or 0.0)


FREE_RETRIES = 200
RETRIES_PER_ROW = 1.0


class RetryBudget:
    """How many retries one call may spend: as many as it has sent rows, and a few more.

    So a failing engine never gets more than about twice the requests. Once a row was given up while no other was
    answered in the meantime, nothing is tried twice until an answer comes.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._spent = 0
        self._answers = 0
        self._hopeless = False

    def begin(self) -> int:
        """A row begins; returns the number of answers so far, for `give_up`."""
        self._rows += 1
        return self._answers

    def answered(self) -> None:
        self._answers += 1
        self._hopeless = False

    def give_up(self, answers_at_begin: int) -> None:
        """A row has used up its own tries."""
        self._hopeless = self._hopeless or self._answers == answers_at_begin

    def take(self, invited: bool = False) -> bool:
        """Whether one more retry is allowed. One that the engine invited (Retry-After) costs nothing."""
        if self._hopeless:
            return False
        if not invited:
            if self._spent >= FREE_RETRIES + RETRIES_PER_ROW * self._rows:
                return False
            self._spent += 1
        return True
