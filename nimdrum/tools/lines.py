"""Which lines of engine, supervisor and DRUM a person sees: by exact rules, never by level; all else is log. Pure."""

import re
from enum import Enum


class Kind(Enum):
    """What a line is."""

    TOLD = "told"
    """What goes wrong with the engine, and what this project warns of: always shown."""
    BACK = "back"
    """The engine is ready: of interest after it was not."""
    ACCESS = "access"
    LOG = "log"
    NOISE = "noise"
    """It says nothing to anybody, and is not even log."""


NOISE = re.compile(
    r".*WARNING drum\.PythonModelAdapter:  Instrumentation for aiottp is not loaded, make sure appropriate$"
    r"|^ {16}packages are installed:$"
    r"|^ {16}pip install opentelemetry-instrumentation-aiohttp-client$"
    r"|^\[engine\] [\d.]+ W srv +init: security: no API key is set and CORS allows all origins"
    r"|^\[engine\] [\d.]+ W srv +init: --cache-idle-slots requires --cache-ram, disabling$"
    r"|^\s*$"
)
"""DRUM 1.18.1 and llama.cpp, whole lines as they print them."""
ACCESS = re.compile(r'^\S+ \S+ \S+ \[[^\]]+\] "[A-Z]+ \S+ HTTP/[\d.]+" \d{3} ')
JSON = r'\{"time": "[^"]+", "level": "%s", "logger": "nimdrum\.%s'
"""How our own lines begin with NIMDRUM_LOG_FORMAT=json; else time, level and name stand before the text."""
TOLD = re.compile(
    r"^\S+ \S+ (WARNING|ERROR|CRITICAL) nimdrum\."
    r"|^\S+ \S+ INFO nimdrum\.supervisor: engine\.(backoff|fatal|stalled)\b"
    rf"|^{JSON % ('(WARNING|ERROR|CRITICAL)', '')}"
    rf"|^{JSON % ('INFO', 'supervisor')}\", \"message\": \"engine\.(backoff|fatal|stalled)\b"
    r"|^\[external engine\] "
    r"|^start_server\.(fatal|warning) |^Error: |^ERROR: "
)
BACK = re.compile(
    r"^\S+ \S+ INFO nimdrum\.supervisor: engine\.running\b"
    rf"|^{JSON % ('INFO', 'supervisor')}\", \"message\": \"engine\.running\b"
)


def kind_of(line: str) -> Kind:
    if NOISE.search(line):
        return Kind.NOISE
    if BACK.search(line):
        return Kind.BACK
    if ACCESS.search(line):
        return Kind.ACCESS
    return Kind.TOLD if TOLD.search(line) else Kind.LOG
