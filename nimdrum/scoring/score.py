"""The way through: a frame of prompts in, a frame of answers out."""

import threading
import time
from typing import TYPE_CHECKING

import pandas as pd

from nimdrum.scoring.body import sampling_of
from nimdrum.scoring.client import shared_client
from nimdrum.scoring.frame import EMPTY_PROMPT, assemble, check_target
from nimdrum.scoring.progress import Progress
from nimdrum.scoring.reader import prompts_of
from nimdrum.scoring.row import Engine, Result, RowSender
from nimdrum.scoring.run import run_rows
from nimdrum.scoring.window import shared_window, window_size

if TYPE_CHECKING:
    from nimdrum.hooks import Model


def score_frame(frame: pd.DataFrame, model: "Model") -> pd.DataFrame:
    """Answers to the prompt column of `frame`, by position: moderation may have left gaps in its index.

    Raises BadInputError (no prompt column), EngineStartError or EngineUnavailableError (no engine before the
    first row), RowsFailedError (see `assemble`).
    """
    settings, target = model.settings, model.hosting.target_column
    check_target(target, settings.n)
    prompts = prompts_of(frame, settings.prompt_column)
    asked = [prompt for prompt in prompts if prompt.strip()]
    answers = iter(_answers(asked, model) if asked else [])
    results = [next(answers) if prompt.strip() else EMPTY_PROMPT for prompt in prompts]
    return assemble(results, target, settings.n, settings.extra_output_columns)


def _answers(prompts: list[str], model: "Model") -> list[Result]:
    """One result for each prompt, in order."""
    settings, attachment = model.settings, model.attachment
    began = time.monotonic()
    endpoint = model.ready()
    window = shared_window(window_size(attachment.plan.engine, settings.max_concurrency))
    stopped = threading.Event()
    engine = Engine(
        endpoint,
        client_for=lambda where: shared_client(where, window.size),
        wait_ready=lambda timeout_sec: attachment.wait_ready(timeout_sec, stopped.is_set),
    )
    sender = RowSender(engine, sampling_of(settings, endpoint.model), settings.client_timeout_sec, stopped)
    request_deadline = began + (model.request_timeout_sec if model.hosting.request_timeout_sec else float("inf"))

    def send(prompt: str) -> Result:
        return sender.send(prompt, min(time.monotonic() + settings.row_timeout_sec, request_deadline))

    progress = Progress(len(prompts), lambda: window.in_flight)
    try:
        return run_rows(prompts, send, window, stopped, progress.done, progress.tick)
    finally:
        progress.close()
