"""The facts, gathered at the edge: every look has a time limit, and one that fails is a fact too."""

import asyncio
import dataclasses
import os
import pwd
import resource
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

from nimdrum.base.errors import NimdrumError
from nimdrum.base.hosting import Hosting
from nimdrum.base.settings import Settings, load_settings
from nimdrum.engines.artifacts import ADAPTERS, MODEL_REPO
from nimdrum.engines.choose import plan_engine
from nimdrum.engines.config_file import read_engine_config
from nimdrum.engines.endpoints import VARIABLE, GatewayConfig
from nimdrum.engines.environment import inherited
from nimdrum.engines.image import NimImage, find_nim
from nimdrum.engines.nim import DEFAULT_CACHE
from nimdrum.engines.nim_env import BACKEND_PORT
from nimdrum.engines.plan import EnginePlan
from nimdrum.engines.preflight import shared_memory_bytes
from nimdrum.engines.tools import LIST, Listing, parse_listing, tool_command, tool_env
from nimdrum.gateway.ready import Seen, look_at_all
from nimdrum.scoring import mistakes
from nimdrum.supervisor.state import find_engines
from nimdrum.system.cores import usable_cores
from nimdrum.system.ports import PREFERRED
from nimdrum.system.process import Ended, run_program
from nimdrum.tools.doctor import look
from nimdrum.tools.doctor.look import find_keys
from nimdrum.tools.doctor.surroundings import Answer, Fact, Gpu, Port, Surroundings
from nimdrum.weights.folder import Content, content

LOOK_SEC = 10.0
SEARCH_SEC = 20.0
SMI_SEC = 20.0
HTTP_SEC = 5.0
ENDPOINTS_SEC = 90.0
DRUM_PORT = 8080
NOT_THERE = 127  # as launch.py and a shell say it
MARKER = "nimdrum doctor"

T = TypeVar("T")
Runner = Callable[..., Ended]
Getter = Callable[[str, bool, float], Answer]


class StoppedError(Exception):
    """A signal (`number`) asked this process to end while a program ran."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def timed(what: Callable[[], T], timeout_sec: float = LOOK_SEC) -> Fact[T]:
    """What `what` returns, or why not. A file system that hangs costs a thread, not the report."""
    box: SimpleQueue[Fact[T]] = SimpleQueue()

    def run() -> None:
        try:
            box.put(Fact(what()))
        except OSError as error:
            box.put(Fact(None, error.strerror or type(error).__name__))
        except Exception as error:  # its text may hold anything, a key too
            box.put(Fact(None, type(error).__name__))

    Thread(target=run, name="doctor-look", daemon=True).start()
    try:
        return box.get(timeout=timeout_sec)
    except Empty:
        return Fact(None, f"no answer within {timeout_sec:g} s")


def gather(
    hosting: Hosting,
    engine: str | None = None,
    *,
    list_timeout_sec: float,
    rows: Path | None = None,
    run: Runner = run_program,
    get: Getter = look.ask,
) -> Surroundings:
    """Look at everything. `engine` stands in for the parameter; `list_timeout_sec` 0 does not ask for profiles; `rows`
    is a file of prompts that is to be answered.

    Must be called from the main thread of a process without other children. Raises StoppedError.
    """
    environ = hosting.environ
    image = timed(lambda: find_nim(hosting.image_root)).seen
    settings, settings_error = _settings(hosting, engine)
    plan, plan_error = _plan(settings, hosting)
    cache = Path((plan and plan.cache) or environ.get("NIM_CACHE_PATH") or DEFAULT_CACHE)
    fetched = _fetch_folder(settings, hosting, plan)
    home = environ.get("HOME")
    endpoint = environ.get("DATAROBOT_ENDPOINT", "").strip().rstrip("/")
    verify = settings.verify_ssl if settings else True
    return Surroundings(
        image=image,
        code_dir=hosting.code_dir,
        uid=os.getuid(),
        gid=os.getgid(),
        python=sys.version_info[:2],
        settings=settings,
        settings_error=settings_error,
        rows=rows,
        rows_error=_rows_error(settings, rows),
        plan=plan,
        plan_error=plan_error,
        local_model=timed(lambda: _local_model(hosting, plan)).seen,
        fetch_into=timed(partial(look.folder, fetched)) if fetched else None,
        hf_offline=environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"),
        keys=find_keys(settings, hosting) if settings else (),
        gpus=_gpus(environ, run),
        shm_bytes=timed(shared_memory_bytes),
        cache=timed(lambda: look.folder(cache)),
        home=timed(lambda: look.folder(Path(home)) if home else None),
        temp=timed(lambda: look.folder(Path(tempfile.gettempdir()))),
        nim_folders=timed(lambda: look.nim_folders(hosting.image_root)),
        has_user_name=timed(lambda: _has_user_name(environ)),
        open_files=timed(lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        cores=timed(usable_cores),
        ports=timed(lambda: _ports(hosting, plan, image)),
        listing=_listing(settings, hosting, image, list_timeout_sec, run),
        code=timed(lambda: look.search_code(hosting.code_dir, SEARCH_SEC), SEARCH_SEC + LOOK_SEC),
        packages=timed(lambda: look.packages(hosting.code_dir)),
        platform=timed(lambda: get(f"{endpoint}/version/", verify, HTTP_SEC), 3 * HTTP_SEC) if endpoint else None,
        external=_external(plan, get),
        endpoints=_endpoints(plan),
        engines=timed(lambda: tuple(state for _, state in find_engines(hosting.state_root))),
    )


def _settings(hosting: Hosting, engine: str | None) -> tuple[Settings | None, str]:
    try:
        if hosting.values_file:
            seen = mistakes.look(mistakes.Asked(hosting.code_dir, hosting.target_column, hosting.values_file))
            if seen.mistakes or seen.settings is None:
                return None, " ".join(seen.mistakes)
            settings = seen.settings
        else:
            settings = load_settings(hosting.code_dir)
    except NimdrumError as error:
        return None, str(error)
    except Exception as error:  # DRUM, which reads them, may be missing or another; its texts may hold a key
        return None, f"The runtime parameters could not be read ({type(error).__name__}): is DRUM installed?"
    return dataclasses.replace(settings, engine=engine or settings.engine), ""


def _rows_error(settings: Settings | None, rows: Path | None) -> str:
    """Where the settings cannot be read, the rows are looked at as the defaults want them."""
    if rows is None:
        return ""
    asked = mistakes.Asked(None, "", rows=rows)
    return " ".join(mistakes.look(asked, settings, read=lambda name: None).mistakes)


def _plan(settings: Settings | None, hosting: Hosting) -> tuple[EnginePlan | None, str]:
    if settings is None:
        return None, ""

    def plan() -> EnginePlan | str:
        try:
            return plan_engine(settings, hosting)
        except NimdrumError as error:
            return str(error)

    fact = timed(plan)
    if isinstance(fact.seen, EnginePlan):
        return fact.seen, ""
    return None, fact.seen or f"The engine could not be chosen: {fact.missing}."


def _local_model(hosting: Hosting, plan: EnginePlan | None) -> Path | None:
    """The folder that the engine would load; without a plan, the one beside the hooks when there is anything in it."""
    folder = hosting.code_dir / MODEL_REPO
    if plan and plan.engine == "nim":
        return Path(plan.env.get("NIM_MODEL_PATH", folder)) if plan.cache is None else None
    return folder if content(folder) is not Content.EMPTY else None


def _fetch_folder(settings: Settings | None, hosting: Hosting, plan: EnginePlan | None) -> Path | None:
    """Where model_artifacts_uri is fetched to; None where it is not, and for a cache, which is looked at anyway."""
    if plan is None or settings is None or not plan.prepare:
        return None
    if settings.artifacts_target == ADAPTERS:
        return hosting.code_dir / ADAPTERS
    return hosting.code_dir / MODEL_REPO if plan.cache is None else None


def _gpus(environ: Mapping[str, str], run: Runner) -> Fact[tuple[Gpu, ...] | None]:
    command = ["nvidia-smi", f"--query-gpu={look.SMI_FIELDS}", "--format=csv,noheader,nounits"]
    ended = _run(run, command, inherited(environ), SMI_SEC, ())
    if ended is None or ended.exit_code is None:
        return Fact(None, f"nvidia-smi did not answer within {SMI_SEC:g} s; the driver hangs, perhaps")
    if ended.exit_code == NOT_THERE:
        return Fact(None)
    return Fact(look.parse_gpus(ended.lines))


def _listing(
    settings: Settings | None, hosting: Hosting, image: NimImage | None, timeout_sec: float, run: Runner
) -> Fact[Listing] | None:
    if settings is None or image is None or settings.engine not in ("auto", "nim") or timeout_sec <= 0:
        return None
    try:
        env, secrets = tool_env(settings, hosting, image, read_engine_config(hosting.code_dir))
    except NimdrumError:
        return None  # the plan's own error says it
    command = tool_command(LIST, image, hosting.image_root, env.get("PATH", ""), script=False)
    if command is None:
        return None
    ended = _run(run, command, env, timeout_sec, secrets)
    if ended is None or ended.exit_code is None:
        return Fact(None, f"{LIST} did not end within {timeout_sec:g} s")
    return Fact(parse_listing(ended.lines))


def _run(
    run: Runner,
    command: "list[str] | tuple[str, ...]",
    env: Mapping[str, str],
    timeout_sec: float,
    secrets: tuple[str, ...],
) -> Ended | None:
    try:
        ended = run(command, env, cwd="/", timeout_sec=timeout_sec, marker=MARKER, secrets=secrets)
    except OSError:
        return None
    if ended.signal is not None:
        raise StoppedError(ended.signal)
    return ended


def _has_user_name(environ: Mapping[str, str]) -> bool:
    if environ.get("LOGNAME") or environ.get("USER"):  # what getpass asks first
        return True
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True


def _ports(hosting: Hosting, plan: EnginePlan | None, image: NimImage | None) -> tuple[Port, ...]:
    ports = [look.port(hosting.drum_port or DRUM_PORT, "DRUM")]
    if plan and plan.engine == "external":
        return tuple(ports)
    ports.append(look.port(plan.port, "engine") if plan and plan.port else look.port(PREFERRED, "engine", True))
    others = plan.other_ports if plan else (BACKEND_PORT,) if image and image.line >= 2 else ()
    return (*ports, *(look.port(number, "engine's backend") for number in others))


def _external(plan: EnginePlan | None, get: Getter) -> Fact[Answer] | None:
    if plan is None or plan.engine != "external" or plan.argv:
        return None
    url = f"http://{plan.host}:{plan.port}{plan.health_path}"
    return timed(lambda: get(url, True, HTTP_SEC), 3 * HTTP_SEC)


def _endpoints(plan: EnginePlan | None) -> Fact[tuple[tuple[str, Seen], ...]] | None:
    """What the gateway would see."""
    if plan is None or VARIABLE not in plan.env:
        return None
    config = GatewayConfig.from_json(plan.env[VARIABLE])
    return timed(lambda: asyncio.run(look_at_all(config)), ENDPOINTS_SEC)
