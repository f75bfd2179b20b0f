"""Stand-ins for NIM's base images: a small Debian or Ubuntu with the fake NIM, and a GPU that only `nvidia-smi` sees.

They hold this machine's package configuration and certificates, so they are never published.
"""

import contextlib
import json
import platform
import re
import shutil
from pathlib import Path

import fake_nim
import requests
from fake_nim.config import FakeNimConfig
from fake_nim.image import CONFIG_NAME, build_image
from interpreters import Interpreter, pythons
from sandbox import INSIDE, Sandbox

UBUNTU = ("jammy", "noble")  # 22.04 and 24.04, which NIM's images stand on
OTHER_SUITES = {"bookworm": "trixie", "trixie": "bookworm", "jammy": "noble", "noble": "jammy"}
LOOK_SEC = 30.0
FAKE_AT = Path("/opt/nim/fake_nim")
PROFILES = "Compatible with system and runnable:\n- 0123456789abcdef (fake-bf16-tp1)"
NIM_2X_FOLDERS = tuple(
    f"/opt/nim/{name}" for name in ".cache .config .triton etc generated_configs nginx runtime-cache workspace".split()
)
"""Where NIM 2.x writes, by public reports; folders of its image, but for .cache."""


def find_python(version: str) -> Interpreter | None:
    """A Python that can be copied into an image, since it has a folder of its own; None where there is none."""
    return next((python for python in pythons(version) if python.prefix != Path("/usr")), None)


def find_ubuntu(suite: str) -> str | None:
    """Where Ubuntu's packages of `suite` come from, as a line for apt: the place beside Debian's on this machine's mirror.

    None where there is none. Debian has no package with Ubuntu's keys, so the line says that they are not looked for.
    """
    for path in _package_sources():
        for mirror in re.findall(r"(https?://\S+)/debian(?=/?\s)", path.read_text(encoding="utf-8")):
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"{mirror}/ubuntu/dists/{suite}/InRelease", timeout=LOOK_SEC).ok:
                    return f"deb [trusted=yes] {mirror}/ubuntu {suite} main universe\n"
    return None


def other_suite() -> str:
    """Another release of this machine's distribution, whose packages come from the same place."""
    return OTHER_SUITES[_own_suite()]


def nim_base(sandbox: Sandbox, line: str, python: Interpreter | None = None, suite: str | None = None) -> str:
    """Make the image: NIM's layout of `line` on the system `suite` (this machine's own); its name.

    `python` takes the place of the system's.
    """
    suite = suite or _own_suite()
    tag = f"nim-{line}-{'python' + python.version if python else suite}"
    context = sandbox.folder / "tmp" / tag
    tree = context / "tree"
    build_image(tree, fake_config(line), python="/usr/bin/python3", server=FAKE_AT / "server.py", seen_at=Path("/"))
    shutil.copytree(
        Path(fake_nim.__file__).parent, tree / FAKE_AT.relative_to("/"), ignore=shutil.ignore_patterns("__*__")
    )
    (tree / FAKE_AT.relative_to("/") / "__init__.py").touch()
    _program(tree / "usr/bin/nvidia-smi", 'echo "GPU 0: Fake H200 (UUID: GPU-0)"')
    _program(tree / "usr/bin/list-model-profiles", f"echo '{PROFILES}'")
    if python is not None:
        _copy_python(python, tree / "usr")
    (context / "Dockerfile").write_text(_recipe(_system(sandbox, suite), line, python), encoding="utf-8")
    return sandbox.build(tag, INSIDE / context.relative_to(sandbox.folder))


def fake_config(line: str, **switches: object) -> FakeNimConfig:
    """The fake NIM of an image: it loads until somebody makes the file /tmp/loaded, unless told otherwise."""
    writes = NIM_2X_FOLDERS if line == "2.x" else ()
    return FakeNimConfig(**{"line": line, "load_until": "/tmp/loaded", "must_write": writes, **switches})  # type: ignore[arg-type]


CONFIG_AT = Path("/opt/nim") / CONFIG_NAME


def _recipe(system: str, line: str, python: Interpreter | None) -> str:
    """Entry point, user and environment as in the real images, as far as they are known."""
    entry = ["/opt/nvidia/nvidia_entrypoint.sh"] if line == "1.x" else ["/opt/nim/start_server.sh"]
    lines = [f"FROM {system}", "COPY tree /"]
    if python is not None:
        lines.append(f"RUN ldconfig && ln -sf python{python.version} /usr/bin/python3")
    if line == "2.x":
        folders = " ".join(NIM_2X_FOLDERS[1:])
        lines += [f"RUN useradd --uid 1000 --user-group nvs && mkdir -p {folders}", "USER nvs"]
    else:
        lines.append('CMD ["/opt/nim/start_server.sh"]')
    lines += ["ENV NIM_CACHE_PATH=/opt/nim/.cache", "WORKDIR /opt/nim", f"ENTRYPOINT {json.dumps(entry)}"]
    return "\n".join([*lines, ""])


def _system(sandbox: Sandbox, suite: str) -> str:
    """A minimal system with the distribution's Python, made from its packages; kept with the sandbox's folder."""
    name = f"localhost/{suite}"
    if sandbox.run("podman", "image", "exists", name, check=False).returncode == 0:
        return name
    sources = sandbox.folder / "tmp" / f"sources-{suite}"
    sources.mkdir()
    if suite in UBUNTU and _own_suite() not in UBUNTU:
        (sources / "ubuntu.list").write_text(find_ubuntu(suite) or "", encoding="utf-8")
    else:
        for path in _package_sources():
            text = path.read_text(encoding="utf-8").replace(_own_suite(), suite)
            (sources / path.name).write_text(text, encoding="utf-8")
    hooks = [f"copy-in {path} /usr/local/share/ca-certificates" for path in _own_certificates()]
    hooks.append('chroot "$1" update-ca-certificates')
    if Path("/etc/pip.conf").exists():
        hooks.append("copy-in /etc/pip.conf /etc")
    leave_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale")]
    tar = f"{INSIDE}/tmp/{suite}.tar"
    sandbox.run(
        *("mmdebstrap", "--mode=root", "--variant=minbase", "--include=apt,ca-certificates,python3"),
        *("--dpkgopt=force-unsafe-io", '--aptopt=Acquire::Languages "none"', *leave_out),
        *(f"--customize-hook={hook}" for hook in hooks),
        *(suite, tar, *(f"{INSIDE}/tmp/{sources.name}/{path.name}" for path in sorted(sources.iterdir()))),
    )
    sandbox.podman("import", "--quiet", tar, name)
    (sandbox.folder / "tmp" / f"{suite}.tar").unlink()
    return name


def _own_suite() -> str:
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def _package_sources() -> list[Path]:
    """The distribution's own sources, not those that were added for other software."""
    apt = Path("/etc/apt")
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    return [
        path
        for path in files
        if path.suffix in (".list", ".sources")
        and path.is_file()
        and any(_own_suite() in line.split() for line in path.read_text(encoding="utf-8").splitlines())
    ]


def _own_certificates() -> list[Path]:
    return sorted(Path("/usr/local/share/ca-certificates").glob("*.crt"))


def _copy_python(python: Interpreter, to: Path) -> None:
    """The interpreter and its standard library, without what is installed into it: it finds them from where it lies."""
    leave_out = shutil.ignore_patterns("site-packages", "test", "__pycache__", "config-*", "idlelib", "tkinter", "*.a")
    library = f"python{python.version}"
    shutil.copytree(python.prefix / "lib" / library, to / "lib" / library, ignore=leave_out, symlinks=True)
    for shared in (python.prefix / "lib").glob("libpython*.so*"):
        shutil.copy(shared, to / "lib", follow_symlinks=False)
    shutil.copy(python.prefix / "bin" / library, to / "bin")


def _program(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", "# Stand-in: test code.", *lines, ""]), encoding="utf-8")
    path.chmod(0o755)
