"""The state file: what is written is read again, and what is broken is no state."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.supervisor.state import EngineState, Phase, read_state, write_state

STATE = EngineState(
    phase=Phase.RUNNING,
    engine="nim",
    line="NIM 2.x",
    supervisor_pid=10,
    since=1_700_000_000.5,
    engine_pid=11,
    host="127.0.0.1",
    port=9999,
    model="llama",
    restarts=2,
    cause="The GPU's memory does not suffice.",
    last_lines=("one", "two"),
)


def test_round_trip(tmp_path: Path) -> None:
    """Readable by its owner only, and nothing else is left in the folder."""
    path = tmp_path / "state.json"
    write_state(path, STATE)
    assert read_state(path) == STATE
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]
    assert STATE.url == "http://127.0.0.1:9999"


@settings(max_examples=100)
@given(
    st.builds(
        EngineState,
        phase=st.sampled_from(Phase),
        supervisor_pid=st.integers(0, (1 << 31) - 1),
        since=st.floats(allow_nan=False, allow_infinity=False),
        model=st.none() | st.text(),
        cause=st.none() | st.text(),
        last_lines=st.lists(st.text(), max_size=3).map(tuple),
    )
)
def test_any_state_survives_the_file(tmp_path_factory: pytest.TempPathFactory, state: EngineState) -> None:
    """Whatever an engine prints; half a character is kept as it is."""
    path = tmp_path_factory.getbasetemp() / "state.json"
    state = replace(state, last_lines=(*state.last_lines, "half \ud800"))
    write_state(path, state)
    assert read_state(path) == state


def test_the_file_is_replaced(tmp_path: Path) -> None:
    """A reader that has the old one open still reads it whole."""
    path = tmp_path / "state.json"
    write_state(path, STATE)
    with path.open() as old:
        write_state(path, EngineState(Phase.FATAL, "nim", "NIM 2.x", 10, 0.0))
        assert json.loads(old.read())["phase"] == "RUNNING"
    changed = read_state(path)
    assert changed is not None
    assert changed.phase is Phase.FATAL


def without(name: str) -> bytes:
    document = json.loads(STATE.to_json())
    del document[name]
    return json.dumps(document).encode()


def with_(name: str, value: object) -> bytes:
    return json.dumps({**json.loads(STATE.to_json()), name: value}).encode()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="no file"),
        pytest.param(b"", id="empty"),
        pytest.param(STATE.to_json().encode()[:-20], id="half"),
        pytest.param(b"\xff\xfe\xff", id="not UTF-8"),
        pytest.param(b"{}", id="empty object"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"null", id="null"),
        pytest.param(b'"RUNNING"', id="a text"),
        pytest.param(STATE.to_json().replace("RUNNING", "SLEEPING").encode(), id="a phase of another version"),
        pytest.param(without("phase"), id="no phase"),
        pytest.param(without("last_lines"), id="no lines"),
        pytest.param(without("supervisor_pid"), id="no supervisor"),
        pytest.param(with_("last_lines", None), id="null lines"),
        pytest.param(with_("last_lines", [["x"]]), id="lines that are none"),
        pytest.param(with_("since", None), id="no time"),
        pytest.param(with_("since", float("nan")), id="a time that is none"),
        pytest.param(with_("supervisor_pid", "10"), id="a pid in quotes"),
        pytest.param(with_("port", [9999]), id="a list for a port"),
        pytest.param(with_("restarts", 10**30), id="restarts without end"),
        pytest.param(with_("model", {}), id="an object for a name"),
        pytest.param(with_("cause", 5), id="a number for a cause"),
        pytest.param(b'{"a":' * 100_000, id="nested deeply"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="lists in lists"),
        pytest.param(b'{"since": ' + b"1" * 100_000 + b"}", id="a number without end"),
    ],
)
def test_a_broken_file_is_no_state(tmp_path: Path, content: bytes | None) -> None:
    """Also one of another version: None, never an error."""
    path = tmp_path / "state.json"
    if content is not None:
        path.write_bytes(content)
    assert read_state(path) is None


def test_a_field_of_a_newer_version_is_ignored(tmp_path: Path) -> None:
    """What is known is enough."""
    path = tmp_path / "state.json"
    path.write_text(json.dumps({**json.loads(STATE.to_json()), "mood": "good"}))
    assert read_state(path) == STATE


def test_a_folder_is_no_state(tmp_path: Path) -> None:
    """Nor is anything else that cannot be read."""
    assert read_state(tmp_path) is None
