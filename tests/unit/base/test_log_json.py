"""JSON log lines: one schema, whatever is logged."""

import json
import logging
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimdrum.base.log import JsonFormatter, event, format_event

ALWAYS = {"time", "level", "logger", "message"}


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(JsonFormatter().format(record))


@pytest.fixture(scope="module")
def log() -> logging.Logger:
    log = logging.Logger("nimdrum.some")
    log.addHandler(Kept())
    return log


def written(log: logging.Logger) -> dict[str, object]:
    (handler,) = log.handlers
    assert isinstance(handler, Kept)
    line = handler.lines.pop()
    assert "\n" not in line
    document: dict[str, object] = json.loads(line)
    return document


@given(
    st.dictionaries(st.from_regex("[a-z_]{1,9}", fullmatch=True), st.text() | st.integers() | st.booleans() | st.none())
)
def test_an_event(log: logging.Logger, fields: dict[str, object]) -> None:
    """Its fields keep their types, and its message is the line that the text log has."""
    fields = {f"{name}_": value for name, value in fields.items()}  # no name of `event`'s own
    event(log, "engine.ready", **fields)
    line = written(log)
    assert set(line) == ALWAYS | {"event", "fields"}
    assert (line["event"], line["fields"]) == ("engine.ready", fields)
    assert line["message"] == format_event("engine.ready", fields)


def test_an_error(log: logging.Logger) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("It failed: %s", "so")
    line = written(log)
    assert set(line) == ALWAYS | {"error"}
    assert (line["level"], line["logger"], line["message"]) == ("ERROR", "nimdrum.some", "It failed: so")
    assert "ValueError" in str(line["error"])
    assert datetime.fromisoformat(str(line["time"])).tzinfo is not None
