"""A live line in the terminal with progress, rate and expected end."""

from __future__ import annotations

import sys
import time
from typing import TextIO

INTERVAL = 0.1
"""Minimum seconds between two updates of the line."""


class Progress:
    """A progress line that is updated in place; silent if the stream is not a terminal.

    Args:
        unit: the unit of the count, such as `candidates`.
        stream: the output stream; standard error by default.
        wanted: whether to show the line.
    """

    def __init__(self, unit: str, stream: TextIO | None = None, wanted: bool = True) -> None:
        self._unit = unit
        self._stream = stream or sys.stderr
        self._is_live = wanted and self._stream.isatty()
        self._width = 0
        self.begin(0)

    def begin(self, total: int | None) -> None:
        """Reset the count to zero and set the total, if known."""
        self._begun = time.monotonic()
        self._drawn = 0.0
        self.total = total
        self.done = 0
        self._reused = 0

    def step(self, note: str = "", *, is_reused: bool = False) -> None:
        """Increment the count.

        Args:
            note: additional text.
            is_reused: whether the item was reused and does not count for the rate.
        """
        self.done += 1
        self._reused += is_reused
        self.show(note)

    def show(self, note: str = "") -> None:
        """Draw the line unless it was just drawn and more items follow."""
        if not self._is_live:
            return
        now = time.monotonic()
        if now - self._drawn < INTERVAL and self.done != self.total:
            return
        self._drawn = now
        parts = [f"{self.done}/{self.total or '?'} {self._unit}", *self._speed(now), note]
        self._write(", ".join(filter(None, parts)))

    def close(self) -> None:
        """Keep the line and move to the next line."""
        if self._width:
            self._stream.write("\n")
            self._stream.flush()
            self._width = 0

    def _speed(self, now: float) -> list[str]:
        computed = self.done - self._reused
        if not computed:
            return []
        pace = (now - self._begun) / computed
        rate = [f"{1 / pace:.3g}/s" if pace < 1 else f"{pace:.3g} s each"] if pace else []
        if not self.total or self.done >= self.total:
            return rate
        left = pace * (self.total - self.done)
        return [*rate, f"ends {time.strftime('%H:%M:%S', time.localtime(time.time() + left))}"]

    def _write(self, line: str) -> None:
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()
        self._width = len(line)
