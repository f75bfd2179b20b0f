"""`python -m nimdrum`: what goes wrong is one sentence, whatever the command."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from nimdrum.tools.cli import main


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (("parameters", "--write", "plain.md"), 1, "Error: The marks of the table are missing"),
        (("parameters", "--check", "plain.md"), 1, "Error: The marks of the table are missing"),
        (("parameters", "--write", "."), 2, "is a directory"),
        (("show", "prompts.csv", "prompts.csv"), 1, "Error: The prompt column 'Predictions' is missing"),
    ],
)
def test_an_error_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], exit_code: int, words: str
) -> None:
    """No traceback, and nothing on standard output for a program that reads it."""
    monkeypatch.chdir(tmp_path)
    Path("plain.md").write_text("# no table\n")
    Path("prompts.csv").write_text("promptText\nhello\n")
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, done.stdout) == (exit_code, ""), done.output
    assert words in done.stderr
    assert Path("plain.md").read_text() == "# no table\n"
