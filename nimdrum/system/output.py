"""The engine's output: read without end (a full pipe would stop the engine), kept, forwarded, with secrets masked."""

import codecs
import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Full, Queue
from typing import IO

from nimdrum.base.secret import redact

KEPT_LINES = 200
LONGEST_LINE = 4096
FORWARD_BACKLOG = 2000
DRAIN_POLL_SEC = 0.02


class Forwarder(logging.Handler):
    """Writes lines, and log records as a handler, to a descriptor from a thread of its own.

    Whoever reads our output may be too slow, stuck or gone, and neither the engine nor its supervisor may wait for it:
    what does not fit into the backlog is dropped.
    """

    def __init__(self, descriptor: int = 2) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._backlog: Queue[str] = Queue(FORWARD_BACKLOG)
        threading.Thread(target=self._write_forever, name="forward-output", daemon=True).start()

    def put(self, line: str) -> None:
        with contextlib.suppress(Full):
            self._backlog.put_nowait(f"{line}\n")

    def emit(self, record: logging.LogRecord) -> None:
        self.put(self.format(record))

    def drain(self, timeout_sec: float) -> None:
        """Wait until all is written, at most `timeout_sec`."""
        deadline = time.monotonic() + timeout_sec
        while self._backlog.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(DRAIN_POLL_SEC)

    def _write_forever(self) -> None:
        while True:
            # Not sys.stderr: its lock, held by a thread that is stuck, would make the interpreter abort at its end.
            rest = self._backlog.get().encode("utf-8", "replace")
            try:
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                pass  # somebody else made the descriptor non-blocking, and it is full: this line is lost
            except OSError:
                return  # the DRUM process whose output this was is gone
            finally:
                self._backlog.task_done()


class LogTail:
    """The last lines of the engine, across restarts. Safe to use from several threads."""

    def __init__(
        self,
        secrets: Sequence[str],
        on_line: Callable[[str], None] = lambda line: None,
        forward: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._on_line = on_line
        self._forward = forward
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._secrets = tuple(secrets)
        self._lock = threading.Lock()
        self.changes = 0

    def mask(self, text: str) -> str:
        return redact(text, self._secrets)

    def hide(self, secrets: Sequence[str]) -> None:
        """Mask these too from now on."""
        self._secrets = (*self._secrets, *secrets)

    @property
    def longest_secret(self) -> int:
        """Characters of the longest secret."""
        return max(map(len, self._secrets), default=0)

    def add(self, line: str, source: str = "engine") -> str:
        """Keep and forward `line`. Returns it as it was kept, without line end and secrets."""
        line = self.mask(line.rstrip("\r\n"))
        with self._lock:
            self._lines.append(line)
            self.changes += 1
        self._forward(f"[{source}] {line}")
        self._on_line(line)
        return line

    def last(self, count: int = KEPT_LINES) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._lines)[-count:]


class OutputPump(threading.Thread):
    """Reads one engine process's output until its end; `mine` is what this process said."""

    def __init__(self, stream: IO[bytes], tail: LogTail, source: str = "engine") -> None:
        super().__init__(name="engine-output", daemon=True)
        self._source = source
        self._stream = stream
        self._tail = tail
        self.mine: deque[str] = deque(maxlen=KEPT_LINES)

    def run(self) -> None:
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        pending = ""
        with self._stream:
            while chunk := self._stream.readline(LONGEST_LINE):
                pending = self._tail.mask(pending + decode(chunk))
                # The end of a piece of a long line may be the beginning of a secret, so it waits for the next piece.
                held_back = 0 if pending.endswith("\n") else self._tail.longest_secret
                if held_back == 0 or len(pending) >= LONGEST_LINE + held_back:
                    piece, pending = pending[: len(pending) - held_back], pending[len(pending) - held_back :]
                    self.mine.append(self._tail.add(piece, self._source))
        if pending:
            self.mine.append(self._tail.add(pending, self._source))
