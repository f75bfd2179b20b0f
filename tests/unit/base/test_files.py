"""`nimdrum.base.files`: an output that cannot be written is told before anything starts."""

from pathlib import Path

import pytest

from nimdrum.base.errors import SettingsError
from nimdrum.base.files import check_output


def test_a_file_that_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    """A new one is not there afterwards, an old one has what it had; a device may be named too."""
    old = tmp_path / "old.csv"
    old.write_text("answers of yesterday")
    for path in (old, tmp_path / "new.csv", Path("/dev/null")):
        check_output(path)
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"]
    assert old.read_text() == "answers of yesterday"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (".", "it is a folder"),
        ("missing/answers.csv", "No such file or directory"),
        ("a file/answers.csv", "Not a directory"),
        ("/proc/answers.csv", "No such file or directory"),  # a folder in which not even root makes a file
        ("x" * 300, "File name too long"),
    ],
)
def test_one_that_cannot_be_written_is_one_sentence(tmp_path: Path, path: str, why: str) -> None:
    """It names the file and the reason."""
    (tmp_path / "a file").touch()
    with pytest.raises(SettingsError, match=why) as refused:
        check_output(tmp_path / path)
    assert str(tmp_path / path) in str(refused.value)
    assert [file.name for file in tmp_path.iterdir()] == ["a file"]
