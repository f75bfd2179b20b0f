"""Client CPU and rows/s against a server with a canned completion.

    python benchmarks/clients.py                nginx, which costs nothing to wait for
    python benchmarks/clients.py --delay 0.5    one that answers after half a second: what a row costs while many wait
    taskset -c 0-1 python benchmarks/clients.py --delay 0.5     the same on two cores of many

The whole path (frame in, frame out) of these hooks, and the bare loop of other HTTP clients: prompts in a list, one
request for each, the text out of the JSON. Threads, and gevent where the client can.
"""

import argparse
import json
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

if "gevent" in sys.argv:  # a child that is to use it; before anything else is imported
    from gevent import monkey

    monkey.patch_all()
sys.path.insert(0, str(Path(__file__).resolve().parent))
import common
from common import HEADERS, PATH
from zero_server import slow_server, zero_server

KINDS = {
    "threads": ("these hooks", "http.client", "urllib3", "requests", "openai", "aiohttp"),
    "gevent": ("these hooks", "http.client", "urllib3", "openai", "geventhttpclient"),
}
QUICK = {"threads": ("these hooks", "http.client", "aiohttp"), "gevent": ("these hooks", "geventhttpclient")}
"""What is compared with the slow server: on many cores the others take minutes."""
LACKING = "geventhttpclient"
"""There is none for Python 3.10."""


def text_of(answer: bytes) -> Any:
    return json.loads(answer)["choices"][0]["message"]["content"]


def body(text: str) -> bytes:
    return common.body("canned", text, 64, 0)


def http_client(port: int, width: int) -> Callable[[str], Any]:
    import http.client

    local = threading.local()

    def ask(text: str) -> Any:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        local.connection.request("POST", PATH, body(text), HEADERS)
        return text_of(local.connection.getresponse().read())

    return ask


def urllib3_client(port: int, width: int) -> Callable[[str], Any]:
    import urllib3

    pool = urllib3.HTTPConnectionPool("127.0.0.1", port, maxsize=width, block=False, retries=False, headers=HEADERS)
    timeout = urllib3.Timeout(connect=5, read=60)
    return lambda text: text_of(pool.request("POST", PATH, body=body(text), timeout=timeout, redirect=False).data)


def requests_client(port: int, width: int) -> Callable[[str], Any]:
    import requests

    session = requests.Session()
    session.trust_env = False
    session.mount("http://", requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=width))
    url = f"http://127.0.0.1:{port}{PATH}"
    return lambda text: text_of(session.post(url, data=body(text), headers=HEADERS, timeout=60).content)


def openai_client(port: int, width: int) -> Callable[[str], Any]:
    import openai

    try:
        import httpx2 as httpx
    except ImportError:
        import httpx
    limits = httpx.Limits(max_connections=width, max_keepalive_connections=width)
    client = openai.OpenAI(
        base_url=f"http://127.0.0.1:{port}/v1",
        api_key="none",
        max_retries=0,
        timeout=60,
        http_client=openai.DefaultHttpxClient(limits=limits, trust_env=False),
    )

    def ask(text: str) -> Any:
        messages: Any = [{"role": "user", "content": text}]
        done = client.chat.completions.create(model="canned", messages=messages, max_tokens=64, temperature=0)
        return done.choices[0].message.content

    return ask


def geventhttpclient_client(port: int, width: int) -> Callable[[str], Any]:
    from geventhttpclient import HTTPClient

    client = HTTPClient("127.0.0.1", port, concurrency=width, connection_timeout=60, network_timeout=60)
    return lambda text: text_of(bytes(client.post(PATH, body=body(text), headers=HEADERS).read()))


CLIENTS = {
    "http.client": http_client,
    "urllib3": urllib3_client,
    "requests": requests_client,
    "openai": openai_client,
    "geventhttpclient": geventhttpclient_client,
}


def in_threads(ask: Callable[[str], Any], texts: list[str], width: int) -> int:
    rows, errors = iter(texts), []  # many threads take from it: `next` on a list's iterator is atomic

    def work() -> None:
        while (text := next(rows, None)) is not None:
            try:
                ask(text)
            except Exception as error:
                errors.append(error)

    crowd = [threading.Thread(target=work) for _ in range(width)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    return len(errors)


def one(kind: str, mode: str, port: int, width: int, rows: int) -> dict[str, Any]:
    texts, warm = common.prompts(rows), common.prompts(width)
    if kind == "these hooks":
        model = common.external_model(port, width=width, max_tokens=64, temperature=0)
        try:
            common.score(model, warm)
            return common.score(model, texts)
        finally:
            model.attachment.release(10)
    if kind == "aiohttp":
        return common.aiohttp_client(port, map(body, texts), rows, width)
    ask = CLIENTS[kind](port, width)
    in_threads(ask, warm, width)
    return common.timed(lambda: in_threads(ask, texts, width), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=5)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds after which the server answers")
    parser.add_argument("--widths", default="", help="numbers in flight (64,256,1024; with --delay 512,2048)")
    parser.add_argument("--rows", type=int, default=6000, help="of a run; at least 8 for each one in flight")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.one:
        kind, mode, port, width, rows = arguments.one
        result = one(kind, mode, int(port), int(width), int(rows))
        common.say(result)
        return
    delay, repeats = arguments.delay, arguments.repeats
    kinds, base = (QUICK, "aiohttp") if delay else (KINDS, "openai")
    widths = [int(width) for width in (arguments.widths or ("512,2048" if delay else "64,256,1024")).split(",")]
    there = {mode: [kind for kind in kinds[mode] if kind != LACKING or find_spec(LACKING)] for mode in kinds}
    cases = [(mode, kind, width) for mode in there for kind in there[mode] for width in widths]
    runs: dict[tuple[str, str, int], list[dict[str, Any]]] = {case: [] for case in cases}
    with slow_server(delay, delay) if delay else zero_server() as port:
        for _ in range(repeats):
            for mode, kind, width in cases:
                result = common.child("clients.py", kind, mode, port, width, max(arguments.rows, 8 * width))
                runs[mode, kind, width].append(result)
    middle = {key: common.medians(results) for key, results in runs.items()}
    lines = []
    for (mode, kind, width), result in middle.items():
        share = result["cpu_ms_per_row"] / middle["threads" if delay else mode, base, width]["cpu_ms_per_row"]
        rates = [result["cpu_ms_per_row"], share, result["rows_per_sec"], result["errors"]]
        lines.append([kind, "asyncio" if kind == "aiohttp" else mode, width, *rates])
    print(common.table(["client", "mode", "in flight", "CPU ms/row", f"of {base}'s", "rows/s", "errors"], lines))
    print(f"medians of {repeats} runs; {f'answers after {delay:g} s; ' if delay else ''}{common.machine()}")
    if delay:
        return

    def draw(axes: Any) -> None:
        names = KINDS["threads"]
        for number, width in enumerate(widths):
            places = [i + number * 0.27 for i in range(len(names))]
            heights = [middle["threads", kind, width]["cpu_ms_per_row"] for kind in names]
            axes.bar(places, heights, 0.25, label=f"{width} in flight")
        axes.set_xticks([i + 0.27 for i in range(len(names))], ["these hooks\n(whole path)", *names[1:]])
        axes.axhline(0.5, color="tab:red", linewidth=1, linestyle="--")
        axes.set_ylabel("client CPU, ms a row")
        axes.legend()

    common.plot("clients", draw, "Client CPU against a server that costs nothing to wait for")


if __name__ == "__main__":
    main()
