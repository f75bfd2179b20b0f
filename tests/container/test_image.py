"""What is in the image, without its server running."""

import json
from typing import Any

import pytest
from images import Image
from sandbox import Sandbox

MOST_ADDED_MB = 600
ANY_UID = "1001230000:0"  # as OpenShift chooses them
WRITTEN_AT_RUN_TIME = ("/opt/code", "/opt/code/nim/cache", "/opt/home", "/tmp")
NOT_OURS_TO_WRITE = ("/etc", "/etc/passwd", "/opt", "/opt/venv", "/usr/bin")


def run_once(sandbox: Sandbox, image: Image, script: str, *options: str) -> str:
    """The output of a shell script in the image."""
    alone = ("--rm", "--network=none", "--passwd=false", "--cap-drop=all", "--entrypoint=sh")
    return sandbox.podman("run", *alone, *options, image.name, "-c", script)


def described(sandbox: Sandbox, name: str) -> dict[str, Any]:
    first: dict[str, Any] = json.loads(sandbox.podman("image", "inspect", name))[0]
    return first


def test_our_layers_are_small(sandbox: Sandbox, image: Image, measured: list[str]) -> None:
    """DRUM and its packages on top of a NIM image are at most 600 MB, .pyc files included."""
    added = (described(sandbox, image.name)["Size"] - described(sandbox, image.base)["Size"]) / 1e6
    python = run_once(sandbox, image, "python --version")
    measured.append(f"{image.base}: {python}, our layers add {added:.0f} MB to the base")
    assert 100 < added <= MOST_ADDED_MB


def test_image_configuration(sandbox: Sandbox, image: Image) -> None:
    """User, entry point and variables are ours, and nothing of the base's command is left to become our arguments."""
    config = described(sandbox, image.name)["Config"]
    environment = dict(entry.split("=", 1) for entry in config["Env"])
    assert config["User"] == "1000:0"
    assert config["Entrypoint"] == ["/opt/code/start_server.sh"]
    assert not config.get("Cmd")
    assert config["WorkingDir"] == "/opt/code"
    assert "8080/tcp" in config["ExposedPorts"]
    assert environment["CODE_DIR"] == "/opt/code"
    assert environment["ADDRESS"] == "0.0.0.0:8080"
    assert environment["NIM_CACHE_PATH"] == "/opt/code/nim/cache"
    assert environment["PATH"].startswith("/opt/venv/bin:")


def test_code_folder_is_the_users(sandbox: Sandbox, image: Image) -> None:
    """The context had a .env file, a .git folder, weights, old .pyc files, tests: none of them is in the image."""
    names = run_once(sandbox, image, "ls -A /opt/code && find /opt/code -name '*.pyc' -o -name 'test_*'").split()
    assert sorted(names) == ["nim", "start_server.sh"]


def test_packages_fit_together(sandbox: Sandbox, image: Image) -> None:
    """pip is content, the removed tests are missed by nobody, and every module is compiled already."""
    script = """
        set -e
        pip check
        nimdrum --version
        python -c 'import numpy.testing, pandas, scipy.stats, scipy.sparse.linalg, gevent.monkey, obstore, openai, datarobot_drum'
        find /opt/venv/lib -name '*.py' -path '*/datarobot_drum/drum/*' | wc -l
        find /opt/venv/lib -name '*.pyc' -path '*/datarobot_drum/drum/*' | wc -l
    """
    *_, sources, compiled = run_once(sandbox, image, script).split()
    assert int(sources) == int(compiled) > 50


def test_tools_that_the_platform_builds_the_model_with(sandbox: Sandbox, image: Image) -> None:
    """DataRobot copies the model's files over /opt/code in an image FROM this one, with these programs."""
    tools = run_once(sandbox, image, "for tool in sh chown chgrp chmod mkdir pip; do command -v $tool; done").split()
    assert len(tools) == 6
    assert tools[-1] == "/opt/venv/bin/pip"


@pytest.mark.parametrize("user", ["1000:0", ANY_UID])
def test_who_may_write_where(sandbox: Sandbox, image: Image, user: str) -> None:
    """What is written at run time is open to group 0, and nothing else is."""
    ours = (*WRITTEN_AT_RUN_TIME, "/opt/nim")
    script = f"for path in {' '.join(ours + NOT_OURS_TO_WRITE)}; do [ ! -w $path ] || echo $path; done"
    assert run_once(sandbox, image, script, f"--user={user}").split() == list(ours)


def test_what_ubuntu_has_otherwise_than_debian(sandbox: Sandbox, image: Image) -> None:
    """What the Dockerfile and the start script rest on, on each base: sh is dash, no `python` but ours, certificates."""
    script = """
        set -e
        readlink -f /bin/sh
        env PATH=/usr/bin:/bin sh -c 'command -v python || echo no python'
        test -s /etc/ssl/certs/ca-certificates.crt && echo certificates
        command -v python
        . /etc/os-release && echo "$ID $VERSION_CODENAME"
    """
    shell, none, certificates, ours, system = run_once(sandbox, image, script).splitlines()
    assert (shell.rpartition("/")[2], none, certificates) == ("dash", "no python", "certificates")
    assert ours == "/opt/venv/bin/python"
    assert system.split()[0] in ("debian", "ubuntu")


def test_python3_venv_is_added_where_it_is_missing(sandbox: Sandbox, image: Image) -> None:
    """Debian and Ubuntu split it off; a base whose Python makes virtual environments gets nothing from apt."""
    alone = ("--rm", "--network=none", "--entrypoint=sh", image.base)
    able = "/usr/bin/python3 -c 'import ensurepip' 2>/dev/null && echo able || echo unable"
    added = 'dpkg-query -W -f="\\${Status}" python3-venv 2>/dev/null || true'
    could = sandbox.podman("run", *alone, "-c", able) == "able"
    assert run_once(sandbox, image, added) == ("" if could else "install ok installed")
