"""Thirty mistakes of a first hour: each is told before an engine starts, in one line that says what to do.

Through `nimdrum score`, `serve` and `start_server.sh` all of them are; of those that DRUM itself decides before any hook
of ours runs, `drum score` typed directly has its own words (docs/command.md).
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from drum_process import drum
from edge_world import READY_SEC, REPOSITORY, World

pytestmark = pytest.mark.drum

PARAMETER = "MLOPS_RUNTIME_PARAM_"
Files = dict[str, str | bytes]
ROWS: Files = {"rows.csv": "promptText,id\nhello,1\n"}


def score(*arguments: str) -> tuple[str, ...]:
    return ("score", "rows.csv", "-o", "out.csv", *arguments)


def params(text: str | bytes) -> tuple[tuple[str, ...], Files]:
    return score("--params", "params.yaml"), {**ROWS, "params.yaml": text}


OURS: dict[str, tuple[tuple[tuple[str, ...], Files], str]] = {
    "misspelt parameter": ((score("--set", "max_token=5"), ROWS), "did you mean max_tokens?"),
    "misspelt in the file": (params("temprature: 0\n"), "did you mean temperature?"),
    "nothing like it": (params("xyzzy: 1\n"), "xyzzy is not a runtime parameter"),
    "no number": ((score("--set", "max_tokens=many"), ROWS), "allowed is a number from 0 to 10000000"),
    "out of bounds": (params("temperature: 3\n"), "allowed is a number from 0 to 2"),
    "no whole number": ((score("--set", "n=1.5"), ROWS), "allowed is a whole number"),
    "no switch": (params("per_row_columns: perhaps\n"), "allowed are true and false"),
    "a list for text": (params("system_prompt: [a]\n"), "system_prompt must be text"),
    "no such word": (params("NIM_LOG_LEVEL: LOUD\n"), "allowed are TRACE, DEBUG"),
    "no JSON schema": ((score("--set", "response_format={"), ROWS), "Give a JSON schema as text"),
    "a health route without /": ((score("--set", "DR_NIM_HEALTH_ROUTE=health"), ROWS), "must start with '/'"),
    "a key on the command line": ((score("--set", "NGC_API_KEY=x"), ROWS), "use a --params file"),
    "a value that is left out": ((score("--set", "max_tokens"), ROWS), "write --set name=value"),
    "broken YAML": (params("n: 1\nmax_tokens: [1\n"), "no YAML at line 3, column 1: write lines"),
    "a tab in YAML": (params("n: 1\n\tmax_tokens: 1\n"), "no YAML at line 2, column 1: write lines"),
    "a list as YAML": (params("- max_tokens\n"), "must hold lines of the form 'max_tokens: 200'"),
    "empty YAML": (params(""), "is empty: write lines"),
    "no such parameters file": ((score("--params", "no.yaml"), ROWS), "name a file that you can read"),
    "no such rows": ((score(), {}), "name a file that you can read"),
    "a folder as rows": ((("score", ".", "-o", "out.csv"), {}), "is a folder, and a file of rows is needed"),
    "empty rows": ((score(), {"rows.csv": ""}), "is empty: write a header line"),
    "only a header": ((score(), {"rows.csv": "promptText\n"}), "write prompts below the header line"),
    "another column": ((score(), {"rows.csv": "text\nhello\n"}), "it has text: name one with --column"),
    "a column in other letters": ((score(), {"rows.csv": "PromptText\nx\n"}), "did you mean PromptText?"),
    "a column that is not there": ((score("--column", "text"), ROWS), "no column 'text'; it has promptText, id: name"),
    "Latin letters": ((score(), {"rows.csv": b"promptText\n\xe4\n"}), "Save it as UTF-8"),
    "a comma too many": ((score(), {"rows.csv": "promptText,id\na,b,1\n"}), "Put double quotes around a cell"),
    "a line that is no JSON": ((("score", "r.jsonl"), {"r.jsonl": "hello\n"}), "write one in each line"),
    "a folder as output": ((("score", "rows.csv", "-o", "."), ROWS), "it is a folder; name a file in it"),
    "an output in no folder": ((("score", "rows.csv", "-o", "no/out.csv"), ROWS), "make its folder, or name another"),
    "an ending that says nothing": ((("score", "rows.csv", "-o", "out.xlsx"), ROWS), "name a .csv, .json, .jsonl or"),
    "a target like a column": ((score(), {**ROWS, "TARGET_NAME": "attempts"}), "Give the target another name"),
    "an engine that nobody knows": ((score("--set", "engine=nimm"), ROWS), "allowed are auto, nim, external, llamacpp"),
    "a server's misspelt parameter": ((("serve", "--set", "max_token=5"), {}), "did you mean max_tokens?"),
    "a server's broken YAML": ((("serve", "--params", "p.yaml"), {"p.yaml": "n: [\n"}), "no YAML at line 2, column 1"),
}


def lay_out(folder: Path, files: Files) -> dict[str, str]:
    """The files of a mistake; TARGET_NAME among them is a variable."""
    for name, content in files.items():
        if name != "TARGET_NAME":
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return {name: str(files[name]) for name in ("TARGET_NAME",) if name in files}


def one_line(printed: str, words: str) -> None:
    """What is printed is that one line."""
    assert "Traceback" not in printed
    (line,) = printed.splitlines()
    assert line.startswith("Error: ")
    assert words in line


@pytest.mark.parametrize("name", OURS)
def test_our_command_tells_it_first(world: World, tmp_path: Path, name: str) -> None:
    """Exit code 2, nothing on standard output, no engine, no output file."""
    (arguments, files), words = OURS[name]
    world.fake()
    folder = tmp_path / "here"
    folder.mkdir()
    environ = {
        **world.environ,
        "NIMDRUM_IMAGE_ROOT": str(world.image_root),
        "NIMDRUM_STATE_DIR": str(world.state_root),
        "PYTHONPATH": str(REPOSITORY),
        **lay_out(folder, files),
    }
    done = subprocess.run(
        [sys.executable, "-m", "nimdrum", *arguments],
        env=environ,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=READY_SEC,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    one_line(done.stderr, words)
    assert world.starts() == []
    assert {path.name for path in folder.iterdir()} == set(files) - {"TARGET_NAME"}


DRUMS: dict[str, tuple[Callable[[Path], tuple[list[str], dict[str, str]]], Files, str]] = {
    "misspelt in the file": (
        lambda folder: (["--runtime-params-file", str(folder / "params.yaml")], {}),
        {**ROWS, "params.yaml": "n: 1\ntemprature: 0\n"},
        "did you mean temperature?",
    ),
    "out of bounds": (
        lambda folder: ([], {f"{PARAMETER}n": '{"type":"numeric","payload":200}'}),
        ROWS,
        "from 0 to 128",
    ),
    "only a header": (lambda folder: ([], {}), {"rows.csv": "promptText\n"}, "write prompts below the header line"),
    "another column": (
        lambda folder: ([], {}),
        {"rows.csv": "text\nhello\n"},
        "it has text: rename it, or set the runtime parameter prompt_column_name",
    ),
}


@pytest.mark.parametrize("name", DRUMS)
def test_drum_score_tells_what_the_hooks_can_reach(world: World, tmp_path: Path, name: str) -> None:
    """The last line that is printed, without a stack, and no engine was started."""
    given, files, words = DRUMS[name]
    world.fake()
    lay_out(tmp_path, files)
    options, environ = given(tmp_path)
    world.environ |= environ
    with drum(world, "score", "--input", str(tmp_path / "rows.csv"), "--output", os.devnull, *options) as running:
        assert running.exit_code() == 1
    assert "Traceback" not in running.printed
    last = running.printed.splitlines()[-1]
    assert last.startswith("ERROR: ")
    assert words in last
    assert world.starts() == []
