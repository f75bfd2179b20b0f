"""The cores of a container, told from trees of files like the kernel's, and how many API servers they carry."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimdrum.system.cores import MOST_API_SERVERS, api_servers, usable_cores

V2 = {"proc/self/cgroup": "0::/\n"}
V2_BELOW = {"proc/self/cgroup": "0::/kubepods/pod1/box\n"}
V1 = {"proc/self/cgroup": "12:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n1:name=systemd:/docker/ab\n0::/\n"}


def v1(folder: str, quota: int, period: int = 100_000) -> dict[str, str]:
    return {
        f"sys/fs/cgroup/{folder}/cpu.cfs_quota_us": f"{quota}\n",
        f"sys/fs/cgroup/{folder}/cpu.cfs_period_us": f"{period}\n",
    }


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        pytest.param({}, 32, id="nothing to read"),
        pytest.param({**V2, "sys/fs/cgroup/cpu.max": "max 100000\n"}, 32, id="v2 without a quota"),
        pytest.param({**V2, "sys/fs/cgroup/cpu.max": "800000 100000\n"}, 8, id="v2"),
        pytest.param({**V2, "sys/fs/cgroup/cpu.max": "350000 100000\n"}, 3, id="v2, three and a half"),
        pytest.param({**V2, "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1, id="v2, half of one"),
        pytest.param({**V2, "sys/fs/cgroup/cpu.max": "9900000 100000\n"}, 32, id="v2, more than there are"),
        pytest.param({**V2_BELOW, "sys/fs/cgroup/cpu.max": "400000 100000"}, 4, id="v2, only the top is seen"),
        pytest.param(
            {
                **V2_BELOW,
                "sys/fs/cgroup/kubepods/pod1/box/cpu.max": "max 100000",
                "sys/fs/cgroup/kubepods/pod1/cpu.max": "600000 100000",
                "sys/fs/cgroup/kubepods/cpu.max": "1200000 100000",
            },
            6,
            id="v2, the pod's quota",
        ),
        pytest.param({**V1, **v1("cpu,cpuacct/docker/ab", 400_000)}, 4, id="v1"),
        pytest.param({**V1, **v1("cpu,cpuacct", 250_000, 50_000)}, 5, id="v1, only the top is seen"),
        pytest.param({**V1, **v1("cpu", 700_000)}, 7, id="v1, mounted by one name"),
        pytest.param({**V1, **v1("cpu,cpuacct/docker/ab", -1)}, 32, id="v1 without a quota"),
        pytest.param({**V1, **v1("memory/docker/ab", 100_000)}, 32, id="v1, another controller's"),
        pytest.param({**V1, **v1("cpu,cpuacct", 100_000, 0)}, 32, id="v1, a period of nothing"),
        pytest.param({**V2, "sys/fs/cgroup/cpu.max": "a b\n"}, 32, id="no numbers"),
        pytest.param({"proc/self/cgroup": "odd\n", "sys/fs/cgroup/cpu.max": "800000 100000"}, 8, id="an odd line"),
    ],
)
def test_cores_of_a_container(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    """The host shows 32 everywhere; the quota of the container counts, whatever the version and the mount."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path, lambda: 32) == cores


def test_what_the_scheduler_allows_counts_too(tmp_path: Path) -> None:
    """A cpuset of two cores below a quota of eight."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("800000 100000\n")
    assert usable_cores(tmp_path, lambda: 2) == 2


def test_this_machine_has_a_core() -> None:
    assert usable_cores() >= 1


@pytest.mark.parametrize(
    ("cores", "gpus", "servers"),
    [
        (1, 1, 1),
        (2, 1, 1),
        (4, 1, 1),
        (5, 1, 1),
        (6, 1, 2),
        (8, 1, 3),
        (10, 1, 4),
        (16, 1, 4),
        (64, 1, 4),
        (6, 0, 2),
        (8, 2, 2),
        (12, 4, 3),
        (16, 8, 3),
        (8, 8, 1),
        (96, 8, 4),
    ],
)
def test_the_servers_that_cores_carry(cores: int, gpus: int, servers: int) -> None:
    """One core for the engine's core, one for each worker of several GPUs, one for DRUM and the proxy; then two each."""
    assert api_servers(cores, gpus) == servers


@given(st.integers(1, 512), st.integers(0, 16))
def test_more_cores_never_mean_fewer_servers(cores: int, gpus: int) -> None:
    """And more GPUs never more; there is always one, and never more than was ever measured to help."""
    servers = api_servers(cores, gpus)
    assert 1 <= servers <= MOST_API_SERVERS
    assert api_servers(cores + 1, gpus) >= servers >= api_servers(cores, gpus + 1)
    assert servers == 1 or servers < cores
