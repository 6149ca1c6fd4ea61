"""Conversion of logged values to JSON and back.

`Encoder` converts values to plain JSON. A value that JSON lacks is represented by an object with a
single `$` key: MongoDB's relaxed extended JSON where it has a suitable form (`$numberDouble`,
`$numberDecimal`, `$date`), and forms of casket's own otherwise: `$integer` (beyond 64 bits),
`$array` (an array stored as a file beside the store) and `$literal` (a user's dict with a key that
begins with `$`). `restore` reads them back. `casket.format.arrays` converts objects of array
libraries and pandas to plain values, `casket.format.configs` config objects.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from casket.errors import UnstorableValue
from casket.format import arrays as foreign
from casket.format import configs

LARGE_ARRAY = 256 * 1024
"""Size in bytes above which an array is stored as a file of its own."""

MAX_DEPTH = 100
"""Maximum nesting depth. The JSON codec supports 254 levels, a `$literal` takes two of them, and
the encoder has to fit on Python's stack."""

_PLAIN = frozenset({str, bool, type(None)})
_FLOATS = {float}
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1

KeepArray = Callable[[Any], dict[str, Any]]
"""Stores a large numpy array as a file and returns its description."""
LoadArray = Callable[[dict[str, Any]], Any]
"""Loads the array described by the return value of `KeepArray`."""


def plain_json(result: dict[str, Any]) -> bytes | None:
    """Return a flat dict as JSON if it needs no `Encoder`, as in nearly every epoch, else None."""
    values = result.values()
    if set(map(type, values)) == _FLOATS:
        total = sum(values)
        if total - total != 0.0:  # NaN or infinite
            return None
    elif not all(map(_is_plain, values)):
        return None
    try:
        text = orjson.dumps(result)
    except TypeError:  # a key that is not a string, or text that is not Unicode
        return None
    return None if b"$" in text else text


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind is float:
        return math.isfinite(value)
    return _INT_MIN <= value <= _INT_MAX if kind is int else kind in _PLAIN


class Encoder:
    """Encoder of a value as JSON.

    Args:
        keep_array: stores large arrays; by default they become lists.
        names: store classes and functions by name and other objects by their `repr`, as in params,
            instead of refusing them.

    Attributes:
        extended: whether a `$` form was used, so that reading requires `restore`.
    """

    max_depth = MAX_DEPTH

    def __init__(self, keep_array: KeepArray | None = None, *, names: bool = False) -> None:
        self.extended = False
        self._keep_array = keep_array
        self._names = names
        self._large: list[tuple[dict[str, Any], Any]] = []
        self._depth = 0

    def mapping(self, value: Any, name: str) -> dict[str, Any]:
        """Encode a dict or a config object, then store the large arrays in it.

        Raises:
            UnstorableValue: `value` is neither, or contains a value that cannot be stored; no
                array was stored.
        """
        parts = self._parts(value, name)
        if not isinstance(parts, Mapping):
            hint = "give a dict, a Namespace, a dataclass or another config object"
            raise UnstorableValue(name, _type_name(value), hint)
        encoded = self._mapping(parts, "")
        if self._keep_array is not None:
            for form, array in self._large:
                form["$array"] = self._keep_array(array)
        return encoded

    def encode(self, value: Any, path: str) -> Any:
        """Encode a value.

        Args:
            value: the value.
            path: its name in error messages, such as `layers[2].units`.
        """
        self._depth += 1
        if self._depth > self.max_depth:
            raise UnstorableValue(path, _type_name(value), "it is nested deeply or contains itself")
        try:
            return self._encode(value, path)
        finally:
            self._depth -= 1

    def _encode(self, value: Any, path: str) -> Any:
        kind = type(value)
        if kind in _ENCODERS:
            return _ENCODERS[kind](self, value, path)
        package = foreign.package_of(kind)
        if package is not None:
            return self._foreign(value, package, path)
        return self._other(value, path)

    def _other(self, value: Any, path: str) -> Any:
        """Encode a value whose type is neither a builtin nor an array."""
        for base, encode in _BASES:
            if isinstance(value, base):
                return encode(self, value, path)
        parts = self._parts(value, path)
        return self._unknown(value, path) if parts is None else self.encode(parts, path)

    def _parts(self, value: Any, path: str) -> Any:
        try:
            return configs.parts_of(value)
        except Exception as error:  # a part may be any code of the user's
            raise self._unreadable(value, path, error) from error

    def _unknown(self, value: Any, path: str) -> str:
        """Return the name of an object that has no form in JSON."""
        if not self._names:
            raise UnstorableValue(path, _type_name(value), configs.hint(value))
        try:
            name = configs.name_of(value)
        except Exception as error:
            raise self._unreadable(value, path, error) from error
        if name is None:
            raise UnstorableValue(path, _type_name(value), configs.hint_for_nameless(value))
        return self._text(name, path)

    def _unreadable(self, value: Any, path: str, error: Exception) -> UnstorableValue:
        reason = str(error).partition("\n")[0] or type(error).__name__
        return UnstorableValue(path, _type_name(value), reason)

    def _dict(self, value: dict[Any, Any], path: str) -> dict[str, Any]:
        return self._members(value, value.items(), path)

    def _mapping(self, value: Mapping[Any, Any], path: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return self._dict(value, path)
        prefix = f"{path}." if path else ""
        items = ((key, self._item(value, key, f"{prefix}{key}")) for key in value)
        return self._members(value, items, path)

    def _members(
        self, value: Mapping[Any, Any], items: Iterable[tuple[Any, Any]], path: str
    ) -> dict[str, Any]:
        prefix = f"{path}." if path else ""
        encoded = {}
        is_literal = False
        for key, item in items:
            name = self._key(key, path)
            is_literal = is_literal or name[:1] == "$"
            encoded[name] = self.encode(item, prefix + name)
        if len(encoded) < len(value):
            self._refuse_clash(value, path)
        return self._form("$literal", encoded) if is_literal else encoded

    def _item(self, value: Any, key: Any, path: str) -> Any:
        """Return an item of a mapping or sequence, which may be computed."""
        try:
            return value[key]
        except Exception as error:
            raise self._unreadable(value, path, error) from error

    def _key(self, key: Any, path: str) -> str:
        if isinstance(key, str):
            return self._text(key, path)
        text = configs.key_text(key)
        if text is None:
            hint = "write str(key)"
            raise UnstorableValue(f"{path}[{key!r}]", f"a key of type {_type_name(key)}", hint)
        return self._text(text, path)

    def _refuse_clash(self, value: Mapping[Any, Any], path: str) -> None:
        names: dict[str, Any] = {}
        for key in value:
            known = names.setdefault(self._key(key, path), key)
            if known is not key:
                hint = f"it has the same text as the key {known!r}; rename one of them"
                raise UnstorableValue(f"{path}[{key!r}]", f"a key of type {_type_name(key)}", hint)

    def _form(self, name: str, value: Any) -> dict[str, Any]:
        self.extended = True
        return {name: value}

    def _list(self, value: Any, path: str) -> list[Any]:
        if set(map(type, value)) == {float} and all(map(math.isfinite, value)):
            return list(value)
        return [self.encode(item, f"{path}[{i}]") for i, item in enumerate(value)]

    def _sequence(self, value: Sequence[Any], path: str) -> list[Any]:
        items = ((f"{path}[{i}]", i) for i in range(len(value)))
        return [self.encode(self._item(value, i, name), name) for name, i in items]

    def _set(self, value: AbstractSet[Any], path: str) -> list[Any]:
        return sorted(self._list(value, path), key=orjson.dumps)

    def _float(self, value: float, _path: str) -> Any:
        value = float(value)
        if math.isfinite(value):
            return value
        name = "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
        return self._form("$numberDouble", name)

    def _int(self, value: int, _path: str) -> Any:
        value = int(value)
        return value if _INT_MIN <= value <= _INT_MAX else self._form("$integer", _digits(value))

    def _same(self, value: Any, _path: str) -> Any:
        return value

    def _text(self, value: str, path: str) -> str:
        text = str.__str__(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            hint = "it holds half a surrogate pair; decode it with errors='replace'"
            raise UnstorableValue(path, "text that is not Unicode", hint) from None
        return text

    def _enum(self, value: Enum, path: str) -> Any:
        encoder = Encoder()
        try:
            encoded = encoder.encode(value.value, path)
        except UnstorableValue:
            return value.name
        self.extended = self.extended or encoder.extended
        return encoded

    def _datetime(self, value: datetime, path: str) -> Any:
        try:
            in_utc = value.astimezone(UTC)
        except (OverflowError, ValueError):
            raise UnstorableValue(path, f"the time {value}", "in UTC it is out of range") from None
        return self._form("$date", in_utc.isoformat(timespec="microseconds")[:26] + "Z")

    def _iso(self, value: date | time, _path: str) -> str:
        return value.isoformat()

    def _seconds(self, value: timedelta, path: str) -> Any:
        return self._float(value.total_seconds(), path)

    def _decimal(self, value: Decimal, _path: str) -> Any:
        return self._form("$numberDecimal", str(value))

    def _path(self, value: os.PathLike[Any], path: str) -> Any:
        return self._text(os.fsdecode(os.fspath(value)), path)

    def _as_text(self, value: Any, path: str) -> str:
        return self._text(str(value), path)

    def _foreign(self, value: Any, package: str, path: str) -> Any:
        try:
            simple = self._simplified(value, package)
        except Exception as error:  # the library may raise anything
            raise self._unreadable(value, path, error) from error
        if simple is value:
            return self._other(value, path)
        return self.encode(simple, path)

    def _simplified(self, value: Any, package: str) -> Any:
        """Return plain values for a library's object, or the value itself if it is not an array."""
        if package == "pandas":
            return foreign.of_pandas(value)
        array = foreign.as_array(value, package)
        if array is None:
            return str(value) if foreign.is_name(value) else value
        if self._keep_array is None or not _is_large(array):
            return foreign.plain(array)
        return _Large(array)

    def _later(self, value: _Large, _path: str) -> dict[str, Any]:
        form = self._form("$array", None)
        self._large.append((form, value.array))
        return form


class _Large(NamedTuple):
    """An array to be stored as a file once all other values are known to be storable."""

    array: Any


Encode = Callable[[Encoder, Any, str], Any]

_ENCODERS: dict[type, Encode] = {
    float: Encoder._float,
    int: Encoder._int,
    str: Encoder._text,
    bool: Encoder._same,
    type(None): Encoder._same,
    dict: Encoder._dict,
    list: Encoder._list,
    tuple: Encoder._list,
    set: Encoder._set,
    frozenset: Encoder._set,
    _Large: Encoder._later,
}

_BASES: list[tuple[Any, Encode]] = [
    (Enum, Encoder._enum),
    (datetime, Encoder._datetime),
    ((date, time), Encoder._iso),
    (timedelta, Encoder._seconds),
    (Decimal, Encoder._decimal),
    (UUID, Encoder._as_text),
    (os.PathLike, Encoder._path),
    (str, Encoder._text),
    (float, Encoder._float),
    (int, Encoder._int),
    (Mapping, Encoder._mapping),
    ((list, tuple), Encoder._list),
    (AbstractSet, Encoder._set),
    ((bytes, bytearray, memoryview), Encoder._unknown),
    (Sequence, Encoder._sequence),
]


def restore(value: Any, load_array: LoadArray) -> Any:
    """Convert the `$` forms in a stored value back to Python values.

    Args:
        value: a JSON value.
        load_array: loads the array described by a `$array` form.
    """
    if isinstance(value, list):
        return [restore(item, load_array) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (name, item), *_ = value.items()
        if name == "$array":
            return load_array(item)
        if name == "$literal":
            return {key: restore(part, load_array) for key, part in item.items()}
        if name in _RESTORERS:
            return _RESTORERS[name](item)
    return {key: restore(item, load_array) for key, item in value.items()}


_RESTORERS: dict[str, Callable[[str], Any]] = {
    "$numberDouble": float,
    "$integer": lambda digits: int(digits, 16),
    "$numberDecimal": Decimal,
    "$date": datetime.fromisoformat,
}


def _digits(value: int) -> str:
    # Hexadecimal, because Python refuses decimal text of more than 4,300 digits.
    return hex(value)


def _type_name(value: Any) -> str:
    return configs.qualified_name(type(value))


def _is_large(array: Any) -> bool:
    # An .npy file cannot hold a mask.
    is_numbers = array.dtype.kind in "biuf" and not hasattr(array, "mask")
    return is_numbers and array.nbytes > LARGE_ARRAY
