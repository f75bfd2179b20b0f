"""A file in pieces: together they are the file, each is one that `read_rows` reads, and what is wrong is told at once."""

import csv
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nimdrum.base.errors import BadInputError
from nimdrum.scoring import rows_file
from nimdrum.scoring.reader import read_rows
from nimdrum.scoring.rows_file import look_through, read_body

SAME_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
cells = st.text(st.characters(codec="utf-8"), max_size=12)
NUL = "\ue000"
"""Stands for it where Python 3.10 writes none."""
MEANT = ['a,"b', "two\nlines", "\r\n", "", " ", "\r", '"', "\u2028", "\0", "é", "007"]
rows = st.lists(st.tuples(cells | st.sampled_from(MEANT), cells | st.sampled_from(MEANT)), min_size=1, max_size=12)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows make a piece, or fifty characters."""
    monkeypatch.setattr(rows_file, "PIECE_ROWS", 3)
    monkeypatch.setattr(rows_file, "PIECE_CHARACTERS", 50)


def check(path: Path) -> list[int]:
    """The pieces, one below the other, are the whole; how long each is."""
    found = look_through(path)
    frames = [read_rows(piece.body) for piece in found.pieces()]
    assert [len(frame) for frame in frames] == [piece.rows for piece in found.pieces()]
    whole = read_rows(read_body(path))
    assert (found.rows, found.columns) == (len(whole), tuple(whole.columns))
    pd.testing.assert_frame_equal(pd.concat(frames, ignore_index=True), whole)
    return [len(frame) for frame in frames]


@SAME_FOLDER
@given(rows, st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["", "\ufeff", "\n\n"]), st.booleans())
def test_a_csv_in_pieces(tmp_path: Path, content: list[Any], end: str, before: str, quoted: bool) -> None:
    """Whatever is in the cells, and however lines end."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    for row in [("promptText", "x"), *content]:
        writer.writerow([cell.replace("\0", NUL) for cell in row])
    path = tmp_path / "rows.csv"
    path.write_bytes((before + text.getvalue().replace(NUL, "\0")).encode())
    check(path)


@SAME_FOLDER
@given(st.lists(cells.filter(lambda text: not set(text) & set('"\0')), min_size=1, max_size=12))
def test_one_column(tmp_path: Path, content: list[str]) -> None:
    """Blank lines are rows there, and commas are text."""
    path = tmp_path / "rows.csv"
    path.write_bytes(("promptText\n" + "".join(f"{text}\n" for text in content)).encode())
    check(path)


def test_rows_or_characters_end_a_piece(tmp_path: Path) -> None:
    """Whatever comes first; so many long prompts take no more memory than short ones."""
    path = tmp_path / "rows.csv"
    path.write_text("promptText\n" + "short\n" * 7 + f"{'long' * 20}\n" * 2)
    assert check(path) == [3, 3, 2, 1]


@SAME_FOLDER
@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.none() | st.integers() | cells, max_size=3), min_size=1))
def test_json_lines_in_pieces(tmp_path: Path, content: list[dict[str, Any]]) -> None:
    """A column that a whole piece leaves out is empty there."""
    path = tmp_path / "rows.jsonl"
    path.write_text("\ufeff" + "\n\n".join(map(json.dumps, content)) + "\n", encoding="utf-8")
    check(path)


def test_numbers_keep_their_digits(tmp_path: Path) -> None:
    """Also in the record to which the missing columns are added."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1.10}\n{"b": 1e5}\n{}\n{ }\n{"a": 007.0}\n'.replace("007.0", "7.00"))
    assert check(path) == [3, 2]
    assert "7.00" in [
        row["a"] for piece in look_through(path).pieces() for row in read_rows(piece.body).to_dict("records")
    ]


def test_parquet_in_pieces(tmp_path: Path) -> None:
    """Also where its row groups are of other sizes."""
    from pyarrow import Table, parquet

    path = tmp_path / "rows.parquet"
    table = Table.from_pylist([{"promptText": None if i % 5 == 0 else f"00{i}", "n": i} for i in range(11)])
    parquet.write_table(table, path, row_group_size=4)
    assert sum(check(path)) == 11
    assert max(check(path)) == 3


@pytest.mark.parametrize("text", ['[{"a": 1}, {"a": 2}]', '{"a": 1}', '  [ {"a": 1} ]'])
def test_json_is_one_piece(tmp_path: Path, text: str) -> None:
    """Whatever the file is called."""
    for name in ("rows.json", "rows.csv"):
        (tmp_path / name).write_text(text)
        assert len(check(tmp_path / name)) == 1


def test_where_it_is_wrong(tmp_path: Path) -> None:
    """The line is the file's, not the piece's, in whatever piece it is."""
    good = "promptText,b\n" + "x,y\n" * 10
    for more, words in ((b"x,y,z\n", "Line 12"), (b"ab,\xff\n", "0xff in line 12"), (b'"x', "noticed in line 12")):
        (tmp_path / "rows.csv").write_bytes(good.encode() + more)
        with pytest.raises(BadInputError, match=words):
            look_through(tmp_path / "rows.csv")
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n' * 10 + "\n[]\n")
    with pytest.raises(BadInputError, match=r"Line 12 of .*rows\.jsonl is no JSON object"):
        look_through(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_large_file_is_never_held_whole(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times the memory of a piece would not do for it: 6 MB are looked through and read with less than 1.5 MB."""
    monkeypatch.setattr(rows_file, "PIECE_ROWS", 500)
    monkeypatch.setattr(rows_file, "PIECE_CHARACTERS", 100_000)
    path = tmp_path / f"rows.{ending}"
    text = "x" * 100
    with path.open("w") as file:
        file.write("promptText\n" if ending == "csv" else "")
        file.writelines(f"{text}\n" if ending == "csv" else f'{{"promptText": "{text}"}}\n' for _ in range(60_000))
    tracemalloc.start()
    try:
        assert sum(piece.rows for piece in look_through(path).pieces()) == 60_000
        assert tracemalloc.get_traced_memory()[1] < 1_500_000
    finally:
        tracemalloc.stop()
