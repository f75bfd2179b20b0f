"""The process of the embedded engine: llama.cpp's own HTTP server on loopback.

Run by path, not as a module of the package: it needs nothing but xllamacpp.
"""

import argparse
import os
import signal
from pathlib import Path

# llama.cpp's scale: 1 errors, 2 warnings, 3 information (a line for each request), 4 and 5 debugging
VERBOSITY = {"TRACE": 5, "DEBUG": 4, "INFO": 2, "DEFAULT": 2, "WARNING": 2, "ERROR": 1, "CRITICAL": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description="llama.cpp server for one GGUF model on 127.0.0.1")
    parser.add_argument("--model", required=True, type=Path, help="GGUF file, or a folder with exactly one")
    parser.add_argument("--name", required=True, help="name under which the model is served")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True, help="sequences decoded together")
    parser.add_argument("--context", type=int, required=True, help="tokens of context for each sequence")
    parser.add_argument("--log-level", default="INFO", choices=sorted(VERBOSITY))
    arguments = parser.parse_args()

    if arguments.model.is_dir():
        found = sorted(arguments.model.rglob("*.gguf"))
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            parser.exit(2, f"{arguments.model} must hold exactly one .gguf file, but it holds: {names}\n")
        arguments.model = found[0]

    stop_signals = {signal.SIGTERM, signal.SIGINT}
    # Blocked before llama.cpp starts its threads, so that sigwait below is the one who gets them.
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(arguments.model)
    params.model_alias = {arguments.name}
    params.hostnames = ["127.0.0.1"]
    params.port = arguments.port
    params.n_parallel = arguments.slots
    params.n_ctx = arguments.slots * arguments.context
    params.endpoint_metrics = True
    params.ui = False
    params.cpuparams.poll = params.cpuparams_batch.poll = 0  # threads that spin starve everybody else on two cores
    params.cache_ram_mib = 0
    params.verbosity = VERBOSITY[arguments.log_level]
    server = xllamacpp.Server(params)
    print(f"llama.cpp serves {arguments.name} on {server.listening_address}", flush=True)
    signal.sigwait(stop_signals)
    print("llama.cpp stops", flush=True)
    # The C++ server's own shutdown waits for requests, and the process has nothing to save.
    os._exit(0)


if __name__ == "__main__":
    main()
