"""Run one job: look at the disk, run NIM's tool, see what it wrote, write the manifest."""

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import click
from tqdm import tqdm

from nimdrum.base.errors import WeightsError
from nimdrum.engines.preflight import not_writable
from nimdrum.supervisor.rundir import create_run_dir
from nimdrum.system.locks import try_lock
from nimdrum.system.process import Ended, run_program, sweep
from nimdrum.tools.warm.job import Job, refuse_failed
from nimdrum.tools.warm.manifest import Snapshot, refuse_incomplete, snapshot, write_sums

LOOK_EVERY_SEC = 5.0
TELL_EVERY_SEC = 30.0
GB = 1e9

Say = Callable[[str], None]


def prepare(target: Path, min_free_gb: float) -> None:
    """Make `target` and see that it can be written and has room. Raises WeightsError."""
    if reason := not_writable(target):
        raise WeightsError(
            f"{target} cannot be written by uid {os.getuid()}, gid {os.getgid()}: {reason}. Mount it writable for "
            "this user or group, or choose another folder."
        )
    free = shutil.disk_usage(target).free
    if free < min_free_gb * GB:
        raise WeightsError(
            f"{target} has {free / GB:.1f} GB free, and {min_free_gb:g} GB are wanted before a download begins "
            "(--min-free-gb). 16-bit weights take about 2 GB for each billion of parameters."
        )


@contextmanager
def alone(target: Path, state_root: Path) -> Iterator[str]:
    """The only one here who fills `target`; gives the marker for its processes. Raises WeightsError, SupervisorError.

    What a killed predecessor left running is ended first.
    """
    name = f"warm-{hashlib.sha256(str(target).encode()).hexdigest()[:12]}"
    folder = create_run_dir(state_root, name).path
    descriptor = try_lock(folder / "lock")
    if descriptor is None:
        raise WeightsError(f"Another `nimdrum warm` fills {target} at this moment. Wait for it.")
    try:
        sweep(str(folder))
        yield str(folder)
    finally:
        os.close(descriptor)


def run_tool(
    job: Job,
    command: Sequence[str],
    env: Mapping[str, str],
    secrets: Sequence[str],
    *,
    timeout_sec: float,
    marker: str,
    before: Snapshot,
) -> Ended:
    """Run the tool with its lines and what it has written on stderr."""
    terminal = sys.stderr.isatty()
    bar = tqdm(unit="B", unit_scale=True, desc="written", leave=False, file=sys.stderr, disable=not terminal)
    looked = told = time.monotonic()
    size_before = _size(before)

    def tick() -> None:
        nonlocal looked, told
        now = time.monotonic()
        if now - looked < LOOK_EVERY_SEC:
            return
        looked = now
        with suppress(OSError):  # not worth to stop a download for
            written = _size(snapshot(job.target)) - size_before
            bar.update(written - bar.n)
            if not terminal and now - told >= TELL_EVERY_SEC:
                told = now
                free = shutil.disk_usage(job.target).free
                click.echo(f"warm: {_shown(written)} written, {_shown(free)} free", err=True)

    with bar:
        return run_program(
            [*command, *job.arguments],
            env,
            cwd=str(job.target),
            timeout_sec=timeout_sec,
            marker=marker,
            secrets=secrets,
            on_line=lambda line: tqdm.write(f"[{job.tool}] {line}", file=sys.stderr),
            tick=tick,
        )


def fill(
    job: Job,
    command: Sequence[str],
    env: Mapping[str, str],
    secrets: Sequence[str],
    *,
    timeout_sec: float,
    state_root: Path,
    say: Say,
) -> None:
    """Fill the job's folder with `command`. Raises WeightsError; SystemExit with 128 and the number of a signal."""
    with alone(job.target, state_root) as marker:
        before, began = snapshot(job.target), time.monotonic()
        ended = run_tool(job, command, env, secrets, timeout_sec=timeout_sec, marker=marker, before=before)
        if ended.signal is not None:
            click.echo(f"warm: stopped; what {job.tool} has downloaded is kept", err=True)
            raise SystemExit(128 + ended.signal)
        after = snapshot(job.target)
        refuse_failed(job.tool, ended, before, after, timeout_sec)
        refuse_incomplete(job.target)
    new = {name: facts for name, facts in after.items() if before.get(name) != facts}
    told = f"{_shown(_size(new))} of it new" if new else "nothing new: it was filled already"
    say(f"{job.target}: {_shown(_size(after))} in {len(after)} files, {told}, after {time.monotonic() - began:.0f} s")


def _size(files: Snapshot) -> int:
    return sum(size for size, _ in files.values())


def _shown(size: float) -> str:
    return str(tqdm.format_sizeof(size, "B"))


def write_manifest(folder: Path, say: Say) -> None:
    """Check the folder and write its SHA256SUMS, with a bar on a terminal. Raises WeightsError and OSError."""
    refuse_incomplete(folder)
    terminal = sys.stderr.isatty()
    with tqdm(unit="B", unit_scale=True, desc="sha256", leave=False, file=sys.stderr, disable=not terminal) as bar:

        def begin(total: int) -> None:
            bar.total = total
            bar.refresh()

        files = write_sums(folder, begin, bar.update)
    say(f"{folder}/SHA256SUMS: {files} files; to check a copy: cd {folder} && sha256sum --quiet -c SHA256SUMS")
