"""The switches of the fake NIM. Frozen, all with defaults, written to the child as one JSON file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from .releases import RELEASES

LINES = ("1.x", "2.x")
REFUSE_N = ("never", "greedy", "always", "ignore")


@dataclasses.dataclass(frozen=True)
class FakeNimConfig:
    """What one fake NIM does. Durations are seconds; None switches a fault off; "" matches no prompt.

    "Answered" counts whole 200 completions. The counts for `fail`, `reset` and `rate_limit` run over the
    completion requests in order of arrival: first the failing ones, then the reset ones; a rate limit
    begins at its own number.
    """

    # The image.
    line: str = "1.x"
    release: str = ""  # one of `releases.RELEASES`; "" has all by which its line is told
    legacy_script_name: bool = False  # 1.x: start-server.sh instead of start_server.sh
    shell_stays: bool = False  # the start script does not exec: it waits and traps TERM, as 1.x does

    # Start. While loading, 1.x refuses connections; 2.x answers live 200 and everything else 503.
    start_delay_sec: float = 0.0
    load_until: str = ""  # loads until this file exists, looked for after start_delay_sec
    must_write: tuple[str, ...] = ()  # folders that it writes a file into first; where it cannot, it dies
    never_ready: bool = False
    die_before_ready: bool = False  # after start_delay_sec: last_lines to stderr, then exit_code
    last_lines: tuple[str, ...] = ()
    exit_code: int = 1  # also for crash_after
    refuse_flag: str = ""  # 2.x: a flag of this name in NIM_PASSTHROUGH_ARGS ends the start as argparse does
    chatty_lines: int = 0  # log lines printed at start, about 100 bytes each

    # The engine.
    seconds_per_token: float = 0.0
    prefill_sec: float = 0.0
    max_num_seqs: int = 256  # choices that run together (a request with n > 1 is so many); the rest wait in order
    max_model_len: int = 4096  # NIM_MAX_MODEL_LEN in the environment overrides it
    metrics: bool = True
    slow_health_sec: float = 0.0  # delay of the health routes while a request runs or waits

    # Answers.
    answer_tokens: int | None = None  # else "echo: <last user message>" has as many as it has
    null_content: str = ""  # prompts with this text: content null, finish_reason length
    lone_surrogate: str = ""  # prompts with this text: an answer with a lone \ud800
    reasoning: str = ""  # put into messages as reasoning_field, unless the template's enable_thinking is off
    reasoning_field: str = "reasoning_content"  # newer engines: "reasoning"

    # What it can besides text.
    adapters: tuple[str, ...] = ()  # LoRA adapters: models that it lists, and answers as, beside its own
    tool_parser: bool = False  # calls a tool that it must, and with auto one whose name the prompt has; not in streams
    vision: bool = False  # takes pictures: each is read as "[picture]"

    # Refusals.
    refuse_n: str = ""  # of n > 1: "never"; "greedy": at temperature 0; "always"; "ignore": one choice comes back
    largest_body: int = 1 << 20  # 2.x: a larger request gets 413 from the proxy, nginx's own bound
    poison: str = ""  # prompts with this text: 400
    rate_limit_after: int | None = None
    rate_limit_count: int = 1
    retry_after_sec: float = 1.0
    fail_status: int = 503
    fail_count: int = 0

    # Breaking and dying.
    reset_count: int = 0  # headers and half the body, then a TCP reset
    hang_prompts_containing: str = ""  # such a completion keeps its slot and is never answered
    crash_prompts_containing: str = ""  # such a prompt kills the process as soon as it runs
    crash_after: int | None = None  # exactly so many answered, then dies with what is or comes in flight
    engine_dead_after: int | None = None  # exactly so many answered, then 500 for ever and ready 503
    crash_once: bool = False  # die_before_ready, crash_after, engine_dead_after, hang: not on starts after the first

    # The process.
    ignore_sigterm: bool = False
    grandchildren: int = 0  # sleeping child processes of the fake; they keep its stdout open, and it never kills them
    grandchildren_ignore_sigterm: bool = False
    grandchildren_own_session: bool = False  # setsid: they escape the process group

    # What it writes down: starts.jsonl, and requests.jsonl if record_requests.
    record_dir: str | None = None
    record_requests: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "last_lines", tuple(self.last_lines))
        object.__setattr__(self, "must_write", tuple(self.must_write))
        object.__setattr__(self, "adapters", tuple(self.adapters))
        if self.record_dir is not None:
            object.__setattr__(self, "record_dir", str(Path(self.record_dir).absolute()))
        object.__setattr__(self, "refuse_n", self.refuse_n or ("greedy" if self.line == "2.x" else "never"))
        if self.line not in LINES:
            raise ValueError(f"line must be one of {LINES}, got {self.line!r}")
        known = RELEASES.get(self.release or self.line)
        if known is None or known.line != self.line:
            raise ValueError(f"release must be one of {sorted(RELEASES)} and of its line, got {self.release!r}")
        if self.refuse_n not in REFUSE_N:
            raise ValueError(f"refuse_n must be one of {REFUSE_N}, got {self.refuse_n!r}")
        if self.max_num_seqs < 1 or self.max_model_len < 2:
            raise ValueError("max_num_seqs must be at least 1 and max_model_len at least 2")
        if self.record_dir is None and (self.crash_once or self.record_requests):
            raise ValueError("crash_once and record_requests need a record_dir to write to")

    @classmethod
    def of(cls, release: str, **switches: Any) -> FakeNimConfig:
        """What an image of this release is, with these switches besides."""
        known = RELEASES[release]
        return cls(**{"line": known.line, "release": release, **known.switches, **switches})

    def to_json(self) -> str:
        """The JSON text that `from_json` reads back to an equal config."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> FakeNimConfig:
        """Read a config. Raises ValueError for an unknown key: a misspelt switch must not pass unseen."""
        values: dict[str, Any] = json.loads(text)
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"unknown switches {unknown}; known: {sorted(known)}")
        return cls(**values)
