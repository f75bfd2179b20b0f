"""The errors that leave this package: each says what happened, what was seen, and what to do next.

Every class also inherits the built-in that fits, so that callers who do not know this package can still catch it.
None of them ever carries a secret: DRUM prints their text to the log and to HTTP clients.
"""

from typing import Any

DRUM_PIPELINE_ERROR = 513
"""DRUM's own status for a model that will never answer."""


class NimdrumError(Exception):
    """Base of all errors of this package."""


class SettingsError(NimdrumError, ValueError):
    """A runtime parameter or configuration file is not usable. Names it, never shows a credential."""


class ReleaseError(NimdrumError, ImportError):
    """An installed package is of a release that this one cannot work with."""


class EngineNotFoundError(NimdrumError, FileNotFoundError):
    """There is no engine to start here. Lists what was looked for."""


class EngineStartError(NimdrumError, RuntimeError):
    """The engine did not become ready and will not be tried again. Holds its cause and last log lines."""


class EngineUnavailableError(NimdrumError, ConnectionError):
    """The engine is not ready now (loading or restarting) and the caller's deadline has passed."""


class WeightsError(NimdrumError, RuntimeError):
    """The weights could not be fetched. One sentence: what stood in the way, and what to do."""


class SupervisorError(NimdrumError, RuntimeError):
    """The supervisor process could not be started or its state could not be read."""


class JournalError(NimdrumError, RuntimeError):
    """The journal of a batch cannot be used, or not any more. What is in it stays."""


class BundleError(NimdrumError, RuntimeError):
    """A file of the bundle is missing or cannot be made. Nothing half-written is left."""


class UploadError(NimdrumError, RuntimeError):
    """An upload cannot begin or go on; `exit_code` tells whose turn it is (see `nimdrum.tools.upload.exit_codes`)."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class HTTPStatusError(NimdrumError):
    """An error whose `status` tells an HTTP caller whose fault it is."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class BadInputError(HTTPStatusError, ValueError):
    """The scoring data cannot be read."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message, status)


class RowsFailedError(HTTPStatusError, RuntimeError):
    """Rows failed and there is no column to report them in."""


class CallerGoneError(HTTPStatusError, ConnectionError):
    """Who asked has hung up, so its rows are not sent. The status is nginx's own for this; nobody reads it."""

    def __init__(self) -> None:
        super().__init__("The caller hung up, so its remaining rows were not sent.", 499)


class ChatError(HTTPStatusError, RuntimeError):
    """The engine refused a chat request, or could not be reached.

    `error` is the OpenAI error object for the caller, `retry_after` what the engine asked for.
    """

    def __init__(
        self, message: str, status: int, error: dict[str, Any] | None = None, retry_after: str | None = None
    ) -> None:
        super().__init__(message, status)
        self.error = error or {"message": message, "type": "engine_error", "param": None, "code": status}
        self.retry_after = retry_after


def brief(error: BaseException) -> str:
    """What a caller is told of `error`: of an engine that did not start the cause, but not its log lines."""
    text = str(error)
    return text.partition(" Its last log lines:")[0] if isinstance(error, EngineStartError) else text


def status_of(error: BaseException) -> int:
    """The HTTP status for an error of this package: 513, as on the health routes, for an engine that will never be."""
    if isinstance(error, HTTPStatusError):
        return error.status
    return DRUM_PIPELINE_ERROR if isinstance(error, EngineStartError) else 503
