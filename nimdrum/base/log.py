"""Log lines as events with fields: `engine.ready after_sec=212 model=llama`, or the same as JSON, one object a line."""

import json
import logging
from datetime import datetime, timezone
from typing import Any


def get_logger(name: str) -> logging.Logger:
    """The package's logger `nimdrum.<name>`.

    DRUM's default level is WARNING, which would hide twenty minutes of start-up progress, so the package's
    own loggers speak from INFO on whatever the root logger's level is.
    """
    base = logging.getLogger("nimdrum")
    if base.level == logging.NOTSET:
        base.setLevel(logging.INFO)
    return base.getChild(name)


def event(log: logging.Logger, name: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """Log the event `name` with `fields` as `key=value`, values with blanks quoted."""
    if log.isEnabledFor(level):
        log.log(level, "%s", format_event(name, fields), extra={"event": name, "fields": fields})


def format_event(name: str, fields: dict[str, Any]) -> str:
    return " ".join([name, *(f"{key}={_format(value)}" for key, value in fields.items())])


def _format(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    text = str(value)
    if text == "" or any(c.isspace() or c in '"=' for c in text):
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return (
            '"'
            + "".join(c if c == " " or not c.isspace() else f"\\x{ord(c):02x}" if c != "\n" else "\\n" for c in escaped)
            + '"'
        )
    return text


class JsonFormatter(logging.Formatter):
    """`time` (RFC 3339, UTC), `level`, `logger`, `message`; an event has `event` and `fields` too, an error `error`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if name := getattr(record, "event", None):
            line |= {"event": name, "fields": getattr(record, "fields", {})}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_as_json() -> None:
    """From now on the package's own lines in this process are JSON, on standard error."""
    base = logging.getLogger("nimdrum")
    if base.propagate:
        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter())
        base.addHandler(handler)
        base.propagate = False  # else DRUM's handler would write them a second time
