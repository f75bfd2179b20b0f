"""The run itself: DRUM's own predictor with its hooks in this process, as `drum score` has them, and a line that tells.

DRUM is given the same code folder and asked as it asks itself; only who reads the file and writes the answers is ours.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nimdrum.base.errors import NimdrumError
from nimdrum.lifecycle import EndOfCommand, let_go
from nimdrum.session.model import Model
from nimdrum.tools.run_options import code_dir_for_drum
from nimdrum.tools.score.live_line import LiveLine, engine_words
from nimdrum.tools.screen import Screen, kept_apart

TARGET_TYPE = "textgeneration"
AS_DRUM_SCORE = ("drum", "score")


class RunError(NimdrumError):
    """The run ended without answers. Its text is for the person who waits for them."""


@dataclass(frozen=True)
class Answers:
    """The frame that `drum score` would write, and how long it took."""

    frame: pd.DataFrame
    ready_sec: float
    """Until the engine was ready."""
    scoring_sec: float


@dataclass(frozen=True)
class Loaded:
    """DRUM's predictor after its load_model: the engine is ready."""

    predictor: Any
    model: Model
    screen: Screen
    line: LiveLine


@contextmanager
def loaded(code_dir: Path, verbose: bool) -> Iterator[Loaded]:
    """Load the model as DRUM does, with a live line. The engine is stopped with the block. Raises RunError."""
    drum_dir = code_dir_for_drum(code_dir)
    with kept_apart(verbose) as screen:
        line = LiveLine(screen, engine_words(code_dir))
        model: Model | None = None
        line.start()
        try:
            sys.argv = [*AS_DRUM_SCORE]  # so that the hooks end with their own words, and wait for the engine
            from datarobot_drum.drum.language_predictors.python_predictor.python_predictor import PythonPredictor

            predictor = PythonPredictor()
            predictor.configure({"target_type": TARGET_TYPE, "__custom_model_path__": str(drum_dir)})
            model = predictor._model  # what load_model returned; DRUM has no other way to it
            yield Loaded(predictor, model, screen, line)
        except EndOfCommand as end:
            raise RunError(str(end).removeprefix("ERROR: ")) from None
        finally:
            line.stop()
            if model is not None:
                let_go(model.attachment)


def answer_all(code_dir: Path, body: bytes, verbose: bool, use: Callable[[Answers, Screen], object]) -> None:
    """Answer the rows in `body`, and let `use` have the answers. The engine is stopped when this returns.

    Raises RunError, and whatever `use` raises.
    """
    began = time.monotonic()
    with loaded(code_dir, verbose) as here:
        ready = time.monotonic()
        here.model.screen = here.line
        frame = here.predictor.predict(binary_data=body, mimetype=None).combined_dataframe
        here.line.stop()
        use(Answers(frame, ready - began, time.monotonic() - ready), here.screen)
