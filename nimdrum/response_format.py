"""The runtime parameter response_format: in which shape the engine must answer. Pure."""

import json
from typing import Any

from nimdrum.errors import SettingsError

TYPES = ("text", "json_object", "json_schema")
SCHEMA_NAME = "answer"
NAME = "Runtime parameter response_format"


def read_response_format(text: str | None) -> dict[str, Any] | None:
    """The OpenAI field of that name. A bare JSON schema is wrapped into one. Raises SettingsError."""
    if text is None or not text.strip():
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{NAME} is no JSON ({error}). Give a JSON schema as text.") from None
    if not isinstance(document, dict) or not document:
        raise SettingsError(f"{NAME} must be a JSON object: a JSON schema, or OpenAI's response_format itself.")
    if document.get("type") not in TYPES:
        return {"type": "json_schema", "json_schema": {"name": SCHEMA_NAME, "schema": document}}
    if document["type"] == "json_schema":
        _check_schema(document.get("json_schema"))
    return document


def _check_schema(inner: object) -> None:
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise SettingsError(f"{NAME} has the type json_schema, so it needs json_schema with a name and a schema.")
    if not isinstance(inner.get("schema"), dict):
        raise SettingsError(f"{NAME} has no schema in json_schema. A schema is a JSON object.")
