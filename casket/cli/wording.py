"""Format counts, sizes and durations for the messages of commands."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import click

UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
"""The units of durations."""


def counted(count: int, noun: str) -> str:
    """Format a count with its noun: `1 session`, `2 sessions`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(parts: Iterable[str]) -> str:
    """Join parts as a phrase: `a, b and c`."""
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


MOST_CHARACTERS = 2_000
"""The maximum length of a message."""


def shortened(message: str, length: int = MOST_CHARACTERS) -> str:
    """Shorten a long message in the middle."""
    if len(message) <= length:
        return message
    half = (length - 3) // 2
    return f"{message[:half]} … {message[-half:]}"


def size(count: float) -> str:
    """Format a number of bytes in a suitable unit: `1.5 MB`."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count:.0f} bytes"


class SpanType(click.ParamType[timedelta]):
    """A duration such as `30d`, `12h` or `90min`."""

    name = "span"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Parse a duration."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|min|h|d|w)", str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration: give a value such as 30d, 12h or 90min")
        try:
            return timedelta(**{UNITS[match[2]]: float(match[1])})
        except OverflowError:
            self.fail(f"{value!r} is too long", param, ctx)
