"""The system metrics of a session, stored by column and thinned."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from casket.format.records import Record
from casket.reading.columns import Times

ROWS = 5_000
"""The number of rows that is never exceeded: neighbors are averaged in pairs then."""

_WHOLE = "_bytes"
"""The end of the names of whole numbers."""


class SystemLog:
    """The system metrics of a session, in the order of their times.

    Attributes:
        times: the time of each row.
        columns: the values by name; NaN where a row has none.
    """

    def __init__(self) -> None:
        self.times = Times()
        self.columns: dict[str, array[float]] = {}

    def __len__(self) -> int:
        return len(self.times)

    def add(self, record: Record) -> None:
        """Add a record of kind `system`."""
        values = {
            name: float(value)
            for name, value in record["body"]["values"].items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        for name in values:
            if name not in self.columns:
                self.columns[name] = array("d", [math.nan]) * len(self)
        for name, column in self.columns.items():
            column.append(values.get(name, math.nan))
        self.times.append(record["time"])
        if len(self) == ROWS:
            self._thin()

    def _thin(self) -> None:
        """Average the rows in pairs."""
        order = self._order()
        times = Times()
        microseconds = self.times.microseconds
        times.microseconds.extend(
            (microseconds[one] + microseconds[other]) // 2 for one, other in _pairs(order)
        )
        for name, column in self.columns.items():
            pairs = ((column[one], column[other]) for one, other in _pairs(order))
            self.columns[name] = array("d", [_mean(*pair) for pair in pairs])
        self.times = times

    def _order(self) -> list[int]:
        return sorted(range(len(self)), key=self.times.microseconds.__getitem__)

    def table(self) -> tuple[dict[str, Sequence[Any]], Times]:
        """Return the columns, with None where a row has no value, and the times."""
        order = self._order()
        columns: dict[str, Sequence[Any]] = {
            name: [_shown(column[i], name) for i in order] for name, column in self.columns.items()
        }
        return columns, self.times.picked(order)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows, each with its `time` and the values it has."""
        columns, times = self.table()
        rows: list[dict[str, Any]] = [{"time": time} for time in times]
        for name, values in columns.items():
            for row, value in zip(rows, values, strict=True):
                if value is not None:
                    row[name] = value
        return rows


def _pairs(order: Sequence[int]) -> Iterable[tuple[int, int]]:
    return zip(order[::2], order[1::2], strict=True)


def _mean(one: float, other: float) -> float:
    if math.isnan(one):
        return other
    return one if math.isnan(other) else (one + other) / 2


def _shown(value: float, name: str) -> float | None:
    if math.isnan(value):
        return None
    return round(value) if name.endswith(_WHOLE) else value
