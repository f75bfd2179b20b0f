"""Signs of life of a running engine. Pure: looks and times in, a verdict out.

A busy engine may answer its health route late or not at all, so where a metrics page counts tokens, only the count
decides: it moves, or there is no work. Health decides where nothing is counted.
"""

from dataclasses import dataclass, replace

from nimdrum.engines.work import Work


@dataclass(frozen=True)
class Vital:
    """When the engine last gave a sign of life, on the supervisor's clock, and what its counters said then."""

    alive_at: float
    moved_at: float
    """When a counter last moved: a stronger sign than being idle."""
    progress: float | None = None


def after_work(vital: Vital, work: Work, now: float) -> Vital:
    """After a look at the metrics page."""
    if work.progress is None:
        return vital
    if work.progress != vital.progress:
        return replace(vital, alive_at=now, moved_at=now, progress=work.progress)
    if not work.running and not work.waiting:
        return replace(vital, alive_at=now)
    return vital


def after_health(vital: Vital, now: float) -> Vital:
    """After health answered well."""
    return vital if vital.progress is not None else replace(vital, alive_at=now)


def silence(vital: Vital, now: float, stall_timeout_sec: float) -> str | None:
    """Why the engine looks dead, or None while it does not."""
    silent_sec = now - vital.alive_at
    if silent_sec < stall_timeout_sec:
        return None
    if vital.progress is not None:
        return f"The engine has work, but made no token and ended no request for {silent_sec:.0f} s."
    return f"The engine has answered neither health nor metrics for {silent_sec:.0f} s."
