"""NIMDRUM_LOG_FORMAT=json: every line of this package is one JSON object, also the supervisor's and the engine's."""

import json

import pytest
from drum_process import drum_score
from edge_world import World

pytestmark = pytest.mark.drum


def test_json_lines(world: World) -> None:
    world.environ["NIMDRUM_LOG_FORMAT"] = "json"
    world.fake()
    rows = world.folder / "rows.csv"
    rows.write_text("promptText\nhello\n")
    with drum_score(world, rows, world.folder / "out.csv") as drum:
        assert drum.exit_code() == 0, drum.printed
    lines = [json.loads(line) for line in drum.printed.splitlines() if line.startswith("{")]
    others = [line for line in drum.printed.splitlines() if not line.startswith("{")]
    assert {"engine.starting", "engine.running", "score.done"} <= {line.get("event") for line in lines}
    assert any(line["logger"] == "nimdrum.engine.output" for line in lines)
    assert not [line for line in others if "nimdrum." in line or line.startswith("[engine]")]
