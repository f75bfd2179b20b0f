"""`python -m nimdrum.weights`: one fetch, with the request as JSON on standard input (it holds the credential).

Prints events, and as its last line what stood in the way, if anything did. Exit codes: 0 the tree is whole, 1 it
could not be fetched, 128 and the number of the signal that stopped it. People use the runtime parameters
model_artifacts_*, or `nimdrum.weights.fetch`.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from nimdrum.base.errors import NimdrumError
from nimdrum.base.log import format_event
from nimdrum.base.secret import redact
from nimdrum.weights.child import CAUSE
from nimdrum.weights.credential import secrets_of
from nimdrum.weights.folder import UMASK
from nimdrum.weights.report import StoppedError
from nimdrum.weights.source import parse_uri
from nimdrum.weights.store import Store
from nimdrum.weights.tree import TreeFetch


def main() -> int:
    if sys.argv[1:]:
        print(__doc__)
        return 0 if sys.argv[1] in ("-h", "--help") else 2
    os.umask(UMASK)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # all files of the tree are open at once
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: signals.append(number))
    request = json.loads(sys.stdin.read())
    secrets = secrets_of(request["credential"])

    def tell(name: str, **fields: Any) -> None:
        print(redact(format_event(name, fields), secrets), flush=True)

    def fail(sentence: str) -> int:
        print(CAUSE + redact(" ".join(sentence.split()), secrets), flush=True)
        return 1

    stall_timeout_sec = float(request["stall_timeout_sec"])
    try:
        source = parse_uri(request["uri"])
        fetched = TreeFetch(
            source.uri,
            Path(request["target"]),
            lambda: Store(source, request["credential"], os.environ, stall_timeout_sec),
            tell,
            lambda: bool(signals),
            stall_timeout_sec,
            renew=request["renew"],
        ).run()
    except StoppedError:
        return 128 + signals[0]
    except NimdrumError as error:
        return fail(str(error))
    except BaseException as error:  # a defect of ours, or a panic of obstore's, must be one line too
        return fail(f"Fetching {request['uri'].partition('?')[0]} failed: {type(error).__name__}: {error}")
    if request["renew"] and not fetched.changed:
        return 0  # a line a minute that says nothing
    tell(
        "weights.ready",
        files=fetched.files,
        total_gb=round(fetched.total_bytes / 1e9, 3),
        fetched_gb=round(fetched.fetched_bytes / 1e9, 3),
        after_sec=fetched.seconds,
    )
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # a thread that still sits in a read of the store must not hold up the end
