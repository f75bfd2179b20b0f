"""`find_nim`: which NIM an image holds, told from small trees of files like those of the real images."""

from pathlib import Path

import pytest
from fake_nim.config import FakeNimConfig
from fake_nim.image import build_image
from fake_nim.releases import RELEASES

from nimdrum.engines.image import find_nim

WRAPPER = "opt/nvidia/nvidia_entrypoint.sh"
NEW, OLD = "opt/nim/start_server.sh", "opt/nim/start-server.sh"


def image(root: Path, *files: str) -> Path:
    """A tree with these files; a name that ends in a slash is a folder."""
    for name in files:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root


@pytest.mark.parametrize(
    ("files", "script", "wrapped", "line", "evidence"),
    [
        pytest.param(
            [WRAPPER, NEW, "etc/nim/config/model_manifest.yaml"],
            NEW,
            True,
            1,
            "/etc/nim/config/model_manifest.yaml",
            id="1.3",
        ),
        pytest.param([WRAPPER, OLD], OLD, True, 1, f"/{OLD}", id="1.0 with the old script name"),
        pytest.param([WRAPPER, NEW, "opt/nim/llm/.venv/"], NEW, True, 1, "/opt/nim/llm/.venv", id="1.8"),
        pytest.param([WRAPPER, NEW], NEW, True, 1, f"/{WRAPPER}", id="nothing but the wrapper speaks for 1.x"),
        pytest.param(
            [NEW, "opt/nim/etc/nginx.conf.template"], NEW, False, 2, "/opt/nim/etc/nginx.conf.template", id="2.0"
        ),
        pytest.param(
            [NEW, "opt/nim/scripts/nginx_env_vars.sh"], NEW, False, 2, "/opt/nim/scripts/nginx_env_vars.sh", id="2.1"
        ),
        pytest.param([NEW], NEW, False, 2, f"no /{WRAPPER}", id="3.0 without any mark"),
        pytest.param(
            [NEW, OLD, "opt/nim/etc/nginx.conf.template"],
            NEW,
            False,
            2,
            "/opt/nim/etc/nginx.conf.template",
            id="2.x that keeps the old script name too",
        ),
        pytest.param(
            [WRAPPER, NEW, "opt/nim/etc/nginx.conf.template"],
            NEW,
            True,
            2,
            "/opt/nim/etc/nginx.conf.template",
            id="2.x with a wrapper",
        ),
        pytest.param([NEW, OLD], NEW, False, 1, f"/{OLD}", id="both script names"),
    ],
)
def test_images(tmp_path: Path, files: list[str], script: str, wrapped: bool, line: int, evidence: str) -> None:
    """Start script, wrapper only where the image has it, line, and the file that told the line."""
    nim = find_nim(image(tmp_path, *files))
    assert nim is not None
    assert nim.start_script == tmp_path / script
    assert nim.entrypoint == (tmp_path / WRAPPER if wrapped else None)
    assert (nim.line, nim.evidence) == (line, evidence)


@pytest.mark.parametrize(
    ("folder", "backend"),
    [
        ("usr/local/lib/python3.12/dist-packages/sglang/", "sglang"),
        ("usr/lib/python3/dist-packages/sglang/", "sglang"),
        ("sgl-workspace/sglang/", "sglang"),
        ("opt/nim/llm/.venv/lib/python3.12/site-packages/sglang/", "sglang"),
        ("opt/venv/lib/python3.12/site-packages/sglang/", "sglang"),
        ("usr/local/lib/python3.12/dist-packages/vllm/", ""),
        ("usr/local/lib/python3.12/dist-packages/sglang_router/", ""),
    ],
)
def test_the_backend_of_an_image(tmp_path: Path, folder: str, backend: str) -> None:
    """SGLang where its package lies in one of the usual places; nothing is said elsewhere."""
    nim = find_nim(image(tmp_path, NEW, folder))
    assert nim is not None
    assert nim.backend == backend


@pytest.mark.parametrize(
    "files",
    [[], [WRAPPER], ["opt/nim/"], ["opt/nim/start_server.sh/"], ["opt/nim/etc/nginx.conf.template"]],
    ids=["empty", "wrapper only", "empty folder", "a folder for a script", "no start script"],
)
def test_images_without_nim(tmp_path: Path, files: list[str]) -> None:
    """Without a start script there is nothing to start."""
    assert find_nim(image(tmp_path, *files)) is None


@pytest.mark.parametrize("release", RELEASES)
def test_the_fakes_releases_are_told(tmp_path: Path, release: str) -> None:
    """Each image that the tests of releases start is taken for its line and its backend, by its files alone."""
    script = build_image(tmp_path, FakeNimConfig.of(release))
    found = find_nim(tmp_path)
    assert found is not None
    assert (found.start_script, f"{found.line}.x") == (script, RELEASES[release].line)
    assert bool(found.entrypoint) == (found.line == 1)
    assert found.backend == ("sglang" if release == "2.1" else "")
