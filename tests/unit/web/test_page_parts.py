"""What the page shows, and that its list of routes is ours."""

import json
import re

from nimdrum.engines.work import Work
from nimdrum.supervisor.state import EngineState, Phase
from nimdrum.web import health, install
from nimdrum.web.page import FILES, STATIC, describe, is_of_page

COUNTS = {
    ("nimdrum_rows_total", (("outcome", "answered"),)): 5.0,
    ("nimdrum_rows_total", (("outcome", "failed"),)): 2.0,
    ("nimdrum_row_errors_total", (("kind", "too_long"),)): 2.0,
    ("nimdrum_tokens_total", (("kind", "prompt"),)): 50.0,
    ("nimdrum_tokens_total", (("kind", "completion"),)): 70.0,
}


def test_a_moment() -> None:
    state = EngineState(
        Phase.BACKOFF, "nim", "NIM 2.x", 1, since=90.0, restarts=1, cause="It ended.", last_lines=("a",)
    )
    seen = describe(state, Work(3, 4, 5), COUNTS, (6, 7), 100.0)
    assert seen["phase"] == "BACKOFF"
    assert (seen["for_sec"], seen["cause"], seen["last_lines"]) == (10.0, "It ended.", ["a"])
    assert (seen["running"], seen["waiting"], seen["in_flight"], seen["window"]) == (3, 4, 6, 7)
    assert (seen["answered"], seen["failed"], seen["tokens"], seen["errors"]) == (5, 2, 70, {"too_long": 2})
    assert json.loads(json.dumps(seen)) == seen


def test_a_moment_of_which_nothing_is_known() -> None:
    seen = describe(None, None, {}, None, 100.0)
    assert (seen["phase"], seen["running"], seen["window"], seen["answered"]) == ("no supervisor", None, None, 0)


def test_every_file_is_there() -> None:
    assert {*FILES.values()} == {file.name for file in STATIC.iterdir()}


def test_the_pages_name_no_other_address() -> None:
    """Nothing is loaded from elsewhere, and every address is relative: a URL prefix is not known there."""
    for file in STATIC.iterdir():
        text = file.read_text(encoding="utf-8")
        for address in re.findall(r'(?:src|href)="([^"]*)"|fetch\("([^"]*)"', text):
            assert not "".join(address).startswith(("http", "/")), address


def test_the_list_of_routes_is_complete() -> None:
    """openapi.json has each of our routes, in the spelling that ends with a slash where there are two."""
    listed = set(json.loads((STATIC / "openapi.json").read_text(encoding="utf-8"))["paths"])
    assert set(install.ROUTES) <= listed
    assert {path for path in health.ROUTES if path.endswith("/")} <= listed
    assert {f"{start}{{path}}" for start in install.PASS_THROUGH} <= listed
    assert {path for path in listed if is_of_page(path)} == {"/docs", "/openapi.json", "/page/state.json"}
