"""The recorded contract: what was asked of the real vLLM, and the shape of what it answered. `vllm.json` is the table.

The same test asks the fake NIM (in `make test`) and the real vLLM (in `make vllm`), and fails when either answers
otherwise. When vLLM's new release answers otherwise on purpose, record again and mend the fake:

    python -m tests.contract.record PORT     # of a stand-in that serves SmolLM2-135M-Instruct as "smollm2"
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.shape import answer_shape, metric_labels

TABLE = Path(__file__).with_name("vllm.json")
HOST = "127.0.0.1"
CHAT = "/v1/chat/completions"
MODEL = "smollm2"
MAX_MODEL_LEN = 2048
ANSWER_SEC = 300.0


@dataclass(frozen=True)
class Case:
    """One request, and the shape of its answer."""

    name: str
    method: str
    path: str
    body: bytes | None
    answer: dict[str, Any]


def read_table() -> dict[str, Any]:
    """`answers` has a request and its answer in each row, or the name of an earlier row that was answered alike;
    `metrics` the names of vLLM's metrics, each with its labels."""
    table: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return table


def write_table(table: dict[str, Any]) -> None:
    """A line for each row, so that a change is seen as one."""
    rows = ",\n".join("  " + json.dumps(row) for row in table["answers"])
    metrics = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(table['metrics'][name])}" for name in sorted(table["metrics"])
    )
    TABLE.write_text(f'{{\n "answers": [\n{rows}\n ],\n "metrics": {{\n{metrics}\n }}\n}}\n', encoding="utf-8")


def cases() -> list[Case]:
    found: dict[str, Case] = {}
    for entry in read_table()["answers"]:
        answer = entry.get("answer") or found[entry["as"]].answer
        path = entry.get("path", CHAT)
        method = "POST" if path == CHAT and "get" not in entry else "GET"
        found[entry["name"]] = Case(entry["name"], method, path, _body(entry), answer)
    return list(found.values())


def ask(port: int, case: Case) -> dict[str, Any]:
    """Send it; the shape of the answer."""
    status, content_type, body = _request(port, case.method, case.path, case.body)
    return answer_shape(status, content_type, body)


def ask_metrics(port: int) -> dict[str, list[str]]:
    return metric_labels(_request(port, "GET", "/v1/metrics", None)[2].decode())


def _request(port: int, method: str, path: str, body: bytes | None) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=ANSWER_SEC)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.getheader("content-type", ""), answer.read()
    finally:
        connection.close()


def _body(entry: dict[str, Any]) -> bytes | None:
    if "raw" in entry:
        return str(entry["raw"]).encode()
    return json.dumps(_written_out(entry["body"])).encode() if "body" in entry else None


def _written_out(value: Any) -> Any:
    """With {"$repeat": [text, times]} in full."""
    if isinstance(value, dict):
        if "$repeat" in value:
            text, times = value["$repeat"]
            return text * times
        return {key: _written_out(item) for key, item in value.items()}
    return [_written_out(item) for item in value] if isinstance(value, list) else value
