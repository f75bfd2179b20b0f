"""The run itself: DRUM's own predictor with its hooks in this process, as `drum score` has them, and a line that tells.

DRUM is given the same code folder and asked as it asks itself; only who reads the file and writes the answers is ours.
"""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nimdrum.base.errors import NimdrumError
from nimdrum.lifecycle import EndOfCommand, let_go
from nimdrum.scoring.budget import budget_of
from nimdrum.scoring.rows_file import Piece, RowsFile
from nimdrum.session.model import Model
from nimdrum.tools.run_options import code_dir_for_drum
from nimdrum.tools.score.live_line import LiveLine, engine_words
from nimdrum.tools.score.pieces import answer_in_order
from nimdrum.tools.screen import Screen, kept_apart

TARGET_TYPE = "textgeneration"
AS_DRUM_SCORE = ("drum", "score")


class RunError(NimdrumError):
    """The run ended without answers. Its text is for the person who waits for them."""


@dataclass(frozen=True)
class Loaded:
    """DRUM's predictor after its load_model: the engine is ready."""

    predictor: Any
    model: Model
    screen: Screen
    line: LiveLine


def load_predictor(drum_dir: Path) -> Any:
    """DRUM's predictor after its load_model, as `drum score` has it: the engine is ready. Raises RunError."""
    sys.argv = [*AS_DRUM_SCORE]  # so that the hooks end with their own words, and wait for the engine
    from datarobot_drum.drum.language_predictors.python_predictor.python_predictor import PythonPredictor

    predictor = PythonPredictor()
    try:
        predictor.configure({"target_type": TARGET_TYPE, "__custom_model_path__": str(drum_dir)})
    except EndOfCommand as end:
        raise _run_error(end) from None
    return predictor


def _run_error(end: EndOfCommand) -> RunError:
    return RunError(str(end).removeprefix("ERROR: "))


@contextmanager
def loaded(code_dir: Path, verbose: bool) -> Iterator[Loaded]:
    """Load the model as DRUM does, with a live line. The engine is stopped with the block. Raises RunError."""
    drum_dir = code_dir_for_drum(code_dir)
    with kept_apart(verbose) as screen:
        line = LiveLine(screen, engine_words(code_dir))
        model: Model | None = None
        line.start()
        try:
            predictor = load_predictor(drum_dir)
            model = predictor._model  # what load_model returned; DRUM has no other way to it
            yield Loaded(predictor, model, screen, line)
        except EndOfCommand as end:
            raise _run_error(end) from None
        finally:
            line.stop()
            if model is not None:
                let_go(model.attachment)


@contextmanager
def answering(here: Loaded, rows: RowsFile) -> Iterator[Iterator[pd.DataFrame]]:
    """The frames that `drum score` would write for `rows`, in order; with the block ends what is under way.

    A model's own hooks get all rows in one call, as from `drum score`.
    """

    def answer(piece: Piece) -> pd.DataFrame:
        frame: pd.DataFrame = here.predictor.predict(binary_data=piece.body, mimetype=None).combined_dataframe
        return frame

    here.model.screen = here.line
    if _others_see(here):
        yield iter([answer(rows.whole())])
    else:
        here.line.total = rows.rows
        here.model.budget = budget_of(here.model.settings)
        with closing(answer_in_order(rows.pieces(), rows.rows, answer)) as frames:
            yield frames
    here.line.stop()


def _others_see(here: Loaded) -> bool:
    """Whether somebody but this project sees the frames: the model's own hooks, or DRUM's moderation."""
    adapter = here.predictor._model_adapter  # DRUM has no other way to it
    hooks = adapter._custom_hooks
    moderated = getattr(adapter, "_mod_pipeline", None) is not None
    return moderated or not here.model.reads_rows or any(hooks.get(name) for name in ("transform", "post_process"))
