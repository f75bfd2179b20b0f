"""Which lines a person sees: what is hidden is known by the whole line, so that nothing unknown is lost."""

import logging

import pytest

from nimdrum.base.log import JsonFormatter
from nimdrum.tools.lines import Kind, kind_of

STAMP = "2026-11-30 02:42:36,054"
DRUMS = f"""{STAMP} WARNING drum.PythonModelAdapter:  Instrumentation for aiottp is not loaded, make sure appropriate
                packages are installed:

                pip install opentelemetry-instrumentation-aiohttp-client
                 """  # as DRUM 1.18.1 prints it


def as_json(level: int, name: str, message: str) -> str:
    record = logging.LogRecord(name, level, "", 0, message, None, None)
    record.created = 0.0  # it is in the test's name, and several processes collect that
    return JsonFormatter().format(record)


@pytest.mark.parametrize("line", DRUMS.splitlines())
def test_drums_noise(line: str) -> None:
    assert kind_of(line) is Kind.NOISE


@pytest.mark.parametrize(
    "line",
    [
        "[engine] 0.00.006.743 W srv          init: security: no API key is set and CORS allows all origins (see https://github.com/ggml-org/llama.cpp/pull/25655)",
        "[engine] 0.04.181.877 W srv          init: --cache-idle-slots requires --cache-ram, disabling",
    ],
)
def test_llama_cpps_noise(line: str) -> None:
    assert kind_of(line) is Kind.NOISE


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (f"{STAMP} WARNING drum.PythonModelAdapter:  Instrumentation for requests is not loaded", Kind.LOG),
        ("[engine] 0.04.181.877 W srv          init: another warning", Kind.LOG),
        (f"{STAMP} INFO nimdrum.score:  window.moved to=17 was=16", Kind.LOG),
        (f"{STAMP} INFO nimdrum.supervisor: engine.running line=llama.cpp model=m port=9999", Kind.BACK),
        (f'{STAMP} INFO nimdrum.supervisor: engine.backoff line=llama.cpp restarts=1 cause="x"', Kind.TOLD),
        (f"{STAMP} CRITICAL nimdrum.hooks:  llama.cpp has failed.", Kind.TOLD),
        ("start_server.fatal No GPU is visible in this container", Kind.TOLD),
        ("start_server.gpus count=0", Kind.LOG),
        ("[external engine] http://127.0.0.1:9/health: no answer (Connection refused)", Kind.TOLD),
        ('127.0.0.1 - - [30/Nov/2026:02:42:36 +0000] "GET /health/ HTTP/1.1" 200 5 "-" "curl/8"', Kind.ACCESS),
        ("[engine] the prompt says: ERROR nimdrum.x", Kind.LOG),
        (as_json(logging.INFO, "nimdrum.supervisor", "engine.running line=x"), Kind.BACK),
        (as_json(logging.INFO, "nimdrum.supervisor", "engine.backoff line=x"), Kind.TOLD),
        (as_json(logging.WARNING, "nimdrum.hooks", "xyzzy"), Kind.TOLD),
        (as_json(logging.INFO, "nimdrum.score", "window.moved"), Kind.LOG),
        ("Traceback (most recent call last):", Kind.LOG),
    ],
)
def test_what_other_lines_are(line: str, kind: Kind) -> None:
    assert kind_of(line) is kind
