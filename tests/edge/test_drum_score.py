"""`drum score` as a user types it: answers, exit codes, and nothing left behind whatever ends it."""

import csv
import resource
import signal
from pathlib import Path

import pytest
from drum_process import Drum, drum_score
from edge_world import KEY, READY_SEC, REPOSITORY, World
from fake_nim.run import wait_for

pytestmark = pytest.mark.drum

EXAMPLES = REPOSITORY / "examples" / "prompts.csv"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.engine
@pytest.mark.xdist_group("engine")
def test_the_examples_are_answered_by_the_real_model(world: World, tmp_path: Path) -> None:
    """20 prompts in, 20 answers out in order, from the embedded engine; the command leaves nothing behind."""
    output = tmp_path / "answers.csv"
    with drum_score(world, EXAMPLES, output, max_tokens=16, temperature=0) as drum:
        assert drum.exit_code() == 0, drum.printed
        assert world.processes() == []  # it returns when the engine is gone, not a moment before
    prompts, answers = rows_of(EXAMPLES), rows_of(output)
    assert len(prompts) == len(answers) == 20
    assert [answer["row_error"] for answer in answers] == [""] * 20
    assert all(answer["Predictions"].strip() for answer in answers)
    assert "Paris" in answers[0]["Predictions"]
    assert "embedded CPU engine" in drum.printed  # never the wrong model by accident: it says which one answers


@pytest.mark.parametrize("line", ["1.x", "2.x"])
def test_a_nim_image_goes_through_the_same_code(world: World, tmp_path: Path, line: str) -> None:
    """The same command in an image that holds a NIM: it is found, started, asked and stopped; prompts stay text."""
    world.fake(line=line, start_delay_sec=0.3)
    output = tmp_path / "answers.csv"
    key = {"credentialType": "api_token", "apiToken": KEY}
    with drum_score(world, EXAMPLES, output, NGC_API_KEY=key) as drum:
        assert drum.exit_code() == 0, drum.printed
        assert world.processes() == []
    asked = [f"echo: {row['promptText']}".split() for row in rows_of(EXAMPLES)]
    assert [row["Predictions"].split() for row in rows_of(output)] == asked
    assert world.starts()[0]["env"]["NGC_API_KEY"] == KEY


def ends_with(drum: Drum, words: str) -> None:
    """The last that was printed is our error, and nowhere is a stack that it would have to be found in."""
    _, mark, last = f"\n{drum.printed}".rpartition("\nERROR: ")
    assert mark, drum.printed
    assert words in last
    assert all(line.startswith("  | ") for line in last.splitlines()[1:])  # the engine's last lines belong to it
    assert "Traceback" not in drum.printed


def test_a_start_that_fails_ends_with_the_cause(world: World, tmp_path: Path) -> None:
    """Exit code 1, the sentence and the last log line on the screen, no output file, no process."""
    world.fake(die_before_ready=True, last_lines=("Detected 0 compatible profile(s).",))
    output = tmp_path / "answers.csv"
    with drum_score(world, EXAMPLES, output) as drum:
        assert drum.exit_code() == 1
    ends_with(drum, "No model profile runs on the free GPUs here")
    assert "Detected 0 compatible profile(s)." in drum.printed
    world.wait_until_empty()


def test_a_missing_column_ends_with_the_columns_found(world: World, tmp_path: Path) -> None:
    """Exit code 1 and the reason, before the engine starts: a look at the rows is nothing beside that."""
    world.fake()
    rows = tmp_path / "rows.csv"
    rows.write_text("question\nwhat?\n")
    with drum_score(world, rows, tmp_path / "answers.csv") as drum:
        assert drum.exit_code() == 1
    ends_with(drum, "rows.csv has no column 'promptText'; it has question: rename it, or set the runtime parameter")
    assert world.starts() == []


def test_rows_that_all_fail_end_with_the_first(world: World, tmp_path: Path) -> None:
    """A failure in score: exit code 1, the reason, nothing left."""
    world.fake(fail_status=500, fail_count=1000)
    rows = tmp_path / "rows.csv"
    rows.write_text("promptText\nwhat?\n")
    with drum_score(world, rows, tmp_path / "answers.csv") as drum:
        assert drum.exit_code() == 1
    ends_with(drum, "1 of 1 rows failed; the first is row 1")
    world.wait_until_empty()


def test_a_bad_parameter_stops_before_anything_starts(world: World, tmp_path: Path) -> None:
    """A value that is not allowed: exit code 1 with its name and what is allowed, and no engine was started."""
    world.fake()
    with drum_score(world, EXAMPLES, tmp_path / "answers.csv", max_tokens=-1) as drum:
        assert drum.exit_code() == 1
    ends_with(drum, "max_tokens is -1; allowed is a number from 0 to")
    assert world.starts() == []


@pytest.mark.parametrize("output", [".", "missing/answers.csv", "/proc/answers.csv"])
def test_an_output_that_cannot_be_written_stops_before_anything_starts(
    world: World, tmp_path: Path, output: str
) -> None:
    """A folder, a file in a missing folder, or in one that takes none: one sentence, and no answer was made in vain."""
    world.fake()
    with drum_score(world, EXAMPLES, tmp_path / output) as drum:
        assert drum.exit_code() == 1
    ends_with(drum, f"The answers cannot be written to {tmp_path / output}")
    assert world.starts() == []


@pytest.mark.parametrize(("descriptors", "max_concurrency"), [(64, 0), (128, 0), (128, 300)])
def test_few_descriptors_lose_no_answer(world: World, tmp_path: Path, descriptors: int, max_concurrency: int) -> None:
    """The window stays below what the process may open, and there is one left for the file of the answers."""
    world.fake(line="2.x", seconds_per_token=0.02)
    asked = [f"prompt {number}" for number in range(600)]
    rows = tmp_path / "rows.csv"
    rows.write_text("\n".join(["promptText", *asked]))
    with drum_score(world, rows, tmp_path / "answers.csv", max_concurrency=max_concurrency) as drum:
        resource.prlimit(drum.process.pid, resource.RLIMIT_NOFILE, (descriptors, descriptors))
        assert drum.exit_code() == 0, drum.printed
    answers = rows_of(tmp_path / "answers.csv")
    assert [answer["Predictions"] for answer in answers] == [f"echo: {prompt}" for prompt in asked]
    assert {answer["attempts"] for answer in answers} == {"1"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("moment", ["loading", "scoring"])
def test_an_interrupted_command_leaves_nothing(
    world: World, tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    """Interrupted while the engine loads or while rows are in flight: DRUM's exit code 130, and the engine is gone."""
    switches = (
        {"never_ready": True} if moment == "loading" else {"hang_prompts_containing": "", "seconds_per_token": 60}
    )
    world.fake(line="2.x", grandchildren=1, grandchildren_own_session=True, record_requests=True, **switches)
    with drum_score(world, EXAMPLES, tmp_path / "answers.csv") as drum:
        if moment == "loading":
            wait_for(lambda: bool(world.starts()), READY_SEC)
        else:
            drum.wait_for_line("engine.attached")
        drum.process.send_signal(number)
        assert drum.exit_code() == 130, drum.printed
        assert world.processes() == []  # the prompt comes back when the engine is gone
    assert "Traceback" not in drum.printed


def test_a_killed_command_leaves_nothing(world: World, tmp_path: Path) -> None:
    """SIGKILL, which nobody can handle: the kernel frees the lease, and the supervisor stops the engine."""
    world.fake(seconds_per_token=60)
    with drum_score(world, EXAMPLES, tmp_path / "answers.csv") as drum:
        drum.wait_for_line("engine.attached")
        drum.process.kill()
        assert drum.exit_code() == -signal.SIGKILL
    world.wait_until_empty()
