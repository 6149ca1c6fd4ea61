"""Storage by column: a number occupies eight bytes, and values are returned unchanged.

A thread may read while another appends, because columns only grow or are replaced.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence
from datetime import UTC, datetime
from typing import Any, cast, overload

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
        self._keys, types = shape[: len(shape) // 2], shape[len(shape) // 2 :]
        self._is_nested = tuple in map(type, self._keys)
        flat = map(".".join, self._keys) if self._is_nested else self._keys
        self._at = {name: i for i, name in enumerate(flat)}
        self._table = _Floats(len(types)) if set(types) == {float} else _Mixed(types)
        self.names = list(self._at)
        self.metrics = [name for name, i in self._at.items() if types[i] in _CODES]
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

    def picked(self, positions: Iterable[int]) -> Columns:
        """Return new columns with the results at the given positions."""
        other = Columns(self._shape)
        for position in positions:
            other.append(self._table.row(position))
        return other

    def _result(self, values: Iterable[Any]) -> dict[str, Any]:
        result = dict(zip(self._keys, values, strict=True))
        return _nested(result) if self._is_nested else result


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
    """The times of records, as text or None."""

    def __init__(self) -> None:
        # Times in casket's own format; a `str` each would need three times as much memory.
        self._texts = bytearray()
        self._others: dict[int, str] = {}
        self._seconds = array("d")

    def __len__(self) -> int:
        return len(self._texts) // _LENGTH

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
        is_usual = type(text) is str and len(text) == _LENGTH and text.isascii()
        encoded = text.encode() if text and is_usual else _BLANK
        if text is not None and encoded == _BLANK:
            self._others[len(self)] = text
        self._texts += encoded

    def extend(self, texts: Sequence[str | None]) -> None:
        """Add times, with a fast path if all have casket's own format."""
        if set(map(type, texts)) == {str}:
            known = cast("Sequence[str]", texts)
            joined = "".join(known)
            if joined.isascii() and set(map(len, known)) == {_LENGTH}:
                self._texts += joined.encode()
                return
        for text in texts:
            self.append(text)

    def seconds(self) -> array[float]:
        """Return the times in seconds since the epoch, with NaN for None and invalid times."""
        known = self._seconds
        if len(known) < len(self):
            # A new array, because another thread may be using the current array.
            self._seconds = known = known + array("d", map(_seconds, self[len(known) :]))
        return known

    def _text(self, i: int) -> str | None:
        text = self._texts[i * _LENGTH : (i + 1) * _LENGTH]
        return self._others.get(i) if text == _BLANK else text.decode()


_LENGTH = len("2026-11-23T08:57:10.123456Z")
_BLANK = b"\xff" * _LENGTH
"""A byte string that is not the encoding of any text."""


def _seconds(text: str | None) -> float:
    try:
        timestamp = datetime.fromisoformat(text or "")
    except (TypeError, ValueError):  # no time, or edited by hand
        return math.nan
    return (timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)).timestamp()
