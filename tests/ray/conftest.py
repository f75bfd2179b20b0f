"""One cluster for all tests of this folder; each adds the nodes that it needs, and removes them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_world import RayWorld, ray_world


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayWorld]:
    with ray_world(tmp_path_factory.mktemp("ray")) as world:
        yield world


@pytest.fixture
def ray(cluster: RayWorld, tmp_path: Path) -> Iterator[RayWorld]:
    """The cluster without nodes, and with a folder of this test's own."""
    cluster.folder = tmp_path
    yield cluster
    cluster.remove_nodes()
