"""What went wrong with an upload, in a sentence with the remedy, and whose turn it is, as an exit code."""

from typing import NoReturn

import requests
from datarobot.errors import AppPlatformError, ClientError, ServerError
from trafaret import DataError

from nimdrum.base.errors import UploadError

WRONG_INPUT = 2
"""An option or a file is not usable. Nothing was sent that writes. (2 is also what click says of a wrong option.)"""
NOT_ALLOWED = 3
"""No endpoint or token, or DataRobot does not let this token do it."""
REFUSED = 4
"""DataRobot refuses a request, or what is there contradicts what is wanted. Trying again will not help."""
TRY_AGAIN = 5
"""The network or DataRobot failed for now, or a wait was too long. The same command goes on where this one ended."""
BUILD_FAILED = 6
"""DataRobot took everything, but a build or a deployment of it failed."""

OF_DATAROBOT = (AppPlatformError, DataError, OSError, KeyError, ValueError)
"""What the client raises: for an error answer, one of another form, the network (OSError), a wrong configuration."""

AGAIN = "Run the same command again: it goes on where this one ended."


def fail(doing: str, error: Exception) -> NoReturn:
    """Raise the UploadError for what the `datarobot` client raised while `doing` something."""
    message, exit_code = _explain(error)
    # Not chained: the client puts the token into the error of a failed login.
    raise UploadError(f"Could not {doing}. {message}", exit_code) from None


def _explain(error: Exception) -> tuple[str, int]:
    status = error.status_code if isinstance(error, AppPlatformError) else None
    match status:
        case 401:
            return "DataRobot does not know the API token (401). Set DATAROBOT_API_TOKEN to a valid one.", NOT_ALLOWED
        case 403:
            return f"This token may not do it (403): ask your administrator for the right. {error}", NOT_ALLOWED
        case 404:
            hint = "the endpoint does not end in /api/v2, or it was deleted, or it is not shared with you"
            return f"It is not there (404): {hint}. {error}", REFUSED
        case 429:
            return f"{error} {AGAIN}", TRY_AGAIN
    match error:
        case ClientError():
            return f"DataRobot refused it. {error}", REFUSED
        case requests.exceptions.JSONDecodeError():
            return "The answer is not JSON: is the endpoint an address that ends in /api/v2?", REFUSED
        case UnicodeDecodeError():  # in the client, when it makes an error of such a page
            return f"DataRobot, or a proxy before it, answered with an error page. {AGAIN}", TRY_AGAIN
        case ServerError() | requests.RequestException():
            return f"{error} {AGAIN}", TRY_AGAIN
        case DataError() | KeyError():
            return f"DataRobot's answer has not the form that is known here ({type(error).__name__}: {error}).", REFUSED
    return f"{type(error).__name__}: {error}", REFUSED
