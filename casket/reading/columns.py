"""Storage by column: a number occupies eight bytes, and values are returned unchanged.

A thread may read while another appends, because columns only grow or are replaced.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import repeat
from struct import Struct
from typing import Any, NamedTuple, overload

Column = MutableSequence[Any]
Shape = tuple[Any, ...]
"""The names in a result, followed by the types of their values."""

_CODES = {float: "d", int: "q"}


def shape_of(result: Mapping[Any, Any]) -> Shape:
    """Return the shape of a result."""
    return (*result, *map(type, result.values()))


def by_path(result: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Return `{"opt": {"name": 1}}` as `{("opt", "name"): 1}`."""
    leaves: dict[tuple[str, ...], Any] = {}
    for key, value in result.items():
        if type(value) is dict and value:
            leaves.update(by_path(value, (*path, key)))
        else:
            leaves[*path, key] = value
    return leaves


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{"opt": {"name": 1}}` as `{"opt.name": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if type(value) is dict and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


class Columns:
    """Results of the same shape, stored by column.

    Args:
        shape: at least one name, or path if results are nested, and the types of the values.

    Attributes:
        names: the flat names.
        metrics: the flat names whose values are numbers.
        append: adds the values of a result. Raises an `OverflowError` and adds nothing if an
            integer has more than 64 bits.
    """

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        header = _header(shape)
        self._keys, self._is_nested, self._flat, self._at, self.names, self.metrics = header
        types = shape[len(shape) // 2 :]
        self._table = _Floats(len(types)) if set(types) == {float} else _Mixed(types)
        self.append: Callable[[Iterable[Any]], object] = self._table.append

    def values(self, name: str) -> Column | None:
        """Return the values under a flat name, or None if there is no such name."""
        return self._table.column(self._at[name]) if name in self._at else None

    def row(self, position: int) -> dict[str, Any]:
        """Return the result at a position."""
        return self._result(self._table.row(position))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Iterate over the results in order."""
        return map(self._result, self._table.rows())

    def pairs(self) -> Iterator[Iterable[tuple[str, Any]]]:
        """Iterate over the flat names and values of each result."""
        return map(zip, repeat(self._flat), self._table.rows())

    def picked(self, positions: Iterable[int]) -> Columns:
        """Return new columns with the results at the given positions."""
        other = Columns(self._shape)
        for position in positions:
            other.append(self._table.row(position))
        return other

    def _result(self, values: Iterable[Any]) -> dict[str, Any]:
        result = dict(zip(self._keys, values, strict=True))
        return _nested(result) if self._is_nested else result


class _Header(NamedTuple):
    """The names of columns; those of many sessions are the same."""

    keys: tuple[Any, ...]
    is_nested: bool
    flat: Sequence[str]
    at: Mapping[str, int]
    names: Sequence[str]
    metrics: Sequence[str]


@lru_cache(maxsize=32)
def _header(shape: Shape) -> _Header:
    keys, types = shape[: len(shape) // 2], shape[len(shape) // 2 :]
    is_nested = tuple in map(type, keys)
    flat = [*map(".".join, keys)] if is_nested else keys
    at = {name: i for i, name in enumerate(flat)}
    metrics = [name for name, i in at.items() if types[i] in _CODES]
    return _Header(keys, is_nested, flat, at, list(at), metrics)


class _Floats:
    """A table of floats in row-major order, so that a row is appended by a single call."""

    def __init__(self, width: int) -> None:
        self._cells = array("d")
        self._width = width
        self.append = self._cells.extend

    def column(self, i: int) -> Column:
        return self._cells[i :: self._width]

    def row(self, position: int) -> Iterable[Any]:
        return self._cells[position * self._width : (position + 1) * self._width]

    def rows(self) -> Iterator[Iterable[Any]]:
        return zip(*[iter(self._cells)] * self._width, strict=False)


class _Mixed:
    """A table of columns, each with values of a single type."""

    def __init__(self, types: Iterable[type]) -> None:
        self._columns = [array(_CODES[kind]) if kind in _CODES else [] for kind in types]

    def append(self, values: Iterable[Any]) -> None:
        try:
            for column, value in zip(self._columns, values, strict=True):
                column.append(value)
        except OverflowError:
            for column in self._columns:
                del column[len(self._columns[-1]) :]
            raise

    def column(self, i: int) -> Column:
        return self._columns[i]

    def row(self, position: int) -> Iterable[Any]:
        return [column[position] for column in self._columns]

    def rows(self) -> Iterator[Iterable[Any]]:
        return zip(*self._columns, strict=False)


def _nested(leaves: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for (*parents, key), value in leaves.items():
        inner = result
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[key] = value
    return result


class Times(Sequence[str | None]):
    """The times of records, as text or None.

    Args:
        texts: the first times.

    Attributes:
        microseconds: the times in microseconds since 1970, or `NO_TIME`.
    """

    def __init__(self, texts: Sequence[str | None] = ()) -> None:
        # A `str` each would need ten times as much memory.
        self.microseconds = array("q")
        # Texts that are not in casket's own format.
        self._others: dict[int, str] = {}
        if texts:
            self.extend(texts)

    def __len__(self) -> int:
        return len(self.microseconds)

    @overload
    def __getitem__(self, index: int) -> str | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[str | None]: ...
    def __getitem__(self, index: int | slice) -> str | list[str | None] | None:
        positions = range(len(self))[index]
        if isinstance(positions, range):
            return [self._text(i) for i in positions]
        return self._text(positions)

    def __iter__(self) -> Iterator[str | None]:
        return map(self._text, range(len(self)))

    def append(self, text: str | None) -> None:
        """Add a time."""
        if text is None:
            self.microseconds.append(NO_TIME)
            return
        try:
            self.microseconds += _microseconds([text])
        except _OTHER:
            self._others[len(self)] = text
            self.microseconds.append(_parsed(text))

    def extend(self, texts: Sequence[str | None]) -> None:
        """Add times, with a fast path if all have casket's own format."""
        if isinstance(texts, Times):
            self._others |= {len(self) + i: text for i, text in texts._others.items()}
            self.microseconds += texts.microseconds
            return
        try:
            self.microseconds += _microseconds(texts)
        except _OTHER:
            for text in texts:
                self.append(text)

    def picked(self, positions: Sequence[int]) -> Times:
        """Return the times at the given positions."""
        other = Times()
        other.microseconds.extend([self.microseconds[i] for i in positions])
        if self._others:
            chosen = enumerate(positions)
            other._others = {new: self._others[i] for new, i in chosen if i in self._others}
        return other

    def seconds(self) -> array[float]:
        """Return the times in seconds since 1970, with NaN for None and invalid times."""
        return array(
            "d", [math.nan if each == NO_TIME else each / 1e6 for each in self.microseconds]
        )

    def _text(self, i: int) -> str | None:
        if i in self._others:
            return self._others[i]
        microseconds = self.microseconds[i]
        if microseconds == NO_TIME:
            return None
        return "%s.%06dZ" % (_text_of(microseconds // 10**6), microseconds % 10**6)  # noqa: UP031


NO_TIME = -(2**63)
"""No time among microseconds, as in NumPy's `datetime64`."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OTHER = (TypeError, ValueError)


def _microseconds(texts: Sequence[Any]) -> array[int]:
    """Return times in casket's own format in microseconds since 1970.

    Raises:
        TypeError, ValueError: a time has another format.
    """
    joined = "".join(texts).encode("ascii")
    count = len(texts)
    is_own = joined[_FIELDS.size - 1 :: _FIELDS.size] == b"Z" * count
    has_others = joined.translate(None, b"0123456789-T:.Z") or joined.count(b"-") != 2 * count
    if not is_own or has_others or len(joined) != _FIELDS.size * count:
        raise ValueError
    fields = _FIELDS.iter_unpack(joined)
    return array("q", [_SECONDS[second] + int(part) for second, part in fields])


_FIELDS = Struct("20s6sx")
"""The second and the microseconds of `2026-11-23T08:57:10.123456Z`."""


class _Seconds(dict[bytes, int]):
    """The time of each second, such as `2026-11-23T08:57:10.`, in microseconds since 1970.

    It is a cache, since the records of several sessions share their seconds.
    """

    def __missing__(self, text: bytes) -> int:
        if text[4::3] != b"--T::.":  # ISO 8601 has other forms
            raise ValueError
        time = datetime.fromisoformat(f"{text[:-1].decode()}+00:00")
        if len(self) >= _REMEMBERED:
            self.clear()
        self[text] = microseconds = int(time.timestamp()) * 10**6
        return microseconds


_SECONDS = _Seconds()
_REMEMBERED = 4096


@lru_cache(maxsize=64)
def _text_of(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()


def _parsed(text: Any) -> int:
    try:
        time = datetime.fromisoformat(text)
        aware = time if time.tzinfo else time.replace(tzinfo=UTC)
        return (aware - _EPOCH) // timedelta(microseconds=1)
    except _OTHER:  # edited by hand
        return NO_TIME
