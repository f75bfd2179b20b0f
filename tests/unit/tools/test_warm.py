"""The pure parts of `warm`: which tool with which arguments, whether a tree is whole, and the manifest."""

import json
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimdrum.base.errors import SettingsError, WeightsError
from nimdrum.engines.image import NimImage
from nimdrum.engines.tools import tool_command
from nimdrum.system.process import Ended
from nimdrum.tools.warm.job import default_cache, plan_job, refuse_failed
from nimdrum.tools.warm.manifest import problems, refuse_incomplete, snapshot, weight_files, write_sums

CACHE, STORE = Path("/cache"), Path("/store")


@pytest.mark.parametrize(
    ("line", "options", "words"),
    [
        (2, {"every": True, "profiles": ("a",)}, "--profiles and --all exclude each other"),
        (2, {"every": True, "model_uri": "hf://x/y"}, "--all and --model-uri exclude each other"),
        (2, {"model_store": STORE}, "--model-store needs one profile"),
        (2, {"model_store": STORE, "profiles": ("a", "b")}, "--model-store needs one profile"),
        (2, {"model_store": STORE, "every": True}, "--model-store needs one profile"),
        (2, {"model_repo": "hf://x/y"}, "--model-repo needs the folder"),
        (2, {"manifest_file": Path("/m")}, "--manifest-file goes with --model-uri"),
        (1, {"model_uri": "hf://x/y"}, "model-free images of NIM 2.x"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together(line: int, options: dict[str, Any], words: str) -> None:
    """The error names them."""
    with pytest.raises(SettingsError, match=words):
        plan_job(line, CACHE, **options)


@pytest.mark.parametrize(
    ("options", "tool", "arguments", "target"),
    [
        ({}, "download-to-cache", (), CACHE),
        ({"profiles": ("a", "b")}, "download-to-cache", ("--profiles", "a", "b"), CACHE),
        (
            {"model_uri": "hf://x/y", "manifest_file": Path("/m")},
            "download-to-cache",
            ("--model-uri", "hf://x/y", "--manifest-file", "/m"),
            CACHE,
        ),
        (
            {"model_store": STORE, "model_repo": "hf://x/y"},
            "create-model-store",
            ("--model-repo", "hf://x/y", "--model-store", "/store"),
            STORE,
        ),
    ],
    ids=str,
)
def test_jobs(options: dict[str, Any], tool: str, arguments: tuple[str, ...], target: Path) -> None:
    """The tools' own arguments, as NVIDIA documents them."""
    job = plan_job(2, CACHE, **options)
    assert (job.tool, job.arguments, job.target) == (tool, arguments, target)


ONE, TWO = {"a": (1, 1)}, {"a": (1, 1), "b": (1, 1)}


@pytest.mark.parametrize(
    ("ended", "before", "after", "words"),
    [
        pytest.param(Ended(0, ("done",)), {}, ONE, None, id="filled"),
        pytest.param(Ended(0, ("done",)), ONE, ONE, None, id="was filled"),
        pytest.param(Ended(0, ("timed out: getaddrinfo", *"abcdef")), ONE, TWO, None, id="an error that it got over"),
        pytest.param(Ended(0, ("getaddrinfo", *"abcdef")), ONE, ONE, "reported a failure", id="an error, nothing new"),
        pytest.param(Ended(0, ("No space left on device",)), ONE, TWO, "disk is full", id="an error at the end"),
        pytest.param(Ended(0, ()), {}, {}, "wrote nothing. It said nothing", id="nothing"),
        pytest.param(Ended(1, ("x", "")), {}, ONE, "code 1. Its last line was: x", id="exit code"),
        pytest.param(Ended(-9, ()), {}, ONE, "code -9", id="killed"),
        pytest.param(Ended(None, ()), {}, ONE, "had not ended after 5 s", id="time is up"),
    ],
)
def test_what_counts_as_failed(
    ended: Ended, before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]], words: str | None
) -> None:
    """The exit code alone proves nothing, in neither direction that can be seen."""
    if words is None:
        refuse_failed("tool", ended, before, after, 5)
    else:
        with pytest.raises(WeightsError, match=words):
            refuse_failed("tool", ended, before, after, 5)


def safetensors(path: Path, data: int, says: int | None = None) -> None:
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": {"data_offsets": [0, data if says is None else says]}})
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(data))


def test_a_whole_tree(tmp_path: Path) -> None:
    """Shards as long as their headers say, an index whose shards are there, links to something."""
    safetensors(tmp_path / "a.safetensors", 10)
    (tmp_path / "x.safetensors.index.json").write_text('{"weight_map": {"w": "a.safetensors"}}')
    (tmp_path / "link.safetensors").symlink_to("a.safetensors")
    assert problems(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.safetensors", b"", "no readable safetensors"),
        ("a.safetensors", b"\xff" * 20, "no readable safetensors"),
        ("a.safetensors", struct.pack("<Q", 2) + b"[]", "no readable safetensors"),
        ("a.safetensors", struct.pack("<Q", 20) + b"{}", "no readable safetensors"),
        ("a.safetensors", struct.pack("<Q", 2) + b"{}x", "has 11 bytes, and its header says 10"),
        ("a.safetensors.index.json", b'{"weight_map": {"w": "b.safetensors"}}', "names b.safetensors, which is not"),
        ("a.safetensors.index.json", b"[]", "no readable index"),
        ("a.incomplete", b"", "unfinished download"),
    ],
)
def test_a_tree_that_is_not_whole(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    """Each says which file and what is wrong with it."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=f"{name} .*{words}|{name} is {words}|{words}"):
        refuse_incomplete(tmp_path)


def test_a_link_to_nothing(tmp_path: Path) -> None:
    """A hub's folder that was copied without its blobs, say."""
    (tmp_path / "a").symlink_to("../blobs/x")
    assert problems(tmp_path) == ["a is a link to nothing"]


@given(st.binary(max_size=64))
def test_any_bytes_are_judged(content: bytes) -> None:
    """A broken file is a finding, not an exception."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.safetensors", "a.safetensors.index.json"):
            (Path(folder) / name).write_bytes(content)
        problems(Path(folder))


def test_what_does_not_belong_to_the_weights(tmp_path: Path) -> None:
    """Lock files, the manifest, and files of this project."""
    for name in ("a", "a.lock", "SHA256SUMS", ".nimdrum-x", ".hidden", "b/.nimdrum-x", ".nimdrum-y/c", "b/.locks/d"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    assert list(weight_files(tmp_path)) == [".hidden", "a", "b/.nimdrum-x"]
    assert snapshot(tmp_path / "not there") == {}


def test_the_manifest_is_coreutils_own(tmp_path: Path) -> None:
    """Byte for byte what sha256sum prints, links included, and each file is read once."""
    (tmp_path / "sub").mkdir()
    for name, content in {"b": b"b" * 10_000_000, "sub/a b": b"", "é": b"x"}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "link").symlink_to("b")
    totals: list[int] = []
    read: list[int] = []
    assert write_sums(tmp_path, totals.append, read.append) == 4
    assert totals == [sum(read)] == [10_000_001]
    names = ["b", "link", "sub/a b", "é"]
    expected = subprocess.run(["sha256sum", *names], cwd=tmp_path, capture_output=True, check=True).stdout
    assert (tmp_path / "SHA256SUMS").read_bytes() == expected
    assert sorted(p.name for p in tmp_path.iterdir()) == ["SHA256SUMS", "b", "link", "sub", "é"]


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "a\x7f"])
def test_names_that_a_manifest_cannot_hold(tmp_path: Path, name: str) -> None:
    """coreutils would escape them, and then readers differ."""
    (tmp_path / name).touch()
    with pytest.raises(WeightsError, match="cannot stand in a SHA256SUMS"):
        write_sums(tmp_path, lambda total: None, lambda count: None)
    assert not (tmp_path / "SHA256SUMS").exists()


def test_the_cache_is_the_engines(tmp_path: Path) -> None:
    """What `warm` fills without --cache is what the engine reads: engine_config.json, the variable, NIM's own."""
    environ = {"NIM_CACHE_PATH": "/of/the/container"}
    assert default_cache(tmp_path, {}) == Path("/opt/nim/.cache")
    assert default_cache(tmp_path, environ) == Path("/of/the/container")
    (tmp_path / "engine_config.json").write_text('{"env": {"NIM_CACHE_PATH": "/of/the/file"}}')
    assert default_cache(tmp_path, environ) == Path("/of/the/file")


def test_where_a_tool_is(tmp_path: Path) -> None:
    """On PATH, in the usual folders of the image, or in 2.x as an action of the start script."""
    script, wrapper = tmp_path / "opt/nim/start_server.sh", tmp_path / "wrapper"
    first, second = NimImage(script, wrapper, 1, ""), NimImage(script, None, 2, "")
    wrapped = NimImage(script, wrapper, 2, "")
    assert tool_command("no-such-tool", first, tmp_path, "") is None
    assert tool_command("no-such-tool", second, tmp_path, "") == (str(script), "no-such-tool")
    assert tool_command("no-such-tool", second, tmp_path, "", script=False) is None
    assert tool_command("no-such-tool", wrapped, tmp_path, "") == (str(wrapper), str(script), "no-such-tool")
    tool = tmp_path / "opt/nim/llm/.venv/bin/no-such-tool"
    tool.parent.mkdir(parents=True)
    tool.touch(mode=0o755)
    assert tool_command("no-such-tool", first, tmp_path, "/bin") == (str(tool),)
