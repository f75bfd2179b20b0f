"""What `nimdrum score` says at the end, and the line while it goes on: numbers that add up, in the room that there is."""

import json
from pathlib import Path

import pandas as pd
import pytest

from nimdrum.base.errors import SettingsError
from nimdrum.scoring.answer import Completion, RowFailure
from nimdrum.scoring.frame import EMPTY_PROMPT, assemble
from nimdrum.scoring.progress import Count
from nimdrum.tools.score.answers_file import check_ending, name_answers, writing
from nimdrum.tools.score.live_line import progress
from nimdrum.tools.score.summary import Totals, as_lines, as_object

GOOD = Completion(("yes",), "stop", 5, 40)
CUT = Completion(("=1+1",), "length", 5, 60)
LONG = RowFailure("too_long", "the prompt has 9000 tokens", 400)
FRAME = assemble([GOOD, LONG, CUT, EMPTY_PROMPT, LONG, RowFailure("refused", "no: never", 400)], "Predictions", 1, True)


def totals(*frames: pd.DataFrame) -> Totals:
    counted = Totals()
    for frame in frames:
        counted.add(frame)
    return counted


def write(path: Path, *frames: pd.DataFrame) -> None:
    with writing(path) as form:
        for frame in frames:
            form.add(frame)


def test_the_summary() -> None:
    """Of all frames together. Failures by kind, the most frequent first, with the first row of each; an empty prompt is none."""
    told = totals(FRAME.iloc[:2], FRAME.iloc[2:]).summary(2.0, 3.5, "answers.csv")
    assert (told.rows, told.answered, told.failed, told.empty, told.cut, told.exit_code) == (6, 2, 3, 1, 1, 3)
    assert as_lines(told) == [
        "2 of 6 rows answered in 2.0 s, 100 tokens (50/s), 1 without a prompt, the engine was ready after 3.5 s",
        "2 failed, too_long: row 2: the prompt has 9000 tokens",
        "1 failed, refused: row 6: no: never",
        "1 cut at max_tokens: give more with --set max_tokens=...",
        "Answers: answers.csv",
    ]
    document = json.loads(json.dumps(as_object(told)))
    assert document["failures"]["refused"] == {"count": 1, "row": 6, "message": "no: never"}
    assert (document["ok"], document["prompt_tokens"], document["completion_tokens"]) == (False, 10, 100)


def test_a_model_without_the_extra_columns() -> None:
    """All that is known is the number of its rows."""
    told = totals(pd.DataFrame({"Predictions": ["a", ""]})).summary(0.0, 0.0, "-")
    assert (told.answered, told.failed, told.exit_code) == (2, 0, 0)


@pytest.mark.parametrize("width", [200, 100, 80, 60, 40])
def test_the_line_fits(width: int) -> None:
    """Rows and failures are always there; what matters least goes first, a bar comes where there is room."""
    line = progress(100_000, Count(12_345, 67, 8_000_000), 512, 100.0, width)
    assert len(line) <= width
    assert "12345/100000 rows  67 failed" in line
    assert ("80000 tokens/s" in line) == (width >= 80)
    assert ("512 in flight" in line) == ("━" in line) == (width >= 100)
    assert "left" in line


def test_the_line_at_the_start() -> None:
    """No division by zero."""
    assert "0/5 rows  0 failed  0.00 rows/s  0 tokens/s  2 in flight  -:-- left" in progress(5, Count(), 2, 0.0, 80)


@pytest.mark.parametrize("ending", [".csv", ".json", ".jsonl", ".parquet"])
def test_every_form_holds_the_same(tmp_path: Path, ending: str) -> None:
    """Frame by frame, of which the first has no number. Text as it is, numbers as numbers, nothing where nothing is; an old file is replaced, and no other one is made."""
    path = tmp_path / f"answers{ending}"
    path.write_text("old")
    check_ending(path)
    write(path, FRAME.iloc[1:2], FRAME.iloc[2:3], FRAME.iloc[3:])
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    if ending == ".csv":
        assert path.read_text() == FRAME.iloc[1:].to_csv(index=False)
        return
    if ending == ".parquet":
        from pyarrow import parquet

        records = parquet.read_table(path).to_pylist()
    else:
        text = path.read_text()
        records = json.loads(text) if ending == ".json" else [json.loads(line) for line in text.splitlines()]
    assert [record["Predictions"] for record in records] == ["", "=1+1", "", "", ""]
    assert [record["completion_tokens"] for record in records] == [None, 60, None, None, None]
    assert records[4]["row_error"] == "refused: no: never"


def test_a_device_is_written_to() -> None:
    """And is a device still."""
    write(Path("/dev/null"), FRAME)
    assert Path("/dev/null").is_char_device()


def test_a_link_leads_to_the_file(tmp_path: Path) -> None:
    """What it points to gets the answers, and it stays a link."""
    (tmp_path / "link.csv").symlink_to(tmp_path / "file.csv")
    write(tmp_path / "link.csv", FRAME)
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "file.csv").read_text() == FRAME.to_csv(index=False)


def test_names_for_answers() -> None:
    """In this folder, in the form of the rows; an ending that says nothing is refused."""
    for rows, answers in (("in/a.csv", "a-answers.csv"), ("b.JSONL", "b-answers.jsonl"), ("c.txt", "c-answers.csv")):
        assert name_answers(Path(rows)) == Path(answers)
    with pytest.raises(SettingsError, match=r"name a \.csv"):
        check_ending(Path("answers.xlsx"))
