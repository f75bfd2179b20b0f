"""A run that ends before its time and goes on: what is asked again, what is not, and what a person reads meanwhile."""

import contextlib
import csv
import io
import resource
import signal
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from drum_process import drum_score
from edge_world import READY_SEC, REPOSITORY, World
from fake_nim.run import wait_for
from model_folders import METADATA, model_folder

from nimdrum.scoring.rows_file import PIECE_ROWS

pytestmark = pytest.mark.drum

GOOD = [f"prompt {number}" for number in range(30)]
HANG = ["hang"] * 3


def environ(world: World) -> dict[str, str]:
    return {
        **world.environ,
        "PYTHONPATH": str(REPOSITORY),
        "NIMDRUM_IMAGE_ROOT": str(world.image_root),
        "NIMDRUM_STATE_DIR": str(world.state_root),
    }


@contextlib.contextmanager
def started(world: World, *arguments: str, file_bytes: int | None = None) -> Iterator["subprocess.Popen[str]"]:
    """`nimdrum score rows.csv -o out.csv ARGUMENTS`, in which no file grows beyond `file_bytes`; killed at the end."""

    def limit() -> None:
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    command = [sys.executable, "-m", "nimdrum", "score", "rows.csv", "-o", "out.csv", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environ(world), cwd=world.folder, preexec_fn=limit, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def run(world: World, *arguments: str, file_bytes: int | None = None) -> tuple[int, str]:
    """Its exit code, and what it said on standard error."""
    with started(world, *arguments, file_bytes=file_bytes) as process:
        _, said = process.communicate(timeout=READY_SEC)
        return process.returncode, said


def write_rows(world: World, prompts: list[str]) -> Path:
    path = world.folder / "rows.csv"
    path.write_text("promptText\n" + "".join(f"{prompt}\n" for prompt in prompts))
    return path


def answers(world: World) -> list[str]:
    with (world.folder / "out.csv").open(newline="") as file:
        return [row["Predictions"] for row in csv.DictReader(file)]


def asked(world: World, since: int = 0) -> list[str]:
    return [request["body"]["messages"][-1]["content"] for request in world.requests()[since:]]


def lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def kill_when_only_hanging_rows_are_left(world: World, *arguments: str) -> None:
    with started(world, *arguments) as process:
        wait_for(lambda: lines(world.folder / "out.csv.journal") == 1 + len(GOOD), READY_SEC)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=READY_SEC)
    world.wait_until_empty()


def test_what_is_missing_is_asked(world: World) -> None:
    """After a kill: without being told to, nothing goes on and nothing is lost; with --resume only the rest is asked;
    with another parameter all of it, and the answers of both never mix."""
    world.fake(line="2.x", record_requests=True, hang_prompts_containing="hang")
    write_rows(world, [*GOOD, *HANG])
    kill_when_only_hanging_rows_are_left(world)
    journal = world.folder / "out.csv.journal"
    kept = journal.read_bytes()
    assert stat.S_IMODE(journal.stat().st_mode) == 0o600
    code, said = run(world)
    assert (code, world.processes()) == (2, [])
    assert "Error: out.csv.journal holds 30 rows of a run that was ended: go on with --resume, or delete it" in said
    assert journal.read_bytes() == kept

    world.fake(line="2.x", record_requests=True)
    before = len(world.requests())
    code, said = run(world, "--resume", "--set", "row_timeout_sec=900", "--set", "max_concurrency=4")
    assert code == 0, said
    assert "30 rows are in " in said
    assert Counter(asked(world, before)) == Counter(HANG)
    assert answers(world) == [f"echo: {prompt}" for prompt in [*GOOD, *HANG]]
    assert not journal.exists()

    journal.write_bytes(kept)
    journal.chmod(0o600)
    before = len(world.requests())
    code, said = run(world, "--resume", "--set", "max_tokens=3")
    assert code == 0, said
    assert Counter(asked(world, before)) == Counter([*GOOD, *HANG])
    assert all(len(answer.split()) <= 3 for answer in answers(world))


def test_failed_rows_are_asked_again_on_request(world: World) -> None:
    """They stay failed with --resume; a run that was told nothing begins anew, since the last one had ended."""
    world.fake(line="2.x", record_requests=True, poison="prompt 7")
    write_rows(world, GOOD)
    code, said = run(world)
    assert code == 3
    assert said.splitlines()[-2:] == [
        "To ask the failed rows again:",
        f"  {sys.executable} -m nimdrum score rows.csv -o out.csv --retry-failed",
    ]
    world.fake(line="2.x", record_requests=True)
    for option, code, count in (("--resume", 3, 0), ("--retry-failed", 0, 1)):
        before = len(world.requests())
        assert run(world, option)[0] == code
        assert len(asked(world, before)) == count
    assert answers(world) == [f"echo: {prompt}" for prompt in GOOD]
    world.fake(line="2.x", record_requests=True, poison="prompt 7")
    for _ in range(2):
        before = len(world.requests())
        assert run(world)[0] == 3
        assert len(asked(world, before)) == len(GOOD)


def test_two_runs_on_one_journal(world: World) -> None:
    """The second is refused before anything starts, and the first goes on."""
    world.fake(line="2.x", hang_prompts_containing="hang")
    write_rows(world, [*GOOD, *HANG])
    with started(world) as first:
        wait_for(lambda: lines(world.folder / "out.csv.journal") == 1 + len(GOOD), READY_SEC)
        code, said = run(world, "--resume")
        assert code == 2
        assert said.startswith("Error: Another run has the journal ")
        assert first.poll() is None


def test_a_full_disk(world: World) -> None:
    """A limit on the size of files stands for it: code 1, a sentence, what was answered is kept, and the run goes on
    when there is room."""
    world.fake(line="2.x")
    prompts = [f"prompt {number}" for number in range(400)]
    write_rows(world, prompts)
    code, said = run(world, "--json", file_bytes=30_000)
    assert code == 1, said
    assert "Error: The journal " in said
    assert "cannot be written (File too large)" in said
    kept = lines(world.folder / "out.csv.journal") - 1
    assert kept > 100
    assert f"{kept} rows are kept in out.csv.journal; to go on:" in said.replace(f"{world.folder}/", "")
    assert "Traceback" not in said
    assert not (world.folder / "out.csv").exists()
    code, said = run(world, "--resume")
    assert code == 0, said
    assert answers(world) == [f"echo: {prompt}" for prompt in prompts]


def test_a_folder_that_takes_no_journal(world: World) -> None:
    """Told before anything starts, with what to do; another place for it is a parameter."""
    world.fake(line="2.x")
    write_rows(world, GOOD)
    (world.folder / "out.csv.journal").mkdir()
    code, said = run(world)
    assert (code, world.processes()) == (2, [])
    assert "No journal can be kept at " in said
    assert "(Is a directory): make its folder one that you can write to, or name another place" in said
    code, said = run(world, "--set", f"journal={world.folder / 'elsewhere'}")
    assert code == 0, said
    assert not (world.folder / "elsewhere").exists()


def test_drum_score_goes_on(world: World) -> None:
    """With the parameter: killed and begun again as before, it asks for the rest. When DRUM has written its output the
    journal is gone, so that a later run asks anew."""
    world.fake(line="2.x", record_requests=True, hang_prompts_containing="hang")
    rows = write_rows(world, [*GOOD, *HANG])
    journal = world.folder / "kept"
    output = world.folder / "out.csv"
    with drum_score(world, rows, output, journal=str(journal)) as drum:
        wait_for(lambda: lines(journal) == 1 + len(GOOD), READY_SEC)
        drum.process.send_signal(signal.SIGKILL)
        drum.exit_code()
    world.wait_until_empty()
    world.fake(line="2.x", record_requests=True)
    for expected in (HANG, [*GOOD, *HANG]):
        before = len(world.requests())
        with drum_score(world, rows, output, journal=str(journal)) as drum:
            assert drum.exit_code() == 0, drum.printed
        assert Counter(asked(world, before)) == Counter(expected)
        assert answers(world) == [f"echo: {prompt}" for prompt in [*GOOD, *HANG]]
        assert not journal.exists()


def test_several_pieces_are_what_drum_score_writes(world: World) -> None:
    """Byte by byte, but for how long each row took: a file of three pieces, with failed and empty rows in each."""
    world.fake(line="2.x", poison="poison")
    prompts = [f"prompt {number}" for number in range(2 * PIECE_ROWS + 20)]
    for piece in range(3):
        prompts[piece * PIECE_ROWS + 5], prompts[piece * PIECE_ROWS + 9] = "poison", ""
    rows = write_rows(world, prompts)
    code, said = run(world)
    assert code == 3, said
    assert f"{len(prompts) - 6} of {len(prompts)} rows answered" in said
    assert "3 failed, refused: row 6: " in said
    with drum_score(world, rows, world.folder / "drums.csv") as drum:
        assert drum.exit_code() == 0, drum.printed

    def cells(path: Path) -> list[dict[str, str]]:
        return [{**row, "latency_sec": ""} for row in csv.DictReader(io.StringIO(path.read_text(), newline=""))]

    assert cells(world.folder / "out.csv") == cells(world.folder / "drums.csv")


def test_a_models_own_hooks_see_all_rows(world: World) -> None:
    """In one call, as from `drum score`; what they ask by way of `complete` is kept in the journal all the same."""
    world.fake(line="2.x", record_requests=True)
    custom_py = (
        "import os, signal\nimport nimdrum\n\n\ndef score(data, model, **kwargs):\n"
        "    answers = nimdrum.complete(['my ' + text for text in data['promptText']])\n"
        f"    if not os.path.exists({str(world.folder / 'seen')!r}):\n"
        f"        open({str(world.folder / 'seen')!r}, 'w').write(str(len(data)))\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return answers\n"
    )
    model = model_folder(world, {"model-metadata.yaml": METADATA, "custom.py": custom_py})
    prompts = [f"prompt {number}" for number in range(PIECE_ROWS + 1)]
    write_rows(world, prompts)
    assert run(world, "--code-dir", str(model))[0] == -signal.SIGKILL
    world.wait_until_empty()
    assert (world.folder / "seen").read_text() == str(len(prompts))
    code, said = run(world, "--code-dir", str(model), "--resume")
    assert code == 0, said
    assert answers(world) == [f"echo: my {prompt}" for prompt in prompts]
    assert len(world.requests()) == len(prompts)
    assert not (world.folder / "out.csv.journal").exists()


def test_what_a_budget_had_no_room_for_is_asked_later(world: World) -> None:
    """A token limit ends the first run with code 3 and the command to go on; that one, without a limit, does the rest."""
    world.fake(line="2.x", record_requests=True)
    prompts = [f"prompt {number}" for number in range(200)]
    write_rows(world, prompts)
    code, said = run(world, "--set", "batch_token_limit=1000", "--set", "max_concurrency=8")
    assert code == 3, said
    assert "failed, skipped: row" in said
    assert said.rstrip().endswith("--resume")
    answered = sum(map(bool, answers(world)))
    assert 0 < answered < len(prompts)
    code, said = run(world, "--resume")
    assert code == 0, said
    assert answers(world) == [f"echo: {prompt}" for prompt in prompts]
    assert Counter(asked(world)) == Counter(prompts)
