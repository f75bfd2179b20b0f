"""An engine of a new kind: one record in a module of its own is all that the project must be told."""

import importlib.util
from pathlib import Path

import pandas as pd
from edge_world import World

from nimdrum.engines.choose import find_kinds
from nimdrum.scoring.score import score_frame

MODULE = """
from dataclasses import replace

from nimdrum.engines.plan import EngineKind
from nimdrum.engines.plan import LOOPBACK, PORT, Bounds
from nimdrum.engines.work import Metrics


def plan(plan, settings, hosting, config, script):
    variables = {"PATH": "/usr/bin:/bin", "NIM_SERVER_PORT": PORT, "NIM_HEALTH_PORT": PORT}
    return replace(plan, line="other 1.0", argv=(str(script),), env={**variables, "NIM_SERVED_MODEL_NAME": "m"}, model="m")


KIND = EngineKind(
    name="other",
    auto_place=9,
    find=lambda settings, hosting: hosting.image_root / "opt/nim/start_server.sh",
    plan=plan,
    looked_for=lambda hosting: "another engine",
    health_path="/v1/health/live",
    bounds=Bounds(start=2, blind=3, free=3, ceiling=3),
    metrics=Metrics(("/v1/metrics",), ("num_requests_running",), ("num_requests_waiting",), ("generation_tokens_total",)),
)
"""


def test_a_kind_from_a_module_of_its_own_answers_rows(world: World, tmp_path: Path) -> None:
    """It is chosen by its name, started, found ready by its own health path, and driven within its own bounds."""
    world.fake()
    file = tmp_path / "other_engine.py"
    file.write_text(MODULE)
    spec = importlib.util.spec_from_file_location("other_engine", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = world.ready_model((*find_kinds(), module.KIND), engine="other")
    assert model.attachment.plan.bounds.ceiling == 3
    answers = score_frame(pd.DataFrame({"promptText": [f"Say {i}" for i in range(12)]}), model)
    assert list(answers["row_error"]) == [""] * 12
    assert len(world.starts()) == 1
