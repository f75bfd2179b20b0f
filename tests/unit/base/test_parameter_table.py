"""The table of parameters in docs/parameters.md: made from the definitions, put between two marks."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.base.errors import NimdrumError
from nimdrum.base.parameters import BEGIN, END, Parameter, replace_table, table


def test_the_table() -> None:
    """A row for each parameter: defaults as they are written in YAML, bounds of numbers, bars escaped."""
    assert table(
        [
            Parameter("limit", "numeric", 7, 0, 10_000_000, "How many."),
            Parameter("key", "credential", None, None, None, "A key."),
            Parameter("on", "boolean", True, None, None, "Yes | no."),
            Parameter("zero", "numeric", 0, 0, 2, "Zero is a default."),
            Parameter("word", "string", "auto", None, None, "A word."),
        ]
    ).splitlines() == [
        "| parameter | type | default | what it does |",
        "| --- | --- | --- | --- |",
        "| `limit` | numeric | `7` | How many. Allowed: a number from 0 to 10000000. |",
        "| `key` | credential | empty | A key. |",
        "| `on` | boolean | `true` | Yes \\| no. |",
        "| `zero` | numeric | `0` | Zero is a default. Allowed: a number from 0 to 2. |",
        "| `word` | string | `auto` | A word. |",
    ]


def test_only_what_is_between_the_marks_changes() -> None:
    """Doing it twice is doing it once."""
    text = f"# Title\n\n{BEGIN}\n\n| old |\n\n{END}\n\nMore.\n"
    new = replace_table(text, "| new |")
    assert new == f"# Title\n\n{BEGIN}\n\n| new |\n\n{END}\n\nMore.\n"
    assert replace_table(new, "| new |") == new


@pytest.mark.parametrize(
    "text", ["", BEGIN, END, f"{END}\n{BEGIN}"], ids=["none", "no end", "no beginning", "the wrong way round"]
)
def test_missing_marks_are_named(text: str) -> None:
    """The error shows the two lines to put in."""
    with pytest.raises(NimdrumError) as caught:
        replace_table(text, "| new |")
    assert BEGIN in str(caught.value)
    assert END in str(caught.value)


@settings(max_examples=100)
@given(st.text(), st.text(), st.text(), st.text())
def test_everything_else_stays(before: str, old: str, after: str, new: str) -> None:
    """Whatever the file holds."""
    assert replace_table(f"{before}{BEGIN}{old}{END}{after}", new) == f"{before}{BEGIN}\n\n{new}\n\n{END}{after}"
