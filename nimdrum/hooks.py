"""What DRUM's hooks do, in order: load, read, score, chat. The edge between DRUM and the rest of the package."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pandas as pd

from nimdrum.base.errors import (
    EngineStartError,
    EngineUnavailableError,
    HTTPStatusError,
    NimdrumError,
    SupervisorError,
    brief,
    status_of,
)
from nimdrum.base.files import check_output
from nimdrum.base.hosting import is_drum_score, read_hosting, score_output
from nimdrum.base.log import event, get_logger
from nimdrum.base.settings import load_settings
from nimdrum.engines.choose import plan_engine
from nimdrum.lifecycle import end_command, let_go, say_goodbye_at_exit, watch_engine
from nimdrum.session.attach import attach
from nimdrum.session.facts import log_facts
from nimdrum.session.model import Model

READY_MARGIN_SEC = 12.0  # the supervisor gives up first, and says why

log = get_logger("hooks")


_loaded: Model | None = None


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
def load_model(code_dir: str) -> Model:
    """Start the engine, or attach to the one that already runs for this code folder.

    In `drum score` it returns when the engine is ready. In `drum server` it returns as soon as the supervisor
    runs: DRUM can then answer health checks with the progress, and requests wait for the engine. Raises
    SettingsError, EngineNotFoundError, EngineStartError or SupervisorError; nothing is left running then. In
    `drum score` the command ends instead.
    """
    from nimdrum.scoring.frame import check_target

    global _loaded
    hosting = read_hosting(code_dir)
    if hosting.gunicorn_master == 0:
        raise SupervisorError("gunicorn's master ended while this worker started, so the worker ends too.")
    settings = load_settings(hosting.code_dir)
    if output := score_output():
        check_output(output)
    if settings.extra_output_columns:
        check_target(hosting.target_column, settings.n)
    plan = plan_engine(settings, hosting)
    if plan.warning:
        log.warning(plan.warning)
    model = Model(settings, hosting, attach(plan, hosting.code_dir, hosting.state_root, hosting.gunicorn_master))
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
    _loaded = model
    return model


def read_input_data(binary_data: bytes) -> pd.DataFrame:
    """The rows of a CSV or JSON body, every value as text. Bad input is HTTP 400 or 422, and says where."""
    from nimdrum.scoring.reader import read_rows

    with http_errors():
        return read_rows(binary_data)


def score(data: pd.DataFrame, model: Model) -> pd.DataFrame:
    """One row out for each row in; see `nimdrum.scoring.score`."""
    from nimdrum.scoring.score import score_frame

    with http_errors():
        return score_frame(data, model)


def chat(params: dict[str, Any], model: Model, headers: Mapping[str, str] | None = None) -> Any:
    """A chat completion or a stream of chunks; see `nimdrum.web.chat`."""
    from nimdrum.web.chat import complete

    with http_errors():
        return complete(params, model, headers)


def list_models(model: Model) -> list[Any]:
    """The engine's models as `openai` objects, as DRUM wants them."""
    from nimdrum.web.chat import list_models as listed

    with http_errors():
        return listed(model)


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
