"""Fetching trees from a real S3 protocol server, through the child process that fetches for the supervisor and for users."""

import contextlib
import json
import logging
import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_nim.run import free_port, wait_for
from s3_server import BUCKET, CREDENTIAL, S3Server

from nimdrum.base.errors import SettingsError, WeightsError
from nimdrum.weights import fetch
from nimdrum.weights.child import command, fetch_environment, request_json
from nimdrum.weights.folder import LOCK, MARKER, OURS, STAGING
from nimdrum.weights.parts import HEADER, PART_BYTES
from nimdrum.weights.publish import NEXT, OLD

pytestmark = pytest.mark.xdist_group("weights")
DEADLINE_SEC = 90.0
STALL_SEC = 60.0
MIB = 1024 * 1024


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model-repo"


def content(size: int, seed: int = 1) -> bytes:
    block = random.Random(seed).randbytes(min(size, 4 * MIB + 7))
    return (block * (size // max(len(block), 1) + 1))[:size]


def tree(s3: S3Server) -> dict[str, bytes]:
    """A small tree in the store: a file of several parts, one uploaded in parts, nested, empty, odd names."""
    files = {
        "model.bin": content(5 * PART_BYTES + 5 * MIB, 1),
        "sub/deep/part.bin": content(12 * MIB, 2),
        "config.json": b"{}",
        "sub/empty": b"",
        "ä name+with%20all.txt": b"x",
    }
    for name, data in files.items():
        if name == "sub/deep/part.bin":
            s3.put_in_parts(name, data, 8 * MIB)
        else:
            s3.put(name, data)
    s3.put("sub/", b"")  # how consoles write a folder
    return files


def found(folder: Path) -> dict[str, bytes]:
    """What lies under final names."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name.partition("/")[0] not in OURS}


def get(s3: S3Server, target: Path, **changes: Any) -> Path:
    return fetch(changes.pop("uri", s3.uri()), target, changes.pop("credential", CREDENTIAL), **changes)


@contextlib.contextmanager
def fetching(s3: S3Server, target: Path, who: str = "me") -> Iterator["subprocess.Popen[bytes]"]:
    """The process of a fetch, as the supervisor starts it; its output goes to a file beside the target. The server
    writes down the key id `who`, and asks for no other proof."""
    with (target.parent / "fetch.log").open("ab") as log:
        process = subprocess.Popen(
            command(), stdin=subprocess.PIPE, stdout=log, stderr=log, env=fetch_environment(os.environ)
        )
    try:
        assert process.stdin
        with process.stdin:
            credential = {**CREDENTIAL, "awsAccessKeyId": who}
            process.stdin.write(request_json(s3.uri(), target, credential, STALL_SEC).encode())
        yield process
    finally:
        process.kill()
        process.wait()


def printed(target: Path) -> str:
    return (target.parent / "fetch.log").read_text()


def journaled(target: Path) -> set[tuple[str, int]]:
    """Parts that a fetch counts as safe: file id and index. A torn last line does not count."""
    with contextlib.suppress(OSError):
        lines = (target / STAGING / "journal").read_text().rpartition("\n")[0].splitlines()[1:]
        return {(line.split()[0], int(line.split()[1])) for line in lines}
    return set()


def asked(s3: S3Server, who: str | None = None) -> set[int]:
    """Parts of model.bin of which at least a byte was asked for, by anybody or with the key id `who`."""
    reads = [read for read in s3.reads() if read["key"] == "llm/model.bin" and who in (None, read["who"])]
    return {index for read in reads for index in range(read["first"] // PART_BYTES, -(-read["end"] // PART_BYTES))}


def test_a_whole_tree_arrives(s3: S3Server, target: Path) -> None:
    """Every byte under its name, for owner and group only, with nothing of ours left but marker and lock."""
    files = tree(s3)
    assert get(s3, target) == target
    assert found(target) == files
    assert {path.name for path in target.iterdir()} - {name.partition("/")[0] for name in files} == {MARKER, LOCK}
    assert {path.stat().st_mode & 0o777 for path in target.rglob("*") if path.is_file()} == {0o660}
    assert {path.stat().st_mode & 0o777 for path in [target, *target.rglob("*")] if path.is_dir()} == {0o770}
    assert s3.sent() == sum(map(len, files.values()))


def test_what_was_fetched_is_not_asked_for_again(s3: S3Server, target: Path) -> None:
    """Neither the bytes nor the listing: a restart needs no store. A file that is gone is fetched alone."""
    files = tree(s3)
    get(s3, target)
    s3.forget_reads()
    s3.fault(status=500)
    get(s3, target)
    s3.fault()
    assert s3.reads() == []
    (target / "sub/deep/part.bin").unlink()
    get(s3, target)
    assert found(target) == files
    assert {read["key"] for read in s3.reads()} == {"llm/sub/deep/part.bin"}


def test_another_uri_replaces_the_tree(s3: S3Server, target: Path) -> None:
    """What the first tree had and the second has not goes; files of the user stay."""
    tree(s3)
    get(s3, target)
    (target / "notes.txt").write_text("mine")
    s3.put("config.json", b'{"v": 2}', "other/")
    get(s3, target, uri=s3.uri("other/"))
    assert found(target) == {"config.json": b'{"v": 2}', "notes.txt": b"mine"}
    assert not (target / "sub").exists()


def test_an_interrupted_publication_leaves_nothing_behind(s3: S3Server, target: Path) -> None:
    """Killed between the final names and the marker, and then another tree is wanted: the first one's files go too."""
    tree(s3)
    get(s3, target)
    (target / STAGING).mkdir()
    (target / MARKER).rename(target / STAGING / NEXT)
    s3.put("config.json", b'{"v": 2}', "other/")
    get(s3, target, uri=s3.uri("other/"))
    assert found(target) == {"config.json": b'{"v": 2}'}


@pytest.mark.parametrize("left", [NEXT, OLD])
def test_an_interrupted_publication_is_ended(s3: S3Server, target: Path, left: str) -> None:
    """What has its final name already is not asked for again. A failure in between does not lose that."""
    files = tree(s3)
    get(s3, target)
    (target / STAGING).mkdir()
    (target / MARKER).rename(target / STAGING / left)
    (target / "config.json").unlink()
    s3.forget_reads()
    s3.fault(truncate="llm/config.json")
    with pytest.raises(WeightsError, match="shorter"):
        get(s3, target)
    s3.fault()
    get(s3, target)
    assert found(target) == files
    assert {read["key"] for read in s3.reads()} == {"llm/config.json"}


def test_an_empty_object_of_the_folders_name_is_no_model(s3: S3Server, target: Path) -> None:
    """How some tools, and Azure with folders, write `llm/`: the URI without a slash means what lies below."""
    s3.put("llm", b"", prefix="")
    s3.put("config.json", b"{}")
    get(s3, target, uri=s3.uri("llm"))
    assert found(target) == {"config.json": b"{}"}
    s3.put("alone", b"")
    get(s3, target, uri=s3.uri("llm/alone"))
    assert found(target) == {"alone": b""}


def test_an_address_without_an_identity_is_asked_unsigned(s3: S3Server, target: Path) -> None:
    """AWS_ENDPOINT_URL says where, not who: a public bucket there is read, and nobody asks the machine for a role."""
    s3.put("config.json", b"{}")
    fetch(f"s3://{BUCKET}/llm/", target, environ={"AWS_ENDPOINT_URL": s3.url, "AWS_REGION": "us-east-1"})
    assert found(target) == {"config.json": b"{}"}
    assert {read["who"] for read in s3.reads()} == {""}


def test_one_object_is_a_tree_of_one(s3: S3Server, target: Path) -> None:
    """A URI without a slash at its end may name a file."""
    data = content(3 * MIB)
    s3.put("model.gguf", data)
    get(s3, target, uri=s3.uri("llm/model.gguf"))
    assert found(target) == {"model.gguf": data}


def test_a_folder_of_this_machine(tmp_path: Path, target: Path) -> None:
    """file:// copies a mounted folder with the same care."""
    source = tmp_path / "mounted"
    (source / "sub").mkdir(parents=True)
    data = content(PART_BYTES + 1)
    (source / "sub/model.bin").write_bytes(data)
    (source / "empty").touch()
    (source / "mounted").write_bytes(b"of the folder's own name")
    fetch(f"file://{source}", target)
    assert found(target) == {"sub/model.bin": data, "empty": b"", "mounted": b"of the folder's own name"}
    fetch(f"file://{source}/sub/model.bin", tmp_path / "one")
    assert found(tmp_path / "one") == {"model.bin": data}


def test_a_web_server_is_read_by_its_sums(s3: S3Server, target: Path) -> None:
    """It has no listing, so SHA256SUMS is one; without that the error says so."""
    files = {"model.bin": content(5 * MIB), "sub/config.json": b"{}"}
    for name, data in files.items():
        s3.put(name, data)
    url = f"{s3.url}/{BUCKET}/llm/"
    with pytest.raises(WeightsError, match="SHA256SUMS"):
        fetch(url, target)
    s3.put_sums(files)
    fetch(url, target)
    assert {name: data for name, data in found(target).items() if name != "SHA256SUMS"} == files


FAULTS: dict[str, tuple[Callable[[S3Server], None], str]] = {
    "corrupted, by its MD5": (lambda s3: s3.fault(corrupt="llm/model.bin"), "'model.bin' is damaged: its MD5"),
    "corrupted, in parts": (lambda s3: s3.fault(corrupt="llm/sub/deep/part.bin"), "part.bin' is damaged: its ETag"),
    "truncated": (lambda s3: s3.fault(truncate="llm/model.bin"), "'model.bin' is shorter in the store"),
    "wrong in SHA256SUMS": (lambda s3: s3.put_sums({"model.bin": b"other"}), "'model.bin' is damaged: its SHA-256"),
    "missing from the store": (lambda s3: s3.put_sums({"gone.bin": b"x"}), "lists 'gone.bin'"),
    "no list of sums": (lambda s3: s3.put("SHA256SUMS", b"hello\n"), "Line 1 of SHA256SUMS"),
    "a name that leads out": (lambda s3: s3.put("../evil", b"x"), "not a plain path"),
    "a name of ours": (lambda s3: s3.put(MARKER, b"x"), "belongs to nimdrum"),
    "a file that is a folder too": (lambda s3: s3.put("config.json/x", b"x"), "file and a folder"),
    "refused key": (lambda s3: s3.require_keys(), r"refused the credential.*InvalidAccessKeyId"),
    "not allowed": (lambda s3: s3.fault(status=403), "may not read"),
    "another region": (lambda s3: s3.fault(status=400), "refused the request"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_stands_in_the_way_is_one_sentence(s3: S3Server, target: Path, fault: str) -> None:
    """Nothing gets its final name, and the credential is not shown (`no_key_is_printed` looks)."""
    tree(s3)
    make, says = FAULTS[fault]
    make(s3)
    with pytest.raises(WeightsError, match=says) as caught:
        get(s3, target)
    assert "\n" not in str(caught.value)
    assert found(target) == {}


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        (lambda s3: s3.uri(bucket="nobody"), "bucket or container nobody.*does not exist"),
        (lambda s3: s3.uri("nothing/"), "There is nothing at s3://weights/nothing/"),
        (lambda s3: s3.uri("nothing"), "There is nothing at s3://weights/nothing"),
    ],
    ids=["no bucket", "no folder", "no object"],
)
def test_what_is_not_there(s3: S3Server, target: Path, uri: Callable[[S3Server], str], says: str) -> None:
    """One sentence, and no trace in the folder but the lock file."""
    with pytest.raises(WeightsError, match=says):
        get(s3, target, uri=uri(s3))
    assert {path.name for path in target.iterdir()} <= {LOCK}


def test_what_cannot_be_used_fails_before_anything_runs(s3: S3Server, target: Path) -> None:
    """A credential of another store is a mistake of the settings."""
    with pytest.raises(SettingsError, match="type s3"):
        get(s3, target, credential={"credentialType": "gcp", "gcpKey": {}})
    assert not target.exists()


def test_an_etag_that_is_no_md5_is_not_believed(s3: S3Server, target: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the user's own key (SSE-KMS) the ETag is no MD5: the size counts, and the log says so."""
    caplog.set_level(logging.INFO)
    tree(s3)
    s3.fault(corrupt="llm/model.bin", kms=True)
    get(s3, target)
    assert "weights.size_only files=1 first=model.bin" in caplog.text


def test_a_damaged_file_is_fetched_again_and_the_others_are_not(s3: S3Server, target: Path) -> None:
    """When the store is mended, only what was damaged is asked for."""
    files = tree(s3)
    s3.fault(corrupt="llm/model.bin")
    with pytest.raises(WeightsError, match="damaged"):
        get(s3, target)
    kept = {path.stem for path in (target / STAGING).glob("*.whole")}
    s3.fault()
    s3.forget_reads()
    get(s3, target)
    assert found(target) == files
    if len(kept) == len(files) - 1:
        assert {read["key"] for read in s3.reads()} == {"llm/model.bin"}


def test_a_link_does_not_lead_out(s3: S3Server, target: Path, tmp_path: Path) -> None:
    """A link in the target to another folder is not written through."""
    tree(s3)
    outside = tmp_path / "outside"
    outside.mkdir()
    target.mkdir()
    (target / "sub").symlink_to(outside)
    with pytest.raises(WeightsError, match="sub is a link"):
        get(s3, target)
    assert list(outside.rglob("*")) == []


def test_a_folder_that_cannot_be_written(s3: S3Server) -> None:
    """The kernel's own folders refuse everybody, root too: one sentence with user and group."""
    tree(s3)
    with pytest.raises(WeightsError, match=rf"/sys/nimdrum cannot be written by uid {os.getuid()}"):
        get(s3, Path("/sys/nimdrum"))


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system in memory; skips where this user may not mount."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_volume(s3: S3Server, tmp_path: Path) -> None:
    """One sentence, and nothing written."""
    tree(s3)
    with (
        mounted(tmp_path / "volume", "ro,size=1m") as folder,
        pytest.raises(WeightsError, match=r"cannot be written.*Read-only file system"),
    ):
        get(s3, folder)


def test_a_volume_that_is_too_small_is_seen_before_the_first_byte(s3: S3Server, tmp_path: Path) -> None:
    """The error says how much there is and how much is needed."""
    tree(s3)
    with mounted(tmp_path / "volume", "size=20m") as folder:
        with pytest.raises(WeightsError, match=r"too small.*0.02 GB free.*0.06 GB more"):
            get(s3, folder)
        assert {path.name for path in folder.iterdir()} <= {LOCK}
    assert s3.reads() == []


def test_a_disk_that_fills_up_meanwhile(s3: S3Server, tmp_path: Path) -> None:
    """Somebody else takes the room: one sentence, nothing under final names, and later it goes on."""
    files = tree(s3)
    with mounted(tmp_path / "volume", "size=60m") as folder:
        s3.fault(bytes_per_sec=5 * MIB)
        with fetching(s3, folder) as process:
            wait_for(lambda: s3.sent() > 0 or process.poll() is not None, DEADLINE_SEC)
            with contextlib.suppress(OSError), (folder / "other").open("wb", buffering=0) as other:
                while True:
                    other.write(b"x" * 65536)
            assert process.wait(DEADLINE_SEC) == 1
        assert (
            printed(folder).splitlines()[-1]
            == f"error: The disk is full: {folder} has no room left. Give it a larger volume."
        )
        assert found(folder).keys() == {"other"}
        (folder / "other").unlink()
        s3.fault()
        get(s3, folder)
        assert found(folder) == files


def test_a_stop_is_quick_and_keeps_what_arrived(s3: S3Server, target: Path) -> None:
    """SIGTERM ends it with the signal's code; what was journaled is not asked for again."""
    data = content(24 * PART_BYTES)
    s3.put("model.bin", data)
    s3.fault(bytes_per_sec=10 * MIB)
    with fetching(s3, target) as process:
        wait_for(lambda: journaled(target), DEADLINE_SEC)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SEC) == 128 + signal.SIGTERM
    assert found(target) == {}
    kept = journaled(target)
    s3.fault()
    get(s3, target)
    assert found(target) == {"model.bin": data}
    assert not asked(s3, CREDENTIAL["awsAccessKeyId"]) & {index for _, index in kept}


def test_ten_kills_lose_nothing_that_was_whole(s3: S3Server, target: Path) -> None:
    """Killed at seeded points, each time the next process asks only for parts that were not yet safe. A late record of
    a killed one does not count for the next: each has a key id of its own."""
    dice = random.Random(20261122)
    files = {"model.bin": content(40 * PART_BYTES, 3)}
    files |= {f"small-{i}.json": content(100_000, i) for i in range(12)}
    for name, data in files.items():
        s3.put(name, data)
    s3.put_sums(files)
    s3.fault(bytes_per_sec=15 * MIB)
    safe: list[set[int]] = []  # before each try
    while len(safe) < 10:
        before = journaled(target)
        big = {name for name, index in before if index}
        safe.append({index for name, index in before if name in big})
        wanted, pause_sec = len(before) + dice.randrange(8), dice.uniform(0, 0.1)
        with fetching(s3, target, f"try-{len(safe)}") as process:
            wait_for(lambda p=process, n=wanted: p.poll() is not None or len(journaled(target)) >= n, DEADLINE_SEC)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(pause_sec)
            if process.poll() is not None:
                break
        there = found(target)
        whole = there.keys() >= files.keys() or (target / STAGING / NEXT).exists()  # killed while it gave the names
        assert not there or whole, "a final name before the tree was whole"
        if there or process.returncode == 0 or len(journaled(target)) >= 40 + 12:
            break  # all was there before the kill
    s3.fault()
    get(s3, target)
    fetched = found(target)
    assert fetched.keys() - {"SHA256SUMS"} == files.keys()
    assert [name for name, data in files.items() if fetched[name] != data] == []
    assert len(safe) >= 5
    assert any(safe)
    for number, parts in enumerate(safe, 1):
        assert not asked(s3, f"try-{number}") & parts, "a part that was safe was asked for again"


@pytest.mark.parametrize("hurt", ["changed", "removed"])
def test_what_an_earlier_process_left_is_not_trusted(s3: S3Server, target: Path, hurt: str) -> None:
    """Bytes that changed on disk, or a part file that is gone, though the journal counts them: the file is fetched
    again, once, without an error."""
    data = content(24 * PART_BYTES)
    s3.put("model.bin", data)
    s3.fault(bytes_per_sec=10 * MIB)
    with fetching(s3, target) as process:
        wait_for(lambda: journaled(target), DEADLINE_SEC)
        process.kill()
        process.wait()
    (part,) = (target / STAGING).glob("*.part")
    if hurt == "removed":
        part.unlink()
    else:
        safe = min(index for _, index in journaled(target))
        with part.open("r+b") as file:
            file.seek(safe * PART_BYTES)
            file.write(b"something else")
    s3.fault()
    with fetching(s3, target) as process:
        assert process.wait(DEADLINE_SEC) == 0
    assert found(target) == {"model.bin": data}
    assert ("weights.fetched_again" in printed(target)) is (hurt == "changed")


def test_every_file_that_was_hurt_is_fetched_again(s3: S3Server, target: Path) -> None:
    """Not only the first: the end of a machine may hurt several."""
    files = {name: content(2 * PART_BYTES, seed) for seed, name in enumerate(("model-1.bin", "model-2.bin"))}
    for name, data in files.items():
        s3.put(name, data)
    get(s3, target)
    journal = [HEADER]
    (target / STAGING).mkdir()
    for name, (_, file_id) in json.loads((target / MARKER).read_text())["files"].items():
        journal += [f"{file_id} 0", f"{file_id} 1"]
        (target / STAGING / f"{file_id}.part").write_bytes(b"hurt" + files[name][4:])
        (target / name).unlink()
    (target / STAGING / "journal").write_text("\n".join([*journal, ""]))
    (target / MARKER).unlink()
    get(s3, target)
    assert found(target) == files


def test_two_at_once_fetch_once(s3: S3Server, target: Path) -> None:
    """Two processes for one folder: one fetches, the other waits and then has it too."""
    files = tree(s3)
    s3.fault(bytes_per_sec=1 * MIB)
    with fetching(s3, target) as first, fetching(s3, target) as second:
        wait_for(lambda: "weights.waiting" in printed(target), DEADLINE_SEC)
        s3.fault()
        assert (first.wait(DEADLINE_SEC), second.wait(DEADLINE_SEC)) == (0, 0)
    assert found(target) == files
    assert s3.sent() == sum(map(len, files.values()))
    lines = printed(target).splitlines()
    assert len([line for line in lines if line.startswith("weights.ready") and "fetched_gb=0 " in line]) == 1
    assert any(line.startswith("weights.waiting holder=") for line in lines)


def test_the_one_that_waits_takes_over_from_a_killed_one(s3: S3Server, target: Path) -> None:
    """The kernel ends the lock of a killed process, and the next goes on from its journal."""
    data = content(32 * PART_BYTES)
    s3.put("model.bin", data)
    s3.fault(bytes_per_sec=10 * MIB)
    with fetching(s3, target) as first:
        wait_for(lambda: journaled(target), DEADLINE_SEC)
        with fetching(s3, target) as second:
            wait_for(lambda: "weights.waiting" in printed(target), DEADLINE_SEC)
            first.kill()
            s3.fault()
            assert second.wait(DEADLINE_SEC) == 0
    assert found(target) == {"model.bin": data}


def test_a_server_that_stands_still_is_given_up(s3: S3Server, target: Path) -> None:
    """No byte for the stall time: one sentence, and what arrived is kept."""
    s3.put("model.bin", content(4 * PART_BYTES))
    s3.fault(bytes_per_sec=0.001 * MIB)
    with pytest.raises(WeightsError, match="No byte came for"):
        get(s3, target, stall_timeout_sec=1.0)
    assert found(target) == {}


def test_a_store_that_does_not_answer_says_why(target: Path) -> None:
    """The reason of the operating system is in the sentence, not only that there is one."""
    with pytest.raises(WeightsError, match=r"cannot be reached.*Connection refused"):
        fetch(f"http://127.0.0.1:{free_port()}/model.gguf", target, stall_timeout_sec=1.0)


def test_a_panic_of_the_library_is_one_sentence(s3: S3Server, target: Path) -> None:
    """obstore ends in a Rust panic at some settings, which Python does not count among the exceptions."""
    with pytest.raises(WeightsError, match="Fetching s3://weights/llm/ failed: PanicException"):
        get(s3, target, uri=s3.uri().replace("us-east-1", "us%0Aeast-1"))


def test_a_store_that_breaks_off_is_asked_again(s3: S3Server, target: Path) -> None:
    """Server errors while it fetches are passing trouble: the tree arrives all the same."""
    data = content(56 * PART_BYTES)  # more than is asked for at first
    s3.put("model.bin", data)
    s3.fault(bytes_per_sec=5 * MIB)
    with fetching(s3, target) as process:
        wait_for(lambda: journaled(target), DEADLINE_SEC)
        s3.fault(status=503)
        wait_for(lambda: any(r["status"] == 503 for r in s3.reads()), DEADLINE_SEC)
        s3.fault()
        assert process.wait(DEADLINE_SEC) == 0
    assert found(target) == {"model.bin": data}


def test_a_connection_that_breaks_off_is_taken_up(s3: S3Server, target: Path) -> None:
    """In the middle of an answer: the rest is asked for, and what came before is not."""
    data = content(8 * PART_BYTES, 5)
    s3.put("model.bin", data)
    s3.fault(cut="llm/model.bin")
    get(s3, target)
    assert found(target) == {"model.bin": data}
    assert len(data) <= s3.sent() < 1.5 * len(data)


def test_memory_stays_flat(s3: S3Server, target: Path) -> None:
    """The peak of the process is far below the file's size and below 300 MB."""
    import psutil

    s3.put("model.bin", content(80 * PART_BYTES))
    peak = 0
    with fetching(s3, target) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                peak = max(peak, watched.memory_info().rss)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        assert process.returncode == 0
    assert 0 < peak < 300e6


def test_the_command_line_helps() -> None:
    """--help says what it is for; the request comes on standard input only."""
    done = subprocess.run([*command(), "--help"], capture_output=True, check=True, env=fetch_environment(os.environ))
    assert b"standard input" in done.stdout
    assert json.loads(request_json("s3://b/x", Path("/t"), None, 1.0))["credential"] is None
