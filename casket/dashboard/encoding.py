"""Answers as text: JSON with numbers that a browser can hold, and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from casket.summary import as_json

LARGEST_WHOLE = 2**63

DIGITS = 9
"""As many as tell every number of single precision; more would double what a page loads."""

DIGITS_DOWN_SAMPLED = 6
"""Of curves that are drawn, and not all there: more than any screen can show."""


def json_of(value: Any) -> bytes:
    """Return JSON; whole numbers of more than 64 bits come as what a browser makes of them."""
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return orjson.dumps(_rounded(value), option=orjson.OPT_NON_STR_KEYS)


def csv_of(rows: Iterable[Iterable[Any]]) -> str:
    """Return rows as lines of CSV; what is no single value as JSON."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(map(_cell, row) for row in rows)
    return stream.getvalue()


def shortened(number: Any, digits: int = DIGITS) -> Any:
    """Return a float with so many significant digits; anything else as it is."""
    return float(f"{number:.{digits}g}") if type(number) is float else number


def as_float(number: float) -> float:
    """Return a number as a float, one that is too large as infinite."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if type(value) is int and abs(value) >= LARGEST_WHOLE:
        return as_json(as_float(value))
    return value


def _cell(value: Any) -> Any:
    plain = as_json(value)
    return json_of(plain).decode() if isinstance(plain, (dict, list)) else plain
