"""The life of one row: send, classify, wait, send again, until there is an answer or a reason why not."""

import random
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol

from nimdrum.base.errors import EngineStartError, EngineUnavailableError, SupervisorError, brief, status_of
from nimdrum.base.log import event, get_logger
from nimdrum.engines.connection import TooLarge
from nimdrum.engines.wire import unknown_model
from nimdrum.scoring.answer import Answer, Completion, RowFailure, TryAgain, read_answer
from nimdrum.scoring.request import NOTHING_OWN, Own, Sampling, chat_body, with_own
from nimdrum.scoring.retry import Attempts, RetryBudget, next_delay
from nimdrum.session.attach import Endpoint
from nimdrum.session.client import Reply, TooSlow, Unreachable

BAD_REQUEST = (400, 422)
SUSPECT_AFTER = 2
SUSPECT_POLL_SEC = 0.05
NEIGHBOURS = nullcontext()

log = get_logger("score")

Result = Completion | RowFailure


class EnginePort(Protocol):
    """The engine as the rows of one call see it. What waits is ended by the greenlet's end when the call is stopped."""

    def find(self, timeout_sec: float) -> Endpoint:
        """Where it is. Waits while it is lost: it may come back on another port.

        Raises EngineStartError, EngineUnavailableError or SupervisorError.
        """

    def send(self, endpoint: Endpoint, body: bytes, timeout_sec: float) -> Reply:
        """One chat completion. Raises Unreachable or TooSlow."""

    def listed(self, endpoint: Endpoint, model: str) -> Collection[str]:
        """The models there, looked up again where `model` is not among them; none where the engine does not say."""

    def note(self, answer: Answer) -> None:
        """Tell what came of it."""

    def lost(self, endpoint: Endpoint) -> None:
        """Nobody sends to `endpoint` before it was found again."""

    def wait(self, seconds: float) -> None:
        """Let time pass."""


@dataclass
class _Trip:
    """What one row has been through: its own settings, its time, its tries."""

    prompt: str
    own: Own
    sampling: Sampling
    deadline: float
    answers_at_begin: int
    body: bytes | None = None
    """The request for all choices at once, where it is made already."""
    sent: int = 0
    met: RowFailure | None = None
    """What the last try met."""
    lives: list[int | None] = field(default_factory=list)
    """Of the engine, that ended while it had this row: an engine of several processes may take seconds to end, and
    breaks more than one connection in one death. Where no life is known, each connection counts."""


class RowSender:
    """Sends the rows of one call, each in a greenlet of the same loop."""

    def __init__(
        self,
        engine: EnginePort,
        sampling: Sampling,
        client_timeout_sec: float,
        split_reasoning: bool = False,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._sampling = sampling
        self._client_timeout_sec = client_timeout_sec
        self._split_reasoning = split_reasoning
        self._chance = chance
        self._clock = clock
        self._budget = RetryBudget()
        self._n_refused = False
        self._suspect_is_out = False

    def send(self, prompt: str, deadline: float, own: Own = NOTHING_OWN, body: bytes | None = None) -> Result:
        """The answer to `prompt`; `deadline` is on this sender's clock. Never raises for what the engine does. `body`
        is its request for all choices at once, where that is made already."""
        began = self._clock()
        try:
            sampling = with_own(self._sampling, own)
        except RecursionError:
            return RowFailure("bad_row", "extra_body is nested too deeply", 400)
        trip = _Trip(prompt, own, sampling, deadline, self._budget.begin(), body)
        result = self._choices(trip)
        return replace(result, latency_sec=round(self._clock() - began, 4), attempts=trip.sent)

    def _choices(self, trip: _Trip) -> Result:
        n = trip.sampling.n
        if n == 1:
            return self._ask(trip, 1)
        greedy = trip.sampling.fields.get("temperature") == 0
        answer: Result | None = None
        if not self._n_refused:
            answer = self._ask(trip, n)
            if isinstance(answer, RowFailure) and answer.status not in BAD_REQUEST:
                return answer
            if isinstance(answer, Completion) and (greedy or len(answer.texts) >= n):
                return answer
        return self._ask_singly(trip, n, greedy, answer if isinstance(answer, Completion) else None)

    def _ask_singly(self, trip: _Trip, n: int, greedy: bool, first: Completion | None) -> Result:
        """Choices one by one, for an engine that refuses `n`; a single one where all would be the same anyway."""
        if first is None:
            alone = self._ask(trip, 1)
            if isinstance(alone, RowFailure):
                return alone  # it was not because of n
            first = alone
            self._remember_n_refused(n, greedy)
        texts, tokens, incomplete = list(first.texts), first.completion_tokens, ""
        sampling = trip.sampling
        while not greedy and len(texts) < n:
            trip.sampling = _next_seed(sampling, len(texts))
            another = self._ask(trip, 1)
            if isinstance(another, RowFailure):
                incomplete = f"{another.kind}: {len(texts)} of {n} choices are there; {another.message}"
                break
            texts += another.texts
            tokens = None if tokens is None or another.completion_tokens is None else tokens + another.completion_tokens
        return replace(first, texts=tuple(texts), completion_tokens=tokens, incomplete=incomplete)

    def _remember_n_refused(self, n: int, greedy: bool) -> None:
        if not self._n_refused:
            self._n_refused = True
            way = "asked once: at temperature 0 all choices are the same" if greedy else "asked one by one"
            event(log, "score.n_refused", n=n, way=way)

    def _ask(self, trip: _Trip, n: int) -> Result:
        attempts = Attempts()
        while True:
            try:
                with self._without_suspects(trip) if len(trip.lives) >= SUSPECT_AFTER else NEIGHBOURS:
                    endpoint = self._engine.find(trip.deadline - self._clock())
                    answer = self._send_once(endpoint, trip, n)
            except (EngineStartError, EngineUnavailableError, SupervisorError) as error:
                self._budget.give_up(trip.answers_at_begin)
                return RowFailure("engine_down", brief(error), status_of(error))
            self._engine.note(answer)
            if not isinstance(answer, TryAgain):
                self._budget.answered()
                return answer
            trip.met = answer.failure
            lost = answer.failure.kind == "engine_down" or answer.engine_dead
            attempts = _one_more(attempts, lost)
            if lost:
                self._engine.lost(endpoint)
                if endpoint.pid is None or endpoint.pid not in trip.lives:
                    trip.lives.append(endpoint.pid)
            if not self._may_try_again(answer, attempts, trip, lost):
                return answer.failure

    @contextmanager
    def _without_suspects(self, trip: _Trip) -> Iterator[None]:
        """A row that was in flight when the engine died twice goes without other suspects.

        One of them may be what kills the engine. Alone it uses up its own tries, and not those of its neighbours.
        """
        while self._suspect_is_out and self._clock() < trip.deadline:
            # Waiting by way of the engine, which leaves this row's place in the window to the one that is out.
            self._engine.wait(SUSPECT_POLL_SEC)
        alone, self._suspect_is_out = not self._suspect_is_out, True
        try:
            yield
        finally:
            if alone:
                self._suspect_is_out = False

    def _may_try_again(self, answer: TryAgain, attempts: Attempts, trip: _Trip, lost: bool) -> bool:
        """Wait for the next try; False when there is none."""
        delay = next_delay(attempts, self._chance(), answer.after_sec)
        if delay is None:
            self._budget.give_up(trip.answers_at_begin)
            return False
        # A lost engine is waited for, by one row for all: those tries make no storm.
        if not self._budget.take(invited=lost or answer.after_sec is not None):
            return False
        if self._clock() + delay >= trip.deadline:
            return False
        self._engine.wait(delay)
        return True

    def _send_once(self, endpoint: Endpoint, trip: _Trip, n: int) -> Answer:
        left = trip.deadline - self._clock()
        if left <= 0:
            met = f" again, after {trip.met}" if trip.met else ""
            return RowFailure("timed_out", f"no time was left when its turn came{met}", 504)
        sampling, own = trip.sampling, trip.own.model
        if own and own != endpoint.model and (names := self._engine.listed(endpoint, own)) and own not in names:
            return RowFailure("unknown_model", unknown_model(own, names), 404)
        body = trip.body if n == sampling.n else None
        if sampling.model != (own or endpoint.model):
            sampling, body = replace(sampling, model=own or endpoint.model), None
        try:
            body = body or chat_body(sampling, trip.prompt, n, trip.own.messages)
        except RecursionError:
            return RowFailure("bad_row", "messages or extra_body is nested too deeply", 400)
        trip.sent += 1
        timeout_sec = min(left, self._client_timeout_sec)
        try:
            reply = self._engine.send(endpoint, body, timeout_sec)
        except TooSlow:
            return RowFailure("timed_out", f"no answer within {timeout_sec:.0f} s", 504)
        except TooLarge:
            return RowFailure("bad_answer", "the engine's answer has no end: more bytes than any answer needs", 502)
        except Unreachable as error:
            return TryAgain(RowFailure("engine_down", f"the engine could not be reached ({error})", 503), overload=True)
        return read_answer(reply.status, reply.headers, reply.body, self._split_reasoning, len(body))


def _one_more(attempts: Attempts, lost: bool) -> Attempts:
    if lost:
        return replace(attempts, broken=attempts.broken + 1)
    return replace(attempts, refused=attempts.refused + 1)


def _next_seed(sampling: Sampling, number: int) -> Sampling:
    """For choice `number` that is asked for alone: with the same seed it would be the first again. So does vLLM."""
    seed = sampling.fields.get("seed")
    return sampling if seed is None else replace(sampling, fields={**sampling.fields, "seed": seed + number})
