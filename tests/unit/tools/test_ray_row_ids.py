"""The ids by which a run beyond one machine knows what is answered: another question is another id."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from nimdrum.base.parameters import PACKAGE
from nimdrum.base.settings import load_settings
from nimdrum.tools.ray_score.row_ids import ID, ROW_HASH, RowIds
from nimdrum.tools.ray_score.scorer import answers_fingerprint, with_types

SETTINGS = load_settings(None, {}.get)
ROWS = pa.table({ROW_HASH: [1, 2, 3], "promptText": ["a", "a", "b"], "note": ["x", "y", "z"]})
IDS = RowIds("settings", (ROW_HASH, "promptText"))


def ids(table: pa.Table, made: RowIds = IDS) -> list[str]:
    return list(made.put(table)[ID].to_pylist())


def test_each_row_has_its_own_id_whatever_block_it_is_in() -> None:
    """The same prompt in two places is two rows, and a block of one gives the id that the whole file gives."""
    assert len(set(ids(ROWS))) == 3
    assert [ids(ROWS.slice(i, 1))[0] for i in range(3)] == ids(ROWS)


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        (ROWS.set_column(1, "promptText", [["a", "changed", "b"]]), [True, False, True]),
        (ROWS.set_column(0, ROW_HASH, [[1, 2, 4]]), [True, True, False]),
        (ROWS.set_column(2, "note", [["1", "2", "3"]]), [True, True, True]),
    ],
    ids=["another prompt", "another place", "a column that asks nothing"],
)
def test_what_changes_an_id(changed: pa.Table, same: list[bool]) -> None:
    """Only what decides the answer, and where the row is."""
    assert [new == old for new, old in zip(ids(changed), ids(ROWS), strict=True)] == same
    assert not set(ids(ROWS)) & set(ids(ROWS, replace(IDS, fingerprint="others")))


def test_an_old_id_is_replaced_and_the_hash_goes() -> None:
    """Answers may be rows of the next run: their ids are not kept, and no column is there twice."""
    put = IDS.replace_hash(IDS.put(ROWS))
    assert put.column_names == ["promptText", "note", ID]
    assert put[ID].to_pylist() == ids(ROWS)


@pytest.mark.parametrize(
    "changes",
    [{"temperature": 0.5}, {"served_model_name": "other"}, {"engine": "nim"}, {"prompt_column_name": "text"}],
    ids=str,
)
def test_settings_that_change_the_answers_change_the_fingerprint(changes: dict[str, object]) -> None:
    """And those that do not, such as the engine's address, keep it."""
    here = PACKAGE.parent
    elsewhere = load_settings(None, {"DR_NIM_SERVER_PORT": 8001, "max_concurrency": 7}.get)
    before = answers_fingerprint(SETTINGS, here)
    assert answers_fingerprint(load_settings(None, changes.get), here) != before
    assert answers_fingerprint(elsewhere, here) == before


def test_hooks_of_the_users_own_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    """A line of their custom.py may change each answer."""
    before = answers_fingerprint(SETTINGS, tmp_path)
    (tmp_path / "custom.py").write_text("def score(data, model): ...\n")
    assert answers_fingerprint(SETTINGS, tmp_path) != before


def test_all_batches_have_the_same_columns_and_types() -> None:
    """A batch in which nothing was answered gives the schema of one in which all was, and in which a row showed its
    reasoning: files of both are read together."""
    names = ["Predictions", "row_error", "prompt_tokens", "latency_sec", "reasoning"]
    answered = with_types(pd.DataFrame([["yes", "", 3, 0.5, "hm"]], columns=names, dtype=object))
    failed = with_types(pd.DataFrame([["", "refused: no", None, 0.1]], columns=names[:-1], dtype=object))
    assert pa.Schema.from_pandas(answered) == pa.Schema.from_pandas(failed)
    assert failed["prompt_tokens"].isna().all()
    assert list(with_types(pd.DataFrame({"theirs": ["x"], "number": [1]})).columns) == ["theirs", "number"]
