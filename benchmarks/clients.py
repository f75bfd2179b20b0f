"""Client CPU and rows/s against a server that costs nothing to wait for (nginx with a canned completion).

    python benchmarks/clients.py

The whole path (frame in, frame out) of these hooks, and the bare loop of five HTTP clients: prompts in a list, one
request for each, the text out of the JSON. Threads, and gevent where the client can.
"""

import argparse
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

PATH = "/v1/chat/completions"
HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
KINDS = ("these hooks", "http.client", "urllib3", "requests", "openai", "aiohttp")
GEVENT = ("these hooks", "http.client", "urllib3", "openai")


def body(text: str) -> bytes:
    message = {"role": "user", "content": text}
    return json.dumps({"model": "canned", "messages": [message], "max_tokens": 64, "temperature": 0}).encode()


def text_of(answer: bytes) -> Any:
    return json.loads(answer)["choices"][0]["message"]["content"]


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


CLIENTS = {
    "http.client": http_client,
    "urllib3": urllib3_client,
    "requests": requests_client,
    "openai": openai_client,
}


def in_threads(ask: Callable[[str], Any], texts: list[str], width: int) -> int:
    from common import rows_of

    rows, errors = iter(texts), []

    def work() -> None:
        for text in rows_of(rows):
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


def in_asyncio(port: int, texts: list[str], width: int) -> int:
    import asyncio

    import aiohttp
    from common import rows_of

    rows, errors = iter(texts), []

    async def run() -> None:
        connector = aiohttp.TCPConnector(limit=width)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:

            async def work() -> None:
                for text in rows_of(rows):
                    try:
                        async with session.post(
                            f"http://127.0.0.1:{port}{PATH}", data=body(text), headers=HEADERS
                        ) as reply:
                            text_of(await reply.read())
                    except Exception as error:
                        errors.append(error)

            await asyncio.gather(*[work() for _ in range(width)])

    asyncio.run(run())
    return len(errors)


def one(kind: str, mode: str, port: int, width: int, rows: int) -> dict[str, Any]:
    if mode == "gevent":
        from gevent import monkey

        monkey.patch_all()
    import common

    texts, warm = common.prompts(rows), common.prompts(width)
    if kind == "these hooks":
        model = common.external_model(port, max_concurrency=width, max_tokens=64, temperature=0)
        try:
            from nimdrum.scoring import window

            window.BLIND["external"] = width  # this server has no metrics: keep the whole width in flight
            common.score(model, warm)
            return common.score(model, texts)
        finally:
            model.attachment.release(10)
    if kind == "aiohttp":
        return common.timed(lambda: in_asyncio(port, texts, width), rows)
    ask = CLIENTS[kind](port, width)
    in_threads(ask, warm, width)
    return common.timed(lambda: in_threads(ask, texts, width), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=5)
    parser.add_argument("--widths", default="64,256,1024")
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.one:
        kind, mode, port, width, rows = arguments.one
        result = one(kind, mode, int(port), int(width), int(rows))
        import common

        common.say(result)
        return
    import common
    from zero_server import zero_server

    widths = [int(width) for width in arguments.widths.split(",")]
    runs: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    with zero_server() as port:
        for _ in range(arguments.repeats):
            for mode, kinds in (("threads", KINDS), ("gevent", GEVENT)):
                for kind in kinds:
                    for width in widths:
                        result = common.child("clients.py", kind, mode, port, width, arguments.rows)
                        runs.setdefault((mode, kind, width), []).append(result)
    middle = {key: common.medians(results) for key, results in runs.items()}
    lines = []
    for (mode, kind, width), result in middle.items():
        base = middle[mode, "openai", width]["cpu_ms_per_row"]
        share = result["cpu_ms_per_row"] / base
        rates = [result["cpu_ms_per_row"], share, result["rows_per_sec"], result["errors"]]
        lines.append([kind, "asyncio" if kind == "aiohttp" else mode, width, *rates])
    columns = ["client", "mode", "in flight", "CPU ms/row", "of openai's", "rows/s", "errors"]
    print(common.table(columns, lines))
    print(f"medians of {arguments.repeats} runs of {arguments.rows} rows; {common.machine()}")

    def draw(axes: Any) -> None:
        for number, width in enumerate(widths):
            places = [i + number * 0.27 for i in range(len(KINDS))]
            heights = [middle["threads", kind, width]["cpu_ms_per_row"] for kind in KINDS]
            axes.bar(places, heights, 0.25, label=f"{width} in flight")
        axes.set_xticks([i + 0.27 for i in range(len(KINDS))], ["these hooks\n(whole path)", *KINDS[1:]])
        axes.axhline(0.5, color="tab:red", linewidth=1, linestyle="--")
        axes.set_ylabel("client CPU, ms a row")
        axes.legend()

    common.plot("clients", draw, "Client CPU against a server that costs nothing to wait for")


if __name__ == "__main__":
    main()
