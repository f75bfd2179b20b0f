"""Which completion breaks, and how. Pure."""

from __future__ import annotations

import enum

from .config import FakeNimConfig


class Fault(enum.Enum):
    NONE = "none"
    FAIL = "fail"
    RESET = "reset"
    RATE_LIMIT = "rate limit"


def fault_at(config: FakeNimConfig, index: int) -> Fault:
    """The fault of the completion request number `index` (from 0, in order of arrival)."""
    if index < config.fail_count:
        return Fault.FAIL
    if index < config.fail_count + config.reset_count:
        return Fault.RESET
    first = config.rate_limit_after
    if first is not None and first <= index < first + config.rate_limit_count:
        return Fault.RATE_LIMIT
    return Fault.NONE


def is_due(limit: int | None, answered: int, armed: bool) -> bool:
    """Whether a death after `limit` answered completions is due; never where switched off or disarmed."""
    return armed and limit is not None and answered >= limit
