"""Answers as text: JSON with numbers that a browser can hold, and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from casket.reading.metrics import as_float
from casket.reading.summary import as_json

LARGEST_WHOLE = 2**63

_NOT_UTF8 = re.compile("[\ud800-\udfff]")

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How text begins that a spreadsheet would run."""

DIGITS = 9
"""As many as tell every number of single precision; more would double what a page loads."""

DIGITS_DOWN_SAMPLED = 6
"""Of curves that are drawn, and not all there: more than any screen can show."""


def json_of(value: Any) -> bytes:
    """Return JSON with what it cannot hold made fit.

    Whole numbers of more than 64 bits come as what a browser makes of them, and what is not UTF-8
    in the name of a file as the sign for that.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return orjson.dumps(_made_fit(value), option=orjson.OPT_NON_STR_KEYS)


def csv_of(rows: Iterable[Iterable[Any]]) -> str:
    """Return rows as lines of CSV; what is no single value as JSON, and no text as a formula."""
    stream = io.StringIO()
    # With this line end alone, a carriage return inside text is quoted too.
    csv.writer(stream, lineterminator="\r\n").writerows(map(_cell, row) for row in rows)
    return stream.getvalue()


def shortened(number: Any, digits: int = DIGITS) -> Any:
    """Return a float with so many significant digits; anything else as it is."""
    return float(f"{number:.{digits}g}") if type(number) is float else number


def _made_fit(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _made_fit(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_made_fit(item) for item in value]
    if isinstance(value, str):
        return _NOT_UTF8.sub("\ufffd", value)
    if type(value) is int and abs(value) >= LARGEST_WHOLE:
        return as_json(as_float(value))
    return value


def _cell(value: Any) -> Any:
    plain = as_json(value)
    if isinstance(plain, str) and plain.startswith(_FORMULA) and not _is_number(plain):
        return f"'{plain}"
    return json_of(plain).decode() if isinstance(plain, (dict, list)) else plain


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
