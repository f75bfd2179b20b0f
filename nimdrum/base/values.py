"""Values of runtime parameters as a person gives them: in a file, or as name=value on a command line."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from nimdrum.base.errors import SettingsError
from nimdrum.base.parameters import Parameter, convert, not_a_parameter
from nimdrum.base.settings import DRUMS_OWN, PREFIX

FORM = "lines of the form 'max_tokens: 200'"


def read_values(path: Path) -> dict[str, Any]:
    """What a file for DRUM's --runtime-params-file says. Raises SettingsError: one sentence, with the place."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:  # without its text: that quotes the line, and a key may stand there
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "an unknown place"
        raise SettingsError(f"The parameters file {path} is no YAML at {place}: write {FORM}.") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(
            f"The parameters file {path} is no text in UTF-8 ({type(error).__name__}): write {FORM}."
        ) from None
    except OSError as error:
        raise SettingsError(
            f"The parameters file {path} cannot be read ({error.strerror}): name a file that you can read."
        ) from None
    if document is None:
        raise SettingsError(f"The parameters file {path} is empty: write {FORM}, or leave the file out.")
    if not isinstance(document, dict) or not all(isinstance(name, str) for name in document):
        raise SettingsError(f"The parameters file {path} must hold {FORM}.")
    return document


def read_assignments(texts: Iterable[str], parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """What the options `--set name=value` say. Raises SettingsError, without the value where it may be a key."""
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise SettingsError(f"--set {name[:40]} has no value: write --set name=value, as in --set max_tokens=40.")
        if name in parameters and parameters[name].type == "credential":
            raise SettingsError(f"{name} does not belong on a command line, where others see it: use a --params file.")
        values[name] = value
    return values


def strangers(values: Iterable[str], parameters: Iterable[str]) -> list[str]:
    """A sentence for each name in `values` that is no parameter, with the nearest one that is."""
    known = set(parameters)
    return [not_a_parameter(name, known) for name in values if name not in known and not DRUMS_OWN.fullmatch(name)]


def as_variables(values: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> dict[str, str]:
    """`values` as the environment variables in which DRUM and DataRobot hand them over. Raises SettingsError."""
    variables = {}
    for name, raw in values.items():
        kind = parameters[name].type
        value = convert(parameters[name], raw)
        empty = kind == "string" and isinstance(raw, str) and not raw.strip()
        payload = "" if empty else value
        if payload is not None:
            variables[PREFIX + name] = json.dumps({"type": kind, "payload": payload})
    return variables
