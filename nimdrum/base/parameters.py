"""Runtime parameter definitions as data: read from model-metadata.yaml, the conversion of one raw value, and the
README's table of them.

Pure apart from reading the YAML file. `settings.py` puts the values together.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nimdrum.base.errors import NimdrumError, SettingsError

METADATA_FILE = "model-metadata.yaml"


@dataclass(frozen=True)
class Parameter:
    """One runtime parameter as model-metadata.yaml defines it."""

    name: str
    type: str
    default: Any
    minimum: float | None
    maximum: float | None
    description: str


def read_parameters(code_dir: Path) -> dict[str, Parameter]:
    """The definitions in `code_dir`/model-metadata.yaml by name, in the file's order. Raises SettingsError."""
    path = code_dir / METADATA_FILE
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = document["runtimeParameterDefinitions"]
        parameters = [_parameter(entry) for entry in entries]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{path} has no readable runtimeParameterDefinitions ({type(error).__name__}: {error}). "
            "Restore the file from the project."
        ) from error
    return {parameter.name: parameter for parameter in parameters}


def _parameter(entry: dict[str, Any]) -> Parameter:
    return Parameter(
        name=entry["fieldName"],
        type=entry["type"],
        default=entry.get("defaultValue"),
        minimum=entry.get("minValue"),
        maximum=entry.get("maxValue"),
        description=" ".join(str(entry.get("description", "")).split()),
    )


def convert(parameter: Parameter, value: Any) -> Any:
    """`value` as the parameter's Python type: str, bool, int or float, dict for credentials, None when unset.

    None and the empty string mean the default. Numbers may come as int, float or text (the platform sends
    all three); a number without a fraction becomes an int. Raises SettingsError with the parameter's name,
    what was wrong and what is allowed, without the value of a credential.
    """
    if value is None or (isinstance(value, str) and value.strip() == ""):
        value = parameter.default
    if value is None:
        return None
    if parameter.type == "numeric":
        return _number(parameter, value)
    if parameter.type == "boolean":
        return _boolean(parameter, value)
    if parameter.type == "credential":
        if not isinstance(value, dict):
            raise SettingsError(
                f"Runtime parameter {parameter.name} is not a credential: choose a stored one of the right type."
            )
        return value
    if not isinstance(value, str):
        raise SettingsError(f"Runtime parameter {parameter.name} must be text, not {type(value).__name__}.")
    return value


def _number(parameter: Parameter, value: Any) -> int | float:
    wrong = SettingsError(f"Runtime parameter {parameter.name} is {value!r}; allowed is {allowed_numbers(parameter)}.")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise wrong
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise wrong from None
    low = -math.inf if parameter.minimum is None else parameter.minimum
    high = math.inf if parameter.maximum is None else parameter.maximum
    if not math.isfinite(number) or not low <= number <= high:
        raise wrong
    return int(number) if number.is_integer() else number


def _boolean(parameter: Parameter, value: Any) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in words:
        return words[value.strip().lower()]
    raise SettingsError(f"Runtime parameter {parameter.name} is {value!r}; allowed are true and false.")


def allowed_numbers(parameter: Parameter) -> str:
    """The parameter's bounds in words, for errors and the README's table."""
    if parameter.minimum is None and parameter.maximum is None:
        return "a number"
    return f"a number from {_plain(parameter.minimum)} to {_plain(parameter.maximum)}"


def _plain(bound: float | None) -> str:
    return "any" if bound is None else f"{bound:g}" if bound < 1e6 else f"{int(bound)}"


BEGIN = "<!-- parameters: made by `python -m nimdrum parameters --write README.md` -->"
END = "<!-- end of parameters -->"


def table(parameters: Iterable[Parameter]) -> str:
    """A Markdown table with a row for each parameter."""
    rows = ["| parameter | type | default | what it does |", "| --- | --- | --- | --- |"]
    for parameter in parameters:
        bounds = f" Allowed: {allowed_numbers(parameter)}." if parameter.type == "numeric" else ""
        cells = (f"`{parameter.name}`", parameter.type, _default(parameter), parameter.description + bounds)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _default(parameter: Parameter) -> str:
    if parameter.default is None:
        return "empty"
    return f"`{str(parameter.default).lower() if isinstance(parameter.default, bool) else parameter.default}`"


def replace_table(text: str, new: str) -> str:
    """`text` with what stands between the two marks replaced by `new`. Raises NimdrumError when they are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise NimdrumError(f"The marks of the parameters table are missing. Put these two lines in: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{new}\n\n{END}{after}"
