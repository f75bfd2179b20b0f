"""The life of one row: send, classify, wait, send again, until there is an answer or a reason why not."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from nimdrum.errors import EngineStartError, EngineUnavailableError, SupervisorError
from nimdrum.log import event, get_logger
from nimdrum.scoring.answer import Answer, Completion, RowFailure, TryAgain, read_answer
from nimdrum.scoring.body import Sampling, chat_body
from nimdrum.scoring.client import EngineClient, TooSlow, Unreachable
from nimdrum.scoring.retry import Attempts, next_delay
from nimdrum.supervisor.attach import Endpoint

BAD_REQUEST = (400, 422)

log = get_logger("score")

Result = Completion | RowFailure


@dataclass
class Engine:
    """The engine as a row sees it: where it is now, and how to wait for it after it was lost."""

    endpoint: Endpoint
    client_for: Callable[[Endpoint], EngineClient]
    wait_ready: Callable[[float], Endpoint]

    def found_again(self, timeout_sec: float) -> Endpoint:
        """Wait until the engine is ready (it may have moved to another port). Raises as `wait_ready` does."""
        self.endpoint = self.wait_ready(timeout_sec)
        return self.endpoint


class RowSender:
    """Sends rows of one call. Safe to use from many threads."""

    def __init__(
        self,
        engine: Engine,
        sampling: Sampling,
        client_timeout_sec: float,
        stopped: threading.Event,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._sampling = sampling
        self._client_timeout_sec = client_timeout_sec
        self._stopped = stopped
        self._chance = chance
        self._clock = clock
        self._n_refused = False

    def send(self, prompt: str, deadline: float) -> Result:
        """The answer to `prompt`; `deadline` is on this sender's clock. Never raises for what the engine does."""
        n = self._sampling.n
        if n == 1:
            return self._ask(prompt, 1, deadline)
        if not self._n_refused:
            answer = self._ask(prompt, n, deadline)
            if not (isinstance(answer, RowFailure) and answer.status in BAD_REQUEST):
                return answer
        return self._ask_singly(prompt, n, deadline)

    def _ask_singly(self, prompt: str, n: int, deadline: float) -> Result:
        """Choices one by one, for an engine that refuses `n`; a single one where all would be the same anyway."""
        first = self._ask(prompt, 1, deadline)
        if isinstance(first, RowFailure):
            return first  # it was not because of n
        greedy = self._sampling.temperature == 0
        if not self._n_refused:
            self._n_refused = True
            way = "asked once: at temperature 0 all choices are the same" if greedy else "asked one by one"
            event(log, "score.n_refused", n=n, way=way)
        texts, tokens = list(first.texts), first.completion_tokens or 0
        while not greedy and len(texts) < n:
            another = self._ask(prompt, 1, deadline)
            if isinstance(another, RowFailure):
                return another
            texts += another.texts
            tokens += another.completion_tokens or 0
        return replace(first, texts=tuple(texts), completion_tokens=tokens)

    def _ask(self, prompt: str, n: int, deadline: float) -> Result:
        attempts = Attempts()
        endpoint = self._engine.endpoint
        while True:
            answer = self._send_once(endpoint, prompt, n, deadline)
            if not isinstance(answer, TryAgain):
                return answer
            lost = answer.failure.kind == "engine_down" or answer.engine_dead
            attempts = (
                replace(attempts, broken=attempts.broken + 1)
                if lost
                else replace(attempts, refused=attempts.refused + 1)
            )
            delay = next_delay(attempts, self._chance(), answer.after_sec)
            if delay is None or self._clock() + delay >= deadline or self._stopped.wait(delay):
                return answer.failure
            if lost:
                try:
                    endpoint = self._engine.found_again(deadline - self._clock())
                except (EngineStartError, EngineUnavailableError, SupervisorError) as error:
                    return RowFailure("engine_down", str(error), 503)

    def _send_once(self, endpoint: Endpoint, prompt: str, n: int, deadline: float) -> Answer:
        left = deadline - self._clock()
        if left <= 0:
            return RowFailure("timed_out", "no time was left when its turn came", 504)
        body = chat_body(replace(self._sampling, model=endpoint.model), prompt, n)
        try:
            reply = self._engine.client_for(endpoint).send(body, min(left, self._client_timeout_sec))
        except TooSlow as error:
            return RowFailure("timed_out", str(error), 504)
        except Unreachable as error:
            return TryAgain(RowFailure("engine_down", f"the engine could not be reached ({error})", 503))
        return read_answer(reply.status, reply.headers, reply.body)
