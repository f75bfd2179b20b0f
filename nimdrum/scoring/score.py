"""The way through: a frame of prompts in, a frame of answers out."""

import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import gevent
import pandas as pd

from nimdrum.base.errors import CallerGoneError
from nimdrum.scoring.answer import Answer, Completion, RowFailure, TryAgain
from nimdrum.scoring.budget import Budget, budget_of
from nimdrum.scoring.columns import MESSAGES, model_of, own_columns, own_of
from nimdrum.scoring.fingerprint import DIGITS, fingerprint_of_body
from nimdrum.scoring.frame import EMPTY_PROMPT, assemble, columns_asked
from nimdrum.scoring.journal import Journal, NoJournal, journal_at
from nimdrum.scoring.loop import in_loop
from nimdrum.scoring.part import Part, current_part
from nimdrum.scoring.progress import Progress
from nimdrum.scoring.reader import prompts_of
from nimdrum.scoring.request import Own, Sampling, sampling_of, whole_body
from nimdrum.scoring.row import Result, RowSender
from nimdrum.scoring.rows import Call, run_rows
from nimdrum.scoring.traffic import Traffic, traffic_to
from nimdrum.session.attach import Endpoint
from nimdrum.session.caller import current_caller
from nimdrum.session.client import Reply
from nimdrum.session.counters import Tally, count_rows
from nimdrum.session.meters import note_operation
from nimdrum.session.model import Model
from nimdrum.session.tracing import note_rows, rows_span

COUNT_EVERY_SEC = 1.0
CANNOT_BE_ASKED = "0" * DIGITS
"""In the place of a fingerprint. No journal has a row of it."""


def score_frame(frame: pd.DataFrame, model: Model) -> pd.DataFrame:
    """Answers to the prompt column of `frame`, by position: moderation may have left gaps in its index.

    Raises BadInputError (no prompt column), EngineStartError or EngineUnavailableError (no engine before the
    first row), RowsFailedError (see `assemble`), JournalError, CallerGoneError.
    """
    settings, target, part = model.settings, model.hosting.target_column, current_part()
    rows = _Rows(frame, settings.prompt_column, settings.per_row_columns)
    with rows_span(len(frame)):
        results: list[Result] = [EMPTY_PROMPT] * len(frame)
        asked = [index for index in range(len(frame)) if not rows.is_empty(index)]
        for index, result in zip(asked, _answers(rows, asked, model, part) if asked else [], strict=True):
            results[index] = result
        note_rows(_tally(results))
    if model.hosting.server:
        count_rows(model, _tally([EMPTY_PROMPT] * (len(results) - len(asked))))
    return assemble(results, target, settings.n, settings.extra_output_columns, columns_asked(settings), part)


class _Counted:
    """Counts rows while their call goes on, so that who looks at a server sees what it does."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._fresh: list[Result] = []
        self._told = time.monotonic()

    def done(self, result: Result) -> None:
        if self._model.hosting.server:
            self._fresh.append(result)

    def tell(self, every_sec: float = 0.0) -> None:
        """Add what is new to the counters, unless that was done within `every_sec`."""
        if self._fresh and time.monotonic() - self._told >= every_sec:
            count_rows(self._model, _tally(self._fresh))
            self._fresh, self._told = [], time.monotonic()


def _tally(results: Sequence[Result]) -> Tally:
    answers = [result for result in results if isinstance(result, Completion)]
    failures = [result.kind for result in results if isinstance(result, RowFailure)]
    return Tally(
        answered=len(answers),
        failed=len(failures),
        prompt_tokens=sum(answer.prompt_tokens or 0 for answer in answers),
        completion_tokens=sum(answer.completion_tokens or 0 for answer in answers),
        finish_reasons=tuple(sorted({answer.finish_reason or "none" for answer in answers})),
        errors=Counter(failures),
    )


class _Rows:
    """What the frame asks, row by row: a prompt, or a conversation, and what the row sets for itself."""

    def __init__(self, frame: pd.DataFrame, prompt_column: str, per_row_columns: bool) -> None:
        self.own = own_columns(frame, prompt_column) if per_row_columns else {}
        empty = frame.empty and not len(frame.columns)  # a JSON array without a record names no column
        conversations_only = MESSAGES in self.own and prompt_column not in frame.columns
        self.prompts = [""] * len(frame) if empty or conversations_only else prompts_of(frame, prompt_column)

    def is_empty(self, index: int) -> bool:
        return not self.prompts[index].strip() and not (MESSAGES in self.own and self.own[MESSAGES][index].strip())

    def request(self, index: int, sampling: Sampling) -> tuple[Own, bytes] | RowFailure:
        """What the row sets for itself, and its request for all choices at once; or why it cannot be asked."""
        own = own_of(self.own, index)
        try:
            return own if isinstance(own, RowFailure) else (own, whole_body(sampling, self.prompts[index], own))
        except RecursionError:
            return RowFailure("bad_row", "messages or extra_body is nested too deeply", 400)


def _answers(rows: _Rows, asked: list[int], model: Model, part: Part) -> list[Result]:
    """One result for each of the rows `asked`, in order: from the journal, or from the engine."""
    settings = model.settings
    request_deadline = time.monotonic() + model.drums_limit_sec
    caller = current_caller()

    def gone() -> bool:
        part.check()
        return caller.gone()

    endpoint = model.ready(stopped=gone)
    budget: Budget = model.budget or budget_of(settings)
    sampling = sampling_of(settings, endpoint.model)
    journal = _journal_of(model)
    known: list[Result | None] = [None] * len(asked)
    if isinstance(journal, Journal) and journal.kept:
        known = journal.find([_print_of(rows.request(index, sampling), settings.split_reasoning) for index in asked])
    missing = [number for number, result in enumerate(known) if result is None]
    traffic = traffic_to(model.attachment, settings.max_concurrency, settings.batch_share / 100)
    way = _Way(traffic, caller.request_id, request_deadline)
    sender = RowSender(way, sampling, settings.client_timeout_sec, settings.split_reasoning)

    def send(number: int) -> Result:
        if budget.is_over():
            return budget.skipped()
        index = asked[missing[number]]
        request = rows.request(index, sampling)
        if isinstance(request, RowFailure):
            return request
        own, body = request
        deadline = min(time.monotonic() + settings.row_timeout_sec, request_deadline, budget.deadline)
        result = sender.send(rows.prompts[index], deadline, own, body)
        if isinstance(result, RowFailure) and result.kind == "timed_out" and time.monotonic() >= budget.deadline:
            return budget.skipped()
        journal.add(part.first + index + 1, body, settings.split_reasoning, result, traffic.window.in_flight)
        return result

    def end() -> None:
        traffic.end(call)
        journal.flush()
        if not model.hosting.server:
            traffic.close_idle()  # DRUM opens the answers' file next

    call = Call(len(missing), send, request_deadline, budget, part)
    progress = (model.screen or Progress)(
        len(missing), lambda: traffic.window.in_flight, passed=len(rows.prompts) - len(missing)
    )
    counted = _Counted(model)

    def done(number: int, result: Result) -> None:
        index = asked[missing[number]]
        progress.done(part.first + index, result)
        counted.done(result)
        _measure(model, endpoint, model_of(rows.own, index) or endpoint.model, result)

    def tick() -> None:
        progress.tick()
        counted.tell(COUNT_EVERY_SEC)
        if journal.waiting:
            in_loop(journal.flush)
        journal.sync()
        if gone():
            raise CallerGoneError

    try:
        fresh = run_rows(call, lambda: traffic.begin(call, endpoint), end, in_loop, done, tick) if missing else []
    finally:
        progress.close()
        counted.tell()
    journal.check()
    for number, result in zip(missing, fresh, strict=True):
        known[number] = result
    return [result for result in known if result is not None]


def _journal_of(model: Model) -> Journal | NoJournal:
    """Servers keep none: their callers have the answers, and several processes would share it."""
    kept = None if model.hosting.server else model.settings.journal
    return NoJournal() if kept is None else journal_at(kept)


def _print_of(request: tuple[Own, bytes] | RowFailure, split_reasoning: bool) -> str:
    return CANNOT_BE_ASKED if isinstance(request, RowFailure) else fingerprint_of_body(request[1], split_reasoning)


def _measure(model: Model, endpoint: Endpoint, asked: str, result: Result) -> None:
    """A row for the metrics, with the name of the model that it asked for; one that was never sent is none."""
    if not result.attempts or result.latency_sec is None:
        return
    tokens, error = {}, None
    if isinstance(result, Completion):
        tokens = {"input": result.prompt_tokens, "output": result.completion_tokens}
    else:
        error = result.kind
    note_operation(model.attachment.plan.engine, endpoint, asked, result.latency_sec, tokens, error)


@dataclass(frozen=True)
class _Way:
    """One call's way to the engine, an `EnginePort`. A row that waits leaves its place in the window to others."""

    traffic: Traffic
    request_id: str | None
    deadline: float

    def find(self, timeout_sec: float) -> Endpoint:
        if (endpoint := self.traffic.gate.endpoint) is not None:
            return endpoint
        with self.traffic.turns.away(self.deadline):
            return self.traffic.gate.wait(timeout_sec)

    def send(self, endpoint: Endpoint, body: bytes, timeout_sec: float) -> Reply:
        return self.traffic.client(endpoint).send(body, timeout_sec, self.request_id)

    def listed(self, endpoint: Endpoint, model: str) -> Collection[str]:
        return self.traffic.models.listed(self.traffic.client(endpoint), endpoint, model)

    def wait(self, seconds: float) -> None:
        with self.traffic.turns.away(self.deadline):
            gevent.sleep(seconds)

    def lost(self, endpoint: Endpoint) -> None:
        self.traffic.gate.lost(endpoint)

    def note(self, answer: Answer) -> None:
        if isinstance(answer, TryAgain):
            overload = answer.overload or answer.engine_dead
            self.traffic.window.note(overload, answer.after_sec, id(gevent.getcurrent()))  # a row has its own
        else:
            self.traffic.window.note(False)
            self.traffic.gate.answered()
