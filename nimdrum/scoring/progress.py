"""How far it is: a bar on a terminal, with log lines above it, and a log line every ten seconds elsewhere."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TextIO

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from nimdrum.base.log import event, get_logger
from nimdrum.scoring.answer import Completion
from nimdrum.scoring.row import Result

LOG_EVERY_SEC = 10.0

log = get_logger("score")


@dataclass
class Count:
    """What has come of the rows of a call so far."""

    done: int = 0
    failed: int = 0
    tokens: int = 0

    def add(self, result: Result) -> None:
        self.done += 1
        if isinstance(result, Completion):
            self.tokens += result.completion_tokens or 0
        else:
            self.failed += 1


class Progress:
    """Counts results and shows them. `rows` are asked for, `passed` are not: without a prompt, or known already.
    `in_flight` is asked for the number of rows that are with the engine."""

    def __init__(
        self,
        rows: int,
        in_flight: Callable[[], int],
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        passed: int = 0,
    ) -> None:
        stream = sys.stderr if stream is None else stream
        self._rows = rows
        self._in_flight = in_flight
        self._passed = passed
        self._clock = clock
        self._began = self._logged = clock()
        self._count = Count()
        self._bar: tqdm[Any] | None = None
        if stream.isatty():
            self._bar = tqdm(total=rows + passed, initial=passed, unit="row", file=stream, dynamic_ncols=True)
        self._redirected = ExitStack()
        if self._bar is not None:
            self._redirected.enter_context(logging_redirect_tqdm())

    def done(self, row: int, result: Result) -> None:
        self._count.add(result)
        if self._bar is not None:
            self._bar.update()

    def tick(self) -> None:
        """Show what changed; call it about twice a second."""
        now = self._clock()
        if self._bar is not None:
            seconds = max(now - self._began, 1e-9)
            self._bar.set_postfix(
                {
                    "failed": self._count.failed,
                    "tokens/s": round(self._count.tokens / seconds),
                    "in flight": self._in_flight(),
                }
            )
        elif now - self._logged >= LOG_EVERY_SEC:
            self._logged = now
            self._log("score.progress")

    def close(self) -> None:
        self._redirected.close()
        if self._bar is not None:
            self._bar.close()
        self._log("score.done")

    def _log(self, name: str) -> None:
        seconds = max(self._clock() - self._began, 1e-9)
        rate = self._count.done / seconds
        event(
            log,
            name,
            rows=f"{self._passed + self._count.done}/{self._passed + self._rows}",
            failed=self._count.failed,
            rows_per_sec=round(rate, 1),
            tokens_per_sec=round(self._count.tokens / seconds),
            in_flight=self._in_flight(),
            seconds_left=round((self._rows - self._count.done) / rate) if rate else "unknown",
        )
