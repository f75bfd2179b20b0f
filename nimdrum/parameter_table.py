"""The README's table of runtime parameters, generated from model-metadata.yaml so that it cannot drift. Pure."""

from collections.abc import Iterable

from nimdrum.errors import NimdrumError
from nimdrum.parameters import Parameter, allowed_numbers

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
