"""`read_rows`: text stays text, every row stays a row, and what cannot be read is said without showing it.

What a CSV cannot carry: NUL becomes U+FFFD, a U+FEFF at the very beginning is a byte order mark, and text that UTF-8
cannot hold (a lone surrogate) cannot be sent at all. All other text comes back as it was written.
"""

import csv
import io
import json
import sys
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.base.errors import BadInputError
from nimdrum.scoring.reader import prompts_of, read_rows

SECRET = "my confidential prompt"
DEEP = 600 if sys.version_info < (3, 12) else 1200  # json reads it, our own walk through it does not end well


def prompts(body: bytes | str) -> list[str]:
    """The prompt column of this body."""
    return prompts_of(read_rows(body if isinstance(body, bytes) else body.encode()), "promptText")


def table(body: bytes | str) -> tuple[list[str], list[list[str]]]:
    frame = read_rows(body if isinstance(body, bytes) else body.encode())
    return list(frame.columns), frame.to_numpy().tolist()


@pytest.mark.parametrize(
    "cell",
    [
        "123",
        "007",
        "1e3",
        "1.50",
        "true",
        "NA",
        "null",
        "None",
        "nan",
        "N/A",
        "inf",
        "9" * 30,
        "2024-01-01",
        "  blanks  ",
        "'",
        "🎉",
        "日本",
        "-",
        "{",
        "[1]",
    ],
)
def test_a_cell_is_its_text(cell: str) -> None:
    """What pandas makes numbers, dates or gaps of (section 3.1 of DRUM's contract); alone and beside another column."""
    assert prompts(f"promptText\n{cell}\n") == [cell]
    assert prompts(f"id,promptText\n1,{cell}\n") == [cell]
    assert prompts(json.dumps([{"promptText": cell}])) == [cell]


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        pytest.param("promptText\n\n", [""], id="blank line"),
        pytest.param("promptText\na\n\nb\n\n\n", ["a", "", "b", "", ""], id="blank lines between and at the end"),
        pytest.param('promptText\n""\n', [""], id="quoted nothing"),
        pytest.param("promptText\n   \n", ["   "], id="line of blanks"),
        pytest.param("promptText\nhello, world\n", ["hello, world"], id="unquoted comma in the first row"),
        pytest.param(
            "promptText\na\nhello, my, world,\n", ["a", "hello, my, world,"], id="unquoted commas in a later row"
        ),
        pytest.param('promptText\n"hello, world"\n', ["hello, world"], id="quoted comma"),
        pytest.param('promptText\n"a ""b"" c"\n', ['a "b" c'], id="doubled quotes"),
        pytest.param('promptText\na "b" c\n', ['a "b" c'], id="quotes inside an unquoted cell"),
        pytest.param('promptText\n"a\nb"\n', ["a\nb"], id="newline in quotes"),
        pytest.param('promptText\r\n"a\r\nb"\r\nc\r\n', ["a\r\nb", "c"], id="CRLF in quotes and between rows"),
        pytest.param("promptText\ra\rb", ["a", "b"], id="CR between rows"),
        pytest.param("promptText\na", ["a"], id="no newline at the end"),
        pytest.param("promptText\n", [], id="header only"),
        pytest.param("promptText", [], id="header without newline"),
        pytest.param("\n\npromptText\na\n", ["a"], id="blank lines before the header"),
        pytest.param("\ufeffpromptText\na\n", ["a"], id="BOM"),
        pytest.param('\ufeff"promptText"\na\n', ["a"], id="BOM and quoted header"),
        pytest.param("promptText\na\0b\n", ["a\ufffdb"], id="NUL"),
        pytest.param(
            "promptText\na\u2028b\x85c\x0bd\n", ["a\u2028b\x85c\x0bd"], id="Unicode's other line ends are text"
        ),
    ],
)
def test_one_column(body: str, rows: list[str]) -> None:
    """Every line is a row, as for DRUM, and unquoted commas belong to the text."""
    assert prompts(body) == rows


@pytest.mark.parametrize(
    ("body", "columns", "rows"),
    [
        pytest.param("a,b\n1,2\n\n3,4\n\n", ["a", "b"], [["1", "2"], ["3", "4"]], id="blank lines are skipped"),
        pytest.param("a,b\n1\n", ["a", "b"], [["1", ""]], id="missing cells are empty"),
        pytest.param("a,b\n,\n", ["a", "b"], [["", ""]], id="empty cells"),
        pytest.param("promptText;b\n1;2\n", ["promptText;b"], [["1;2"]], id="semicolons are text"),
        pytest.param("a,a,b,a\n1,2,3,4\n", ["a", "a.1", "b", "a.2"], [["1", "2", "3", "4"]], id="repeated names"),
        pytest.param(",promptText\n0,x\n", ["", "promptText"], [["0", "x"]], id="unnamed first column"),
        pytest.param("a, b\n1, 2\n", ["a", " b"], [["1", " 2"]], id="blanks after commas stay"),
    ],
)
def test_several_columns(body: str, columns: list[str], rows: list[list[str]]) -> None:
    """Cells by position; DRUM drops blank lines here too."""
    assert table(body) == (columns, rows)


@pytest.mark.parametrize(
    ("body", "columns", "rows"),
    [
        pytest.param('[{"a": "x"}]', ["a"], [["x"]], id="records"),
        pytest.param('{"a": "x"}', ["a"], [["x"]], id="one record"),
        pytest.param('\ufeff \n[\n  {"a": "x"}\n]\n', ["a"], [["x"]], id="BOM and blanks"),
        pytest.param("[" + " " * 200 + '{"a": "x"}]', ["a"], [["x"]], id="many blanks"),
        pytest.param("[]", [], [], id="no records"),
        pytest.param('[{"a": "x"}, {"b": "y"}]', ["a", "b"], [["x", ""], ["", "y"]], id="other names"),
        pytest.param('[{"a": null}]', ["a"], [[""]], id="null is empty"),
        pytest.param(
            '[{"a": 7, "b": 1.50, "c": 1E5, "d": -0}]',
            ["a", "b", "c", "d"],
            [["7", "1.50", "1E5", "-0"]],
            id="numbers as written",
        ),
        pytest.param('[{"a": ' + "9" * 30 + "}]", ["a"], [["9" * 30]], id="a long number"),
        pytest.param('[{"a": NaN, "b": Infinity}]', ["a", "b"], [["NaN", "Infinity"]], id="no numbers"),
        pytest.param('[{"a": true, "b": false}]', ["a", "b"], [["true", "false"]], id="booleans as JSON"),
        pytest.param('[{"a": "tab\\t nul\\u0000 \\ud83c\\udf89"}]', ["a"], [["tab\t nul\0 🎉"]], id="escapes"),
    ],
)
def test_json(body: str, columns: list[str], rows: list[list[str]]) -> None:
    """An array of records, or one record."""
    assert table(body) == (columns, rows)


@pytest.mark.parametrize("value", [[1, 2.5], {"x": 1}, ["a", None, True], [[-1e5], {"y": [0]}]], ids=json.dumps)
def test_a_nested_json_value_is_its_json(value: Any) -> None:
    """A cell that is an array or object is kept as JSON that means the same: 1 does not become "1"."""
    assert json.loads(prompts(json.dumps([{"promptText": value}]))[0]) == value


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@settings(max_examples=200)
@given(
    st.integers(1, 3).flatmap(
        lambda width: st.lists(st.lists(TEXTS, min_size=width, max_size=width), min_size=1, max_size=4)
    )
)
def test_what_csv_writes_comes_back(rows: list[list[str]]) -> None:
    """Python's own writer: any cells at all, also blank rows, quotes and every kind of line end."""
    header = [f"column {i}" for i in range(len(rows[0]))]
    file = io.StringIO()
    csv.writer(file).writerows([header, *rows])
    assert table(file.getvalue()) == (header, rows)


@settings(max_examples=150)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters='\0\r\n"'), max_size=12), max_size=5)
)
def test_lines_without_quotes_come_back(lines: list[str]) -> None:
    """A one-column file that somebody typed: each line is its prompt, with all its commas and blanks."""
    assert prompts("\n".join(["promptText", *lines]) + ("\n" if lines else "")) == lines


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.text() | st.just("half \ud800"), st.text()), min_size=1, max_size=4),
    st.sampled_from([None, 2]),
)
def test_what_json_writes_comes_back(rows: list[tuple[str, str]], indent: int | None) -> None:
    """Any text, NUL and half a character included: JSON can carry them."""
    records = [{"promptText": prompt, "id": number} for prompt, number in rows]
    assert table(json.dumps(records, indent=indent)) == (["promptText", "id"], [list(row) for row in rows])


@settings(max_examples=150)
@given(st.lists(st.sampled_from(["a", "a.1", "a.2", "b", ""]), min_size=2, max_size=6))
def test_column_names_are_told_apart(header: list[str]) -> None:
    """Whatever the header repeats, no two columns have one name, and the first of a name keeps it."""
    columns, rows = table(",".join(header) + "\n" + ",".join(map(str, range(len(header)))))
    assert len(set(columns)) == len(header)
    assert rows == [[str(i) for i in range(len(header))]]
    assert all(columns[header.index(name)] == name for name in header)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        pytest.param(b"", 422, "is empty", id="empty"),
        pytest.param(b" \r\n\t\n", 422, "is empty", id="blank"),
        pytest.param(b"\xef\xbb\xbf", 422, "is empty", id="nothing but a BOM"),
        pytest.param(f"promptText\n{SECRET}".encode("utf-16"), 422, "UTF-16", id="UTF-16"),
        pytest.param(
            f"promptText\n{SECRET}".encode("utf-16-be", "strict").join([b"\xfe\xff", b""]),
            422,
            "UTF-16",
            id="UTF-16, big end first",
        ),
        pytest.param(f"promptText\n{SECRET}\ncaf\xe9\n".encode("latin-1"), 422, "byte 0xe9 in line 3", id="Latin-1"),
        pytest.param(
            b"\xef\xbb\xbfpromptText\n" + SECRET.encode() + b"\n\xe9\n",
            422,
            "byte 0xe9 in line 3",
            id="Latin-1 after a BOM",
        ),
        pytest.param(f"%%MatrixMarket matrix\n{SECRET}".encode(), 422, "Sparse", id="mtx"),
        pytest.param(f'promptText\nok\n"{SECRET}\n'.encode(), 400, "line 3", id="a quote that is never closed"),
        pytest.param(f'promptText\nok\n"{SECRET}" and more\n'.encode(), 400, "line 3", id="text after a closing quote"),
        pytest.param(
            f"a,b\n1,2\n{SECRET},2,3\n".encode(),
            400,
            "Line 3 of the CSV has 3 cells, but the header has 2",
            id="too many cells",
        ),
        pytest.param(f'[{{"promptText": "{SECRET}"'.encode(), 400, "cannot be read.*line 1 column", id="half a JSON"),
        pytest.param(
            f'{{"promptText": "{SECRET}"}}\n{{"promptText": "{SECRET}"}}'.encode(),
            400,
            "line 2 column 1",
            id="JSON lines",
        ),
        pytest.param(f'[{{"promptText": "{SECRET}\t"}}]'.encode(), 400, "line 1 column", id="a raw tab in JSON"),
        pytest.param(f'[{{"a": "b"}}, "{SECRET}"]'.encode(), 400, "Entry 2", id="a JSON entry that is no object"),
        pytest.param(b'[{"a": ' + b"[" * 100_000, 400, "cannot be read", id="JSON nested without end"),
        pytest.param(b'[{"a": ' + b"[" * DEEP + b"]" * DEEP + b"}]", 400, "cannot be read", id="JSON nested deeply"),
        pytest.param(b'[{"a": [' + b"7" * 5000 + b"]}]", 400, "cannot be read", id="a number of 5000 digits in a list"),
    ],
)
def test_what_cannot_be_read(body: bytes, status: int, words: str) -> None:
    """The error says what and in which line, with the status that tells whose fault it is, and never shows the body."""
    with pytest.raises(BadInputError, match=words) as caught:
        read_rows(body)
    assert caught.value.status == status
    assert SECRET not in str(caught.value)


@settings(max_examples=200)
@given(st.binary(max_size=60) | st.text('[]{}":,\n ab', max_size=30).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """A frame of text with its rows numbered from 0, or BadInputError: nothing else."""
    try:
        frame = read_rows(body)
    except BadInputError:
        return
    assert list(frame.index) == list(range(len(frame)))
    assert all(isinstance(cell, str) for row in frame.to_numpy().tolist() for cell in row)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", None, float("nan"), pd.NA, ""], ["a", "", "", "", ""]),
        ([7, 1.5, True, ["a", 1]], ["7", "1.5", "True", "['a', 1]"]),
        ([], []),
    ],
    ids=["gaps are empty", "other types are their text", "no rows"],
)
def test_prompts_of_frames_from_other_readers(values: list[Any], expected: list[str]) -> None:
    """Moderation and DRUM's own reader give such cells; the index may have gaps."""
    frame = pd.DataFrame({"promptText": values}, index=[3 * i for i in range(len(values))], dtype=object)
    assert prompts_of(frame, "promptText") == expected


def test_a_missing_column_lists_what_was_found() -> None:
    """And names the parameter; a very wide file is not listed whole."""
    with pytest.raises(
        BadInputError, match=r"'promptText' is missing. Columns found: prompt, id. .*prompt_column_name"
    ) as caught:
        prompts("prompt,id\nx,1\n")
    assert caught.value.status == 400
    with pytest.raises(BadInputError, match=r"column19, \.\.\."):
        prompts(",".join(f"column{i}" for i in range(500)))
    with pytest.raises(BadInputError, match=r"found: 'promptText ', '\\u200bid', a b\."):
        prompts("promptText ,\u200bid,a b\nx,1,2\n")
    with pytest.raises(BadInputError, match="Columns found: none"):
        prompts("[]")


def test_a_file_without_header_is_not_shown_whole() -> None:
    """Its first line is a prompt, perhaps a very long one: the error shows no more of it than a name needs."""
    with pytest.raises(BadInputError) as caught:
        prompts("x" * 100_000 + "\nsecond\n")
    assert len(str(caught.value)) < 5000
