"""Encode answers as JSON that browsers can parse, and as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from casket.reading.summary import as_json
from casket.statistics.intervals import as_float

LARGEST_WHOLE = 2**63

_NOT_UTF8 = re.compile("[\ud800-\udfff]")

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of text that a spreadsheet would evaluate as a formula."""

DIGITS = 9
"""Significant digits, sufficient for single precision; more would double the payload."""

DIGITS_DOWN_SAMPLED = 6
"""Significant digits of down-sampled curves, more than a screen can show."""


def json_of(value: Any) -> bytes:
    """Serialize a value as JSON and replace unsupported values.

    Integers of more than 64 bits become the float a browser would parse, and invalid UTF-8 in file
    names becomes the replacement character.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return orjson.dumps(_made_fit(value), option=orjson.OPT_NON_STR_KEYS)


def csv_of(rows: Iterable[Iterable[Any]]) -> str:
    """Serialize rows as CSV, with nested values as JSON and formulas escaped as text."""
    stream = io.StringIO()
    # Only with this line terminator is a carriage return inside text quoted, too.
    csv.writer(stream, lineterminator="\r\n").writerows(map(_cell, row) for row in rows)
    return stream.getvalue()


def shortened(number: Any, digits: int = DIGITS) -> Any:
    """Round a float to a number of significant digits; return other values unchanged."""
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
