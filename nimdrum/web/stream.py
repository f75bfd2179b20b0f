"""Server-sent events of the engine as `openai` chunks.

A stream always ends with a reason: what breaks off ends in an error event.
"""

import codecs
import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nimdrum.engines.wire import clean, own_error, read_error
from nimdrum.session.exchange import Broken, CallerGone, Endless, Exchange, ExchangeError, as_chat_error

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk


EVENT_STREAM = "text/event-stream"
LINE_END = re.compile(r"\r\n|\n|\r")
LARGEST_EVENT = 4 << 20


def events(pieces: Iterable[bytes]) -> Iterator[str]:
    """The data of each event, as the HTML standard reads `text/event-stream`; other fields are skipped.

    Raises Endless for an event of more than LARGEST_EVENT characters.
    """
    data: list[str] = []
    room = LARGEST_EVENT
    for line in _lines(pieces):
        room -= len(line) + 1
        if not line:
            if data:
                yield "\n".join(data)
            data, room = [], LARGEST_EVENT
        elif room < 0:
            raise Endless("an event has no end")
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
        if len(rest) > LARGEST_EVENT:
            raise Endless("a line has no end")


END = "[DONE]"
CHUNK = "chat.completion.chunk"
SURROGATE = "\\ud"  # how an escaped half of a surrogate pair begins in JSON


def read_chunks(exchange: Exchange, model: str) -> Generator["ChatCompletionChunk", None, None]:
    """The chunks of an answer, each as soon as it is there; the exchange is closed at the end.

    DRUM replaces an exception before the first chunk by a general 500 and cuts the connection at a later one, which
    a caller cannot tell from the end of the answer. So nothing is raised: a chunk with the field `error` and no
    choices says what happened, in the form in which the `openai` client raises it as an APIError.
    """
    try:
        for data in events(exchange.pieces()):
            if data.startswith(END):
                return
            document = _document(data)
            if "error" in document:
                yield error_chunk(document["error"], model)
                return
            yield _chunk(document)
        yield error_chunk(as_chat_error(Broken()).error, model)
    except CallerGone:
        return
    except ExchangeError as error:
        yield error_chunk(as_chat_error(error).error, model)
    finally:
        exchange.close()


STREAM = "nimdrum_stream"


def end_with_answer(end: Callable[[], None]) -> None:
    """Keep what ends the stream of chunks that Flask's present request is answered with, for `Ending`."""
    from flask import g, has_request_context

    if has_request_context():
        setattr(g, STREAM, end)


class Ending(Iterator[Any]):
    """`pieces`, DRUM's answer around a stream of ours: closed too early, it is ended inside and read to its end.

    Closing alone leaves the Flask context that DRUM's stream runs in on this thread, until Python 3.10's garbage
    collector finds that stream, in the middle of another request: that one then has no caller any more.
    """

    def __init__(self, pieces: Iterable[Any], end: Callable[[], None]) -> None:
        self._pieces = iter(pieces)
        self._end = end

    def __next__(self) -> Any:
        return next(self._pieces)

    def close(self) -> None:
        self._end()
        with suppress(Exception):  # of who wraps it: nobody listens any more
            for _ in self._pieces:
                pass


def error_of(chunk: "ChatCompletionChunk") -> dict[str, Any] | None:
    """The error that a chunk carries, if it does."""
    return (chunk.model_extra or {}).get("error")


def error_chunk(error: Any, model: str) -> "ChatCompletionChunk":
    """A chunk that carries `error`, an OpenAI error object."""
    return _chunk({"id": "", "created": 0, "model": model, "choices": [], "error": error})


def _chunk(document: dict[str, Any]) -> "ChatCompletionChunk":
    from openai.types.chat import ChatCompletionChunk

    # `construct` and not validation: what an engine adds or leaves out is the caller's business.
    return ChatCompletionChunk.construct(**{**document, "object": CHUNK})


def _document(data: str) -> dict[str, Any]:
    """One event as an object in which DRUM finds what it looks for: `choices`, and a `delta` in each."""
    try:
        document = json.loads(data)
        choices = document.setdefault("choices", [])
        error = document.get("error")
        if error:
            status = status_of_code(error.get("code") if isinstance(error, dict) else None)
            return {"error": read_error(status, data.encode("utf-8", "replace")).for_openai()}
        document.pop("error", None)
        if all(isinstance(choice["delta"], dict) for choice in choices):
            return well_formed(document, data)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        pass
    return {"error": own_error("The engine sent an event that is no chat completion chunk.", "engine_error", 502)}


def status_of_code(code: object) -> int:
    """The HTTP status that an error object means with its `code`, which may be anything."""
    digits = str(code) if isinstance(code, int | str) else ""
    return int(digits) if re.fullmatch("[45][0-9][0-9]", digits) else 502


def well_formed(document: dict[str, Any], source: str) -> dict[str, Any]:
    """`document` without lone surrogates, which cannot be written as UTF-8 and would end DRUM's answer."""
    if SURROGATE not in source and SURROGATE.upper() not in source and SURROGATE.replace("d", "D") not in source:
        return document
    cleaned: dict[str, Any] = _clean(document)
    return cleaned


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {clean(name): _clean(item) for name, item in value.items()}
    return value
