"""The parameters model_artifacts_*: what they mean for an engine's plan."""

import json
from pathlib import Path
from typing import Any

from nimdrum.base.errors import SettingsError
from nimdrum.base.hosting import Hosting
from nimdrum.base.settings import Settings
from nimdrum.engines.plan import Preparation
from nimdrum.weights.child import STALL_TIMEOUT_SEC, command, fetch_environment, request_json
from nimdrum.weights.credential import secrets_of, store_options
from nimdrum.weights.source import parse_uri

MODEL_REPO = "model-repo"
"""Folder beside the hooks for weights that an engine loads as they are."""
ADAPTERS = "adapters"
"""A value of model_artifacts_target: LoRA adapters, not the weights. And the folder beside the hooks for them."""
S3_VARIABLES = {
    "awsAccessKeyId": "AWS_ACCESS_KEY_ID",
    "awsSecretAccessKey": "AWS_SECRET_ACCESS_KEY",
    "awsSessionToken": "AWS_SESSION_TOKEN",
}


def preparation(settings: Settings, hosting: Hosting, target: Path, *, renew: bool = False) -> Preparation:
    """The fetch of model_artifacts_uri into `target`; with `renew` also when a whole tree is there, to see what is new.

    Raises SettingsError for what cannot be fetched at all.
    """
    if settings.artifacts_uri is None:
        raise SettingsError("model_artifacts_uri is empty.")
    credential = _credential(settings)
    store_options(parse_uri(settings.artifacts_uri), credential, hosting.environ)
    return Preparation(
        argv=command(),
        env=fetch_environment(hosting.environ),
        request=request_json(settings.artifacts_uri, target, credential, STALL_TIMEOUT_SEC, renew=renew),
        what="Fetching the LoRA adapters" if settings.artifacts_target == ADAPTERS else "Fetching the weights",
    )


def credential_secrets(settings: Settings) -> tuple[str, ...]:
    """For masking in forwarded log lines."""
    return secrets_of(_credential(settings))


def artifacts_identity(settings: Settings) -> tuple[str, ...]:
    """Other weights make another engine; another credential for them does not."""
    if settings.artifacts_uri is None:
        return ()
    return (f"model_artifacts_uri={settings.artifacts_uri}", f"model_artifacts_target={settings.artifacts_target}")


def store_variables(settings: Settings, hosting: Hosting) -> dict[str, str]:
    """What NIM itself needs to read from a bucket: the container's variables, or a credential of type s3."""
    found = {name: value for name, value in hosting.environ.items() if name.startswith(("AWS_", "GOOGLE_")) and value}
    credential = _credential(settings)
    if credential is not None and credential.get("credentialType") == "s3":
        found |= {name: str(credential[key]) for key, name in S3_VARIABLES.items() if credential.get(key)}
    return found


def _credential(settings: Settings) -> dict[str, Any] | None:
    if settings.artifacts_credential is None:
        return None
    credential: dict[str, Any] = json.loads(settings.artifacts_credential.reveal())
    return credential
