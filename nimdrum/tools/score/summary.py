"""What became of the rows: for a person in a few lines, for a program as an object. Pure."""

from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from nimdrum.scoring.frame import EMPTY_PROMPT

ALL_ANSWERED, FAILED, SOME_FAILED, INTERRUPTED = 0, 1, 3, 130
"""Exit codes: 1 when no answers could be made at all, and 3 when some rows have an error in the place of one."""
EMPTY = EMPTY_PROMPT.kind
ENGINES_FAULT = ("engine_error", "engine_down", "timed_out", "bad_answer")


@dataclass(frozen=True)
class Failures:
    """Rows that failed in the same way, and the first of them."""

    kind: str
    count: int
    row: int
    message: str


@dataclass(frozen=True)
class Summary:
    rows: int
    empty: int
    """Rows without a prompt; nobody was asked, and that is no failure."""
    failures: tuple[Failures, ...]
    cut: int
    """Answers that end because max_tokens were reached."""
    prompt_tokens: int
    completion_tokens: int
    scoring_sec: float
    ready_sec: float
    """Before that: until the engine was ready."""
    output: str

    @property
    def failed(self) -> int:
        return sum(failure.count for failure in self.failures)

    @property
    def answered(self) -> int:
        return self.rows - self.empty - self.failed

    @property
    def exit_code(self) -> int:
        return SOME_FAILED if self.failed else ALL_ANSWERED


@dataclass
class Totals:
    """Counts over the frames that `score` gave; a model's own may have none of the extra columns."""

    rows: int = 0
    empty: int = 0
    cut: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failures: dict[str, Failures] = field(default_factory=dict)

    def add(self, frame: pd.DataFrame) -> None:
        errors = zip(_column(frame, "row_error"), frame.iloc[:, 0], strict=True)
        for number, (error, answer) in enumerate(errors, self.rows + 1):
            kind, _, message = str(error or "").partition(": ")
            if kind == EMPTY:
                self.empty += 1
            elif kind and not answer:
                found = self.failures.get(kind, Failures(kind, 0, number, message))
                self.failures[kind] = replace(found, count=found.count + 1)
        self.rows += len(frame)
        self.cut += sum(reason == "length" for reason in _column(frame, "finish_reason"))
        self.prompt_tokens += _sum(frame, "prompt_tokens")
        self.completion_tokens += _sum(frame, "completion_tokens")

    def nothing_answered(self) -> str | None:
        """A sentence when no row was answered and the engine is to blame, else None."""
        blamed = [self.failures[kind] for kind in ENGINES_FAULT if kind in self.failures]
        failed = sum(failure.count for failure in self.failures.values())
        if not blamed or failed + self.empty < self.rows:
            return None
        return f"{failed} of {self.rows} rows failed; row {blamed[0].row} with {blamed[0].kind}: {blamed[0].message}."

    def summary(self, scoring_sec: float, ready_sec: float, output: str) -> Summary:
        return Summary(
            rows=self.rows,
            empty=self.empty,
            failures=tuple(sorted(self.failures.values(), key=lambda failure: -failure.count)),
            cut=self.cut,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            scoring_sec=round(scoring_sec, 3),
            ready_sec=round(ready_sec, 3),
            output=output,
        )


def _column(frame: pd.DataFrame, name: str) -> list[Any]:
    return frame[name].tolist() if name in frame.columns else [None] * len(frame)


def _sum(frame: pd.DataFrame, name: str) -> int:
    return int(sum(value for value in _column(frame, name) if isinstance(value, int | float) and value == value))


def as_lines(summary: Summary) -> list[str]:
    """Counts and times, a line for each kind of failure, and where the answers are."""
    rate = summary.completion_tokens / summary.scoring_sec if summary.scoring_sec else 0.0
    told = [f"{summary.answered} of {summary.rows} rows answered in {_duration(summary.scoring_sec)}"]
    if summary.completion_tokens:
        told.append(f"{summary.completion_tokens} tokens ({rate:.0f}/s)")
    if summary.empty:
        told.append(f"{summary.empty} without a prompt")
    told.append(f"the engine was ready after {_duration(summary.ready_sec)}")
    lines = [", ".join(told)]
    for failure in summary.failures:
        lines.append(f"{failure.count} failed, {failure.kind}: row {failure.row}: {failure.message}")
    if summary.cut:
        lines.append(f"{summary.cut} cut at max_tokens: give more with --set max_tokens=...")
    return [*lines, f"Answers: {summary.output}"]


def as_object(summary: Summary) -> dict[str, Any]:
    failures = {f.kind: {"count": f.count, "row": f.row, "message": f.message} for f in summary.failures}
    return {
        "ok": summary.exit_code == ALL_ANSWERED,
        "rows": summary.rows,
        "answered": summary.answered,
        "empty": summary.empty,
        "failed": summary.failed,
        "failures": failures,
        "cut": summary.cut,
        "prompt_tokens": summary.prompt_tokens,
        "completion_tokens": summary.completion_tokens,
        "scoring_sec": summary.scoring_sec,
        "ready_sec": summary.ready_sec,
        "output": summary.output,
    }


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
