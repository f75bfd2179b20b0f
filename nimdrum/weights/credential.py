"""DataRobot's stored credentials as options of a store. Pure.

The payloads are those of DataRobot's API and its Python client (`Credential.create_s3`, `create_gcp`,
`create_azure`, `create_azure_service_principal`), which DRUM hands on unchanged: it checks only that there is a
`credentialType`. So one runtime parameter takes all of them.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from nimdrum.base.errors import SettingsError
from nimdrum.weights.source import Source

PARAMETER = "model_artifacts_credential"
TYPES = {"s3": ("s3",), "gs": ("gcp",), "az": ("azure", "azure_service_principal")}
"""Credential types by the scheme that they are for."""
IDENTITY = {
    "s3": re.compile(r"AWS_.*(KEY|TOKEN|CREDENTIALS)"),
    "gs": re.compile(r"GOOGLE_.*(SERVICE_ACCOUNT|CREDENTIALS)"),
    "az": re.compile(r"AZURE_.*(KEY|TOKEN|SAS|CLIENT)"),
}
"""Variables that tell a store's own tools who asks; others (AWS_REGION, AWS_ENDPOINT_URL) only say where."""

Credential = Mapping[str, Any]


def store_options(source: Source, credential: Credential | None, environ: Mapping[str, str]) -> dict[str, Any]:
    """Keyword arguments for obstore's store of `source`. Raises SettingsError, which shows no value.

    Without a credential the store's own variables in `environ` count (obstore reads them itself), and where none of
    those says who asks, the store is asked without a signature, as for a public bucket: the identity of the machine
    that this happens to run on is never used by accident.
    """
    options = _own_options(source)
    if source.scheme not in TYPES:
        if credential is not None:
            raise SettingsError(f"{PARAMETER} is set, but {source.scheme}:// needs none. Empty it.")
        return options
    if credential is None:
        if not any(value and IDENTITY[source.scheme].match(name) for name, value in environ.items()):
            options["skip_signature"] = True
        return options
    kind = credential.get("credentialType")
    if kind not in TYPES[source.scheme]:
        raise SettingsError(
            f"{PARAMETER} is a credential of type {kind!r}, but {source.scheme}:// needs one of type "
            f"{' or '.join(TYPES[source.scheme])}."
        )
    return options | {"s3": _s3, "gcp": _gcp, "azure": _azure, "azure_service_principal": _principal}[kind](credential)


def secrets_of(credential: Credential | None) -> tuple[str, ...]:
    """Every text in a credential that is long enough to be secret, for masking."""
    found: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                if name not in ("credentialType", "type"):
                    collect(inner)
        elif isinstance(value, str) and len(value) >= 8:
            found.append(value)

    collect(credential or {})
    for text in tuple(found):  # a connection string is printed in pieces
        found += [piece.partition("=")[2] for piece in text.split(";") if len(piece.partition("=")[2]) >= 16]
    return tuple(found)


def _own_options(source: Source) -> dict[str, Any]:
    names = {"s3": {"region": "region", "endpoint": "endpoint"}, "gs": {"endpoint": "base_url"}}
    names["az"] = {"account": "account_name", "endpoint": "endpoint"}
    return {names[source.scheme][name]: value for name, value in source.options.items()}


def _text(credential: Credential, name: str, *, needed: bool = True) -> str:
    value = credential.get(name)
    if isinstance(value, str) and value.strip():
        if not value.strip().isprintable():  # the store's library ends in a panic where a key has a line break in it
            raise SettingsError(f"{PARAMETER} has a line break or another control character in {name}. Store it again.")
        return value.strip()
    if needed or value not in (None, ""):
        raise SettingsError(f"{PARAMETER} is a credential of type {credential['credentialType']} without {name}.")
    return ""


def _s3(credential: Credential) -> dict[str, Any]:
    options = {
        "access_key_id": _text(credential, "awsAccessKeyId"),
        "secret_access_key": _text(credential, "awsSecretAccessKey"),
    }
    token = _text(credential, "awsSessionToken", needed=False)
    return {**options, "session_token": token} if token else options


def _gcp(credential: Credential) -> dict[str, Any]:
    key = credential.get("gcpKey")
    if isinstance(key, Mapping) and key:
        return {"service_account_key": json.dumps(dict(key))}
    if isinstance(key, str) and key.strip():
        return {"service_account_key": key.strip()}  # JSON, which may have several lines
    return {"service_account_key": _text(credential, "gcpKey")}


def _principal(credential: Credential) -> dict[str, Any]:
    return {
        "client_id": _text(credential, "clientId"),
        "client_secret": _text(credential, "clientSecret"),
        "tenant_id": _text(credential, "azureTenantId"),
    }


def _azure(credential: Credential) -> dict[str, Any]:
    """From a connection string: https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string"""
    pieces = [piece.partition("=") for piece in _text(credential, "azureConnectionString").split(";")]
    given = {name.strip().lower(): value.strip() for name, _, value in pieces if value.strip()}
    options: dict[str, Any] = {}
    for name, option in (("accountname", "account_name"), ("accountkey", "account_key"), ("blobendpoint", "endpoint")):
        if name in given:
            options[option] = given[name]
    if "sharedaccesssignature" in given:
        options["sas_key"] = given["sharedaccesssignature"]
    if "account_name" not in options and "endpoint" in options:  # https://ACCOUNT.blob...
        options["account_name"] = options["endpoint"].partition("://")[2].partition(".")[0]
    suffix = given.get("endpointsuffix", "core.windows.net")
    if "endpoint" not in options and suffix != "core.windows.net" and "account_name" in options:
        protocol = given.get("defaultendpointsprotocol", "https")
        options["endpoint"] = f"{protocol}://{options['account_name']}.blob.{suffix}"
    if not options.keys() & {"account_key", "sas_key"} or "account_name" not in options:
        raise SettingsError(
            f"{PARAMETER}: the azureConnectionString must hold AccountName or BlobEndpoint, and AccountKey or "
            "SharedAccessSignature."
        )
    return options
