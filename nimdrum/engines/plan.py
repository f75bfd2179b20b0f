"""What the project knows of a kind of engine, and the plan of one: all that the supervisor needs to know about it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from nimdrum.base.hosting import LOOPBACK, Hosting
from nimdrum.base.settings import Settings
from nimdrum.engines.config_file import PASSTHROUGH, EngineConfig
from nimdrum.engines.work import KNOWN, Metrics

DEFAULT_MODEL_NAME = "datarobot-deployed-llm"
"""The name that DataRobot's clients send."""
PORT = "@PORT@"
"""Stands for the engine's port in `argv` and `env` until the supervisor has chosen one."""


LOAD_MODEL = "load_model"
PREPARING = "NIMDRUM_PREPARING"
"""Set for the process that runs the user's load_model."""


@dataclass(frozen=True)
class Limits:
    """What the user allows an engine that does not start or does not stay."""

    max_restarts: int
    max_backoff_sec: float
    startup_timeout_sec: float


@dataclass(frozen=True)
class Bounds:
    """Between which sizes the window of rows in flight moves. It starts at `start`; up to `free` an empty queue is
    reason enough to grow; `blind` is what it keeps without metrics."""

    start: int
    blind: int
    free: int
    ceiling: int


@dataclass(frozen=True)
class Preparation:
    """A program that must end well before the engine is started: the fetch of its weights, or the user's load_model."""

    argv: tuple[str, ...]
    env: dict[str, str] = field(repr=False)
    request: str = field(repr=False)
    """For its standard input; may hold a credential."""
    what: str = "Fetching the weights"
    """For sentences about it."""
    source: str = "weights"
    """Begins its lines in the log. A load_model answers with the plan of the engine that is to be started after it."""


@dataclass(frozen=True)
class EnginePlan:
    """How to start an engine and how to know that it is ready."""

    engine: str
    """The name of its kind."""
    cwd: str
    port: int
    """0 lets the supervisor choose a free port."""
    health_path: str
    model: str | None
    """Name that /v1/models must list; None takes the first one listed."""
    limits: Limits
    bounds: Bounds
    metrics: Metrics
    uses_gpus: bool
    stop_timeout_sec: float
    """Time between the polite signal and the one that cannot be refused."""
    stall_timeout_sec: float
    """A running engine silent for so long is asked for one token, and restarted if it makes none."""
    host: str = LOOPBACK
    line: str = ""
    """What a log should call it, for example "NIM 2.x"."""
    argv: tuple[str, ...] = ()
    """Empty when there is nothing to start."""
    env: dict[str, str] = field(default_factory=dict, repr=False)
    """The whole environment of the engine process."""
    pending: bool = False
    """Not to be started: something is still to be put on the disk, so what lies there has no part in it."""
    warning: str = ""
    """For the log, once the plan was made."""
    cache: str | None = None
    """Folder that must be writable before the start."""
    gpus_needed: int | None = None
    """GPUs that the engine is told to use; None where nothing says it."""
    gpus_needed_by: str = ""
    """What says it, for a sentence."""
    platform: dict[str, str] = field(default_factory=dict, repr=False)
    """DataRobot's variables for deployment events, a token among them; empty outside a deployment."""
    network: dict[str, str] = field(default_factory=dict, repr=False)
    """Proxies and certificates (`hosting.NETWORK`), for the supervisor's own deployment events."""
    verify_ssl: bool = True
    speaks_for_others: bool = False
    """What is started here only passes requests on: it is not to blame, and not started again, when those are away."""
    drum_port: int | None = None
    """Where DRUM listens or soon will: not for the engine."""
    json_logs: bool = False
    """The supervisor writes its lines, and the engine's, as JSON."""
    other_ports: tuple[int, ...] = ()
    """Ports that the engine also listens on and that must be free."""
    api_servers: str = ""
    """How many HTTP servers the engine is given, and why so, for a person."""
    optional_flags: str = ""
    """At the end of NIM_PASSTHROUGH_ARGS, and asked for by nobody: an engine that refuses them is started without."""
    prepare: tuple[Preparation, ...] = ()
    """What to run before the first start, in order; without a time limit, so each must end by itself."""
    renew: Preparation | None = None
    """A fetch to run again and again while the engine runs, `renew_sec` apart: NIM reads its adapters' folder anew."""
    renew_sec: float = 0.0
    prepared: bool = False
    """An earlier supervisor of this engine has run them: a load_model is not run twice."""
    route: str = ""
    """How the engine gets its weights, in a word, and why so, in a sentence; for the log."""
    route_reason: str = ""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Values that must not appear in forwarded log lines."""
    identity: tuple[str, ...] = field(default=(), repr=False)
    """What makes two engines different from each other, apart from the fields below in `fingerprint`."""

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits: the same for every process that wants the same engine."""
        what = [self.engine, self.argv, self.host, self.port, self.health_path, self.model, self.identity]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]

    def with_port(self, port: int) -> "EnginePlan":
        """This plan with the port filled in everywhere."""
        text = str(port)
        return replace(
            self,
            port=port,
            argv=tuple(argument.replace(PORT, text) for argument in self.argv),
            env={name: value.replace(PORT, text) for name, value in self.env.items()},
        )

    def without_optional_flags(self) -> "EnginePlan":
        """This plan as it would be had the launcher left the flags alone."""
        flags = self.env.get(PASSTHROUGH, "").removesuffix(self.optional_flags).rstrip()
        env = {**self.env, PASSTHROUGH: flags} if flags else {k: v for k, v in self.env.items() if k != PASSTHROUGH}
        return replace(self, env=env, optional_flags="", api_servers="as the engine has it: it refused the flag")

    def to_json(self) -> str:
        """For the pipe to the supervisor. Holds secrets: never write it to a file or a log."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "EnginePlan":
        document: dict[str, Any] = json.loads(text)
        for name in ("argv", "other_ports", "secrets", "identity"):
            document[name] = tuple(document[name])
        document["limits"], document["bounds"] = Limits(**document["limits"]), Bounds(**document["bounds"])
        document["metrics"] = Metrics(**{name: tuple(values) for name, values in document["metrics"].items()})
        document["prepare"] = tuple(map(_preparation, document["prepare"]))
        document["renew"] = _preparation(document["renew"]) if document["renew"] else None
        return cls(**document)


def _preparation(document: dict[str, Any]) -> Preparation:
    return Preparation(**{**document, "argv": tuple(document["argv"])})


@dataclass(frozen=True)
class EngineKind:
    """One kind of engine. `choose.find_kinds` finds the `KIND` of every module of this room."""

    name: str
    """The word for the runtime parameter `engine`, small letters."""
    auto_place: int
    """Where `auto` looks for it: in the order of these numbers."""
    find: Callable[[Settings, Hosting], Any]
    """What is here of it, or None."""
    plan: Callable[[EnginePlan, Settings, Hosting, EngineConfig, Any], EnginePlan]
    """The first argument completed: what to start and how to reach it, given what `find` found (None where the user
    named an engine of which nothing is here). Raises EngineNotFoundError and SettingsError."""
    looked_for: Callable[[Hosting], str]
    """What `find` looks for, and what a user does to have it, for the error when nothing at all is found."""
    health_path: str
    """Answers 200 when the engine is ready, unless DR_NIM_HEALTH_ROUTE says another."""
    bounds: Bounds
    metrics: Metrics = KNOWN
    takes_flags: bool = False
    """Whether `args` of engine_config.json reach it."""
    uses_gpus: bool = False
    """Whether GPUs, shared memory and a cache are looked at before its start."""
    auto_warning: str = ""
    """What is logged when `auto` takes it."""
