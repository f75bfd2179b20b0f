"""The chat hook: OpenAI chat completions passed through to the engine, streaming and not."""

import itertools
import json
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nimdrum.base.errors import ChatError, NimdrumError
from nimdrum.base.fields import body_of, merged
from nimdrum.base.settings import Settings
from nimdrum.engines.plan import DEFAULT_MODEL_NAME
from nimdrum.engines.wire import CHAT_PATH, MODELS_PATH, SHOWN_CHARACTERS, own_error, read_error, with_system_prompt
from nimdrum.session.caller import current_caller, take_turn
from nimdrum.session.exchange import Ask, EngineCall, Exchange, ExchangeError, as_chat_error, own_headers
from nimdrum.session.model import Model
from nimdrum.session.tracing import ChatSpan
from nimdrum.web.stream import EVENT_STREAM, end_with_answer, error_of, read_chunks, status_of_code, well_formed

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion, ChatCompletionChunk


OURS = "datarobot_"
"""Fields with this beginning are DataRobot's (association id, metrics, ...): an engine may refuse them."""
TOGETHER = (("max_tokens", "max_completion_tokens"), ("logprobs", "top_logprobs"), ("tools", "tool_choice"))
"""Who says one of them has said all."""
MOST_CHOICES = 128
"""OpenAI's own bound for `n`, and that of the runtime parameter. An engine's own is far higher, where it has one."""


@dataclass(frozen=True)
class Defaults:
    """What the runtime parameters say, for callers who left it out."""

    system_prompt: str | None
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Of `nimdrum.base.fields.FIELDS`."""


def chat_body(params: Mapping[str, Any], served: str, defaults: Defaults | None = None) -> dict[str, Any]:
    """`params` for an engine that serves the model `served`; every field that is not DataRobot's stays as it is.

    The name that DataRobot's clients send, an empty one and none at all mean the served model. Another name goes
    through: that it is unknown is for the engine to say. `defaults` fills in what the caller left out.
    Raises ChatError (400) when more than MOST_CHOICES answers are asked for.
    """
    _check_choices(params.get("n"))
    body = {name: value for name, value in params.items() if not name.startswith(OURS)}
    if body.get("model") in (None, "", DEFAULT_MODEL_NAME):
        body["model"] = served
    return body if defaults is None else _with_defaults(body, defaults)


def _check_choices(n: Any) -> None:
    """One request must not take the whole engine. What is no number is for the engine to refuse."""
    try:
        many = float(n) > MOST_CHOICES
    except OverflowError:
        many = True
    except (TypeError, ValueError):
        return
    if many:
        message = f"n is {str(n)[:40]}; allowed are at most {MOST_CHOICES} choices in one request. Send several."
        raise ChatError(message, 400, {"message": message, "type": "invalid_request_error", "param": "n", "code": 400})


def _with_defaults(body: dict[str, Any], defaults: Defaults) -> dict[str, Any]:
    given = {name for name, value in body.items() if value is not None}
    given |= {name for names in TOGETHER if given.intersection(names) for name in names}
    extra = defaults.fields.get("extra_body") or {}
    for name, value in body_of(defaults.fields).items():
        if name not in given:
            body[name] = value
        elif name in extra:
            body[name] = merged(value, body[name])
    messages = body.get("messages")
    if isinstance(messages, list):
        body["messages"] = with_system_prompt(messages, defaults.system_prompt)
    return body


Chunks = Generator["ChatCompletionChunk", None, None]

HEADERS = (("Content-Type", "application/json"), ("Accept", f"application/json, {EVENT_STREAM}"))
OK, NOT_FOUND = 200, 404


def complete(params: Mapping[str, Any], model: Model, headers: Mapping[str, str] | None = None) -> Any:
    """The engine's answer to an OpenAI chat request: a completion object, or an iterator of chunks if it streams.

    The first chunk is there before this returns, so that an error keeps its status. `headers` are the caller's.
    Raises ChatError, EngineStartError or EngineUnavailableError.
    """
    caller = current_caller(headers)
    defaults = _defaults(model.settings) if model.settings.apply_defaults_to_chat else None
    span = ChatSpan(model.attachment.plan.engine)
    try:
        call = EngineCall(model, caller)
        endpoint = call.ready()
        body = chat_body(params, endpoint.model, defaults)
        span.asked(body, endpoint)
        own = [*HEADERS, *own_headers(model, caller), *span.headers()]
        exchange = call.send(Ask("POST", CHAT_PATH, own, json.dumps(body).encode()), endpoint)
        take_turn()
        if exchange.headers.get_content_type() == EVENT_STREAM and exchange.status == OK:
            return _opened(read_chunks(exchange, str(params.get("model") or "")), span)
        try:
            answer = _completion(exchange)
        except ChatError as error:
            raise _naming_models(error, model) from error
        span.answered(answer)
        span.end()
        return answer
    except BaseException as error:
        span.failed(error)
        span.end()
        raise


def list_models(model: Model) -> list[Any]:
    """The models that the engine lists, as `openai` objects. Raises as `complete` does."""
    from openai.types import Model as OpenAIModel

    caller = current_caller()
    call = EngineCall(model, caller)
    exchange = call.send(Ask("GET", MODELS_PATH, own_headers(model, caller)), call.ready())
    entries = _document(exchange).get("data")
    if not isinstance(entries, list):
        raise _no_answer("list of models")
    return [OpenAIModel.construct(**{**entry, "object": "model"}) for entry in entries if isinstance(entry, dict)]


def _naming_models(error: ChatError, model: Model) -> ChatError:
    """`error`; where the model is not there, with the names of those that are: a LoRA adapter is one of them."""
    if error.status != NOT_FOUND or error.error.get("param") != "model":
        return error
    try:
        names = [str(entry.id) for entry in list_models(model)]
    except (NimdrumError, AttributeError):
        return error
    message = f"{error} There are: {', '.join(names)[:SHOWN_CHARACTERS]}."
    return ChatError(message, error.status, {**error.error, "message": message})


def _defaults(settings: Settings) -> Defaults:
    return Defaults(settings.system_prompt, settings.fields)


def _opened(chunks: Chunks, span: ChatSpan) -> Iterator["ChatCompletionChunk"]:
    """The stream, once its first chunk has come. Raises ChatError when that is an error."""
    first = next(chunks, None)
    if first is None:
        span.end()
        return iter(())
    if (error := error_of(first)) is not None:
        chunks.close()  # now, and not when whoever keeps the error lets go of it
        raise ChatError(str(error["message"]), status_of_code(error["code"]), error)
    end_with_answer(chunks.close)
    return _watched(first, chunks, span)


def _watched(first: "ChatCompletionChunk", chunks: Chunks, span: ChatSpan) -> Iterator["ChatCompletionChunk"]:
    try:
        for chunk in itertools.chain([first], chunks):
            span.streamed(chunk)
            yield chunk
    finally:
        chunks.close()
        span.end()


def _completion(exchange: Exchange) -> "ChatCompletion":
    from openai.types.chat import ChatCompletion

    document = _document(exchange)
    choices = document.get("choices")
    # DRUM reads the first choice's message and answers a general 500 where there is none.
    if not isinstance(choices, list) or not choices or not all(_has_message(choice) for choice in choices):
        raise _no_answer("chat completion")
    return ChatCompletion.construct(**{**document, "object": "chat.completion"})


def _has_message(choice: Any) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("message"), dict)


def _document(exchange: Exchange) -> dict[str, Any]:
    """The JSON object that the engine answered. Raises ChatError with the engine's status and words if it refused."""
    try:
        body = exchange.read()
    except ExchangeError as error:
        raise as_chat_error(error) from error
    finally:
        exchange.close()
    if exchange.status != OK:
        told = read_error(exchange.status, body)
        status = exchange.status if 400 <= exchange.status < 600 else 502
        raise ChatError(told.message, status, told.for_openai(), exchange.headers.get("Retry-After"))
    try:
        text = body.decode("utf-8-sig")
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise _no_answer("JSON") from None
    if not isinstance(document, dict):
        raise _no_answer("JSON object")
    return well_formed(document, text)


def _no_answer(expected: str) -> ChatError:
    message = f"The engine's answer is no {expected}."
    return ChatError(message, 502, own_error(message, "engine_error", 502))
