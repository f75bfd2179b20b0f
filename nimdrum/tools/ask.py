"""`nimdrum ask`: one streamed answer, from an engine here, a server, or a deployment in DataRobot."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nimdrum.base.errors import NimdrumError
from nimdrum.tools import this_command
from nimdrum.tools.run_options import look_first, run_options

if TYPE_CHECKING:
    from openai import OpenAI

DEPLOYED = "datarobot-deployed-llm"
MOST_TOKENS = 512
TIMEOUT_SEC = 600.0
FAILED, INTERRUPTED = 1, 130


class AskError(NimdrumError):
    """There was no answer, or not all of it."""


@dataclass(frozen=True)
class Addressee:
    """Whom to ask: the address with what comes before /chat/completions, the model, and the key where one is needed."""

    url: str
    model: str | None
    """None: the first one that is listed."""
    key: str = ""


@click.command()
@click.argument("prompt")
@click.option("--url", metavar="URL", help="Ask a running server: `nimdrum serve`, DRUM, or an engine itself.")
@click.option("--deployment", metavar="ID", help="Ask a deployment in DataRobot, by its id or its address.")
@click.option("--system", metavar="TEXT", help="System message.")
@click.option(
    "--max-tokens", type=click.IntRange(min=1), default=MOST_TOKENS, show_default=True, help="Longest answer in tokens."
)
@run_options
def ask(
    prompt: str,
    url: str | None,
    deployment: str | None,
    system: str | None,
    max_tokens: int,
    assignments: tuple[str, ...],
    params: Path | None,
    code_dir: Path,
    verbose: bool,
) -> None:
    """Print one answer to PROMPT, as it comes.

    Without --url and --deployment the engine of this user is asked that runs here; where none does, one is started for
    this answer. A deployment is asked with DATAROBOT_ENDPOINT and DATAROBOT_API_TOKEN, or what drconfig.yaml says.

    Exits with 1 when there was no whole answer, 2 when something is wrong with what was asked, 130 after Ctrl-C.
    """
    if url and deployment:
        raise click.UsageError("--url and --deployment exclude each other.")
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt})
    try:
        with contextlib.ExitStack() as stack:
            if deployment:
                whom = deployed(deployment)
            elif url:
                whom = Addressee(f"{url.rstrip('/').removesuffix('/v1')}/v1", None)
            else:
                whom = running_here(code_dir) or stack.enter_context(
                    started_here(code_dir, params, assignments, verbose)
                )
            print_answer(whom, messages, max_tokens)
    except KeyboardInterrupt:
        click.echo()
        raise SystemExit(INTERRUPTED) from None
    except NimdrumError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(FAILED) from None


def deployed(deployment: str) -> Addressee:
    """Raises AskError when nobody says where DataRobot is."""
    from datarobot.config import create_drconfig

    try:
        config = create_drconfig()
    except ValueError:
        raise AskError("Set DATAROBOT_ENDPOINT (it ends in /api/v2) and DATAROBOT_API_TOKEN.") from None
    url = deployment.rstrip("/").removesuffix("/chat/completions")
    if "://" not in url:
        url = f"{str(config.endpoint).rstrip('/')}/deployments/{url}"
    return Addressee(url, DEPLOYED, str(config.token))


def running_here(code_dir: Path) -> Addressee | None:
    from nimdrum.base.hosting import read_hosting
    from nimdrum.supervisor.state import Phase, newest_engine

    newest = newest_engine(read_hosting(code_dir, argv=[]).state_root, Phase.RUNNING)
    return Addressee(f"{newest.url}/v1", newest.model) if newest else None


@contextlib.contextmanager
def started_here(
    code_dir: Path, params: Path | None, assignments: tuple[str, ...], verbose: bool
) -> Iterator[Addressee]:
    """An engine for this one answer, stopped with the block."""
    look_first(code_dir, params, assignments)
    from nimdrum.tools.score.predict import loaded

    with loaded(code_dir, verbose) as here:
        endpoint = here.model.ready()
        here.line.stop()
        yield Addressee(f"{endpoint.url}/v1", endpoint.model)


def print_answer(whom: Addressee, messages: list[dict[str, str]], max_tokens: int) -> None:
    """To standard output, piece by piece. Raises AskError, also for a stream that breaks off."""
    from openai import APIConnectionError, APIError, OpenAI

    from nimdrum.base.secret import redact

    client = OpenAI(base_url=whom.url, api_key=whom.key or "none", timeout=TIMEOUT_SEC, max_retries=0)
    reason = None
    try:
        stream: Any = client.chat.completions.create(
            model=whom.model or _first_model(client),
            messages=messages,  # type: ignore[arg-type]
            max_tokens=max_tokens,
            stream=True,
        )
        for chunk in stream:
            for choice in chunk.choices:
                sys.stdout.write(choice.delta.content or "")
                sys.stdout.flush()
                reason = choice.finish_reason or reason
    except APIConnectionError as error:
        cause = error.__cause__ or error
        raise AskError(f"Nothing answers at {whom.url} ({cause}): start it with `{this_command()} serve`.") from None
    except APIError as error:
        raise AskError(redact(f"{whom.url}: {error}", [whom.key] if whom.key else [])) from None
    finally:
        sys.stdout.write("\n")
        sys.stdout.flush()
    if reason is None:
        raise AskError("The answer broke off: its stream ended without a reason.")
    if reason == "length":
        click.echo(f"(cut at {max_tokens} tokens: give more with --max-tokens)", err=True)


def _first_model(client: "OpenAI") -> str:
    return next((model.id for model in client.models.list()), DEPLOYED)
