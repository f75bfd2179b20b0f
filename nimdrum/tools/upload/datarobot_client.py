"""The `datarobot` client, made patient and careful: what is written is sent once, what is read is asked for again."""

import warnings
from collections.abc import Callable
from typing import Any

import datarobot
import requests
from datarobot.client import RESTClientObject
from datarobot.config import create_drconfig
from datarobot.utils.pagination import unpaginate
from requests_toolbelt import MultipartEncoder, MultipartEncoderMonitor
from requests_toolbelt.adapters.socket_options import TCPKeepAliveAdapter
from urllib3 import Retry

from nimdrum.base.errors import UploadError
from nimdrum.tools.upload.context import Patience, Screen
from nimdrum.tools.upload.exit_codes import NOT_ALLOWED, OF_DATAROBOT, fail

ANSWER_SEC = 1800.0
"""How long an answer to a sent request may take: DataRobot stores an image of tens of gigabytes before it answers."""
LONGEST_PAUSE_SEC = 120
"""However long DataRobot asks to wait before a reading request is repeated."""
SHOWN_BYTES = 1 << 20
"""An upload below this shows no progress bar."""


def configured_token() -> str | None:
    """The token that the client would use, from its environment variables or its file; None when it has none."""
    try:
        return str(create_drconfig().token)
    except ValueError:
        return None


def connect(screen: Screen, patience: Patience) -> RESTClientObject:
    """The client, configured as DataRobot documents: by environment variables or drconfig.yaml. Raises UploadError."""
    if configured_token() is None:
        raise UploadError(
            "DataRobot's endpoint and token are not set. Set DATAROBOT_ENDPOINT (it ends in /api/v2) and "
            "DATAROBOT_API_TOKEN, or write ~/.config/datarobot/drconfig.yaml.",
            NOT_ALLOWED,
        )
    # The client's own policy also repeats a POST that was answered with 502 or 504: that would make things twice.
    retry = Retry(
        total=None,
        connect=patience.retries,
        read=patience.retries,
        status=patience.retries,
        other=0,
        backoff_factor=patience.backoff_sec,
        retry_after_max=LONGEST_PAUSE_SEC,
        status_forcelist={413, 429, 502, 503, 504},
        allowed_methods={"GET"},
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of urllib3, about the client
            client = datarobot.Client(max_retries=retry)
    except OF_DATAROBOT as error:
        fail("connect to DataRobot", error)
    for scheme in ("http://", "https://"):
        client.mount(scheme, _Adapter(retry, screen))
    return client


def listed(client: RESTClientObject, path: str, **params: str) -> list[dict[str, Any]]:
    """All pages of a list, as DataRobot sends them: the client's classes fail on things of a kind unknown to them."""
    return list(unpaginate(path, params, client))


class _Adapter(TCPKeepAliveAdapter):
    """Waits long enough for answers, and shows how far a large upload is."""

    def __init__(self, retry: Retry, screen: Screen) -> None:
        super().__init__(max_retries=retry, idle=300, interval=60, count=3)
        self._screen = screen

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        body: Any = request.body
        if isinstance(body, MultipartEncoder) and body.len > SHOWN_BYTES:
            move = self._screen.bytes("upload", body.len)
            request.body = MultipartEncoderMonitor(body, _difference(move))
        if request.method != "GET":
            connect_sec, answer_sec = kwargs.get("timeout") or (None, None)
            kwargs["timeout"] = (connect_sec, max(answer_sec or 0, ANSWER_SEC))
        answer: requests.Response = super().send(request, *args, **kwargs)
        return answer


def _difference(move: Callable[[int], object]) -> Callable[[MultipartEncoderMonitor], None]:
    seen = 0

    def tick(monitor: MultipartEncoderMonitor) -> None:
        nonlocal seen
        move(monitor.bytes_read - seen)
        seen = monitor.bytes_read

    return tick
