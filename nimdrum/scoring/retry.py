"""When to send a row again. Pure: the caller brings the time and the chance."""

from dataclasses import dataclass

FIRST_DELAY_SEC = 0.25
LONGEST_DELAY_SEC = 15.0


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
    delay = min(LONGEST_DELAY_SEC, FIRST_DELAY_SEC * 2.0**step) * (0.5 + 0.5 * chance)
    return max(delay, after_sec or 0.0)
