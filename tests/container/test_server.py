"""The image's life under every user: loading, ready, answers, SIGTERM. No capabilities, no new privileges."""

import time
from pathlib import Path

import pytest
from bases import NIM_2X_FOLDERS, find_python, find_ubuntu
from fake_nim.run import wait_for
from images import Image, our_image
from sandbox import Sandbox
from server_container import READ_ONLY, SIGTERMED, WAIT_SEC, Container, run_image, tmpfs

ANY_UID = "1001230000:0"
CACHE = "/opt/code/nim/cache"
ROWS = b'promptText\n007\n"one, two"\nNA\n'
ANSWERS = ["echo: 007", "echo: one, two", "echo: NA"]


def read_only(line: str) -> list[str]:
    """The documented mounts for a read-only root: all empty but NIM 2.x's etc, where the image's own files are needed."""
    mounts = [tmpfs("/tmp"), tmpfs(CACHE)]
    if line == "2.x":
        mounts += [tmpfs(path, "tmpcopyup") if path.endswith("/etc") else tmpfs(path) for path in NIM_2X_FOLDERS]
    return [*READ_ONLY, *mounts]


@pytest.mark.parametrize("root", ["writable", "read-only"])
@pytest.mark.parametrize("user", ["1000:0", ANY_UID])
def test_from_start_to_end(sandbox: Sandbox, image: Image, user: str, root: str, measured: list[str]) -> None:
    """503 while NIM loads, then 200, answers over both routes, and after SIGTERM an end in time with code 0."""
    options = read_only(image.line) if root == "read-only" else []
    with run_image(sandbox, image.name, f"--user={user}", *options) as container:
        assert "STARTING" in container.wait_health(503).json()["message"]
        loading = time.monotonic() - container.started
        container.finish_loading()
        container.wait_health(200)
        ready = time.monotonic() - container.started
        assert_answers(container)
        assert container.execute("id", "-u") == user.partition(":")[0]
        code, seconds = container.stop()
        assert code == 0, container.log[-4000:]
        assert f'line="NIM {image.line}"' in container.log
        assert "[engine] shutting down" in container.log  # its own SIGTERM, not the kernel's SIGKILL
    wait_for(lambda: not sandbox.processes(), WAIT_SEC)
    measured.append(
        f"{image.base}, user {user}, {root} root: 503 after {loading:.1f} s, 200 after {ready:.1f} s, "
        f"SIGTERM to exit {seconds:.1f} s"
    )


def assert_answers(container: Container) -> None:
    predicted = container.post("/predict/", data=ROWS, headers={"Content-Type": "text/csv"})
    assert predicted.json()["predictions"] == ANSWERS, predicted.text
    chat = {"model": "datarobot-deployed-llm", "messages": [{"role": "user", "content": "hello"}]}
    for path in ("/v1/chat/completions", "/chat/completions"):
        answered = container.post(path, json=chat)
        assert answered.json()["choices"][0]["message"]["content"] == "echo: hello", answered.text


def test_sigterm_before_drum_has_a_handler(sandbox: Sandbox, image: Image, measured: list[str]) -> None:
    """While DRUM imports, nobody but the shell that is process 1 can hear it."""
    with run_image(sandbox, image.name, "--env=NIMDRUM_LIST_PROFILES_SEC=0") as container:
        wait_for(lambda: any("/drum server" in line for line in sandbox.processes()), WAIT_SEC)
        code, seconds = container.stop()
        assert code in (0, SIGTERMED), container.log[-4000:]  # 0: it was slow, and DRUM heard it
    wait_for(lambda: not sandbox.processes(), WAIT_SEC)
    measured.append(f"{image.base}, while DRUM imports: SIGTERM to exit {seconds:.1f} s")


def test_python_3_10(sandbox: Sandbox, context: Path, measured: list[str]) -> None:
    """Ubuntu 22.04, on which NIM 1.x and 2.0 stand; where there is no Ubuntu to be had, its Python on Debian."""
    suite = "jammy" if find_ubuntu("jammy") else None
    python = None if suite else find_python("3.10")
    if suite is None and python is None:
        pytest.skip("neither Ubuntu 22.04 nor a Python 3.10 to put into a base image (pyenv makes one) is to be had")
    image = our_image(sandbox, context, measured, "1.x", python, suite)
    with run_image(sandbox, image.name) as container:
        assert container.execute("python", "--version").startswith("Python 3.10.")
        container.wait_health(503)
        container.finish_loading()
        container.wait_health(200)
        assert_answers(container)
        assert container.stop()[0] == 0, container.log[-4000:]


def test_engine_of_an_unknown_user_has_a_name_and_a_home(sandbox: Sandbox, image: Image) -> None:
    """Without a line in /etc/passwd, programs that ask who they are (PyTorch does) find USER and a writable HOME."""
    options = (f"--user={ANY_UID}", *read_only(image.line))
    switches = {"record_dir": "/tmp/record", "load_until": ""}
    with run_image(sandbox, image.name, *options, line=image.line, **switches) as container:
        container.wait_health(200)
        ask = "import getpass, os; print(getpass.getuser(), os.access(os.path.expanduser('~'), os.W_OK))"
        read = "import json, sys; print(*json.loads(open('/tmp/record/starts.jsonl').readline())['env'].items(), sep='\\n')"
        environment = container.execute("python", "-c", read)
        assert "('USER', 'nim')" in environment
        assert "('HOME', '/tmp')" in environment
        assert container.execute("env", "USER=nim", "HOME=/tmp", "python", "-c", ask) == "nim True"


def test_sigterm_while_nim_loads(sandbox: Sandbox, image: Image, measured: list[str]) -> None:
    """The platform may give up on a slow start: nothing waits for the engine then."""
    with run_image(sandbox, image.name) as container:
        container.wait_health(503)
        code, seconds = container.stop()
        assert code == 0, container.log[-4000:]
    wait_for(lambda: not sandbox.processes(), WAIT_SEC)
    measured.append(f"{image.base}, while it loads: SIGTERM to exit {seconds:.1f} s")
