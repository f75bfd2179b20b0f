"""Runtime parameter definitions as data: read from model-metadata.yaml, the conversion of one raw value, and the
table of them in docs/parameters.md.

Pure apart from reading the YAML file. `settings.py` puts the values together.
"""

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from nimdrum.base.errors import NimdrumError, SettingsError

METADATA_FILE = "model-metadata.yaml"
PACKAGE = Path(__file__).resolve().parents[1]
DEFINITIONS = "runtimeParameterDefinitions"


@dataclass(frozen=True)
class Parameter:
    """One runtime parameter as model-metadata.yaml defines it."""

    name: str
    type: str
    default: Any
    minimum: float | None
    maximum: float | None
    description: str


def read_parameters(model_dir: Path | None = None) -> dict[str, Parameter]:
    """The project's parameters by name, in the order of its own list, then the user's own. Raises SettingsError.

    The YAML in `model_dir`, where there is one, changes default, bounds and description of those that it defines.
    """
    parameters = {entry["fieldName"]: _parameter(entry) for entry in _definitions(_read(own_list()))}
    if model_dir is not None:
        for entry in _definitions(_read(model_dir / METADATA_FILE)):
            parameters[entry["fieldName"]] = _parameter(entry, parameters.get(entry["fieldName"]))
    return parameters


def read_metadata(model_dir: Path | None) -> dict[str, Any]:
    """What the project's YAML says, and in its place what the user's does. Raises SettingsError."""
    return {**_read(own_list()), **({} if model_dir is None else _read(model_dir / METADATA_FILE))}


def names_in_list(model_dir: Path | None) -> set[str]:
    """What the list that travels with a model defines: the user's YAML, or the project's where they have none."""
    theirs = None if model_dir is None else model_dir / METADATA_FILE
    return {entry["fieldName"] for entry in _definitions(_read(theirs if theirs and theirs.is_file() else own_list()))}


def own_list() -> Path:
    """In an installed package beside its modules, in a checkout one folder up."""
    installed = PACKAGE / METADATA_FILE
    return installed if installed.is_file() else PACKAGE.parent / METADATA_FILE


def merged_metadata(model_dir: Path, target_type: str | None) -> str:
    """The user's YAML with the definitions that it leaves out, and what DRUM demands: a parameters file can set all."""
    ours, theirs = _read(own_list()), _read(model_dir / METADATA_FILE)
    missing = {entry["fieldName"]: entry for entry in _definitions(ours)}
    types = {name: entry["type"] for name, entry in missing.items()}
    definitions = []
    for entry in _definitions(theirs):
        name = entry["fieldName"]
        missing.pop(name, None)
        definitions.append({**entry, "type": types.get(name, entry["type"])})
    demanded = {"name": ours["name"], "type": ours["type"], "targetType": target_type or ours["targetType"]}
    document = {**demanded, **theirs, DEFINITIONS: [*definitions, *missing.values()]}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=2**20)


def not_a_parameter(name: str, known: Iterable[str]) -> str:
    """What to say of a value for a parameter that nothing defines."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"{name} is not a runtime parameter" + (f"; did you mean {close[0]}?" if close else ".")


def _read(path: Path) -> dict[str, Any]:
    """The YAML document; empty where there is no file."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path} cannot be read ({type(error).__name__}: {error}). Mend it.") from error
    if not isinstance(document, dict):
        raise SettingsError(f"{path} is no YAML of the form that docs/models.md shows. Mend it.")
    return document


def _definitions(document: dict[str, Any]) -> list[dict[str, Any]]:
    entries = document.get(DEFINITIONS) or []
    if not isinstance(entries, list) or not all(
        isinstance(e, dict) and {"fieldName", "type"} <= set(e) for e in entries
    ):
        raise SettingsError(f"{METADATA_FILE}: each entry of {DEFINITIONS} needs a fieldName and a type. Mend it.")
    return entries


def _parameter(entry: dict[str, Any], ours: Parameter | None = None) -> Parameter:
    described = Parameter(
        name=entry["fieldName"],
        type=entry["type"],
        default=entry.get("defaultValue"),
        minimum=entry.get("minValue"),
        maximum=entry.get("maxValue"),
        description=" ".join(str(entry.get("description", "")).split()),
    )
    if ours is None:
        return described
    kept = {"defaultValue": "default", "minValue": "minimum", "maxValue": "maximum"}
    return replace(
        described,
        type=ours.type,
        **{field: getattr(ours, field) for key, field in kept.items() if entry.get(key) is None},
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
    """The parameter's bounds in words, for errors and the documentation's table."""
    if parameter.minimum is None and parameter.maximum is None:
        return "a number"
    return f"a number from {_plain(parameter.minimum)} to {_plain(parameter.maximum)}"


def _plain(bound: float | None) -> str:
    return "any" if bound is None else f"{bound:g}" if bound < 1e6 else f"{int(bound)}"


BEGIN = "<!-- parameters: made by `python -m nimdrum parameters --write docs/parameters.md` -->"
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


def replace_table(text: str, new: str, marks: tuple[str, str] = (BEGIN, END)) -> str:
    """`text` with what stands between the two marks replaced by `new`. Raises NimdrumError when they are missing."""
    before, begin, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise NimdrumError(f"The marks of the table are missing. Put these two lines in: {' and '.join(marks)}")
    return f"{before}{begin}\n\n{new}\n\n{end}{after}"
