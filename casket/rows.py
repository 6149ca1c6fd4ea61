"""What a session logs many of, epochs, batches and results: kept by column, read as rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any, Literal, get_args

from casket import values
from casket.artifacts import ArtifactFolder
from casket.errors import BadLocation
from casket.records import Record

Kind = Literal["epoch", "batch", "result"]
Mode = Literal["min", "max"]

NUMBERS: dict[Kind, tuple[str, ...]] = {
    "epoch": ("epoch_num",),
    "batch": ("batch_num", "epoch"),
    "result": ("index",),
}
"""What stands beside the result in the body of a record."""


class Rows(list[dict[str, Any]]):
    """Epochs, batches or results, in the order they were logged.

    Args:
        rows: the dicts.
        number: the key that numbers them, such as `epoch_num`; empty where nothing does.
    """

    def __init__(self, rows: Iterable[dict[str, Any]] = (), number: str = "") -> None:
        super().__init__(rows)
        self._number = number

    @property
    def latest(self) -> Rows:
        """The last row logged of each number, by number: the curve after a resume."""
        if not self._number:
            return self
        by_number = {row[self._number]: row for row in self}
        return Rows((by_number[number] for number in sorted(by_number)), self._number)

    def best(self, metric: str, mode: Mode = "min") -> dict[str, Any] | None:
        """Return the row in which `metric` is lowest or highest; None if none holds a number.

        Args:
            metric: its flat name, such as `loss` or `test.acc`.
            mode: `"min"` or `"max"`.

        Raises:
            BadLocation: there is no such mode.
        """
        pick = _picker(mode)
        rated = [(value_under(row, metric), row) for row in self]
        numbers = [(value, row) for value, row in rated if is_number(value)]
        best: dict[str, Any] | None = pick(numbers, key=itemgetter(0), default=(None, None))[1]
        return best


class Logged:
    """All epochs, batches or results of a session.

    They are kept by column: with a dict for every record Python's garbage collector would take
    longer than reading does.

    Attributes:
        numbers: what numbers the records, by name, such as `epoch_num`: a value a record.
        times: when each was logged; None where that is not to be shown.
    """

    def __init__(self, kind: Kind, files: ArtifactFolder) -> None:
        self.numbers: dict[str, list[Any]] = {name: [] for name in NUMBERS[kind]}
        self.times: list[str | None] = []
        self._stored: list[dict[str, Any]] = []
        self._extended: set[int] = set()
        self._files = files

    def __len__(self) -> int:
        return len(self._stored)

    def take(self, record: Record) -> None:
        """Add a record."""
        body = record["body"]
        if "extended" in record:
            self._extended.add(len(self._stored))
        for name, column in self.numbers.items():
            column.append(body[name])
        self.times.append(record["time"] if body.get("timestamp", True) else None)
        self._stored.append(body["result"])

    def results(self) -> list[dict[str, Any]]:
        """Return what was logged, as the user gave it, in order."""
        if not self._extended:
            return self._stored
        return [self._result(i) for i in range(len(self))]

    def rows(self) -> Rows:
        """Return a dict for each record: its numbers, what was logged, and its time."""
        rows = []
        for i, result in enumerate(self.results()):
            row = {name: column[i] for name, column in self.numbers.items()}
            row.update(result)
            time = self.times[i]
            if time is not None:
                row.setdefault("timestamp", time)
            rows.append(row)
        return Rows(rows, next(iter(self.numbers)))

    def add_latest(self, found: dict[str, Any]) -> None:
        """Add the latest value of each metric, by flat name, to those that were found."""
        for i in reversed(range(len(self))):
            # Nearly every record holds the names its successor does.
            if not self._stored[i].keys() <= found.keys():
                add_missing(found, self._result(i))

    def _result(self, i: int) -> dict[str, Any]:
        stored = self._stored[i]
        if i not in self._extended:
            return stored
        restored: dict[str, Any] = values.restore(stored, self._files.load_array)
        return restored


def best_of(results: Iterable[dict[str, Any]], metric: str, mode: Mode) -> Any:
    """Return the lowest or highest number under a flat name; None if there is none."""
    pick = _picker(mode)
    found = (value_under(result, metric) for result in results)
    return pick((value for value in found if is_number(value)), default=None)


def value_under(result: Mapping[str, Any], name: str) -> Any:
    """Return the value under a flat name; None if there is none."""
    if name in result or "." not in name:
        return result.get(name)
    return flatten(result).get(name)


def add_missing(found: dict[str, Any], result: Mapping[str, Any]) -> None:
    """Add the values of a result whose flat names are not among those found."""
    for name, value in flatten(result).items():
        found.setdefault(name, value)


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{"opt": {"name": 1}}` as `{"opt.name": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if type(value) is dict and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def is_number(value: Any) -> bool:
    """Tell whether a value is a number, which neither a bool nor NaN is."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _picker(mode: Mode) -> Any:
    if mode not in get_args(Mode):
        raise BadLocation(f"mode={mode!r}: give one of {get_args(Mode)}")
    return min if mode == "min" else max
