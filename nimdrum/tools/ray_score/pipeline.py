"""The run: read, leave out what is answered, answer, write; all but the answers is Ray Data's."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import ray
from pyarrow.fs import FileSelector, FileSystem, FileType
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.exceptions import RayError

from nimdrum.base.errors import BadInputError, SettingsError
from nimdrum.scoring.columns import COLUMNS, MESSAGES
from nimdrum.scoring.reader import shown_columns
from nimdrum.tools.ray_score.checkpoints import checkpoints
from nimdrum.tools.ray_score.row_ids import ROW_HASH, RowIds
from nimdrum.tools.ray_score.scorer import Scorer
from nimdrum.tools.score.predict import RunError

ROW_ERROR = "row_error"
CALLS_AT_ONCE = 2
"""Batches that an actor answers together: the slowest rows of one leave no engine idle."""
TASKS_WAITING = 2
WORKER_ENV = {"RAY_kill_child_processes_on_worker_exit": "0"}
"""The engine's supervisor is a child of the first actor, and serves them all: Ray would kill it with that one."""


@dataclass(frozen=True)
class Job:
    """What to answer, where, and by how many."""

    source: str
    target: str
    form: str
    """parquet, csv or jsonl, of both."""
    key: str | None
    prompt_column: str
    fingerprint: str
    scorer: dict[str, Any] = field(repr=False)
    """Arguments of `Scorer`."""
    all_columns: bool
    """Whether all columns of a row may decide its answer, as with a model's own hooks."""
    min_actors: int
    max_actors: int
    block_rows: int
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Outcome:
    rows: int
    failed: int


def connect(address: str | None, verbose: bool) -> None:
    """Join the cluster at `address`; without one start Ray on this machine, which ends with this process."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address:
        ray.init(address=address, log_to_driver=verbose)
    else:
        ray.init(address="local", include_dashboard=False, log_to_driver=verbose)


def run(job: Job) -> Outcome:
    """Answer what is not answered yet. Raises SettingsError, BadInputError, and RunError with what ended it early."""
    kept = _checkpoint_folder(job)
    context = DataContext.get_current()
    try:
        columns = _columns(job)
        decisive = list(columns) if job.all_columns else [n for n in (job.prompt_column, *COLUMNS) if n in columns]
        ids = RowIds(job.fingerprint, tuple(dict.fromkeys((job.key or ROW_HASH, *decisive))))
        context.checkpoint_config = checkpoints(kept, ids)
        answers = (
            _read(job.source, job.form, columns, hashed=job.key is None)
            .map_batches(ids.replace_hash, batch_format="pyarrow", batch_size=None)
            .repartition(target_num_rows_per_block=job.block_rows)
            .map_batches(
                Scorer,
                batch_size=job.block_rows,
                batch_format="pandas",
                fn_constructor_kwargs=job.scorer,
                compute=ActorPoolStrategy(
                    min_size=job.min_actors,
                    max_size=job.max_actors,
                    max_tasks_in_flight_per_actor=CALLS_AT_ONCE + TASKS_WAITING,
                    max_concurrent_calls_per_actor=CALLS_AT_ONCE,
                    enable_true_multi_threading=True,
                ),
                num_cpus=job.cpus,
                num_gpus=job.gpus or None,
                runtime_env={"env_vars": WORKER_ENV},
            )
        )
        {"parquet": answers.write_parquet, "csv": answers.write_csv, "jsonl": answers.write_json}[job.form](job.target)
    except (RayError, pa.ArrowException) as error:
        raise RunError(f"The run ended early; the same command goes on from there. {_sentence(str(error))}") from None
    finally:
        context.checkpoint_config = None
    return _outcome(job)


def _sentence(trace: str) -> str:
    """What our own code said, on a node, or else the last line."""
    ours = re.findall(r"^nimdrum[\w.]*Error: (.*?)(?=^\S|\Z)", trace, re.MULTILINE | re.DOTALL)
    return str(ours[-1]).strip() if ours else trace.strip().rpartition("\n")[2]


def _checkpoint_folder(job: Job) -> str:
    """Beside the target, a folder for these settings. Raises SettingsError where the target has other answers."""
    beside = f"{job.target}.checkpoint"
    filesystem, path = FileSystem.from_uri(beside)
    known = {entry.base_name for entry in filesystem.get_file_info(FileSelector(path, allow_not_found=True))}
    if known - {job.fingerprint} or (_has_files(job.target) and not known):
        raise SettingsError(
            f"{job.target} holds answers that were made with other settings, or by something else: name another "
            f"folder, or remove this one and {beside}."
        )
    return f"{beside}/{job.fingerprint}"


def _has_files(folder: str) -> bool:
    filesystem, path = FileSystem.from_uri(folder)
    return any(e.type is FileType.File for e in filesystem.get_file_info(FileSelector(path, allow_not_found=True)))


def _columns(job: Job) -> dict[str, pa.DataType]:
    """The columns of the source with their types. Raises BadInputError where one is missing that is needed."""
    schema = _read(job.source, job.form, {}, hashed=False).schema()
    found = dict(zip(schema.names, schema.types, strict=True)) if schema else {}
    if job.prompt_column not in found and MESSAGES not in found:
        raise BadInputError(
            f"{job.source} has no column {job.prompt_column!r}; it has {shown_columns(found)}: name one with --column."
        )
    if job.key is not None and job.key not in found:
        raise BadInputError(f"{job.source} has no column {job.key!r}; it has {shown_columns(found)}: see --key.")
    if job.key is None and job.form != "parquet":
        raise BadInputError(
            f"Rows of {job.form} files have no number that lasts, by which a run that was interrupted could know them: "
            "name a column with another value in each row with --key, or write the rows as Parquet."
        )
    return found


def _read(source: str, form: str, columns: Mapping[str, pa.DataType], hashed: bool) -> Dataset:
    """The rows, text as it is written: Arrow would make numbers of `007` in CSV, and times of some texts in JSON."""
    if form == "parquet":
        return ray.data.read_parquet(source, include_row_hash=hashed)
    if form == "csv":
        return ray.data.read_csv(
            source,
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string())),
        )
    texts = [name for name, kind in columns.items() if kind in ("string", pa.string()) or pa.types.is_timestamp(kind)]
    schema = pa.schema([(name, pa.string()) for name in texts])
    options = pyarrow.json.ParseOptions(explicit_schema=schema) if texts else pyarrow.json.ParseOptions()
    return ray.data.read_json(source, parse_options=options)


def _outcome(job: Job) -> Outcome:
    """What the target holds now; one pass over one of its columns."""

    def count(table: pa.Table) -> dict[str, list[int]]:
        failed = [bool(error) for error in table[ROW_ERROR].to_pylist()] if ROW_ERROR in table.column_names else []
        return {"rows": [table.num_rows], "failed": [sum(failed)]}

    if not _has_files(job.target):
        return Outcome(0, 0)
    counts = _read(job.target, job.form, {}, hashed=False).map_batches(count, batch_format="pyarrow").take_all()
    return Outcome(sum(c["rows"] for c in counts), sum(c["failed"] for c in counts))
