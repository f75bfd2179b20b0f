"""`nimdrum serve`: DRUM's server on this machine, until Ctrl-C."""

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nimdrum.base.errors import NimdrumError
from nimdrum.tools import PROJECT, this_command
from nimdrum.tools.run_options import look_first, refuse, run_options

if TYPE_CHECKING:
    from nimdrum.tools.screen import Screen
    from nimdrum.tools.serve.server import Server

PAGE = "NIMDRUM_PAGE"
EXAMPLE = PROJECT / "examples/prompts.csv"
QUESTION = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 30, "stream": True}


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Port to listen on.")
@click.option("--access-log", is_flag=True, help="Print a line for each request.")
@run_options
@click.argument("drum_args", nargs=-1, type=click.UNPROCESSED)
def serve(
    host: str,
    port: int,
    access_log: bool,
    assignments: tuple[str, ...],
    params: Path | None,
    code_dir: Path,
    verbose: bool,
    drum_args: tuple[str, ...],
) -> None:
    """Serve the model over HTTP with DRUM's server, and say when it is ready. Ctrl-C stops it.

    Further arguments for DRUM come after --. Exits with 0 after Ctrl-C, with 2 when something is wrong with what was
    asked (nothing was started), else with the server's own code: 3 when the engine was given up.
    """
    from nimdrum.tools.lines import Kind, kind_of
    from nimdrum.tools.score.live_line import LiveLine, engine_words
    from nimdrum.tools.screen import kept_apart
    from nimdrum.tools.serve.server import Server, wait_ready

    look_first(code_dir, params, assignments)
    warning = _settle_engine(code_dir)
    environ = {
        PAGE: "1",
        **os.environ,
        "CODE_DIR": str(code_dir),
        "ADDRESS": f"{host}:{port}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
    }
    url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104 - compared, not listened on
    with kept_apart(verbose) as screen:
        screen.shown |= {Kind.ACCESS} if access_log else set()
        if warning:
            screen.say(f"Warning: {warning}", "yellow")
        line = LiveLine(screen, engine_words(code_dir))
        began = time.monotonic()
        server = Server(drum_args, environ, screen.log)
        try:
            line.start()
            if wait_ready(server, url):
                line.stop()
                screen.say(f"Ready after {time.monotonic() - began:.1f} s on {url}", "bold green")
                _suggest(screen, url)
                screen.shown.add(Kind.BACK)
            code = server.wait()
            line.stop()
            if code and not any(kind_of(text) in screen.shown for text in server.last_lines):
                for text in server.last_lines:
                    screen.say(text)
        except (KeyboardInterrupt, SystemExit):
            line.stop()
            code = _stop(server, screen)
        finally:
            line.stop()
            server.kill()
    raise SystemExit(code)


def _settle_engine(code_dir: Path) -> str | None:
    """Say which engine `auto` means, since start_server.sh takes it for one with a GPU. What is to be warned of."""
    from nimdrum.base.hosting import read_hosting
    from nimdrum.base.settings import PREFIX, load_settings
    from nimdrum.engines.choose import plan_engine

    hosting = read_hosting(code_dir, argv=[])
    try:
        plan = plan_engine(load_settings(hosting.code_dir), hosting, pending=True)
    except NimdrumError as error:
        refuse([str(error)])
    os.environ[f"{PREFIX}engine"] = json.dumps({"type": "string", "payload": plan.engine})
    return plan.warning


def _suggest(screen: "Screen", url: str) -> None:
    body = json.dumps(QUESTION)
    screen.say(f"In a browser: {url}/  From another terminal:")
    screen.say(f"  {this_command()} ask --url {url} 'Say hello.'")
    screen.say(f"  curl -sSN {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'")
    rows = EXAMPLE if EXAMPLE.is_file() else "prompts.csv"
    screen.say(f"  curl -sS -F X=@{rows} {url}/predict/")


def _stop(server: "Server", screen: "Screen") -> int:
    """In order; at once when somebody cannot wait."""
    try:
        screen.say("Stopping. Ctrl-C again does not wait for requests in flight.")
        server.ask_to_end()
        return server.wait()
    except (KeyboardInterrupt, SystemExit):
        server.kill()
        return 130
