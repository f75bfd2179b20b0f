"""Server-sent events out of bytes, however the network cut them. Pure."""

import codecs
import re
from collections.abc import Iterable, Iterator

EVENT_STREAM = "text/event-stream"
LINE_END = re.compile(r"\r\n|\n|\r")


def events(pieces: Iterable[bytes]) -> Iterator[str]:
    """The data of each event, as the HTML standard reads `text/event-stream`; other fields are skipped."""
    data: list[str] = []
    for line in _lines(pieces):
        if not line:
            if data:
                yield "\n".join(data)
            data = []
        elif line.startswith("data"):
            name, _, value = line.partition(":")
            if name == "data":
                data.append(value.removeprefix(" "))


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Whole lines without their ends; what comes after the last end is no line."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    for piece in pieces:
        text = rest + decoder.decode(piece)
        held = ""
        if text.endswith("\r"):  # its line feed may still come
            text, held = text[:-1], "\r"
        *lines, rest = LINE_END.split(text)
        rest += held
        yield from lines
