"""The container's entry point as a shell program: what it says, what it sets, and what it becomes."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from edge_world import KEY, RECORDS, REPOSITORY, TOKEN
from fake_nim.run import wait_for

SCRIPT = REPOSITORY / "start_server.sh"
DEADLINE_SEC = 60.0
ONE_GPU = 'echo "GPU 0: NVIDIA H200 (UUID: GPU-0)"'
TWO_GPUS = f'{ONE_GPU}; echo "GPU 1: NVIDIA H200 (UUID: GPU-1)"'
DRUM = 'printf "%s\\n" "$@" > "$OUT/arguments"; env > "$OUT/environment"'
PARAMETERS = {
    "DRUM_SERVER_TYPE": {"type": "string", "payload": "gunicorn"},
    "DRUM_GUNICORN_WORKER_CLASS": {"type": "string", "payload": "gevent"},
    "DRUM_WORKER_CONNECTIONS": {"type": "numeric", "payload": 896},
    "DRUM_GUNICORN_KEEP_ALIVE": {"type": "numeric", "payload": 10},
    "DRUM_CLIENT_REQUEST_TIMEOUT": {"type": "numeric", "payload": 3600},
}


class Entry:
    """The script with programs of the test's own first on PATH: drum and nvidia-smi, and what a test adds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.record = folder / RECORDS  # may hold keys: the environment of what was started
        self.record.mkdir()
        self.environ = {"PATH": f"{self.bin}:/usr/bin:/bin", "OUT": str(self.record), "HOME": str(folder)}
        self.program("drum", DRUM)
        self.program("nimdrum", 'echo "made-of $*"')
        self.program("nvidia-smi", ONE_GPU)

    def program(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)

    def run(self, *arguments: str, files: int = 4096, **environ: str) -> "subprocess.CompletedProcess[str]":
        """With `files` as the hard limit of open files and half of it as the soft one."""
        return subprocess.run(
            ["prlimit", f"--nofile={files // 2}:{files}", "sh", str(SCRIPT), *arguments],
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=DEADLINE_SEC,
        )

    @property
    def drum_was_started(self) -> bool:
        return (self.record / "arguments").exists()

    @property
    def drum_arguments(self) -> list[str]:
        return (self.record / "arguments").read_text(encoding="utf-8").splitlines()

    @property
    def drum_environment(self) -> dict[str, str]:
        lines = (self.record / "environment").read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    return Entry(tmp_path)


def test_becomes_drum_with_the_platforms_arguments_last(entry: Entry) -> None:
    """DataRobot's arguments reach DRUM as they were given, blanks included, and after ours, so they win."""
    done = entry.run("--with-error-server", "--address", "0.0.0.0:9000", "two words")
    assert done.returncode == 0, done.stderr
    assert entry.drum_arguments[:1] == ["server"]
    assert entry.drum_arguments[-4:] == ["--with-error-server", "--address", "0.0.0.0:9000", "two words"]
    ours = dict(zip(entry.drum_arguments[1:-4:2], entry.drum_arguments[2:-4:2], strict=True))
    assert ours == {
        "--language": "python",
        "--code-dir": "made-of code-dir /opt/code",
        "--address": "0.0.0.0:8080",
        "--logging-level": "info",
    }


def test_code_dir_names_the_users_model(entry: Entry) -> None:
    entry.run(CODE_DIR="/some where")
    assert "made-of code-dir /some where" in entry.drum_arguments


def test_a_code_folder_that_cannot_be_made_ends_the_start(entry: Entry) -> None:
    entry.program("nimdrum", 'echo "Error: model-metadata.yaml cannot be read." >&2; exit 1')
    done = entry.run()
    assert (done.returncode, entry.drum_was_started) == (1, False)
    assert "model-metadata.yaml cannot be read" in done.stderr


@pytest.mark.parametrize("how", ["option", "option=", "variable"])
def test_a_file_of_values_is_looked_at_first(entry: Entry, how: str) -> None:
    """However DRUM is told of it: our command says in one line where it is broken, and DRUM does not start."""
    entry.program("nimdrum", 'echo "$@" >&2; exit 1')
    values = "some where.yaml"
    options = {"option": ["--runtime-params-file", values], "option=": [f"--runtime-params-file={values}"]}
    done = entry.run(*options.get(how, []), **({"RUNTIME_PARAMS_FILE": values} if how == "variable" else {}))
    assert "code-dir --params some where.yaml /opt/code" in done.stderr
    assert (done.returncode, entry.drum_was_started) == (1, False)


def test_drums_exit_code_is_the_containers(entry: Entry) -> None:
    entry.program("drum", "exit 3")
    assert entry.run().returncode == 3


def test_defaults_in_drums_form_only_where_unset(entry: Entry) -> None:
    """What the user or the platform set stays as it is, byte for byte."""
    mine = '{"type": "numeric", "payload": 7}'
    entry.run(MLOPS_RUNTIME_PARAM_DRUM_WORKER_CONNECTIONS=mine, TARGET_NAME='"answer"')
    environment = entry.drum_environment
    assert environment["MLOPS_RUNTIME_PARAM_DRUM_WORKER_CONNECTIONS"] == mine
    assert environment["TARGET_NAME"] == '"answer"'
    for name in PARAMETERS.keys() - {"DRUM_WORKER_CONNECTIONS"}:
        assert json.loads(environment[f"MLOPS_RUNTIME_PARAM_{name}"]) == PARAMETERS[name]


@pytest.mark.parametrize(("files", "connections"), [(1024, 128), (4096, 896), (20_000, 4872), (600, 100)])
def test_as_many_callers_as_the_open_files_allow(entry: Entry, files: int, connections: int) -> None:
    """The soft limit is raised to the hard one first; what runs is told how many fit."""
    entry.program("drum", f'{DRUM}; ulimit -n > "$OUT/files"')
    entry.run(files=files)
    told = json.loads(entry.drum_environment["MLOPS_RUNTIME_PARAM_DRUM_WORKER_CONNECTIONS"])
    assert told == {"type": "numeric", "payload": connections}
    assert (entry.record / "files").read_text() == f"{files}\n"


def test_an_answer_closes_its_connection_unless_keep_alive_is_asked_for(entry: Entry) -> None:
    """Ours is a time limit for heads; a user's own means what it says."""
    entry.run()
    assert entry.drum_environment["NIMDRUM_ONE_ANSWER"] == "1"
    entry.run(MLOPS_RUNTIME_PARAM_DRUM_GUNICORN_KEEP_ALIVE='{"type": "numeric", "payload": 75}')
    assert "NIMDRUM_ONE_ANSWER" not in entry.drum_environment


def test_target_name_has_a_default(entry: Entry) -> None:
    entry.run()
    assert entry.drum_environment["TARGET_NAME"] == "resultText"


@pytest.mark.parametrize(
    ("smi", "seen"),
    [
        pytest.param(None, "nvidia-smi is not on PATH", id="no nvidia-smi"),
        pytest.param("exit 0", "nvidia-smi -L lists none", id="no GPU"),
        pytest.param("echo NVIDIA-SMI has failed; exit 9", "nvidia-smi -L lists none", id="no driver"),
    ],
)
def test_without_gpu_it_says_why_and_ends_with_1(entry: Entry, smi: str | None, seen: str) -> None:
    if smi is None:
        (entry.bin / "nvidia-smi").unlink()
    else:
        entry.program("nvidia-smi", smi)
    done = entry.run()
    assert done.returncode == 1
    assert f"start_server.fatal No GPU is visible in this container ({seen})" in done.stderr
    assert "--gpus all" in done.stderr
    assert not entry.drum_was_started


@pytest.mark.parametrize("engine", ["external", "llamacpp", "External"])
def test_engines_that_need_no_gpu(entry: Entry, engine: str) -> None:
    """In any case of letters, as settings.py reads it."""
    entry.program("nvidia-smi", "exit 0")
    entry.program("list-model-profiles", "echo must not be asked")
    done = entry.run(MLOPS_RUNTIME_PARAM_engine=json.dumps({"type": "string", "payload": engine}))
    assert done.returncode == 0, done.stderr
    assert entry.drum_was_started
    assert "profiles" not in done.stderr


@pytest.mark.parametrize("engine", ["auto", "", None])
@pytest.mark.parametrize(("nim_in_image", "code"), [(False, 0), (True, 1)])
def test_auto_with_an_external_host(entry: Entry, nim_in_image: bool, code: int, engine: str | None) -> None:
    """auto takes NIM where the image holds it, else the external engine that is configured: as choose.py does."""
    entry.program("nvidia-smi", "exit 0")
    script = entry.folder / "root/opt/nim/start_server.sh"
    script.parent.mkdir(parents=True)
    if nim_in_image:
        script.touch()
    host = json.dumps({"type": "string", "payload": "nim.example"})
    done = entry.run(
        MLOPS_RUNTIME_PARAM_engine=json.dumps({"type": "string", "payload": engine}),
        MLOPS_RUNTIME_PARAM_DR_NIM_SERVER_HOST=host,
        NIMDRUM_IMAGE_ROOT=str(entry.folder / "root"),
    )
    assert done.returncode == code, done.stderr


@pytest.mark.parametrize(
    ("gpus", "kilobytes", "warned"),
    [(ONE_GPU, 65536, False), (TWO_GPUS, 65536, True), (TWO_GPUS, 16 * 1024 * 1024, False)],
)
def test_small_shared_memory_with_several_gpus(entry: Entry, gpus: str, kilobytes: int, warned: bool) -> None:
    entry.program("nvidia-smi", gpus)
    entry.program("df", f'echo "Filesystem 1024-blocks Used Available"; echo "shm {kilobytes} 0 {kilobytes}"')
    done = entry.run()
    assert done.returncode == 0
    assert ("warning /dev/shm has 64 MB, and 2 GPUs" in done.stderr) is warned


def test_profiles_are_printed(entry: Entry) -> None:
    """NIM's own tool runs without DRUM's Python on PATH."""
    venv = entry.folder / "venv"
    entry.program("list-model-profiles", 'echo "Compatible:"; echo "PATH is $PATH"; echo "on stderr" >&2')
    done = entry.run(VIRTUAL_ENV=str(venv), PATH=f"{venv}/bin:{entry.environ['PATH']}")
    assert done.returncode == 0
    assert f"start_server.profiles\n  Compatible:\n  PATH is {entry.environ['PATH']}\n  on stderr\n" in done.stderr


@pytest.mark.parametrize(
    ("script", "status"),
    [pytest.param("echo no GPU fits; exit 4", 4, id="fails"), pytest.param("exec sleep 600", 124, id="hangs")],
)
def test_profiles_are_never_a_reason_not_to_start(entry: Entry, script: str, status: int) -> None:
    entry.program("list-model-profiles", script)
    done = entry.run(NIMDRUM_LIST_PROFILES_SEC="1" if status == 124 else "60")
    assert done.returncode == 0
    assert f"warning list-model-profiles ended with {status}" in done.stderr
    assert entry.drum_was_started


def test_profiles_can_be_switched_off(entry: Entry) -> None:
    entry.program("list-model-profiles", "echo must not be asked")
    assert "must not be asked" not in entry.run(NIMDRUM_LIST_PROFILES_SEC="0").stderr
    assert entry.drum_was_started


def test_sigterm_while_the_profiles_are_asked_for(entry: Entry) -> None:
    """As process 1 a shell would not hear it: the platform's stop would wait for the grace period to end."""
    entry.program("list-model-profiles", 'touch "$OUT/asked"; exec sleep 30')
    process = subprocess.Popen(["sh", str(SCRIPT)], env=entry.environ, start_new_session=True)
    try:
        wait_for((entry.record / "asked").exists, DEADLINE_SEC)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # in a container the kernel ends what is left
    assert not entry.drum_was_started


@pytest.fixture
def as_process_1(entry: Entry) -> Iterator[Callable[[], "subprocess.Popen[bytes]"]]:
    """Starts the script as the first process of a process namespace, as in a container."""
    rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    unshare = ["unshare", *rights, "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        pytest.skip("this user may not make a process namespace")
    started: list[subprocess.Popen[bytes]] = []

    def start() -> "subprocess.Popen[bytes]":
        environ = {**entry.environ, "NIMDRUM_LIST_PROFILES_SEC": "0"}
        started.append(subprocess.Popen([*unshare, "sh", str(SCRIPT)], env=environ))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def send(number: signal.Signals, container: "subprocess.Popen[bytes]") -> None:
    (first,) = psutil.Process(container.pid).children()
    first.send_signal(number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_process_1_hears_a_signal_before_drum_does(
    entry: Entry, as_process_1: Callable[[], "subprocess.Popen[bytes]"], number: signal.Signals
) -> None:
    """DRUM imports for seconds before it has a handler, and the kernel keeps from process 1 what it does not handle."""
    entry.program("drum", 'touch "$OUT/started"; exec sleep 600')
    container = as_process_1()
    wait_for((entry.record / "started").exists, DEADLINE_SEC)
    send(number, container)
    assert container.wait(DEADLINE_SEC) == 143


def test_process_1_ends_with_drums_exit_code(
    entry: Entry, as_process_1: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    """Also when DRUM takes its time with the signal, and gets a second one."""
    entry.program("drum", DRUM_WITH_TWO_SIGNALS)
    container = as_process_1()
    for name in ("started", "one"):
        wait_for((entry.record / name).exists, DEADLINE_SEC)
        send(signal.SIGTERM, container)
    assert container.wait(DEADLINE_SEC) == 3


DRUM_WITH_TWO_SIGNALS = """
trap 'if [ -e "$OUT/one" ]; then exit 3; else touch "$OUT/one"; fi' TERM
touch "$OUT/started"
while :; do sleep 0.05; done
"""


def test_process_1_ends_after_the_supervisor(
    entry: Entry, as_process_1: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    """The kernel kills all that is left when process 1 ends: an engine that is just being stopped, too."""
    stopping = 'sh -c \'touch "$OUT/up"; sleep 1; touch "$OUT/stopped"\' nimdrum.supervisor'
    entry.program("drum", f'{stopping} & while [ ! -e "$OUT/up" ]; do sleep 0.05; done; exit 3')
    assert as_process_1().wait(DEADLINE_SEC) == 3
    assert (entry.record / "stopped").exists()


SECRETS = {
    "NGC_API_KEY": KEY,
    "NIM_SOMETHING_SECRET": KEY,
    "NIM_PROXY": f"http://user:{KEY}@proxy.example",
    "HTTP_PROXY": f"http://user:{KEY}@proxy.example",
    "DATAROBOT_API_TOKEN": TOKEN,
    "MLOPS_RUNTIME_PARAM_NGC_API_KEY": json.dumps({"type": "credential", "payload": {"apiToken": KEY}}),
    "MLOPS_RUNTIME_PARAM_system_prompt": json.dumps({"type": "string", "payload": f"do not tell {TOKEN}"}),
    "innocent": KEY,
    "NIM_GIT_PAT": KEY,
    "NIM_WEIGHTS": f"https://bucket.example/model?X-Amz-Expires=60&X-Amz-Signature={KEY}",
    "NIM_STORE": f"AccountName=me;AccountKey={KEY}",
    "NIM_OTHER": KEY,
    "NIM_BANNER": "\x1b]0;a new title\x07\x1b[2J",
}


def test_environment_dump_holds_no_secret(entry: Entry) -> None:
    """DataRobot's switch prints names and lengths, and values only of variables that are known to be harmless."""
    done = entry.run(ENABLE_CUSTOM_MODEL_RUNTIME_ENV_DUMP="1", NIM_CACHE_PATH="/opt/code/nim/cache", **SECRETS)
    assert done.returncode == 0
    assert "  NIM_CACHE_PATH=/opt/code/nim/cache\n" in done.stderr
    for name, value in SECRETS.items():
        assert f"  {name} ({len(value)} characters)\n" in done.stderr
    assert KEY not in done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert "\x1b" not in done.stderr


def test_environment_is_not_dumped_unasked(entry: Entry) -> None:
    done = entry.run(**SECRETS)
    assert "characters)" not in done.stderr
    assert KEY not in done.stdout + done.stderr


def test_home_that_cannot_be_written(entry: Entry) -> None:
    """With a read-only root the home folder is the temporary one."""
    entry.run(HOME=str(entry.folder / "not-there"), TMPDIR=str(entry.folder))
    assert entry.drum_environment["HOME"] == str(entry.folder)


def test_temporary_folder_that_is_missing(entry: Entry) -> None:
    """Without one DRUM ends in a traceback."""
    done = entry.run(TMPDIR=str(entry.folder / "not-there"))
    assert done.returncode == 1
    assert f"fatal The temporary folder {entry.folder}/not-there cannot be written" in done.stderr
    assert not entry.drum_was_started
