"""Tokens and answers. Pure. One token is one whitespace-separated word, in prompts and in answers."""

from __future__ import annotations

import dataclasses
import itertools
import re

from .config import FakeNimConfig

_PIECE = re.compile(r"\s*\S+")


def count_tokens(text: str) -> int:
    return len(text.split())


def pieces(text: str) -> list[str]:
    """The tokens, each with the whitespace before it: joined they give the text back (less its tail)."""
    return _PIECE.findall(text)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One choice: its tokens as streamed, or None where the engine says null, and why it ended."""

    tokens: list[str] | None
    token_count: int
    finish_reason: str
    stop: str | None = None
    """The text that ended it."""

    @property
    def content(self) -> str | None:
        return None if self.tokens is None else "".join(self.tokens)

    def reason_at(self, position: int) -> str | None:
        """Why it ended, at the position of its last token; None before."""
        return self.finish_reason if self.tokens and position == len(self.tokens) - 1 else None


def answer(
    config: FakeNimConfig, prompt: str, last_user: str, limit: int, index: int, stops: tuple[str, ...] = ()
) -> Choice:
    """Choice `index` for a prompt, at most `limit` tokens, and none from the first of `stops` on. Deterministic; choices of
    one request differ.

    `prompt` is the text of all messages (searched for the trigger texts), `last_user` what is echoed.
    """
    if config.null_content and config.null_content in prompt:
        return Choice(tokens=None, token_count=limit, finish_reason="length")
    head = "echo:" if index == 0 else f"echo-{index}:"
    if config.lone_surrogate and config.lone_surrogate in prompt:
        head += " \ud800"
    tokens = pieces(f"{head} {last_user}")
    wanted = len(tokens) if config.answer_tokens is None else config.answer_tokens
    for number in itertools.count(1):
        if len(tokens) >= min(wanted, limit):
            break
        tokens.append(f" pad{number}")
    count = min(wanted, limit)
    text = "".join(tokens[:count])
    found = min(((text.find(stop), stop) for stop in stops if stop in text), default=None)
    if found is not None:
        kept = pieces(text[: found[0]])
        return Choice(kept, len(kept), "stop", found[1])
    return Choice(tokens[:count], count, "length" if wanted > limit else "stop")
