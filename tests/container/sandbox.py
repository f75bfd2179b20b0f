"""A place where images are built and containers run, without a Docker engine: buildah, podman and crun, as root.

All of it lives in a mount and a process namespace of its own with a storage of its own: when the one process that
holds the namespaces ends, the kernel ends every process in them and drops every mount, whatever a test forgot.
"""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO

TOOLS = {
    "buildah": "buildah",
    "podman": "podman",
    "crun": "crun",
    "slirp4netns": "slirp4netns",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
}
"""Programs, and the Debian packages that they come from."""
NETAVARK = (Path("/usr/lib/podman/netavark"), Path("/usr/libexec/podman/netavark"))
COMMAND_SEC = 600.0

# Seen from inside: short, because the path of a socket holds 107 bytes at most, and the same in every session, because
# podman writes its paths into its storage and refuses others.
INSIDE = Path("/mnt")

# Process 1 of the namespace: prepares the mounts, reaps what podman leaves to it, and ends when its standard input does.
# crun refuses a machine that has cgroup 1 and 2 side by side, even where it is to make no cgroup.
_HOLDER = """
import os, signal, subprocess, sys
def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)
resolver = open("/etc/resolv.conf").read()
mount("--bind", sys.argv[1], "/mnt")
for folder in ("/dev/shm", "/run", "/mnt/run"):
    mount("-t", "tmpfs", "-o", "mode=755", "private", folder)
if not os.path.exists("/etc/resolv.conf"):
    os.makedirs(os.path.dirname(os.path.realpath("/etc/resolv.conf")))
    open(os.path.realpath("/etc/resolv.conf"), "w").write(resolver)
if os.path.ismount("/sys/fs/cgroup/unified"):
    subprocess.run(["umount", "/sys/fs/cgroup/unified"], check=True)
def reap(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, reap)
reap()
print("ready", flush=True)
sys.stdin.read()
"""


def missing() -> list[str]:
    """What this machine lacks to build and run containers, each with its remedy. Empty when all is there."""
    found = [f"{tool} (Debian package {package})" for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if not any(path.exists() for path in NETAVARK):
        found.append("netavark (Debian package netavark)")
    if os.geteuid() != 0:
        found.append("the rights of root (mounts and namespaces)")
    return found


class Sandbox:
    """Runs commands in the namespaces. `folder` keeps images; whether it outlives the session is its owner's choice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "run").mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder / "tmp", ignore_errors=True)
        (folder / "tmp").mkdir()
        self._write_settings()
        unshare = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")
        self._holder = subprocess.Popen(
            [*unshare, sys.executable, "-c", _HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        if _pipe(self._holder.stdout).readline() != b"ready\n":
            raise RuntimeError(f"no namespaces for the containers: exit code {self._holder.wait()}")
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text(encoding="ascii")
        self.init = int(children.split()[0])

    def close(self) -> None:
        """End everything inside, and wait for it."""
        _pipe(self._holder.stdin).close()
        self._holder.wait(60)
        _pipe(self._holder.stdout).close()

    def run(
        self, *command: str, check: bool = True, deadline_sec: float = COMMAND_SEC
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command inside. AssertionError with what it printed when it fails and `check` is on."""
        done = subprocess.run(
            ["nsenter", f"--target={self.init}", "--mount", "--pid", "--", *command],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=deadline_sec,
        )
        text = f"{done.stdout}\n{done.stderr}"
        assert not check or done.returncode == 0, f"{command[:4]} ended with {done.returncode}:\n{text[-6000:]}"
        return done

    def podman(self, *arguments: str, check: bool = True) -> str:
        return self.run("podman", *arguments, check=check).stdout.strip()

    def build(self, tag: str, context: Path, *arguments: str) -> str:
        """Build an image as `localhost/TAG`; its name. `context` must be readable from inside (not below /run or /mnt)."""
        name = f"localhost/{tag}"
        self.run("buildah", "bud", "--layers", *arguments, "--tag", name, str(context))
        return name

    def processes(self) -> list[str]:
        """The command lines of all processes inside, but for the one that holds the namespaces."""
        found = self.run(
            "sh", "-c", "for p in /proc/[0-9]*; do [ $p -ef /proc/self ] || echo $p $(tr '\\0' ' ' <$p/cmdline); done"
        )
        return [line for line in found.stdout.splitlines() if not line.startswith("/proc/1 ")]

    @property
    def environ(self) -> dict[str, str]:
        """Of the commands inside: the machine's own, with the sandbox's storage and settings."""
        return {
            **os.environ,
            "TMPDIR": str(INSIDE / "tmp"),
            "CONTAINERS_STORAGE_CONF": str(INSIDE / "storage.conf"),
            "CONTAINERS_CONF": str(INSIDE / "containers.conf"),
            "BUILDAH_ISOLATION": "chroot",
            "BUILDAH_FORMAT": "docker",  # the OCI format knows no SHELL and no HEALTHCHECK
        }

    def _write_settings(self) -> None:
        storage = {"driver": "overlay", "graphroot": INSIDE / "storage", "runroot": INSIDE / "run/storage"}
        lines = ["[storage]", *(f'{name} = "{value}"' for name, value in storage.items())]
        (self.folder / "storage.conf").write_text("\n".join([*lines, ""]), encoding="utf-8")
        # podman asks for more files and processes than some machines allow, and fails.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        limits = f'["nofile={files}:{files}", "nproc={_processes()}:{_processes()}"]'
        text = f"""
[containers]
cgroups = "disabled"
default_ulimits = {limits}
[engine]
runtime = "crun"
events_logger = "file"
tmp_dir = "{INSIDE}/run/libpod"
[network]
network_backend = "netavark"
"""
        (self.folder / "containers.conf").write_text(text, encoding="utf-8")


def _processes() -> int:
    """The most processes that may be asked for: podman lowers its own limit to 32768 first."""
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    return 32768 if hard == resource.RLIM_INFINITY else min(hard, 32768)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
