"""The completion route: what breaks, what is refused, then a slot in the engine, then the answer."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from . import bodies
from .checks import Chat, Refusal, check_chat
from .config import FakeNimConfig
from .engine import Engine, Job
from .faults import Fault, fault_at, is_due
from .text import Choice, answer
from .wire import HTML, Connection, Reply, Request


class Completions:
    """Answers chat completions.

    `on_trouble` is told before the process dies, the engine is dead or a prompt hangs; `die` ends the
    process; `armed` is False where crash_once has had its once.
    """

    def __init__(
        self,
        config: FakeNimConfig,
        names: tuple[str, ...],
        max_model_len: int,
        engine: Engine,
        *,
        armed: bool,
        on_trouble: Callable[[], None],
        die: Callable[[], None],
    ) -> None:
        self._config = config
        self._names = names
        self._max_model_len = max_model_len
        self._engine = engine
        self._armed = armed
        self._on_trouble = on_trouble
        self._die = die
        self._numbers = itertools.count()
        self._answered = 0

    def engine_is_dead(self) -> bool:
        return is_due(self._config.engine_dead_after, self._answered, self._armed)

    async def handle(self, request: Request, connection: Connection) -> Reply | None:
        """Answer one completion; None when the answer has been sent here."""
        number = next(self._numbers)
        self._crash_if_due()
        if self.engine_is_dead():
            return self._error(500, "InternalServerError", bodies.ENGINE_DEAD[self._config.line])
        fault = fault_at(self._config, number)
        if fault is Fault.FAIL:
            return self._failure()
        if fault is Fault.RATE_LIMIT:
            wait = f"{self._config.retry_after_sec:g}"
            return self._error(429, "RateLimitError", "Too many requests.", headers={"retry-after": wait})
        chat = check_chat(request.body, self._config, self._names, self._max_model_len)
        if isinstance(chat, Refusal):
            return self._error(chat.status, chat.type, chat.message, chat.param)
        id_ = f"chatcmpl-{request.headers.get('x-request-id') or f'fake-{number}'}"
        return await self._complete(id_, chat, connection, reset=fault is Fault.RESET)

    async def _complete(self, id_: str, chat: Chat, connection: Connection, *, reset: bool) -> Reply | None:
        choices = [answer(self._config, chat.prompt, chat.last_user, chat.limit, i, chat.stops) for i in range(chat.n)]
        hang = self._config.hang_prompts_containing
        hangs = bool(hang) and hang in chat.prompt and self._armed
        job = Job(
            chat.prompt_tokens,
            0 if hangs else max(choice.token_count for choice in choices),
            self._config.prefill_sec,
            self._config.seconds_per_token,
            width=chat.n,
        )
        async with self._engine.slot(job):
            if self._config.crash_prompts_containing and self._config.crash_prompts_containing in chat.prompt:
                self._die()
            if hangs:
                self._on_trouble()
                await asyncio.get_running_loop().create_future()  # until the client goes away
            if self.engine_is_dead():
                return self._error(500, "InternalServerError", bodies.ENGINE_DEAD[self._config.line])
            if chat.stream:
                whole = await self._stream(id_, chat, choices, job, connection, reset=reset)
            else:
                await self._engine.until(job.due(job.tokens))
        if not chat.stream:
            if self.engine_is_dead():
                return self._error(500, "InternalServerError", bodies.ENGINE_DEAD[self._config.line])
            reply = Reply(200, bodies.encode(bodies.completion(self._config, id_, chat, choices)))
            whole = not reset
            if whole:
                connection.send(reply)
            else:
                connection.send_half_and_reset(reply)
        if whole:
            self._engine.ended.update(choice.finish_reason for choice in choices)
            self._count_answered()
        return None

    async def _stream(
        self, id_: str, chat: Chat, choices: list[Choice], job: Job, connection: Connection, *, reset: bool
    ) -> bool:
        """Send the answer as events; False when it was cut by a reset or by the engine's death."""
        connection.start_stream()
        first = b"".join(bodies.opening(id_, chat, i) for i in range(chat.n))
        if self._config.reasoning and chat.thinks:
            thought = {self._config.reasoning_field: self._config.reasoning}
            first += b"".join(bodies.chunk(id_, chat, i, thought) for i in range(chat.n))
        connection.send_chunk(first)
        sent, last = 0, job.tokens // 2 if reset else job.tokens
        while sent < last:
            await self._engine.until(job.due(sent + 1))
            if self.engine_is_dead():
                words = bodies.ENGINE_DEAD[self._config.line]
                dead = bodies.error(self._config.line, 500, "InternalServerError", words)
                connection.send_chunk(bodies.event(dead) + bodies.DONE)
                connection.end_stream()
                return False
            now = max(sent + 1, min(last, job.done(self._engine.clock())))
            connection.send_chunk(_events(id_, chat, choices, sent, now))
            sent = now
        if reset:
            connection.reset()
            return False
        blank = ((i, choice) for i, choice in enumerate(choices) if not choice.tokens)
        tail = b"".join(bodies.chunk(id_, chat, i, {}, choice.finish_reason) for i, choice in blank)
        if chat.include_usage:
            tail += bodies.usage_chunk(id_, chat, choices)
        connection.send_chunk(tail + bodies.DONE)
        connection.end_stream()
        return True

    def _failure(self) -> Reply:
        status = self._config.fail_status
        if self._config.line == "2.x" and status in (413, 502, 503, 504):
            return Reply(status, bodies.nginx_html(status), HTML)
        return self._error(status, "InternalServerError", "A failure was asked for.")

    def _error(
        self,
        status: int,
        type_: str,
        message: str,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        body = bodies.error(self._config.line, status, type_, message, param)
        return Reply(status, bodies.encode(body), headers=headers or {})

    def _count_answered(self) -> None:
        self._answered += 1
        if self.engine_is_dead():
            self._on_trouble()
        if self._engine.busy:
            self._crash_if_due()

    def _crash_if_due(self) -> None:
        if is_due(self._config.crash_after, self._answered, self._armed):
            self._on_trouble()
            self._die()


def _events(id_: str, chat: Chat, choices: list[Choice], start: int, stop: int) -> bytes:
    """The events of token positions start..stop-1, choice by choice within a position."""
    return b"".join(
        bodies.chunk(id_, chat, index, {"content": choice.tokens[position]}, choice.reason_at(position))
        for position in range(start, stop)
        for index, choice in enumerate(choices)
        if choice.tokens is not None and position < len(choice.tokens)
    )
