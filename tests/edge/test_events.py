"""Deployment events: what DataRobot is told about a start, and that telling it can harm nothing."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from edge_world import READY_SEC, TOKEN, World
from fake_nim.run import free_port, wait_for
from model_folders import model_folder, start_server

from nimdrum.base.errors import EngineStartError


@pytest.fixture
def platform() -> Iterator[tuple[str, list[tuple[str, str, dict[str, str]]]]]:
    """A stand-in for DataRobot: its endpoint, and what arrived there (path, authorization, payload)."""
    seen: list[tuple[str, str, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path, self.headers["Authorization"], body))
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/api/v2", seen
    server.shutdown()
    server.server_close()


def deployed(world: World, endpoint: str) -> None:
    world.environ |= {"DATAROBOT_ENDPOINT": endpoint, "DATAROBOT_API_TOKEN": TOKEN, "MLOPS_DEPLOYMENT_ID": "d1"}


def test_the_stages_of_a_start_are_reported(world: World, platform: tuple[str, list]) -> None:
    """Starting and ready in DRUM's own payload and order, to the deployment's address, with its token."""
    endpoint, seen = platform
    deployed(world, endpoint)
    world.fake()
    world.ready_model()
    wait_for(lambda: any("ready" in payload["message"] for _, _, payload in seen), READY_SEC)
    assert {(path, authorization) for path, authorization, _ in seen} == {("/api/v2/remoteEvents/", f"Bearer {TOKEN}")}
    titles = [payload["title"] for _, _, payload in seen]
    assert (titles[0], titles[-1]) == ("Deployment stage 1 out of 4", "Deployment stage 4 out of 4")
    assert {(payload["eventType"], payload["deploymentId"]) for _, _, payload in seen} == {("deploymentInfo", "d1")}


@pytest.mark.drum
def test_a_users_load_model_is_reported(world: World, platform: tuple[str, list]) -> None:
    """The person who waits for the deployment reads what it waits for."""
    endpoint, seen = platform
    deployed(world, endpoint)
    world.fake()
    with start_server(
        world, model_folder(world, {"custom.py": "def load_model(code_dir):\n    return True\n"})
    ) as server:
        server.wait_health(200)
        wait_for(lambda: any("is ready" in payload["message"] for _, _, payload in seen), READY_SEC)
    assert seen[0][2]["message"] == "load_model of custom.py comes before NIM 1.x."


def test_a_failed_start_is_reported_with_its_cause(world: World, platform: tuple[str, list]) -> None:
    """The person who waits for the deployment reads why it failed."""
    endpoint, seen = platform
    deployed(world, endpoint)
    world.fake(die_before_ready=True, last_lines=("No space left on device",))
    with pytest.raises(EngineStartError):
        world.model().ready(READY_SEC)
    wait_for(lambda: any("The disk is full" in payload["message"] for _, _, payload in seen), READY_SEC)


def test_an_unreachable_platform_harms_nothing(world: World) -> None:
    """Nobody listens at the endpoint: the engine is ready all the same, and the token is printed nowhere."""
    deployed(world, f"http://127.0.0.1:{free_port()}")
    world.fake()
    world.ready_model()


def test_events_take_the_proxy_of_the_container(world: World, platform) -> None:
    """The supervisor's environment is small, but where the platform is reached only through a proxy it must know it."""
    proxy, seen = platform
    deployed(world, "http://datarobot.example/api/v2")
    world.environ["HTTP_PROXY"] = world.environ["http_proxy"] = proxy.removesuffix("/api/v2")
    world.fake()
    world.ready_model()
    wait_for(lambda: bool(seen), READY_SEC)
    assert seen[0][0] == "http://datarobot.example/api/v2/remoteEvents/"
