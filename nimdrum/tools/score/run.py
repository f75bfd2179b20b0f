"""The run itself: DRUM's own predictor with its hooks in this process, as `drum score` has them, and a line that tells.

DRUM is given the same code folder and asked as it asks itself; only who reads the file and writes the answers is ours.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nimdrum.base.errors import NimdrumError
from nimdrum.base.hosting import read_hosting
from nimdrum.session.attach import describe_progress
from nimdrum.supervisor.state import Phase, find_engines
from nimdrum.tools.run_options import code_dir_for_drum
from nimdrum.tools.score.live_line import LiveLine
from nimdrum.tools.screen import Screen, kept_apart

TARGET_TYPE = "textgeneration"
AS_DRUM_SCORE = ["drum", "score"]


class RunError(NimdrumError):
    """The run ended without answers. Its text is for the person who waits for them."""


@dataclass(frozen=True)
class Answers:
    """The frame that `drum score` would write, and how long it took."""

    frame: pd.DataFrame
    ready_sec: float
    """Until the engine was ready."""
    scoring_sec: float


def answer_all(code_dir: Path, body: bytes, verbose: bool, use: Callable[[Answers, Screen], object]) -> None:
    """Answer the rows in `body`, and let `use` have the answers. The engine is stopped when this returns.

    Raises RunError, and whatever `use` raises.
    """
    drum_dir = code_dir_for_drum(code_dir)
    with kept_apart(verbose) as screen:
        line = LiveLine(screen, engine_words(code_dir))
        line.start()
        try:
            answers = _predict(drum_dir, body, line)
            line.stop()
            use(answers, screen)
        finally:
            line.stop()
            _let_go()


def _predict(drum_dir: Path, body: bytes, line: LiveLine) -> Answers:
    began = time.monotonic()
    sys.argv = [*AS_DRUM_SCORE]  # so that the hooks end with their own words, and wait for the engine
    from datarobot_drum.drum.language_predictors.python_predictor.python_predictor import PythonPredictor

    from nimdrum import hooks
    from nimdrum.lifecycle import EndOfCommand

    try:
        predictor = PythonPredictor()
        predictor.configure({"target_type": TARGET_TYPE, "__custom_model_path__": str(drum_dir)})
        ready = time.monotonic()
        hooks.loaded_model().screen = line
        frame: pd.DataFrame = predictor.predict(binary_data=body, mimetype=None).combined_dataframe
    except EndOfCommand as end:
        raise RunError(str(end).removeprefix("ERROR: ")) from None
    return Answers(frame, ready - began, time.monotonic() - ready)


def _let_go() -> None:
    from nimdrum import hooks
    from nimdrum.lifecycle import let_go

    try:
        model = hooks.loaded_model()
    except RuntimeError:
        return  # nothing was started
    let_go(model.attachment)


def engine_words(code_dir: Path) -> Callable[[], str]:
    """What the engine that was started last does now, in a few words."""
    root = read_hosting(code_dir, argv=[]).state_root

    def words() -> str:
        states: list[Any] = [state for _, state in find_engines(root)]
        newest = max(states, key=lambda state: state.since, default=None)
        if newest is None:
            return "Getting ready"
        ready = newest.phase is Phase.RUNNING
        return f"{newest.line}: {'ready' if ready else describe_progress(newest)}"

    return words
