"""The table of docs/compatibility.md: a row for each cell, and the day on which its own command was last green.

A date stays while the cell's number and content stay; with another release in it the cell has never been green.
"""

import re
from collections.abc import Mapping

from matrix.cells import Combination

BEGIN = "<!-- cells: made by `make matrix` -->"
END = "<!-- end of cells -->"
HEAD = "| cell | DRUM | Python | openai | mode | NIM | last green | by |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n"
NEVER = "never"


def command(number: int) -> str:
    return f"make matrix CELL={number}"


def dates(page: str) -> dict[tuple[int, Combination], str]:
    """When each cell of the page's table was last green."""
    table = page.partition(BEGIN)[2].partition(END)[0]
    found = {}
    for row in re.findall(r"^\| (\d.*) \|$", table, re.MULTILINE):
        number, drum, python, openai, mode, nim, date, _ = row.split(" | ")
        found[int(number), Combination(drum, python, openai, mode, nim)] = date
    return found


def with_table(page: str, cells: Mapping[int, Combination], green: Mapping[int, str]) -> str:
    """`page` with the table of these cells; `green` has the dates of those that were green just now."""
    known = dates(page)
    rows = ""
    for number, cell in cells.items():
        date = green.get(number) or known.get((number, cell), NEVER)
        fields = (number, cell.drum, cell.python, cell.openai, cell.mode, cell.nim, date, f"`{command(number)}`")
        rows += f"| {' | '.join(map(str, fields))} |\n"
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{HEAD}{rows}\n{END}{rest.partition(END)[2]}"
