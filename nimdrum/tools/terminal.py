"""Where the longer commands tell what they do: lines, and progress bars where a person looks at them."""

import sys
from collections.abc import Callable
from typing import Any

import click

from nimdrum.base.secret import redact


class Terminal:
    """Lines on standard output, progress on standard error; what is hidden once is printed nowhere."""

    def __init__(self) -> None:
        self._secrets: list[str] = []
        self._bar: Any = None
        self._waiting = ("", "")

    def hide(self, secret: str | None) -> None:
        self._secrets += [secret] if secret else []

    def say(self, text: str, err: bool = False) -> None:
        self.close()
        click.echo(self.masked(text), err=err)

    def masked(self, text: str) -> str:
        return redact(text, self._secrets)

    def bytes(self, title: str, total: int | None) -> Callable[[int], object]:
        """Begin a bar, and give the function that moves it by some bytes."""
        from tqdm import tqdm

        self.close()
        self._bar = bar = tqdm(desc=title, total=total, unit="B", unit_scale=True, disable=None)
        return bar.update

    def waiting(self, what: str, state: str, elapsed_sec: float) -> None:
        """Show that a wait goes on: a clock for a person, a line for each new state elsewhere."""
        before, self._waiting = self._waiting, (what, state)
        if not sys.stderr.isatty():
            if before != self._waiting:
                self.say(f"  {what}: {state}")
            return
        from tqdm import tqdm

        if before[0] != what:
            self.close()
        if self._bar is None:
            self._bar = tqdm(bar_format="{desc}")
        self._bar.set_description_str(f"  {what}: {state}, {elapsed_sec:.0f} s")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
