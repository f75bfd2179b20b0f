"""What `load_model` returns: the engine as one DRUM process holds it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nimdrum.base.hosting import Hosting
from nimdrum.base.settings import Settings
from nimdrum.session.attach import Attachment, Endpoint

if TYPE_CHECKING:
    from openai import OpenAI

REQUEST_MARGIN_SEC = 5.0


@dataclass
class Model:
    """What `load_model` returns: the engine, and how to use it. Holds no socket, so it survives a fork."""

    settings: Settings
    hosting: Hosting
    attachment: Attachment
    reads_rows: bool = False
    """Our own `read_input_data` and `score` get the rows, and not a model's."""
    screen: Callable[..., Any] | None = None
    """Makes what shows how far a call is, as `scoring.progress.Progress`, in its place."""
    budget: Any = None
    """A `scoring.budget.Budget` that several calls share; None gives each call its own."""

    def ready(self, timeout_sec: float | None = None, stopped: Callable[[], bool] = lambda: False) -> Endpoint:
        """The engine's endpoint; waits at most `timeout_sec`, by default as long as a row may take.

        Raises as `Attachment.wait_ready` does, which asks `stopped` while it waits.
        """
        return self.attachment.wait_ready(self.row_timeout_sec if timeout_sec is None else timeout_sec, stopped)

    @property
    def drums_limit_sec(self) -> float:
        """How long one request to DRUM may take: our answer must be out before DRUM kills the worker."""
        limit = self.hosting.request_timeout_sec
        return max(1.0, limit - REQUEST_MARGIN_SEC) if limit else float("inf")

    @property
    def row_timeout_sec(self) -> float:
        """How long one row may take, and so how long a request waits for an engine that is not ready."""
        return min(self.settings.row_timeout_sec, self.drums_limit_sec)


_clients: "dict[tuple[int, str, float], OpenAI]" = {}


def openai_client(endpoint: Endpoint, timeout_sec: float) -> "OpenAI":
    """A client for a user's hooks, as DRUM's own NIM road makes it; each process has one, and a fork makes its own."""
    from openai import OpenAI

    key = (os.getpid(), endpoint.url, timeout_sec)
    if key not in _clients:
        _clients.clear()
        _clients[key] = OpenAI(base_url=f"{endpoint.url}/v1", api_key="fake", timeout=timeout_sec)
    return _clients[key]
