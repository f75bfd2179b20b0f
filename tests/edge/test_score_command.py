"""`nimdrum score` as a person and a program run it: answers, exit codes, a line that nothing cuts, and nothing left."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from drum_process import drum_score
from edge_world import READY_SEC, REPOSITORY, World
from fake_nim.run import wait_for
from model_folders import METADATA, model_folder
from terminal import Session, session

pytestmark = pytest.mark.drum

LIVE = re.compile(r"\d+/\d+ rows {2}")
LOG = re.compile(r"INFO nimdrum|\[engine\]|window\.moved|\d{4}-\d\d-\d\d \d\d:")
COLOUR = re.compile(rb"\x1b\[[0-9;]*3[0-9][0-9;]*m")
PROMPTS = ["hello", "007", "NA", "two\nlines", "poison", ""]
ANSWERS = ["echo: hello", "echo: 007", "echo: NA", "echo: two\nlines", "", ""]


def environ(world: World) -> dict[str, str]:
    return {
        **world.environ,
        "PYTHONPATH": str(REPOSITORY),
        "NIMDRUM_IMAGE_ROOT": str(world.image_root),
        "NIMDRUM_STATE_DIR": str(world.state_root),
    }


def nimdrum(world: World, *arguments: str, more: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "nimdrum", *arguments],
        env={**environ(world), **(more or {})},
        cwd=world.folder,
        capture_output=True,
        text=True,
        timeout=READY_SEC,
    )


def write_rows(path: Path, prompts: list[str]) -> Path:
    """In the form that the ending tells."""
    records = [{"promptText": prompt, "id": number} for number, prompt in enumerate(prompts)]
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["promptText", "id"])
            writer.writeheader()
            writer.writerows(records)
    elif path.suffix == ".parquet":
        from pyarrow import Table, parquet

        parquet.write_table(Table.from_pylist(records), path)
    else:
        lines = [json.dumps(record) for record in records]
        path.write_text("\n".join(lines) if path.suffix == ".jsonl" else f"[{','.join(lines)}]")
    return path


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "parquet"])
def test_every_form_goes_in_and_out(world: World, ending: str) -> None:
    """The same answers whatever the form; a failed row is exit code 3, and the summary tells which and why."""
    world.fake(poison="poison")
    rows = write_rows(world.folder / f"rows.{ending}", PROMPTS)
    done = nimdrum(world, "score", rows.name, "--json")
    assert done.returncode == 3, done.stderr
    assert world.processes() == []
    told = json.loads(done.stdout)
    assert (told["rows"], told["answered"], told["failed"], told["empty"]) == (6, 4, 1, 1)
    assert told["failures"]["refused"]["row"] == 5
    assert told["output"] == f"rows-answers.{ending}"
    output = world.folder / told["output"]
    if ending == "csv":
        answers = [row["Predictions"] for row in csv.DictReader(io.StringIO(output.read_text(), newline=""))]
    elif ending == "parquet":
        from pyarrow import parquet

        answers = parquet.read_table(output).column("Predictions").to_pylist()
    else:
        text = output.read_text()
        records = json.loads(text) if ending == "json" else [json.loads(line) for line in text.splitlines()]
        answers = [record["Predictions"] for record in records]
    assert answers == ANSWERS
    assert done.stderr.splitlines()[1].startswith("1 failed, refused: row 5: ")
    assert not LOG.search(done.stderr)


def test_it_is_what_drum_score_writes(world: World) -> None:
    """Byte by byte, but for how long each row took; into a pipe, where no log, colour or live line goes."""
    world.fake(line="2.x", chatty_lines=50)
    rows = write_rows(world.folder / "rows.csv", PROMPTS)
    done = nimdrum(world, "score", rows.name)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert not LIVE.search(done.stderr)
    assert not LOG.search(done.stderr)
    assert done.stderr.splitlines()[-1] == "Answers: standard output"
    with drum_score(world, rows, world.folder / "drums.csv") as drum:
        assert drum.exit_code() == 0, drum.printed

    def cells(text: str) -> list[dict[str, str]]:
        return [{**row, "latency_sec": ""} for row in csv.DictReader(io.StringIO(text, newline=""))]

    assert cells(done.stdout) == cells((world.folder / "drums.csv").read_text())


def watch(shown: Session) -> None:
    """At no moment is there anything else in the live line, or a second one."""
    lines = 0
    for moment in shown.moments:
        live = [line for line in moment if LIVE.search(line)]
        lines += len(live)
        assert len(live) <= 1, moment
        for line in live:
            assert re.match(r"([━·]+ {2})?\d+/\d+ rows {2}", line), line
            assert not LOG.search(line), line
            assert not re.search(r"left.+", line), line
            assert len(line) < shown.width
    assert lines > 1


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("verbose", [False, True], ids=["quiet", "verbose"])
def test_no_log_line_in_the_live_line(world: World, width: int, verbose: bool) -> None:
    """A session with an engine that logs a lot and a window that moves: quiet, none of it is seen; else above the line."""
    world.fake(line="2.x", seconds_per_token=0.06, chatty_lines=200, max_num_seqs=16)
    rows = write_rows(world.folder / "rows.csv", [f"prompt {number} of many" for number in range(300)])
    arguments = ["score", rows.name, "-o", "out.csv", *(["-v"] if verbose else [])]
    with session(arguments, environ(world), world.folder, width) as shown:
        assert shown.exit_code() == 0, shown.last
    watch(shown)
    logged = {line for line in shown.seen if LOG.search(line)}
    if verbose:
        assert any("window.moved" in line for line in logged)
        assert any(line.startswith("[engine]") for line in logged)
    else:
        assert logged == set()
        assert any(line.startswith("row ") and "echo: prompt" in line for line in shown.seen)
    assert any(line.startswith("300 of 300 rows answered in ") for line in shown.last)
    assert shown.raw.count(b"\x1b[?25h") >= 1  # the cursor is back
    assert world.processes() == []


def test_no_colours_where_they_are_not_wanted(world: World) -> None:
    """NO_COLOR: the line is there, its colours are not. A failed row is red without it."""
    world.fake(poison="poison")
    write_rows(world.folder / "rows.csv", ["poison"] * 3 + ["hello"])
    for more, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        with session(["score", "rows.csv", "-o", "o.csv"], {**environ(world), **more}, world.folder) as shown:
            assert shown.exit_code() == 3, shown.last
        assert bool(COLOUR.search(shown.raw)) == coloured


@pytest.mark.parametrize("moment", ["loading", "scoring"])
def test_ctrl_c_ends_it_cleanly(world: World, moment: str) -> None:
    """Code 130, no answers' file, nothing left running, and the cursor back. What is done is kept, and the last line is
    what to type."""
    never = {"never_ready": True} if moment == "loading" else {"hang_prompts_containing": "hang"}
    world.fake(line="2.x", **never)
    write_rows(world.folder / "rows.csv", ["hello", *["hang"] * 20])
    with session(["score", "rows.csv", "-o", "out.csv"], environ(world), world.folder) as shown:
        if moment == "loading":
            wait_for(lambda: bool(world.starts()), READY_SEC)
        else:
            shown.read_on("1/21 rows")
        os.write(shown.descriptor, b"\x03")
        assert shown.exit_code() == 130, shown.last
        world.wait_until_empty()
    if moment == "loading":
        assert "Interrupted: no answers were written." in shown.last[-1]
        assert shown.raw.rstrip().endswith(b"no answers were written.")
        assert not (world.folder / "out.csv.journal").exists()
    else:
        assert any("Interrupted: 1 rows are kept in " in line for line in shown.last)
        assert shown.raw.rstrip().endswith(b"nimdrum score rows.csv -o out.csv --resume")
    assert b"\x1b[?25h" in shown.raw
    assert not any("Traceback" in line for line in shown.seen)
    assert not (world.folder / "out.csv").exists()


def test_an_engine_that_does_not_start(world: World) -> None:
    """Exit code 1 and the cause with the engine's last lines, for a program as an object too."""
    world.fake(die_before_ready=True, last_lines=("Detected 0 compatible profile(s).",))
    write_rows(world.folder / "rows.csv", ["hello"])
    done = nimdrum(world, "score", "rows.csv", "--json")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "No model profile runs on the free GPUs here" in json.loads(done.stdout)["error"]
    assert "Error: NIM 1.x has failed." in done.stderr
    assert not (world.folder / "rows-answers.csv").exists()


def test_parameters_reach_the_engine(world: World) -> None:
    """File, --set and --column: what the file does not name has its default, and the command line wins."""
    world.fake(record_requests=True)
    (world.folder / "params.yaml").write_text("max_tokens: 5\nsystem_prompt: Be brief.\n")
    (world.folder / "rows.csv").write_text("text\nhello\n")
    given = ("--params", "params.yaml", "--set", "max_tokens=7", "--column", "text")
    variables = {"MLOPS_RUNTIME_PARAM_temperature": '{"type": "numeric", "payload": 1.5}'}
    done = nimdrum(world, "score", "rows.csv", *given, more=variables)
    assert done.returncode == 0, done.stderr
    (request,) = world.requests()
    assert request["body"]["max_tokens"] == 7
    assert request["body"]["messages"][0]["content"] == "Be brief."
    assert "temperature" not in request["body"]


def test_a_models_own_hooks_are_used(world: World) -> None:
    """As in `drum score`: a score of theirs in a folder of theirs."""
    world.fake()
    custom_py = (
        "import nimdrum\n\n\ndef score(data, model, **kwargs):\n"
        "    return nimdrum.complete(['my ' + text for text in data['promptText']])\n"
    )
    model = model_folder(world, {"model-metadata.yaml": METADATA, "custom.py": custom_py})
    (world.folder / "rows.csv").write_text("promptText\nhello\n")
    done = nimdrum(world, "score", "rows.csv", "--code-dir", str(model))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith("echo: my hello,")


def test_an_external_engine_that_is_silent_is_named(world: World) -> None:
    """Long before anybody gives up: its address and what was seen there."""
    write_rows(world.folder / "rows.csv", ["hello"])
    given = ["--set", "engine=external", "--set", "DR_NIM_SERVER_PORT=9"]
    with session(["score", "rows.csv", "-o", "o.csv", *given], environ(world), world.folder, 120) as shown:
        shown.read_on("[external engine] http://127.0.0.1:9/v1/health/ready: no answer (Connection refused)")
        os.write(shown.descriptor, b"\x03")
        assert shown.exit_code() == 130


def test_log_lines_do_not_cut_the_bar_of_drum_score(world: World) -> None:
    """What moves the window is said above the bar, in lines of its own."""
    world.fake(line="2.x", seconds_per_token=0.06, max_num_seqs=16)
    rows = write_rows(world.folder / "rows.csv", [f"prompt {number} of many" for number in range(300)])
    common = ["--code-dir", str(REPOSITORY), "--language", "python", "--target-type", "textgeneration"]
    arguments = ["score", "--input", str(rows), "--output", "out.csv", *common]
    variables = {**environ(world), "TARGET_NAME": "resultText"}
    with session(arguments, variables, world.folder, 200, (str(world.drum),)) as shown:
        assert shown.exit_code() == 0, shown.last
    moved = {line for line in shown.seen if "window.moved" in line}
    bars = {line for line in shown.seen if "row/s" in line or "/300 [" in line}
    assert moved
    assert bars
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ INFO nimdrum", line) for line in moved), moved
    assert not moved & bars


def test_status_watches(world: World) -> None:
    """Until Ctrl-C; exit code 1 when nothing runs then."""
    with session(["status", "--watch"], environ(world), world.folder) as shown:
        shown.read_on("No engine of this user runs here.")
        os.write(shown.descriptor, b"\x03")
        assert shown.exit_code() == 1
    assert not any("Traceback" in line for line in shown.seen)
