"""`nimdrum.base.log`: events with fields, one line each, that can be searched."""

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.base.log import event, format_event, get_logger


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "engine.ready"),
        ({"port": 9999, "model": "llama"}, "engine.ready port=9999 model=llama"),
        ({"after_sec": 212.0}, "engine.ready after_sec=212"),
        ({"after_sec": 100.0}, "engine.ready after_sec=100"),
        ({"after_sec": 0.0}, "engine.ready after_sec=0"),
        ({"after_sec": 1.23456}, "engine.ready after_sec=1.235"),
        ({"after_sec": float("inf")}, "engine.ready after_sec=inf"),
        ({"ready": True, "model": None}, "engine.ready ready=True model=None"),
        ({"cause": "out of memory"}, 'engine.ready cause="out of memory"'),
        ({"cause": ""}, 'engine.ready cause=""'),
        ({"cause": 'a "b"'}, r'engine.ready cause="a \"b\""'),
        ({"cause": "a=b"}, 'engine.ready cause="a=b"'),
        ({"cause": "back\\slash and blank"}, r'engine.ready cause="back\\slash and blank"'),
        ({"cause": "two\nlines"}, r'engine.ready cause="two\nlines"'),
        ({"cause": "日本語"}, "engine.ready cause=日本語"),
    ],
)
def test_an_event_as_text(fields: dict[str, object], line: str) -> None:
    """Fields keep their order; a value that could be mistaken for more than one is quoted."""
    assert format_event("engine.ready", fields) == line


@settings(max_examples=150)
@given(st.text(alphabet=st.sampled_from('ab ="\\\n\r\t'), max_size=8))
def test_an_event_is_one_line(value: str) -> None:
    """What an engine or a user wrote cannot begin a line of its own in the log."""
    line = format_event("x", {"value": value, "last": 1})
    assert "\n" not in line
    assert "\r" not in line
    assert line.endswith(" last=1")


def test_the_package_speaks_from_info_on(caplog: pytest.LogCaptureFixture) -> None:
    """DRUM's root level is WARNING, which would hide the progress of a start."""
    log = get_logger("unit-test")
    with caplog.at_level(logging.WARNING):
        caplog.handler.setLevel(logging.NOTSET)
        event(log, "shown", rows=1)
        event(log, "hidden", level=logging.DEBUG)
        event(log, "loud", level=logging.ERROR)
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records if r.name == "nimdrum.unit-test"] == [
        ("nimdrum.unit-test", "INFO", "shown rows=1"),
        ("nimdrum.unit-test", "ERROR", "loud"),
    ]


def test_a_percent_sign_is_no_format(caplog: pytest.LogCaptureFixture) -> None:
    """Values are never used as a format string."""
    event(get_logger("unit-test"), "shown", done="100%s")
    assert [r.getMessage() for r in caplog.records if r.name == "nimdrum.unit-test"] == ["shown done=100%s"]


def test_a_level_that_somebody_chose_is_kept() -> None:
    """The package sets its level only where nobody did."""
    base = logging.getLogger("nimdrum")
    before = base.level
    try:
        base.setLevel(logging.ERROR)
        assert not get_logger("unit-test").isEnabledFor(logging.INFO)
    finally:
        base.setLevel(before)
