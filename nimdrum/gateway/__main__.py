"""`python -m nimdrum.gateway PORT`, with its task as JSON in an environment variable (it holds secrets)."""

import asyncio
import logging
import os
import resource
import signal
import sys

from nimdrum.engines.causes import TOLD
from nimdrum.engines.endpoints import VARIABLE, GatewayConfig
from nimdrum.gateway.serving import Gateway, Hopeless


def main() -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # its tracebacks hold heads of requests
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    config = GatewayConfig.from_json(os.environ.pop(VARIABLE))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        asyncio.run(_run(config, int(sys.argv[1])))
    except Hopeless as error:
        print(f"{TOLD}{error}", flush=True)
        return 2
    return 0


async def _run(config: GatewayConfig, port: int) -> None:
    """Until a signal. Raises Hopeless."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    gateway = Gateway(config)
    try:
        await gateway.begin(port)
        await gateway.run(stopped)
    finally:
        await gateway.end()


if __name__ == "__main__":
    sys.exit(main())
