"""Values that Sacred stores as `jsonpickle` objects, converted to plain JSON values.

NumPy scalars become numbers; arrays, tuples and sets become lists; dates become datetimes; other
objects become dicts of their attributes. No code in the file is run.
"""

from __future__ import annotations

import array
import base64
import json
import zlib
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import PurePath
from typing import Any

from casket.imports.report import Report

_TYPECODES = {
    "float64": "d", "float32": "f", "int64": "q", "int32": "i", "int16": "h", "int8": "b",
    "uint64": "Q", "uint32": "I", "uint16": "H", "uint8": "B", "bool": "B",
}  # fmt: skip
_SEQUENCES = ("py/tuple", "py/set")
_TEXTS = ("py/type", "py/function", "py/b64", "py/repr")
_KEY = "json://"
_REFERENCE = "'py/id'"


def restored(value: Any, place: object, report: Report) -> Any:
    """Convert a value; report objects that are unknown, and references to objects stored before."""
    if _REFERENCE in repr(value):
        report.problem(place, "repeated objects were imported as null")
    try:
        return plain(value)
    except (KeyError, TypeError, ValueError, IndexError, StopIteration, zlib.error) as error:
        report.problem(place, f"jsonpickle: {error!r}; imported as it is stored")
        return value


def plain(value: Any) -> Any:
    """Return the JSON value of a jsonpickle object, or of a structure of them."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    for mark in (*_SEQUENCES, *_TEXTS):
        if mark in value:
            return plain(value[mark])
    if "py/object" in value:
        return _object(value["py/object"], value)
    if "py/reduce" in value:
        return _reduced(*value["py/reduce"])
    if "py/id" in value:
        return None
    return _attributes(value)


def _object(name: str, fields: dict[str, Any]) -> Any:
    if name == "numpy.ndarray":
        return _array(fields)
    if name == "pandas.Series":
        return plain(fields["values"])
    if name.startswith("numpy.") and "value" in fields:
        return plain(fields["value"])
    if name == "builtins.complex":
        return str(complex(*plain(fields["py/newargs"])))
    if name in {"datetime.datetime", "datetime.date"} and "__reduce__" in fields:
        kind: Any = datetime if name == "datetime.datetime" else date
        return kind(base64.b64decode(fields["__reduce__"][1][0]))
    return _attributes(fields)


def _attributes(fields: dict[str, Any]) -> dict[str, Any]:
    return {_key(name): plain(item) for name, item in fields.items() if not _is_mark(name)}


def _is_mark(name: str) -> bool:
    return name.startswith("py/") or name == "default_factory"


def _key(name: str) -> str:
    """Return the text of a key; jsonpickle stores keys that are no texts as JSON."""
    return str(plain(json.loads(name.removeprefix(_KEY)))) if name.startswith(_KEY) else name


def _reduced(
    kind: Any, args: Any = None, state: Any = None, items: Any = None, pairs: Any = None
) -> Any:
    if pairs:
        return dict(plain(pairs))
    if items:
        return plain(items)
    parts = plain(args) or []
    is_path = str(kind.get("py/type", "")).startswith("pathlib.")
    return str(PurePath(*parts)) if is_path else plain(state) or parts


def _array(fields: dict[str, Any]) -> Any:
    """Return the nested lists of an array; large arrays are stored compressed, views by their base.

    Raises:
        ValueError: the array is not stored row by row.
    """
    values = fields.get("values")
    if "values" in fields and not isinstance(values, str):
        return plain(values)
    if "strides" in fields or fields.get("order") == "F":
        raise ValueError("the array is not stored row by row")
    numbers = array.array(_TYPECODES[fields["dtype"]], _bytes(fields))
    if fields.get("byteorder", fields.get("base", {}).get("byteorder")) == ">":
        numbers.byteswap()
    flat = map(bool, numbers) if fields["dtype"] == "bool" else iter(numbers)
    return _shaped(flat, fields["shape"])


def _bytes(fields: dict[str, Any]) -> bytes:
    if "base" in fields:
        return _bytes(fields["base"])[fields.get("offset", 0) :]
    return zlib.decompress(base64.b64decode(fields["values"]))


def _shaped(flat: Iterator[Any], shape: list[int]) -> Any:
    if not shape:
        return next(flat)
    return [_shaped(flat, shape[1:]) for _ in range(shape[0])]
