"""A free port for the engine, reserved among the supervisors of this machine, and who listens on it."""

import contextlib
import socket

import psutil

from nimdrum.base.hosting import LOOPBACK

PREFERRED = 9999  # DRUM's own choice for NIM
TRIES = 100


class PortReservation:
    """A port that no other supervisor will choose while this object lives.

    A socket in the kernel's abstract namespace: like a port it belongs to the network namespace, whoever the user
    and whatever the state folder is, and like a lock it ends with its process.
    """

    def __init__(self, port: int) -> None:
        """Raises OSError when another supervisor has the port."""
        self.port = port
        self._name = socket.socket(socket.AF_UNIX)
        try:
            self._name.bind(f"\0nimdrum-port-{port}")
        except OSError:
            self._name.close()
            raise

    def release(self) -> None:
        self._name.close()


def reserve_port(avoid: int | None = None) -> PortReservation:
    """The preferred port if it is free and not `avoid`, else one that the kernel gives. Raises OSError when none is."""
    candidate = PREFERRED
    for _ in range(TRIES):
        with contextlib.suppress(OSError):
            reservation = PortReservation(candidate)
            if candidate != avoid and port_is_free(candidate):
                return reservation
            reservation.release()
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            candidate = probe.getsockname()[1]
    raise OSError(f"no free port found in {TRIES} tries")


def port_is_free(port: int) -> bool:
    """Whether a server could listen on `port` on every address (NIM listens on all of them)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def listens_below(port: int) -> bool | None:
    """Whether a process below this one listens on `port`; None when that cannot be seen.

    Two engines with the same model name look alike from outside, and the other one would answer our rows.
    """
    hidden = False
    for process in psutil.Process().children(recursive=True):
        try:
            connections = process.net_connections("tcp")
        except psutil.NoSuchProcess:
            continue
        except psutil.Error:
            hidden = True
            continue
        if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in connections):
            return True
    return None if hidden else False
