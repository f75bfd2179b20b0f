"""What was seen of the machine, the container and the settings. Data only; no key is in it but in a `Secret`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from nimdrum.base.settings import Settings
from nimdrum.engines.choose import find_kinds
from nimdrum.engines.image import NimImage
from nimdrum.engines.plan import EnginePlan
from nimdrum.engines.tools import Listing
from nimdrum.gateway.ready import Seen
from nimdrum.supervisor.state import EngineState

T = TypeVar("T")


class NotSeenError(Exception):
    """A fact could not be gathered; the text says why."""


@dataclass(frozen=True)
class Fact(Generic[T]):
    """Something that was looked at, or why it could not be."""

    seen: T | None
    missing: str = ""

    @property
    def value(self) -> T:
        """Raises NotSeenError."""
        if self.missing:
            raise NotSeenError(self.missing)
        return self.seen  # type: ignore[return-value]  # None only where T allows it


@dataclass(frozen=True)
class Gpu:
    """One GPU as nvidia-smi shows it."""

    name: str
    total_mb: int
    used_mb: int
    driver: str
    compute_mode: str


@dataclass(frozen=True)
class Folder:
    """A folder that something writes to. Where it is missing, the nearest one above it was looked at."""

    path: str
    not_writable: str | None
    free_bytes: int
    filled: bool
    noexec: bool


@dataclass(frozen=True)
class Port:
    """A port that must be free; `owner` names who has it, empty where that cannot be seen."""

    number: int
    what: str
    free: bool
    owner: str = ""
    can_move: bool = False
    """Another one is chosen when it is taken."""


@dataclass(frozen=True)
class Key:
    """A key for a registry, without its value."""

    name: str
    source: str
    odd: str = ""
    """What is wrong with how it looks."""


@dataclass(frozen=True)
class CodeFolder:
    """What DRUM would find when it searches the code folder."""

    hooks: tuple[str, ...]
    """Every custom.py and custom_flask.py."""
    artifacts: tuple[str, ...]
    """Files that make DRUM take the model for another kind."""
    files: int
    complete: bool
    """False when the time did not suffice to look at all of it."""


@dataclass(frozen=True)
class Packages:
    """Versions of the packages that this project stands on; None for one that is not there."""

    installed: dict[str, str | None]
    pinned: dict[str, frozenset[str]]
    """What the lock file names, where there is one."""


@dataclass(frozen=True)
class Answer:
    """What an HTTP address said: a status, or the kind of error instead."""

    url: str
    status: int | None
    error: str = ""


@dataclass(frozen=True)
class Surroundings:
    """Everything that the checks judge."""

    image: NimImage | None
    code_dir: Path
    uid: int
    gid: int
    python: tuple[int, int]
    settings: Settings | None
    settings_error: str
    plan: EnginePlan | None
    plan_error: str
    local_model: Path | None
    fetch_into: Fact[Folder] | None
    """The model folder that model_artifacts_uri goes to; None where nothing does."""
    hf_offline: bool
    keys: tuple[Key, ...]
    gpus: Fact[tuple[Gpu, ...] | None]
    """None: there is no nvidia-smi."""
    shm_bytes: Fact[int]
    cache: Fact[Folder]
    home: Fact[Folder | None]
    temp: Fact[Folder]
    nim_folders: Fact[tuple[str, ...]]
    """Folders of NIM that this user cannot write to."""
    has_user_name: Fact[bool]
    open_files: Fact[int]
    cores: Fact[int]
    """That this container may use."""
    ports: Fact[tuple[Port, ...]]
    listing: Fact[Listing] | None
    """None: not asked for."""
    code: Fact[CodeFolder]
    packages: Fact[Packages]
    platform: Fact[Answer] | None
    external: Fact[Answer] | None
    engines: Fact[tuple[EngineState, ...]]
    state_root: Path = field(default=Path())
    rows: Path | None = None
    """A file of prompts that is to be answered."""
    rows_error: str = ""
    endpoints: Fact[tuple[tuple[str, Seen], ...]] | None = None
    """Address and look of each that the gateway would speak to; None without a gateway."""

    @property
    def engine(self) -> str:
        """The kind that will be started, as far as that is known."""
        if self.plan:
            return self.plan.engine
        wanted = self.settings.engine if self.settings else "auto"
        return "nim" if wanted == "auto" and self.image else wanted

    @property
    def uses_gpus(self) -> bool:
        return any(kind.uses_gpus for kind in find_kinds() if kind.name == self.engine)

    @property
    def line(self) -> int:
        return self.image.line if self.image else 0

    @property
    def runs(self) -> bool:
        """An engine of this user is alive here: what is in use may be its own."""
        return bool(self.engines.seen)
