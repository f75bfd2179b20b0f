"""Batches of rows answered by the hooks of this process: for Ray Data's `map_batches`, and for Spark's `mapInPandas`.

Whatever holds one of these shares the node's engine with all others there that want the same one: the supervisor's
lease sees to that, and to the engine's end.
"""

import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from nimdrum.base.errors import NimdrumError, SettingsError
from nimdrum.base.parameters import PACKAGE, read_parameters
from nimdrum.base.secret import Secret
from nimdrum.base.settings import PREFIX
from nimdrum.base.values import as_variables
from nimdrum.lifecycle import let_go
from nimdrum.scoring.frame import EXTRA_COLUMNS, NUMBERS, WHERE_ASKED
from nimdrum.tools.run_options import TARGET, code_dir_for_drum

PANDAS = {int: "Int64", float: "Float64"}
NOT_ASKED = ("engine_down", "skipped")
"""Kinds of row errors that say nothing of the row: it must not count as done."""
BACKEND_PORT, BACKEND_VARIABLE = 8001, "NIM_BACKEND_PORT"


class Scorer:
    """Loads the model as `drum score` does, and answers pandas batches. Safe to call from several threads."""

    def __init__(
        self,
        parameters: Mapping[str, Any] | Secret | None = None,
        code_dir: str | None = None,
        *,
        only_these: bool = False,
        fingerprint: str = "",
        target: str = TARGET,
    ) -> None:
        """Waits until the engine is ready.

        `parameters` are runtime parameters by name, over those of this node's environment, or in their place with
        `only_these`; as a Secret they are JSON. `code_dir` is the model's folder on this node. With `fingerprint` the
        node must give the answers that it stands for. Raises RunError and SettingsError.
        """
        from nimdrum.tools.score.predict import load_predictor

        given = json.loads(parameters.reveal()) if isinstance(parameters, Secret) else dict(parameters or {})
        folder = Path(code_dir or PACKAGE.parent).resolve()
        defined = read_parameters(folder)
        if only_these:
            for name in defined:
                os.environ.pop(PREFIX + name, None)
        given["journal"] = ""  # one for each process that writes; here Ray Data keeps what is answered
        os.environ.update({"TARGET_NAME": target, **as_variables(given, defined)})
        _apart_from_other_gpus()
        arguments = sys.argv
        try:
            self._predictor = load_predictor(code_dir_for_drum(folder))
        finally:
            sys.argv = arguments  # from here on an error is one of its batch, and ends no command
        self._model = self._predictor._model
        if fingerprint:
            _check(fingerprint, answers_fingerprint(self._model.settings, folder))

    def __call__(self, batch: pd.DataFrame) -> pd.DataFrame:
        """The columns of `batch` and, in the place of those of the same names, the answers: a row for each row.

        Raises RunError when the engine answered no row at all or cannot be reached, also where that is so of a row.
        """
        from nimdrum.tools.score.predict import RunError

        body = batch.to_json(orient="records", date_format="iso", double_precision=15, default_handler=str)
        try:
            answers = self._predictor.predict(binary_data=body.encode(), mimetype=None).combined_dataframe
        except NimdrumError:
            raise
        except Exception as error:  # DRUM's own, of what the hooks raised
            raise RunError(
                f"A batch of {len(batch)} rows on {socket.gethostname()} was not answered. {error}"
            ) from None
        answers = with_types(answers).set_axis(batch.index)
        lost = [e for e in answers.get("row_error", pd.Series(dtype="string")) if str(e).startswith(NOT_ASKED)]
        if lost:
            raise RunError(f"{len(lost)} of {len(batch)} rows on {socket.gethostname()} were not answered. {lost[0]}")
        return pd.concat([batch.drop(columns=list(answers.columns), errors="ignore"), answers], axis=1)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # it never loaded
            let_go(self._model.attachment)


def with_types(answers: pd.DataFrame) -> pd.DataFrame:
    """The columns that this project makes, all of them and with one type each: all files get the same schema."""
    ours = [str(answers.columns[0])]
    if "row_error" in answers.columns:
        answers = answers.assign(**{name: "" for name in WHERE_ASKED if name not in answers.columns})
        ours += [name for name in (*EXTRA_COLUMNS, *WHERE_ASKED) if name in answers.columns]
    return answers.astype({name: PANDAS[NUMBERS[name]] if name in NUMBERS else "string" for name in ours})


def answers_fingerprint(settings: Any, code_dir: Path) -> str:
    """Of all that decides the answers, but for the rows: 32 hexadecimal digits."""
    import hashlib

    from nimdrum.scoring.fingerprint import fingerprint_of

    own = code_dir / "custom.py"
    parts = [
        fingerprint_of(settings, settings.served_model_name or ""),
        *map(str, (settings.prompt_column, settings.per_row_columns, settings.engine)),
        *map(str, (settings.model_profile, settings.artifacts_uri)),
        own.read_bytes().hex() if code_dir != PACKAGE.parent and own.is_file() else "",
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _check(wanted: str, here: str) -> None:
    if here != wanted:
        raise SettingsError(
            f"The node {socket.gethostname()} would give other answers than those that were asked for: its environment "
            "sets runtime parameters that the command does not, or its code folder has another custom.py. Give all "
            "parameters with --set or --params, and every node the same folder."
        )


def _apart_from_other_gpus() -> None:
    """Several engines of a node: each listens on a backend port of its own, told by the first of its GPUs."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    if first.isdigit() and int(first):
        os.environ.setdefault(BACKEND_VARIABLE, str(BACKEND_PORT + int(first)))
