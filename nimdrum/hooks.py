"""What DRUM's hooks do, in order: load, read, score, chat. The edge between DRUM and the rest of the package."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pandas as pd

from nimdrum.base.errors import (
    EngineStartError,
    EngineUnavailableError,
    HTTPStatusError,
    NimdrumError,
    SettingsError,
    SupervisorError,
    brief,
    status_of,
)
from nimdrum.base.hosting import Hosting, is_drum_score, read_hosting, score_input, score_output
from nimdrum.base.log import event, get_logger, log_as_json
from nimdrum.base.own import HOOKS, ROUTES, call_own, load_own, model_dir_of
from nimdrum.base.releases import installed, untried
from nimdrum.base.secret import credential_values
from nimdrum.base.settings import Settings, load_settings, unknown_variables
from nimdrum.engines.choose import plan_engine
from nimdrum.engines.load_model import load_model_step
from nimdrum.engines.plan import LOAD_MODEL, PREPARING, EnginePlan
from nimdrum.lifecycle import (
    end_command,
    let_go,
    remove_journal_at_exit,
    say_goodbye_at_exit,
    watch_engine,
    watch_owners,
)
from nimdrum.session.attach import attach
from nimdrum.session.facts import log_facts
from nimdrum.session.model import Model, openai_client

if TYPE_CHECKING:
    from nimdrum.scoring.complete import Prompts

WITH_THE_MODEL = ("score", "score_unstructured", "chat", "transform", "post_process")
NOT_HOOKS = ("load_model", "fit", "CustomTask", *vars(ModuleType("")), "__file__", "__cached__", "__builtins__")
READY_MARGIN_SEC = 12.0  # the supervisor gives up first, and says why

log = get_logger("hooks")


_loaded: Model | None = None
_own: ModuleType | None = None
"""The user's custom.py, in a code folder that `nimdrum code-dir` made."""


def door(custom_py: str) -> dict[str, Any]:
    """The content of the custom.py in a code folder that `nimdrum code-dir` made: the user's, with our hooks.

    What DRUM calls is ours, or the user's where they have it. Theirs get what DRUM's own NIM road gives: the served
    model's name as `model`, and the keywords `base_url` and `openai_client`.
    """
    global _own
    model_dir = model_dir_of(Path(custom_py).parent)
    _own = load_own(model_dir, HOOKS)
    names = {} if _own is None else {name: value for name, value in vars(_own).items() if name not in NOT_HOOKS}
    for name in WITH_THE_MODEL:
        if name in names:
            names[name] = _with_the_model(names[name])
    if lists := names.get("get_supported_llm_models"):
        listed = _with_the_model(lambda model, _, **keywords: call_own(lists, model, **keywords))
        names["get_supported_llm_models"] = lambda model: listed(model, None)
    if init := names.get("init"):
        names["init"] = lambda code_dir: init(code_dir=str(model_dir))
    defaults: dict[str, Any] = {
        "score": lambda data, model, **kwargs: score(data, model),
        "chat": lambda params, model, **kwargs: chat(params, model, kwargs.get("headers")),
        "get_supported_llm_models": list_models,
    }
    if "score" not in names:  # theirs was written for the frame that DRUM makes
        defaults["read_input_data"] = read_input_data
    ours = not {"read_input_data", "score"} & set(names)
    return {**defaults, **names, "load_model": partial(load_model, reads_rows=ours)}


def _with_the_model(hook: Callable[..., Any]) -> Callable[..., Any]:
    """A user's hook as DRUM calls it, with the model's name in the place of our `Model`. It waits for the engine."""

    def call(first: Any, second: Any, **keywords: Any) -> Any:
        from nimdrum.session.caller import current_caller

        model = loaded_model()
        with http_errors():
            endpoint = model.ready(stopped=current_caller().gone)
            arguments = [endpoint.model if isinstance(argument, Model) else argument for argument in (first, second)]
            client = openai_client(endpoint, model.settings.client_timeout_sec)
            return call_own(hook, *arguments, **{**keywords, "base_url": endpoint.url, "openai_client": client})

    return call


def init_app(app: Any) -> None:
    """DRUM's Flask extension: the user's, then ours, so that what they refuse never reaches us."""
    from nimdrum.web.install import install

    model = loaded_model()
    if own := load_own(model.hosting.code_dir, ROUTES):
        own.init_app(app)
    install(app, model)


def loaded_model() -> Model:
    """The model of this process, for `custom_flask.py`, which DRUM calls without it."""
    if _loaded is None:
        raise RuntimeError("load_model has not run in this process.")
    return _loaded


@contextmanager
def _ending_drum_score() -> Iterator[None]:
    """In `drum score`, let an error of this package end the command with its own words (see `end_command`)."""
    try:
        yield
    except NimdrumError as error:
        if is_drum_score():
            end_command(error, _loaded.attachment if _loaded else None)
        raise


@_ending_drum_score()
def load_model(code_dir: str, *, reads_rows: bool = False) -> Any:
    """Start the engine, or attach to the one that already runs for this code folder.

    In `drum score` it returns when the engine is ready. In `drum server` it returns as soon as the supervisor
    runs: DRUM can then answer health checks with the progress, and requests wait for the engine. Raises ReleaseError,
    SettingsError, EngineNotFoundError, EngineStartError or SupervisorError; nothing is left running then. In
    `drum score` the command ends instead. Called from a user's load_model it has nothing to do: the engine comes after.
    With `reads_rows` our own `read_input_data` and `score` get the rows of `drum score`, which are looked at first.
    """
    global _loaded
    hosting = read_hosting(code_dir)
    if PREPARING in hosting.environ:
        return PREPARING
    if hosting.json_logs:
        log_as_json()
    if 0 in (hosting.gunicorn_master, hosting.gunicorn_starter):
        raise SupervisorError("gunicorn's master, or its DRUM, ended while this worker started: the worker ends too.")
    for sentence in untried(installed()):
        log.warning("%s", sentence)
    settings = load_settings(hosting.code_dir)
    _look_first(settings, hosting, reads_rows)
    plan = _plan(settings, hosting)
    if plan.warning:
        log.warning(plan.warning)
    attachment = attach(plan, hosting.code_dir, hosting.state_root, hosting.gunicorn_master)
    model = Model(settings, hosting, attachment, reads_rows)
    if hosting.gunicorn_master is None:
        say_goodbye_at_exit(model.attachment)
    try:
        if not hosting.server:
            began = time.monotonic()
            endpoint = model.attachment.wait_ready(settings.startup_timeout_sec + READY_MARGIN_SEC, fetch_counts=False)
            event(
                log,
                "engine.attached",
                line=plan.line,
                model=endpoint.model,
                after_sec=time.monotonic() - began,
            )
            log_facts(plan.line, endpoint)
    except BaseException:
        let_go(model.attachment)
        raise
    if hosting.server:
        watch_engine(hosting, model.attachment)
        watch_owners(hosting)
    _loaded = model
    return model


def _look_first(settings: Settings, hosting: Hosting, reads_rows: bool) -> None:
    """Raises SettingsError when something is wrong with what this process was asked for."""
    from nimdrum.scoring.mistakes import Asked, look

    for sentence in unknown_variables(hosting.code_dir, hosting.environ):
        log.warning("%s", sentence)  # no mistake: the platform sets parameters of its own
    seen = look(
        Asked(
            model_dir=hosting.code_dir,
            target=hosting.target_column,
            values_file=hosting.values_file,
            rows=score_input() if reads_rows else None,
            output=score_output(),
        ),
        settings,
    )
    if seen.mistakes:
        raise SettingsError(" ".join(seen.mistakes))
    if settings.journal is not None and not hosting.server:
        from nimdrum.scoring.journal import journal_at

        journal_at(settings.journal)
        if (rows := score_input()) is not None and (output := score_output()) is not None:
            remove_journal_at_exit(settings.journal, rows, output)


def _plan(settings: Settings, hosting: Hosting) -> EnginePlan:
    """The engine's plan. A user's load_model comes first, and what it leaves on the disk has no part in this one."""
    own_hook = getattr(_own, "load_model", None) is not None
    plan = plan_engine(settings, hosting, pending=own_hook)
    if not own_hook:
        return plan
    if not plan.argv:
        log.warning("load_model of custom.py is not run: the %s is not started here.", plan.line)
        return plan
    return replace(
        plan,
        prepare=(*plan.prepare, load_model_step(hosting)),
        secrets=(*plan.secrets, *credential_values(hosting.environ)),
        identity=(*plan.identity, LOAD_MODEL),
    )


def read_input_data(binary_data: bytes) -> pd.DataFrame:
    """The rows of a CSV or JSON body, every value as text. Bad input is HTTP 400 or 422, and says where."""
    from nimdrum.scoring.reader import read_rows

    with http_errors():
        return read_rows(binary_data)


def score(data: pd.DataFrame, model: Model | str) -> pd.DataFrame:
    """One row out for each row in; see `nimdrum.scoring.score`. In a user's hook `model` is the name that they get."""
    from nimdrum.scoring.score import score_frame

    with http_errors():
        return score_frame(data, _model(model))


def complete(prompts: "Prompts", **parameters: Any) -> pd.DataFrame:
    """Answers to many prompts, sent together: what `score` does with a frame, for a `score` that makes its own prompts.

    `prompts` are texts, or lists of chat messages, or a frame with the prompt column. One row comes out for each, in
    order: the target column with the answer, beside it `row_error` and the other extra columns. `parameters` may be
    system_prompt, n, and the fields of a request (max_tokens, stop, response_format, tools, ...: what is JSON text as a
    runtime parameter is a dict or a list here), in the place of the runtime parameters.
    Only inside a DRUM process whose load_model has run. Raises as our own `score` does.
    """
    from nimdrum.scoring.complete import asked_of
    from nimdrum.scoring.score import score_frame

    model = loaded_model()
    frame, settings = asked_of(prompts, parameters, model.settings)
    return score_frame(frame, replace(model, settings=settings))


def _model(model: Model | str) -> Model:
    return model if isinstance(model, Model) else loaded_model()


def chat(params: dict[str, Any], model: Model | str, headers: Mapping[str, str] | None = None) -> Any:
    """A chat completion or a stream of chunks; see `nimdrum.web.chat`."""
    from nimdrum.web.chat import complete as completion

    with http_errors():
        return completion(params, _model(model), headers)


def list_models(model: Model | str) -> list[Any]:
    """The engine's models as `openai` objects, as DRUM wants them."""
    from nimdrum.web.chat import list_models as listed

    with http_errors():
        return listed(_model(model))


@contextmanager
def http_errors() -> Iterator[None]:
    """Turn this package's errors into the HTTP status that tells the caller whose fault it is.

    In `drum score`, which has no caller, they end the command.
    """
    from datarobot_drum.drum.exceptions import CustomHTTPError

    from nimdrum.web.error_answers import remember

    try:
        with _ending_drum_score():
            yield
    except HTTPStatusError as error:
        remember(error)
        # DRUM logs it with its stack, and one is enough.
        raise CustomHTTPError(str(error), error.status) from None
    except (EngineStartError, EngineUnavailableError, SupervisorError) as error:
        raise CustomHTTPError(brief(error), status_of(error)) from None
