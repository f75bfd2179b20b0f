"""Each cell of docs/compatibility.md: a start, a batch with one bad row, a chat stream, a clean end."""

import csv
import json
import subprocess
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest
import requests
from drum_process import SERVERS, Drum, aftermath, drum_score, drum_server, ended
from edge_world import READY_SEC, REPOSITORY, World
from interpreters import pythons

from matrix.cells import SCORE, Combination, ends, matrix
from matrix.environments import ready_environment

POISON = "poison"
ROWS = [
    "007",
    "NA",
    "null",
    "1e5",
    'two\nlines, "quoted"',
    "žluťoučký 🐎",
    f"a {POISON}",
    *(f"row {i}" for i in range(25)),
]
CHAT = "one two three"
OLD_DRUM = "1.17.18"


def cells() -> list[Any]:
    """Those of one environment go to one test process, so that it is made once."""
    return [
        pytest.param(
            number,
            combination,
            id=str(number),
            marks=[
                pytest.mark.xdist_group(combination.environment),
                *([pytest.mark.ends] if combination in ends() else []),
            ],
        )
        for number, combination in matrix().items()
    ]


@pytest.mark.matrix
@pytest.mark.timeout(1200)  # the first cell of an environment installs it
@pytest.mark.parametrize(("number", "combination"), cells())
def test_cell(number: int, combination: Combination, world: World, record_property: Any) -> None:
    """Every row has the answer of its own prompt, the bad row an error, and nothing is left at the end."""
    python = next(pythons(combination.python), None)
    if python is None:
        pytest.skip(f"cell {number} was not run: this machine has no Python {combination.python}")
    programs = ready_environment(python, combination)
    world.drum = programs / "drum"
    world.fake(combination.nim, poison=POISON)
    if combination.mode == SCORE:
        scores(world)
    else:
        serves(world, programs / "python", combination)
    assert len(world.starts()) == 1
    record_property("green cell", number)


def rows_file(world: World) -> Path:
    path = world.folder / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["promptText"], *([row] for row in ROWS)])
    return path


def scores(world: World) -> None:
    output = world.folder / "answers.csv"
    with drum_score(world, rows_file(world), output) as drum:
        assert aftermath(world, drum) == "exit 0, nothing left", drum.printed[-3000:]
    with output.open(encoding="utf-8", newline="") as file:
        answers = list(csv.DictReader(file))
    check([answer["Predictions"] for answer in answers], [answer["row_error"] for answer in answers])


def serves(world: World, python: Path, combination: Combination) -> None:
    mode = SERVERS[combination.mode]
    with drum_server(world, **mode) as drum:
        drum.wait_health(200)
        with rows_file(world).open("rb") as rows:
            reply = requests.post(f"{drum.url}/predict/", files={"X": rows}, timeout=READY_SEC)
        assert reply.status_code == 200, (reply.text, drum.printed[-3000:])
        answer = reply.json()
        extra = answer["extraModelOutput"]
        error = extra["columns"].index("row_error")
        check(answer["predictions"], [row[error] for row in extra["data"]])
        chats(world, drum, python)
        drum.process.send_signal(SIGTERM)
        assert aftermath(world, drum) == expected_end(combination), drum.printed[-3000:]


def expected_end(combination: Combination) -> str:
    """The older DRUM is gunicorn's parent, and deaf to the signal: it dies of it."""
    mode = SERVERS[combination.mode]
    dies = combination.drum == OLD_DRUM and mode.get("worker_class")
    return f"exit -{SIGTERM}, nothing left" if dies else ended(mode, SIGTERM)


def chats(world: World, drum: Drum, python: Path) -> None:
    """The stream comes in pieces, with its end and its usage."""
    host, _, port = drum.url.removeprefix("http://").partition(":")
    done = subprocess.run(
        [str(python), "-m", "matrix.caller", host, port, CHAT],
        env={**world.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=READY_SEC,
    )
    assert done.returncode == 0, (done.stderr, drum.printed[-3000:])
    seen = json.loads(done.stdout)
    assert seen["models"] == ["datarobot-deployed-llm"]
    assert "".join(piece or "" for piece in seen["pieces"]) == f"echo: {CHAT}"
    assert len(seen["pieces"]) > 3
    assert (seen["finish_reason"], seen["completion_tokens"]) == ("stop", 4)


def check(predictions: list[str], errors: list[str]) -> None:
    assert predictions == ["" if POISON in row else f"echo: {row}" for row in ROWS]
    assert [error.partition(":")[0] for error in errors] == ["refused" if POISON in row else "" for row in ROWS]
