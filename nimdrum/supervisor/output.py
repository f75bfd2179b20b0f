"""The engine's output: read without end (a full pipe would stop the engine), kept, forwarded, with secrets masked."""

import codecs
import contextlib
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import Full, Queue
from typing import IO

from nimdrum.secret import redact

KEPT_LINES = 200
LONGEST_LINE = 4096
FORWARD_BACKLOG = 2000


class LogTail:
    """The last lines of the engine, across restarts. Safe to use from several threads."""

    def __init__(
        self, secrets: Sequence[str], on_line: Callable[[str], None] = lambda line: None, *, forward: bool = True
    ) -> None:
        self._on_line = on_line
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._secrets = tuple(secrets)
        self._lock = threading.Lock()
        self._forward: Queue[str] | None = None
        self.changes = 0
        if forward:
            self._forward = Queue(FORWARD_BACKLOG)
            threading.Thread(
                target=self._write_forever, args=(self._forward,), name="forward-output", daemon=True
            ).start()

    def mask(self, text: str) -> str:
        return redact(text, self._secrets)

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
        # When the queue is full, whoever reads our output is too slow or gone; the engine must not wait for it.
        if self._forward is not None:
            with contextlib.suppress(Full):
                self._forward.put_nowait(f"[{source}] {line}\n")
        self._on_line(line)
        return line

    def last(self, count: int = KEPT_LINES) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._lines)[-count:]

    def _write_forever(self, lines: "Queue[str]") -> None:
        while True:
            line = lines.get()
            try:
                sys.stderr.write(line)
                sys.stderr.flush()
            except (OSError, ValueError):
                return  # nobody reads any more: the DRUM process whose output this was is gone


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
                if held_back == 0 or len(pending) >= LONGEST_LINE:
                    piece, pending = pending[: len(pending) - held_back], pending[len(pending) - held_back :]
                    self.mine.append(self._tail.add(piece, self._source))
        if pending:
            self.mine.append(self._tail.add(pending, self._source))
