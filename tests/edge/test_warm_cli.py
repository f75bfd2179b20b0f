"""`warm` and `profiles` as a person runs them, with fake tools in the layouts of both lines."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from drum_process import parameters
from edge_world import KEY, READY_SEC
from fake_nim.run import wait_for
from fake_nim.tools import H100, LISTING_2X, TRT, VLLM
from shell import Shell

from nimdrum.base.secret import MASK

FREE = ("--min-free-gb", "0")


def sha256sum_accepts(folder: Path) -> bool:
    """coreutils' own opinion of the manifest."""
    done = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
    return done.returncode == 0 and done.stdout.count(": OK\n") == len((folder / "SHA256SUMS").read_text().splitlines())


@pytest.mark.parametrize(
    ("line", "on_path"), [("1.x", True), ("2.x", True), ("2.x", False)], ids=["1.x", "2.x", "2.x by start script"]
)
def test_a_cache_is_filled_and_has_a_manifest(shell: Shell, line: str, on_path: bool) -> None:
    """The tool gets the profile, the cache and the key, and nothing of DRUM's; links are in the manifest too."""
    shell.image(line, on_path=on_path, lines=("done with {key}",))
    key = parameters(NGC_API_KEY={"credentialType": "api_token", "apiToken": KEY})
    done = shell.run("warm", "-p", TRT, *FREE, environ={**key, "HF_HUB_OFFLINE": "1", "VIRTUAL_ENV": "/opt/venv"})
    assert done.returncode == 0, done.stderr
    assert f"[download-to-cache] done with {MASK}" in done.stderr
    (call,) = shell.calls()
    assert call["argv"] == ["download-to-cache", "--profiles", TRT]
    assert (call["env"]["NIM_CACHE_PATH"], call["env"]["NGC_API_KEY"]) == (str(shell.cache), KEY)
    assert not {"DATAROBOT_API_TOKEN", "VIRTUAL_ENV", "HF_HUB_OFFLINE", "NIM_SERVER_PORT"} & set(call["env"])
    assert "6.00MB in 4 files, 6.00MB of it new" in done.stdout
    names = [line[66:] for line in (shell.cache / "SHA256SUMS").read_text().splitlines()]
    assert names == sorted(names)
    assert len(names) == 8  # four files and their links, without the lock file
    assert sha256sum_accepts(shell.cache)
    again = shell.run("warm", "-p", TRT, *FREE)
    assert again.returncode == 0, again.stderr
    assert "nothing new: it was filled already" in again.stdout


@pytest.mark.parametrize(
    ("line", "options", "environ", "argv"),
    [
        ("1.x", ("--all",), {}, ("download-to-cache", "--all")),
        ("2.x", (), {}, ("download-to-cache",)),
        ("1.x", (), parameters(NIM_MODEL_PROFILE=VLLM), ("download-to-cache", "--profiles", VLLM)),
        ("2.x", ("-p", "a", "-p", "b"), {}, ("download-to-cache", "--profiles", "a", "b")),
        ("2.x", ("--model-uri", "hf://x/y"), {}, ("download-to-cache", "--model-uri", "hf://x/y")),
    ],
    ids=["all", "best", "NIM_MODEL_PROFILE", "two", "model-free"],
)
def test_what_the_tool_is_told(
    shell: Shell, line: str, options: tuple[str, ...], environ: dict[str, str], argv: tuple[str, ...]
) -> None:
    """Each choice becomes the tool's own arguments."""
    shell.image(line)
    done = shell.run("warm", *options, *FREE, "--no-sums", environ=environ)
    assert done.returncode == 0, done.stderr
    assert shell.calls()[0]["argv"] == list(argv)
    assert not (shell.cache / "SHA256SUMS").exists()


def test_a_model_folder_is_filled(shell: Shell) -> None:
    """create-model-store writes plain files, which model-repo takes as they are."""
    shell.image()
    folder = shell.world.folder / "model-repo"
    done = shell.run("warm", "-p", TRT, "--model-store", str(folder), *FREE)
    assert done.returncode == 0, done.stderr
    assert shell.calls()[0]["argv"] == ["create-model-store", "--profile", TRT, "--model-store", str(folder)]
    assert sha256sum_accepts(folder)


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        ({"exit_code": 3}, "ended with code 3"),
        ({"exit_code": 1, "lines": ("401 Unauthorized",)}, "refused the key"),
        ({"writes": False}, "ended with code 0, but wrote nothing"),
        ({"writes": False, "lines": ("OSError: No space left on device",)}, "wrote nothing. The disk is full"),
        ({"lines": ("Download failed after 5 attempts",)}, "code 0, but reported a failure. The download"),
        ({"cuts": True}, "is not whole: .*model-00002-of-00002.safetensors has 2999"),
    ],
    ids=["code", "key", "nothing written", "disk full", "a failure that ends with 0", "cut file"],
)
def test_a_failure_is_told_whatever_the_exit_code(shell: Shell, switches: dict[str, Any], words: str) -> None:
    """Exit code 1, one sentence, no manifest that would vouch for it."""
    shell.image(**switches)
    done = shell.run("warm", "--all", *FREE, environ={"NGC_API_KEY": KEY})
    assert done.returncode == 1
    message = done.stderr[done.stderr.index("Error: ") :]
    assert re.search(words, message), message
    assert not (shell.cache / "SHA256SUMS").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_stops_the_whole_tree(shell: Shell, number: signal.Signals) -> None:
    """Also a grandchild in a session of its own; the world's fixture sees to it that nothing is left."""
    shell.image(hangs=True)
    process = shell.start("warm", "--all", *FREE)
    try:
        assert process.stderr is not None
        wait_for(lambda: "hanging" in process.stderr.readline(), READY_SEC)
        process.send_signal(number)
        _, err = process.communicate(timeout=READY_SEC)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert "stopped; what download-to-cache has downloaded is kept" in err
    left = [call["pid"] for call in shell.calls() if Path(f"/proc/{call['pid']}").exists()]
    assert not left


def test_the_time_limit_stops_the_whole_tree(shell: Shell) -> None:
    """With a sentence that says what can be done."""
    shell.image(hangs=True)
    done = shell.run("warm", "--all", *FREE, "--timeout-sec", "2")
    assert done.returncode == 1
    assert "had not ended after 2 s and was stopped" in done.stderr


def test_what_a_killed_warm_left_is_ended_by_the_next(shell: Shell) -> None:
    """SIGKILL gives no time to clean up; two at once are refused before that."""
    shell.image(hangs=True)
    first = shell.start("warm", "--all", *FREE)
    try:
        assert first.stderr is not None
        wait_for(lambda: "hanging" in first.stderr.readline(), READY_SEC)
        second = shell.run("warm", "--all", *FREE)
        assert second.returncode == 1
        assert "Another `nimdrum warm` fills" in second.stderr
    finally:
        first.kill()
        first.communicate()
    shell.image(hangs=False)
    assert shell.run("warm", "--all", *FREE).returncode == 0


def test_before_anything_is_downloaded(shell: Shell) -> None:
    """Outside an image, without room, and in a folder without rights the tool is not called."""
    nothing = shell.run("warm", "--all", *FREE)
    assert nothing.returncode == 1
    assert "not the inside of a NIM image" in nothing.stderr
    shell.image()
    full = shell.run("warm", "--all", "--min-free-gb", "1e9")
    assert "1e+09 GB are wanted" in full.stderr
    file = shell.world.folder / "file"
    file.touch()
    blocked = shell.run("warm", "--all", "--cache", str(file / "cache"), *FREE)
    assert "cannot be written by uid" in blocked.stderr
    assert {full.returncode, blocked.returncode} == {1}
    assert shell.calls() == []


def test_a_manifest_for_any_folder(shell: Shell) -> None:
    """--only-sums needs no image: for a snapshot that was downloaded otherwise, say."""
    (shell.cache / "a").mkdir(parents=True)
    for name in ("b", "a/ü x", "Z"):
        (shell.cache / name).write_text(name)
    done = shell.run("warm", "--only-sums")
    assert done.returncode == 0, done.stderr
    assert [line[66:] for line in (shell.cache / "SHA256SUMS").read_text().splitlines()] == ["Z", "a/ü x", "b"]
    assert sha256sum_accepts(shell.cache)
    for folder in (shell.world.folder / "no-such-folder", shell.world.image_root):
        none = shell.run("warm", "--only-sums", "--cache", str(folder))
        assert (none.returncode, f"There are no files in {folder}" in none.stderr) == (1, True), none.stderr
        assert not (folder / "SHA256SUMS").exists()


@pytest.mark.parametrize("line", ["1.x", "2.x"])
def test_profiles_are_listed(shell: Shell, line: str) -> None:
    """As a table for people, as JSON for programs."""
    shell.image(line, **({"listing": LISTING_2X} if line == "2.x" else {}))
    done = shell.run("profiles")
    assert done.returncode == 0, done.stderr
    assert f"{VLLM}  vllm-bf16-tp1" in done.stdout
    document = json.loads(shell.run("profiles", "--json").stdout)
    assert {p["id"]: p["verdict"] for p in document["profiles"]}[H100] == "incompatible"


def test_profiles_that_cannot_be_listed(shell: Shell) -> None:
    """Exit code 1 with the cause that the tool's lines tell."""
    shell.image(listing="", lines=("error sending request for url (https://api.ngc.nvidia.com/)",))
    done = shell.run("profiles", environ={"NGC_API_KEY": KEY})
    assert done.returncode == 1
    assert "listed no profile. The engine could not reach the registry" in done.stderr


def test_a_cache_without_rights(shell: Shell) -> None:
    """The sentence names the user. Below /sys not even root can make a folder."""
    shell.image()
    done = shell.run("warm", "--all", "--cache", "/sys/cache", *FREE)
    assert f"cannot be written by uid {os.getuid()}" in done.stderr
