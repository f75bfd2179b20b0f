"""Credentials that DataRobot keeps, as runtime parameters hand them over: what of them is the secret. Pure."""

import json
from typing import Any

from nimdrum.base.errors import SettingsError
from nimdrum.base.secret import Secret


def stored_credential(credential: dict[str, Any] | None) -> Secret | None:
    """All of it, as JSON."""
    return None if credential is None else Secret(json.dumps(credential))


def engine_credential(credential: dict[str, Any] | None) -> Secret | None:
    """A key; or a user and a password, with NUL between them. Raises SettingsError."""
    if credential is None:
        return None
    key, user, password = (credential.get(name) for name in ("apiToken", "user", "password"))
    if isinstance(key, str) and key.strip():
        return Secret(key.strip())
    if isinstance(user, str) and isinstance(password, str) and password:
        return Secret(f"{user}\0{password}")
    raise SettingsError(
        "Runtime parameter engine_credential is a credential without an apiToken, and without user and password. "
        "Create a credential of type API token that holds the endpoint's key (or of type basic), and choose it here."
    )


def ngc_key(credential: dict[str, Any] | None) -> Secret | None:
    """The key in it. Raises SettingsError."""
    if credential is None:
        return None
    key = credential.get("apiToken")
    if not isinstance(key, str) or not key.strip():
        raise SettingsError(
            "Runtime parameter NGC_API_KEY is a credential without an apiToken. "
            "Create a credential of type API token that holds the NGC key, and choose it here."
        )
    return Secret(key.strip())
