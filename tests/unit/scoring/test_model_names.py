"""`Models`: which models an engine has, asked as seldom as can be."""

import json
from dataclasses import dataclass, field

import gevent

from nimdrum.scoring.models import LOOK_AGAIN_SEC, Models
from nimdrum.session.attach import Endpoint
from nimdrum.session.client import EngineClient, Reply, Unreachable

HERE, NEXT = Endpoint("127.0.0.1", 9999, "llama"), Endpoint("127.0.0.1", 9998, "llama")


@dataclass
class World:
    """An engine whose list changes, and the time."""

    names: list[str] = field(default_factory=lambda: ["llama", "legal"])
    reply: Reply | None = None
    looks: int = 0
    now: float = 100.0

    def clock(self) -> float:
        return self.now


class Client(EngineClient):
    def __init__(self, world: World) -> None:
        super().__init__("127.0.0.1", 9999)
        self._world = world

    def get(self, path: str, timeout_sec: float) -> Reply:
        assert path == "/v1/models"
        self._world.looks += 1
        gevent.sleep(0)  # others run meanwhile
        if self._world.reply is None:
            return Reply(200, {}, json.dumps({"data": [{"id": name} for name in self._world.names]}).encode())
        if self._world.reply.status == 0:
            raise Unreachable("gone")
        return self._world.reply


def test_rows_that_ask_together_cause_one_look() -> None:
    """A hundred rows, two adapters, one of which is not there."""
    world = World()
    models, client = Models(world.clock), Client(world)
    rows = [gevent.spawn(models.listed, client, HERE, ("legal", "nobody")[i % 2]) for i in range(100)]
    assert {row.get() for row in rows} == {("llama", "legal")}
    assert world.looks == 1


def test_an_adapter_that_came_later_is_found() -> None:
    """After a while, and then only because somebody names it: a name that was seen costs nothing."""
    world = World()
    models, client = Models(world.clock), Client(world)
    models.listed(client, HERE, "legal")
    world.names.append("medical")
    assert "medical" not in models.listed(client, HERE, "medical")
    world.now += LOOK_AGAIN_SEC
    models.listed(client, HERE, "legal")
    assert world.looks == 1
    assert "medical" in models.listed(client, HERE, "medical")
    assert world.looks == 2


def test_another_engine_has_a_list_of_its_own() -> None:
    """A restarted one too: it may be on another port."""
    world = World()
    models, client = Models(world.clock), Client(world)
    models.listed(client, HERE, "legal")
    world.names = ["llama"]
    assert models.listed(client, NEXT, "legal") == ("llama",)


def test_an_engine_that_does_not_say_has_none() -> None:
    """A page, an error, no answer: then the engine judges the name itself."""
    for reply in (Reply(404, {}, b"{}"), Reply(200, {}, b"<html>"), Reply(200, {}, b"[1]"), Reply(0, {}, b"")):
        assert Models().listed(Client(World(reply=reply)), HERE, "legal") == ()
