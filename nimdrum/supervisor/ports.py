"""A free port for the engine, reserved among this user's supervisors by a lock."""

import os
import socket
from pathlib import Path

from nimdrum.engines.plan import LOOPBACK
from nimdrum.supervisor.locks import try_lock

PREFERRED = 9999  # DRUM's own choice for NIM


class PortReservation:
    """One port that no other supervisor of this user will choose while this object lives."""

    def __init__(self, port: int, descriptor: int) -> None:
        self.port = port
        self._descriptor = descriptor

    def release(self) -> None:
        os.close(self._descriptor)


def reserve_port(folder: Path) -> PortReservation:
    """The preferred port if it is free, else one that the kernel gives. `folder` holds the locks."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    candidate = PREFERRED
    while True:
        descriptor = try_lock(folder / f"port-{candidate}.lock")
        if descriptor is not None:
            if port_is_free(candidate):
                return PortReservation(candidate, descriptor)
            os.close(descriptor)
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            candidate = probe.getsockname()[1]


def port_is_free(port: int) -> bool:
    """Whether a server could listen on `port` on every address (NIM listens on all of them)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
