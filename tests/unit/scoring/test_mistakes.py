"""`mistakes.look`: what is wrong with a run is a sentence each, before anything is started."""

import json
from pathlib import Path
from typing import Any

import pytest

from nimdrum.scoring.mistakes import BY_OPTION, Asked, Seen, look

GOOD = "promptText,id\nhello,1\n"


def seen(tmp_path: Path, rows: str | bytes = GOOD, name: str = "rows.csv", **asked: Any) -> Seen:
    path = tmp_path / name
    path.write_bytes(rows if isinstance(rows, bytes) else rows.encode())
    return look(Asked(None, "resultText", rows=path, remedy=BY_OPTION, **asked), read=lambda name: None)


def body_of(found: Seen) -> bytes:
    assert found.rows is not None
    return found.rows.whole().body


def test_nothing_is_wrong(tmp_path: Path) -> None:
    """Settings come from the file, the command line wins, and the body is the file's."""
    params = tmp_path / "params.yaml"
    params.write_text("max_tokens: 5\nn: 2\n")
    found = seen(tmp_path, values_file=params, values={"n": "3"}, output=tmp_path / "answers.csv")
    assert found.mistakes == ()
    assert found.settings is not None
    assert (found.settings.fields, found.settings.n) == ({"max_tokens": 5}, 3)
    assert found.rows is not None
    assert [piece.body for piece in found.rows.pieces()] == [GOOD.encode()]
    assert not (tmp_path / "answers.csv").exists()


def test_a_file_of_values_decides_all_of_them(tmp_path: Path) -> None:
    """What it does not name has its default, whatever the environment says; without a file the environment counts."""
    params = tmp_path / "params.yaml"
    params.write_text("n: 2\n")
    environment: dict[str, Any] = {"max_tokens": 7}
    for file, tokens in ((params, 1024), (None, 7)):
        settings = look(Asked(None, "x", values_file=file), read=environment.get).settings
        assert settings is not None
        assert settings.fields == {"max_tokens": tokens}


@pytest.mark.parametrize(
    ("rows", "name", "words"),
    [
        ("", "rows.csv", "is empty: write a header line"),
        ("promptText,id\n", "rows.csv", "has no rows: write prompts below the header line"),
        (
            "prompttext\nhello\n",
            "rows.csv",
            "has no column 'promptText' (did you mean prompttext?); it has prompttext: name",
        ),
        ("a,b\n1,2\n", "rows.csv", "has no column 'promptText'; it has a, b: name one with --column."),
        (b"promptText\n\xff\n", "rows.csv", "not UTF-8"),
        ("promptText,b\nx,y,z\n", "rows.csv", "Line 2 of the CSV has 3 cells, but the header has 2"),
        ('{"promptText": "x"}\nhello\n', "rows.jsonl", "is no JSON object: write one in each line"),
        ("hello", "rows.parquet", "is no Parquet that can be read"),
        ("[]", "rows.json", "has no rows"),
    ],
)
def test_rows_that_cannot_be_asked(tmp_path: Path, rows: str | bytes, name: str, words: str) -> None:
    """The file is named, and so is what to do."""
    (sentence,) = seen(tmp_path, rows, name).mistakes
    assert words in sentence
    assert "\n" not in sentence


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    """A name, a target, an output and a column: four sentences of one look."""
    asked = Asked(None, "row_error", values={"max_token": "5"}, rows=tmp_path / "no.csv", output=tmp_path)
    told = look(asked, read=lambda name: None).mistakes
    for sentence, words in zip(
        told, ("did you mean max_tokens?", "TARGET_NAME", "it is a folder", "cannot be read"), strict=True
    ):
        assert words in sentence


def test_conversations_need_no_prompt_column(tmp_path: Path) -> None:
    """`messages` stands in its place where rows may set things for themselves."""
    rows = "messages\n" + json.dumps(json.dumps([{"role": "user", "content": "hi"}])).replace('\\"', '""') + "\n"
    assert "has no column" in seen(tmp_path, rows).mistakes[0]
    assert seen(tmp_path, rows, values={"per_row_columns": "true"}).mistakes == ()


def test_json_lines_and_parquet_become_records(tmp_path: Path) -> None:
    """Numbers in JSON Lines keep their digits; Parquet keeps text, and a missing value is null."""
    from pyarrow import Table, parquet

    lines = '\ufeff{"promptText": "1.10", "id": 1.10}\n\n{"promptText": null}\r\n'
    assert b'"id": 1.10' in body_of(seen(tmp_path, lines, "rows.jsonl"))
    parquet.write_table(Table.from_pylist([{"promptText": "007"}, {"promptText": None}]), tmp_path / "rows.pq")
    found = look(Asked(None, "x", rows=tmp_path / "rows.pq"), read=lambda name: None)
    assert json.loads(body_of(found)) == [{"promptText": "007"}, {"promptText": None}]
