"""Log lines as events with fields: `engine.ready after_sec=212 model=llama`."""

import logging
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
        log.log(level, "%s", format_event(name, fields))


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
