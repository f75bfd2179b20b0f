"""`render`: answers beside their prompts, for a person at a terminal."""

import csv
import io
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.base.errors import BadInputError
from nimdrum.scoring.answer import Completion, RowFailure
from nimdrum.scoring.entries import HEADER, as_line
from nimdrum.tools.show import MOST_LINES, render


def written(header: list[str], *rows: list[str]) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows([header, *rows])
    return file.getvalue().encode()


def shown(prompts: list[str], answers: list[str], errors: list[str] | None = None, width: int = 60) -> list[str]:
    """The lines of the table."""
    if errors is None:
        answered = written(["Predictions"], *([answer] for answer in answers))
    else:
        answered = written(["Predictions", "row_error"], *map(list, zip(answers, errors, strict=True)))
    return render(written(["promptText"], *([prompt] for prompt in prompts)), answered, "promptText", width).split("\n")


def columns(line: str) -> int:
    """How wide a terminal shows the line."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


def test_a_small_table() -> None:
    """Number, prompt, answer; a row error in brackets; and what became of the rows."""
    assert shown(["Capital?", "Bad?"], ["Paris.", ""], ["", "too_long: no"], width=40) == [
        "# | prompt        | answer",
        "-" * 40,
        "1 | Capital?      | Paris.",
        "",
        "2 | Bad?          | [too_long: no]",
        "",
        "2 rows, 1 answered, 1 with a row error",
    ]


def test_long_text_is_wrapped_and_cut() -> None:
    """Into the width of its column; not more than a few lines of one answer are shown."""
    lines = shown(["why " * 10], ["because " * 200])
    body = lines[2 : lines.index("", 2)]
    assert len(body) == MOST_LINES
    assert body[-1].endswith("| ...")
    assert all(columns(line) <= 60 for line in lines)


def test_lines_of_an_answer_stay_lines() -> None:
    """An answer with code in it is still readable."""
    lines = shown(["p"], ["one\ntwo\n\nfour"])
    assert [line.split("|")[-1].strip() for line in lines[2:6]] == ["one", "two", "", "four"]


def test_wide_characters_keep_the_columns_straight() -> None:
    """Japanese and emoji take two columns of a terminal."""
    lines = shown(["日本の首都はどこですか？", "emoji 🎉🎉", "plain"], ["東京です。", "ok", "ok"], width=50)
    bars = {columns(line[: line.rindex("|")]) for line in lines[2:] if "|" in line}
    assert len(bars) == 1


def test_no_rows_are_a_table_too() -> None:
    """With the count."""
    assert shown([], [])[-1] == "0 rows, 0 answered, 0 with a row error"


@pytest.mark.parametrize(
    ("prompts", "answers", "words"),
    [
        pytest.param(
            written(["promptText"], ["a"], ["b"]),
            written(["Predictions"], ["x"]),
            "2 prompts but 1 answers",
            id="other numbers of rows",
        ),
        pytest.param(
            written(["prompt"], ["a"]),
            written(["Predictions"], ["x"]),
            "'promptText' is missing",
            id="no prompt column",
        ),
        pytest.param(
            written(["promptText"], ["a"]), written(["resultText"], ["x"]), "'Predictions' is missing", id="no answers"
        ),
        pytest.param(b"", written(["Predictions"], ["x"]), "is empty", id="empty file"),
    ],
)
def test_files_that_do_not_fit(prompts: bytes, answers: bytes, words: str) -> None:
    """The error says why."""
    with pytest.raises(BadInputError, match=words):
        render(prompts, answers, "promptText", 60)


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(*[st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.just("\n"), max_size=60)] * 3),
        max_size=4,
    ),
    st.integers(40, 120),
)
def test_no_line_is_wider_than_the_terminal(rows: list[tuple[str, str, str]], width: int) -> None:
    """Whatever is asked and answered; every row has its number."""
    prompts, answers, errors = ([row[i] for row in rows] for i in range(3))
    lines = shown(prompts, answers, errors, width)
    assert max(columns(line) for line in lines) <= width
    numbers = [line.split("|")[0].strip() for line in lines[2:-1] if "|" in line]
    assert [number for number in numbers if number] == [str(i + 1) for i in range(len(rows))]


def test_full_shows_everything() -> None:
    """All lines of a long answer, in the width of its column."""
    answered = written(["Predictions"], ["because " * 200])
    lines = render(written(["promptText"], ["why"]), answered, "promptText", 60, full=True).split("\n")
    body = lines[2 : lines.index("", 2)]
    assert sum(line.count("because") for line in body) == 200
    assert all(columns(line) <= 60 for line in lines)


def test_an_answer_that_was_cut_is_marked() -> None:
    """By the engine at max_tokens, which is not how long answers are cut here; one that ended well has no mark."""
    answered = written(["Predictions", "finish_reason"], ["because " * 200, "length"], ["yes", "stop"])
    lines = render(written(["promptText"], ["why"], ["so"]), answered, "promptText", 60).split("\n")
    assert [line.split("| ")[-1] for line in lines if "[cut" in line] == ["[cut at max_tokens]"]
    assert any(line.startswith("2 | so ") and line.endswith("| yes") for line in lines)


def test_a_journal() -> None:
    """By the number of the row; its last entry counts, and what is missing says so. A torn last line is none."""
    lines = [
        as_line(2, "0" * 32, RowFailure("refused", "no", 400)),
        as_line(3, "0" * 32, Completion(("three",), "length", 1, 1)),
        as_line(2, "0" * 32, Completion(("two",), "stop", 1, 1)),
        as_line(1, "0" * 32, Completion(("one",), "stop", 1, 1))[:-5],
    ]
    prompts = written(["promptText"], ["a"], ["b"], ["c"])
    shown = render(prompts, HEADER + b"".join(lines), "promptText", 60)
    assert [line.split("|")[-1].strip() for line in shown.split("\n")[2:-1] if line] == [
        "[not in the journal]",
        "two",
        "three",
        "[cut at max_tokens]",
    ]
    assert shown.endswith("3 rows, 2 answered, 1 with a row error")
