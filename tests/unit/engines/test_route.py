"""`decide_route` as a table: every route of NVIDIA's pages, what it sets, what must not be set, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nimdrum.base.errors import SettingsError
from nimdrum.engines.route import KEYS, WeightsFacts, decide_route
from nimdrum.weights.folder import LOCK, MARKER, STAGING, Content, Tree, content, read_tree, tree_json

REPO, CACHE = Path("/opt/code/model-repo"), Path("/cache")
BARE = WeightsFacts(1, REPO, Content.EMPTY, CACHE, Content.EMPTY, {})
KEY = {"NGC_API_KEY": "nvapi-do-not-show-me"}
AWS = {"AWS_ACCESS_KEY_ID": "i", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "r"}
LOCAL = {"NIM_MODEL_NAME": str(REPO), "NIM_MODEL_PATH": str(REPO), "HF_HUB_OFFLINE": "1"}
MOUNT = {"NIM_MODEL_NAME": "/mnt/llm", "NIM_MODEL_PATH": "/mnt/llm", "HF_HUB_OFFLINE": "1"}
NO_DOWNLOAD = {"NIM_DISABLE_MODEL_DOWNLOAD": "1"}
FILLED, FETCHED, HALF = Content.FILLED, Content.FETCHED, Content.HALF
URI = "s3://bucket/llm/"


@pytest.mark.parametrize("line", [1, 2])
@pytest.mark.parametrize(
    ("change", "name", "env", "keyless", "why"),
    [
        pytest.param({"keys": KEY}, "download", {}, False, "a key is set", id="download"),
        pytest.param({"keys": KEY, "cache_holds": FILLED}, "download", {}, False, "lacks", id="download the rest"),
        pytest.param({}, "download", {}, False, "no key is set", id="download without a key"),
        pytest.param({"cache_holds": FILLED}, "cache", {}, True, "NIM_MODEL_PROFILE is empty", id="cache"),
        pytest.param({"cache_holds": FETCHED, "profile": "p"}, "cache", {}, True, "no key is set.", id="cache pinned"),
        pytest.param({"model_repo_holds": FILLED, "keys": KEY}, "local model", LOCAL, True, "no key is", id="model"),
        pytest.param({"model_repo_holds": FETCHED}, "local model", LOCAL, True, "loads /opt", id="fetched before"),
        pytest.param(
            {"env": {"NIM_MODEL_NAME": "/mnt/llm"}, "folders": frozenset(["/mnt/llm"])},
            *("local model", MOUNT, True, "NIM_MODEL_NAME is set"),
            id="mounted model",
        ),
        pytest.param(
            {"env": {"NIM_MODEL_PATH": "hf://org/llm"}, "cache_holds": FILLED},
            *("cached URI", {"HF_HUB_OFFLINE": "1"}, True, "takes hf://org/llm from it"),
            id="cached URI",
        ),
        pytest.param(
            {"env": {"NIM_MODEL_PATH": "hf://org/llm"}, "keys": {"HF_TOKEN": "t"}},
            *("download", {}, False, "a key is set"),
            id="URI with a token",
        ),
        pytest.param(
            {"env": {"NIM_REPOSITORY_OVERRIDE": "s3://mirror/"}, "store_variables": AWS},
            *("mirror", AWS, False, "downloads from that mirror."),
            id="mirror",
        ),
        pytest.param(
            {"env": {"NIM_DISABLE_MODEL_DOWNLOAD": "true"}, "keys": KEY},
            *("image", NO_DOWNLOAD, True, "in the image"),
            id="weights in the image",
        ),
        pytest.param(
            {"artifacts_uri": URI}, "fetched model", LOCAL, True, "fetched from the store", id="fetch a model"
        ),
        pytest.param(
            {"artifacts_uri": URI, "model_repo_holds": HALF}, "fetched model", LOCAL, True, "", id="go on fetching"
        ),
        pytest.param(
            {"artifacts_uri": URI, "artifacts_target": "cache", "keys": KEY},
            *("fetched cache", {}, True, "NIM_MODEL_PROFILE is empty"),
            id="fetch a cache",
        ),
    ],
)
def test_the_routes_of_both_lines(
    line: int, change: dict[str, Any], name: str, env: dict[str, str], keyless: bool, why: str
) -> None:
    """Name, variables and the sentence; a route that needs no key forbids all of them."""
    route = decide_route(replace(BARE, line=line, **change))
    assert (route.name, route.env) == (name, env)
    assert why in route.why
    assert route.why.endswith(".")
    assert route.unset == (KEYS if keyless or (not change.get("keys") and name == "download") else ())
    fetches = {"fetched model": REPO, "fetched cache": CACHE}
    assert route.fetch_into == fetches.get(name)


@pytest.mark.parametrize(
    ("line", "change", "name", "env", "keyless"),
    [
        (1, {"cache_holds": FILLED}, "fine-tuned", {}, True),
        (1, {"keys": KEY}, "fine-tuned", {}, False),
    ],
)
def test_fine_tuned_weights_of_1x(line: int, change: dict[str, Any], name: str, env: Any, keyless: bool) -> None:
    """NIM_FT_MODEL goes over a base model, from the cache or downloaded."""
    facts = replace(BARE, line=line, env={"NIM_FT_MODEL": "/ft"}, folders=frozenset(["/ft"]), **change)
    route = decide_route(facts)
    assert (route.name, route.env) == (name, env)


def test_a_bucket_of_2x() -> None:
    """NIM 2.x reads s3:// and gs:// in NIM_MODEL_PATH itself, with the store's credentials."""
    route = decide_route(replace(BARE, line=2, env={"NIM_MODEL_PATH": "s3://b/llm"}, store_variables=AWS))
    assert (route.name, route.env) == ("object store", {"NIM_MODEL_PATH": "s3://b/llm", **AWS})


@pytest.mark.parametrize(
    ("line", "change", "says"),
    [
        (
            1,
            {"model_repo_holds": FILLED, "chosen_key": "NGC_API_KEY", "config": {"NGC_API_KEY": "k"}},
            "Empty NGC_API_KEY, or remove.*model-repo",
        ),
        (1, {"env": NO_DOWNLOAD, "chosen_key": "NGC_API_KEY"}, "unset NIM_DISABLE_MODEL_DOWNLOAD"),
        (1, {"artifacts_uri": URI, "chosen_key": "HF_TOKEN"}, "Empty HF_TOKEN"),
        (2, {"artifacts_uri": URI, "artifacts_target": "cache", "chosen_key": "NGC_API_KEY"}, "model_artifacts_uri"),
        (1, {"artifacts_uri": URI, "model_repo_holds": FILLED}, "already holds files"),
        (2, {"artifacts_uri": URI, "config": {"NIM_MODEL_PATH": "/x"}}, "NIM_MODEL_PATH.*Use one"),
        (1, {"model_repo_holds": HALF}, "did not end.*model_artifacts_uri"),
        (1, {"cache_holds": HALF}, "/cache holds.*did not end"),
        (
            2,
            {"model_repo_holds": FILLED, "env": {"NIM_MODEL_PATH": "/x"}, "config": {"NIM_MODEL_PATH": "/x"}},
            "Remove",
        ),
        (1, {"env": {"NIM_MODEL_NAME": "llm"}}, "absolute folder"),
        (1, {"env": {"NIM_MODEL_NAME": "/mnt/llm"}}, "no folder here"),
        (1, {"env": {"NIM_MODEL_PATH": "s3://b/llm"}}, "1.x reads no bucket"),
        (1, {"env": {"NIM_REPOSITORY_OVERRIDE": "gs://b"}}, "takes s3://, https://, jfrog://"),
        (2, {"env": {"NIM_REPOSITORY_OVERRIDE": "https://b"}}, "takes s3://, gs://"),
        (2, {"env": {"NIM_FT_MODEL": "/ft"}}, "set NIM_MODEL_PATH"),
        (1, {"env": {"NIM_FT_MODEL": "/ft"}}, "no absolute folder"),
    ],
)
def test_what_cannot_work_together(line: int, change: dict[str, Any], says: str) -> None:
    """Each contradiction is an error that says what to do."""
    with pytest.raises(SettingsError, match=says):
        decide_route(replace(BARE, line=line, **change))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([], Content.EMPTY),
        ([LOCK, "lost+found/x"], Content.EMPTY),
        (["config.json"], Content.FILLED),
        ([LOCK, f"{STAGING}/journal"], Content.HALF),
        (["config.json", f"{STAGING}/next.json"], Content.HALF),
        (["config.json", LOCK, MARKER], Content.FETCHED),
    ],
)
def test_what_a_folder_holds(tmp_path: Path, files: list[str], expected: Content) -> None:
    """Told by names alone; a folder that is not there is empty."""
    assert content(tmp_path / "nowhere") is Content.EMPTY
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert content(tmp_path) is expected


def test_a_marker_is_read_as_it_was_written(tmp_path: Path) -> None:
    """And not at all when it is half, of another kind, or names what lies elsewhere: its files are removed one day."""
    tree = Tree("s3://b/x", {"a/b.bin": (3, "id"), "ä": (0, "id2")})
    path = tmp_path / MARKER
    path.write_text(tree_json(tree), encoding="utf-8")
    assert read_tree(path) == tree
    assert not tree.is_whole_in(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.bin").write_bytes(b"123")
    (tmp_path / "ä").touch()
    assert tree.is_whole_in(tmp_path)
    for text in ("", "{", "[]", '{"uri": "x"}', tree_json(Tree("u", {"../../etc/passwd": (1, "i")}))):
        path.write_text(text)
        assert read_tree(path) is None
