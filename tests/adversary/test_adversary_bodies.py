"""What callers send, and what a file of answers looks like: a small body costs little, one record is one row."""

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest
from adversary_cases import says
from http_face import Face
from rude_engine import RudeEngine, completion, http
from test_adversary_rows import Place
from three_checks import check_cost

from nimdrum.base.errors import BadInputError, HTTPStatusError
from nimdrum.scoring.reader import read_rows
from nimdrum.scoring.score import score_frame


@pytest.fixture
def place(tmp_path: Path):
    face = Face(tmp_path, max_concurrency=4)
    engine = RudeEngine()
    face.runs(engine)
    yield Place(face, engine)
    face.close()
    engine.close()


ENDS = ("\r", "\r\r", "\n", "\r\n", "\n\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029", "\0", "\x1a", '"\r', "',\r")


def test_one_record_a_row_whatever_the_text(place: Place) -> None:
    """Written as `drum score` writes it, and read by Python's csv and by pandas; errors and reasoning too."""
    place.engine.acts |= {f"end {i}": says(http(completion(f"one{end}two{end}"))) for i, end in enumerate(ENDS)} | {
        f"error {i}": says(http(json.dumps({"message": f"a{end}b"}).encode(), "400 X")) for i, end in enumerate(ENDS)
    }
    prompts = [f"<{kind} {i}>" for i in range(len(ENDS)) for kind in ("end", "error")]
    written = place.score(prompts).to_csv(index=False)
    by_csv = list(csv.reader(io.StringIO(written, newline="")))
    assert len(by_csv) == 1 + len(prompts)
    assert {len(record) for record in by_csv} == {len(by_csv[0])}
    for engine in ("c", "python"):
        frame = pd.read_csv(io.StringIO(written, newline=""), dtype=str, keep_default_na=False, engine=engine)
        assert len(frame) == len(prompts)
        assert frame["resultText"][2 * ENDS.index("\r\n")] == "one\r\ntwo\r\n"
        assert frame["resultText"][0] == "one\ntwo\n"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "|cmd", "%0"])
def test_text_that_a_spreadsheet_would_run_stays_text(place: Place, text: str) -> None:
    """An answer is data. Whoever opens the file in a spreadsheet imports the column as text (see docs/rows.md)."""
    place.engine.acts["formula"] = says(http(completion(text)))
    assert place.score(["<formula>"])["resultText"].tolist() == [text]


SMALL_BODIES = {
    "equal names": ",".join(["a"] * 3000) + "\n",
    "many equal names": ",".join(["a"] * 50_000) + "\n1\n",
    "names that look made": ",".join(["a", "a.1", "a.2"] * 1000) + "\n",
    "short rows": ",".join(["promptText"] + [f"c{i}" for i in range(6000)]) + "\n" + "x\n" * 6000,
    "a new name in each record": json.dumps([{f"n{i}": i} for i in range(6000)]),
    "deep JSON": "[" + '{"promptText": ' + "[" * 5000 + "]" * 5000 + "}]",
    "many quotes": "promptText\n" + '"' * 60_000,
    "many quotes, two columns": "promptText,b\n" + '""' * 30_000,
    "one long line": "promptText\n" + "x" * 100_000,
    "many commas": "promptText\n" + "," * 100_000,
    "blank lines": "promptText\n" + "\n" * 20_000,
    "a long number": '[{"promptText": ' + "9" * 100_000 + "}]",
    "a long nested number": '[{"promptText": [' + "9" * 4000 + "]}]",
    "NUL": "promptText\n" + "\0" * 100_000,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", SMALL_BODIES.values(), ids=SMALL_BODIES)
def test_a_small_body_costs_little(text: str) -> None:
    """Read or refused with a reason (4xx), in linear time and little memory."""

    def read() -> None:
        try:
            assert read_rows(text.encode()).columns.is_unique
        except HTTPStatusError as error:
            assert error.status in (400, 413, 422)

    check_cost("reading", read)


def test_equal_names_are_told_apart_as_before() -> None:
    """A repeated name gets .1, .2, ..., and never one that another column has."""
    frame = read_rows(b"a,a,a.1,b,a,a.1\n1,2,3,4,5,6\n")
    assert frame.columns.tolist() == ["a", "a.2", "a.1", "b", "a.3", "a.1.1"]


def test_a_header_alone_and_an_empty_array_are_alike(place: Place) -> None:
    """No rows in, no rows out."""
    for body in (b"promptText\n", b"[]"):
        frame = read_rows(body)
        assert len(frame) == 0
        assert len(score_frame(frame, place.face.model)) == 0
    with pytest.raises(BadInputError, match="promptText"):
        score_frame(read_rows(b"question\n"), place.face.model)


def test_an_overlong_row_is_refused_with_its_line() -> None:
    """Its commas are in a wrong place, so nobody knows which text was meant: nothing is sent and nothing is billed."""
    with pytest.raises(BadInputError, match="Line 3 of the CSV has 3 cells, but the header has 2"):
        read_rows(b"promptText,b\n1,2\n1,2,3\n")
