"""Writes the answers of the vLLM at a port into the table: `python -m tests.contract.record PORT`. See `table.py`."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from contract.table import ask, ask_metrics, cases, read_table, write_table


def main() -> None:
    port = int(sys.argv[1])
    table = read_table()
    seen: dict[str, dict[str, Any]] = {}
    for row, case in zip(table["answers"], cases(), strict=True):
        answer = ask(port, case)
        alike = next((name for name, other in seen.items() if other == answer), None)
        seen[case.name] = answer
        for key in ("as", "answer"):
            row.pop(key, None)
        row |= {"as": alike} if alike else {"answer": answer}
        print(case.name, answer["status"], answer.get("error", ""), flush=True)
    table["metrics"] = ask_metrics(port)
    write_table(table)


if __name__ == "__main__":
    main()
