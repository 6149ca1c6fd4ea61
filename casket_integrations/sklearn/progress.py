"""One live line in a terminal: how much is done, how fast it goes, when it ends."""

from __future__ import annotations

import sys
import time
from typing import TextIO

INTERVAL = 0.1
"""Seconds between two drawings of the line."""


class Progress:
    """Draws a line over itself; writes nothing where the stream is no terminal.

    Args:
        unit: what is counted, such as `candidates`.
        stream: where to write; the standard error stream if not given.
        wanted: whether to show anything at all.
    """

    def __init__(self, unit: str, stream: TextIO | None = None, wanted: bool = True) -> None:
        self._unit = unit
        self._stream = stream or sys.stderr
        self._is_live = wanted and self._stream.isatty()
        self._width = 0
        self.begin(0)

    def begin(self, total: int | None) -> None:
        """Count from nothing, up to `total` if that is known."""
        self._begun = time.monotonic()
        self._drawn = 0.0
        self.total = total
        self.done = 0
        self._reused = 0

    def step(self, note: str = "", *, is_reused: bool = False) -> None:
        """Count one more.

        Args:
            note: what to show besides.
            is_reused: it took no time, so it says nothing about the speed.
        """
        self.done += 1
        self._reused += is_reused
        self.show(note)

    def show(self, note: str = "") -> None:
        """Draw the line, unless it was drawn a moment ago and there is more to come."""
        if not self._is_live:
            return
        now = time.monotonic()
        if now - self._drawn < INTERVAL and self.done != self.total:
            return
        self._drawn = now
        parts = [f"{self.done}/{self.total or '?'} {self._unit}", *self._speed(now), note]
        self._write(", ".join(filter(None, parts)))

    def close(self) -> None:
        """Leave the line as it stands and go to the next."""
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
