"""`python -m nimdrum upload` as a user calls it: a process of its own, this repository's files, exit codes, Ctrl-C."""

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from fake_datarobot.server import FakeDataRobot
from upload_world import NGC_KEY, REPOSITORY, TOKEN

DEADLINE_SEC = 100.0


@pytest.fixture
def environ(clean_environ: dict[str, str], fake: FakeDataRobot, tmp_path: Path) -> dict[str, str]:
    fake.state.polls = 0
    return {
        **clean_environ,
        "HOME": str(tmp_path),
        "DATAROBOT_ENDPOINT": fake.endpoint,
        "DATAROBOT_API_TOKEN": TOKEN,
        "NGC_API_KEY": NGC_KEY,
    }


def upload(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nimdrum", "upload", *arguments]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environ,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SEC,
        stdin=subprocess.DEVNULL,
    )
    assert not any(secret in done.stdout + done.stderr for secret in (TOKEN, NGC_KEY))
    return done


def test_the_whole_way(environ: dict[str, str], fake: FakeDataRobot) -> None:
    """From nothing to a deployment with the real files; the second time unchanged; exit code 0 and no warnings."""
    first = upload(environ, "--build", "--deploy")
    assert (first.returncode, first.stderr) == (0, "")
    assert "chat          " in first.stdout
    uploaded = {item["filePath"] for item in list(fake.state.model_versions.values())[-1]["items"]}
    assert "model-metadata.yaml" in uploaded
    again = upload(environ, "--build", "--deploy")
    assert again.returncode == 0
    assert "unchanged" in again.stdout


def test_exit_codes(environ: dict[str, str], fake: FakeDataRobot) -> None:
    """Of a wrong option, a file that is not there, a missing token, one that is not known."""
    assert upload(environ, "--no-such-option").returncode == 2
    assert upload(environ, "--build", "--parameters", "no-such-file.yaml").returncode == 2
    assert upload(environ).returncode == 2
    unknown = upload({**environ, "DATAROBOT_API_TOKEN": f"not-{TOKEN[:4]}"}, "--build")
    assert (unknown.returncode, "does not know the API token" in unknown.stderr) == (3, True)
    missing = upload({name: value for name, value in environ.items() if not name.startswith("DATAROBOT")}, "--build")
    assert (missing.returncode, "DATAROBOT_ENDPOINT" in missing.stderr) == (3, True)
    assert fake.writes == []


def test_a_plan_without_a_token(environ: dict[str, str], fake: FakeDataRobot) -> None:
    """--dry-run needs neither endpoint nor token, and says that it has looked nowhere."""
    offline = {name: value for name, value in environ.items() if not name.startswith(("DATAROBOT", "NGC"))}
    done = upload(offline, "--build", "--deploy", "--dry-run")
    assert done.returncode == 0
    assert "nothing is there yet" in done.stdout
    assert "12. wait for the deployment" in done.stdout
    assert fake.seen == []


def test_ctrl_c(environ: dict[str, str], fake: FakeDataRobot) -> None:
    """While it waits for the build: exit code 130 and a word of what to do; the next run goes on."""
    fake.state.polls = 10_000
    command = [sys.executable, "-m", "nimdrum", "upload", "--build"]
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert any("processing" in line for line in iter(process.stdout.readline, ""))
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=DEADLINE_SEC)
        finally:
            process.kill()
    assert (process.returncode, "Run the same command again" in errors) == (130, True)
    fake.state.polls, fake.state._left = 0, {}
    assert upload(environ, "--build").returncode == 0
    assert fake.state.counts()["environment_versions"] == 1


def test_a_person_sees_progress(environ: dict[str, str], fake: FakeDataRobot, tmp_path: Path) -> None:
    """With a terminal for standard error: a bar for the upload, a clock for the wait, and all goes well."""
    fake.state.polls = 2
    archive = tmp_path / "image.tar.gz"
    archive.write_bytes(os.urandom(4_000_000))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))  # tqdm writes nothing into no columns
    command = [sys.executable, "-m", "nimdrum", "upload", "--image-archive", str(archive)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the way in which a terminal ends
            while piece := os.read(ours, 4096):
                shown += piece
    os.close(ours)
    assert process.wait(DEADLINE_SEC) == 0, shown
    assert b"upload: 100%" in shown
    assert re.search(rb"the build of the environment: processing, \d+ s", shown)
    assert not any(secret.encode() in shown for secret in (TOKEN, NGC_KEY))


@pytest.mark.parametrize(("typed", "exit_code"), [(f"{NGC_KEY}\n", 0), ("\x04", 130)], ids=["key", "end of input"])
def test_the_key_is_asked_for(environ: dict[str, str], fake: FakeDataRobot, typed: str, exit_code: int) -> None:
    """On a terminal, when NGC_API_KEY is not set; what is typed is not shown. Who goes away there has interrupted."""
    del environ["NGC_API_KEY"]
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "nimdrum", "upload", "--build"]
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environ,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # no controlling terminal: the key is asked for on standard input
    ) as process:
        os.close(theirs)
        assert process.stdout is not None
        try:
            output = b""
            while b"(not shown)" not in output:  # what is typed before the question is thrown away
                output += process.stdout.read1()
            os.write(ours, typed.encode())
            output += process.communicate(timeout=DEADLINE_SEC)[0]
        finally:
            process.kill()
    os.close(ours)
    assert process.returncode == exit_code, output
    assert b"NGC_API_KEY (not shown)" in output
    assert NGC_KEY.encode() not in output
    assert list(fake.state.secrets.values()) == ([NGC_KEY] if exit_code == 0 else [])
