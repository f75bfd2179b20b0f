"""`EnginePlan`: through the pipe unchanged, told apart by what matters, and silent about secrets."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.base.hosting import read_hosting
from nimdrum.base.settings import load_settings
from nimdrum.engines.choose import plan_engine
from nimdrum.engines.image import NimImage
from nimdrum.engines.nim import KIND
from nimdrum.engines.plan import PORT, Bounds, EnginePlan, Limits, Preparation
from nimdrum.engines.work import Metrics

ROOT = Path(__file__).resolve().parents[3]
IMAGE = NimImage(Path("/opt/nim/start_server.sh"), None, 2, "test")
KEY = "nvapi-do-not-show-me"
PLAN = replace(
    plan_engine(
        load_settings(ROOT, {"NGC_API_KEY": {"credentialType": "api_token", "apiToken": KEY}}.get),
        read_hosting("/opt/code", {"HOME": "/root"}, ["drum", "score"]),
        (replace(KIND, find=lambda settings, hosting: IMAGE),),
    ),
    argv=("/opt/nim/start_server.sh", f"--port={PORT}"),
    prepare=(Preparation(("python", "-m", "nimdrum.weights"), {"HOME": "/root"}, f'{{"key": "{KEY}"}}'),),
)


NAMES = st.lists(st.text(), max_size=2).map(tuple)
DURATIONS = [field.name for field in fields(EnginePlan) if field.name.endswith("_sec")]


def test_json_round_trip() -> None:
    """What the supervisor reads is what DRUM planned."""
    assert EnginePlan.from_json(PLAN.to_json()) == PLAN


@settings(max_examples=150)
@given(
    st.builds(
        EnginePlan,
        argv=st.lists(st.text(), max_size=3).map(tuple),
        env=st.dictionaries(st.text(), st.text(), max_size=3),
        **{name: st.floats(0, allow_nan=False) for name in DURATIONS},
        limits=st.builds(Limits, max_backoff_sec=st.floats(0, allow_nan=False), startup_timeout_sec=st.just(1.5)),
        bounds=st.builds(Bounds),
        metrics=st.builds(Metrics, **{field.name: NAMES for field in fields(Metrics)}),
        other_ports=st.lists(st.integers(0, 65535), max_size=2).map(tuple),
        secrets=st.lists(st.text(), max_size=2).map(tuple),
        identity=st.lists(st.text(), max_size=2).map(tuple),
    )
)
def test_any_plan_survives_the_pipe(plan: EnginePlan) -> None:
    """Any text and number; equal plans have equal fingerprints on both sides."""
    copy = EnginePlan.from_json(plan.to_json())
    assert copy == plan
    assert copy.fingerprint == plan.fingerprint
    assert len(copy.fingerprint) == 12


def test_the_port_is_filled_in_everywhere() -> None:
    """In arguments and environment; the plan itself stays as it is."""
    filled = PLAN.with_port(9999)
    assert filled.port == 9999
    assert filled.argv == ("/opt/nim/start_server.sh", "--port=9999")
    assert filled.env == {**PLAN.env, "NIM_SERVER_PORT": "9999", "NIM_HEALTH_PORT": "9999"}
    assert PLAN.argv[1] == f"--port={PORT}"


@pytest.mark.parametrize(
    "change",
    [
        {"engine": "llamacpp"},
        {"argv": ("/opt/nim/start-server.sh",)},
        {"host": "10.0.0.1"},
        {"port": 9999},
        {"health_path": "/health"},
        {"model": "other"},
        {"model": None},
        {"identity": ("NIM_LOG_LEVEL=DEBUG",)},
    ],
    ids=lambda change: " ".join(change),
)
def test_other_engines_have_other_fingerprints(change: dict[str, object]) -> None:
    """A process that wants another engine must not get this one."""
    assert replace(PLAN, **change).fingerprint != PLAN.fingerprint


@pytest.mark.parametrize(
    "change",
    [{"stall_timeout_sec": 1}, {"limits": Limits(0, 1, 1)}, {"env": {"HOME": "/tmp"}}, {"line": "another word"}],
    ids=lambda change: " ".join(change),
)
def test_the_same_engine_has_the_same_fingerprint(change: dict[str, object]) -> None:
    """How patiently one waits, and the surroundings of one process, do not make another engine."""
    assert replace(PLAN, **change).fingerprint == PLAN.fingerprint


def test_a_plan_prints_no_secret() -> None:
    """Neither the environment, nor the secrets, nor the identity that holds them; all three do hold it."""
    assert KEY in PLAN.env.values()
    assert KEY in PLAN.secrets
    assert any(KEY in entry for entry in PLAN.identity)
    assert KEY not in repr(PLAN)
    assert KEY not in f"{PLAN}"
