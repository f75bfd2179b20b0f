"""The chat hook: OpenAI chat completions passed through to the engine, streaming and not."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nimdrum.engines.plan import DEFAULT_MODEL_NAME
from nimdrum.errors import ChatError
from nimdrum.scoring.answer import RowFailure, TryAgain, read_answer
from nimdrum.supervisor.attach import Endpoint

if TYPE_CHECKING:
    from openai import OpenAI

    from nimdrum.hooks import Model

DATAROBOT_FIELDS = ("datarobot_association_id", "datarobot_metrics")
"""Fields of DataRobot's clients, which an engine may refuse."""


def complete(params: dict[str, Any], model: "Model") -> Any:
    """The engine's answer to an OpenAI chat request: a completion object, or an iterator of chunks if it streams.

    The upstream stream is opened before this returns, so that an error keeps its status. Raises ChatError,
    EngineStartError or EngineUnavailableError.
    """
    from openai import Stream
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    endpoint = model.ready()
    client = _client(endpoint, model.settings.client_timeout_sec)
    body = {name: value for name, value in params.items() if name not in DATAROBOT_FIELDS}
    if body.get("model") in (None, "", DEFAULT_MODEL_NAME):
        body["model"] = endpoint.model
    streaming = bool(body.get("stream"))
    with _engine_errors():
        answer = client.post(
            "/chat/completions",
            body=body,
            cast_to=ChatCompletion,
            stream=streaming,
            stream_cls=Stream[ChatCompletionChunk],
        )
    return _chunks(answer) if streaming else answer


def list_models(model: "Model") -> list[Any]:
    """The models that the engine lists, as `openai` objects. Raises as `complete` does."""
    with _engine_errors():
        return list(_client(model.ready(), model.settings.client_timeout_sec).models.list())


def _chunks(stream: Any) -> Iterator[Any]:
    with stream:  # closes the connection when the caller goes away, which stops the engine's work
        yield from stream


_clients: dict[tuple[int, str], "OpenAI"] = {}


def _client(endpoint: Endpoint, timeout_sec: float) -> "OpenAI":
    """This process's client: one made before a fork would mix up the answers of its children."""
    from openai import DefaultHttpxClient, OpenAI

    key = (os.getpid(), endpoint.url)
    if key not in _clients:
        _clients.clear()
        http_client = DefaultHttpxClient(trust_env=False)  # no proxy for the engine
        _clients[key] = OpenAI(
            base_url=f"{endpoint.url}/v1",
            api_key="unused",
            timeout=timeout_sec,
            max_retries=0,
            http_client=http_client,
        )
    return _clients[key]


@contextmanager
def _engine_errors() -> Iterator[None]:
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    try:
        yield
    except APITimeoutError as error:
        raise ChatError("The engine did not answer in time (DRUM_OPENAI_CLIENT_TIMEOUT).", 504) from error
    except APIConnectionError as error:
        raise ChatError("The engine could not be reached: it may be restarting. Try again.", 503) from error
    except APIStatusError as error:
        raise ChatError(_message(error.response.content, error.status_code), error.status_code) from error


def _message(body: bytes, status: int) -> str:
    answer = read_answer(status, {}, body)
    failure = answer.failure if isinstance(answer, TryAgain) else answer
    return failure.message if isinstance(failure, RowFailure) else f"The engine answered HTTP {status}."
