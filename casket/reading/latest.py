"""The latest values of each epoch or batch.

A number is logged again by a second call for the same epoch, and after a resume.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from operator import lt
from typing import Any, NamedTuple

from casket.reading.columns import Column, Times, flatten

Key = tuple[tuple[int, Any], ...]


SEARCHED = "grid_search_params"
"""The key of a candidate of a hyperparameter search in its results."""


class LastValues(dict[str, Any]):
    """The latest value of each metric of a session, by flat name.

    A result under an index is named `test.test_acc`; its bare name `test_acc` finds it as well if
    no other metric has that name and no other index has that result.
    """

    def __init__(self) -> None:
        super().__init__()
        self._origins: dict[str, tuple[str, str]] = {}
        self._bare: dict[str, str | None] = {}

    def __missing__(self, name: str) -> Any:
        full = self._full(name)
        if full == name:
            raise KeyError(name)
        return self[full]

    def __contains__(self, name: object) -> bool:
        return super().__contains__(self._full(name) if isinstance(name, str) else name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a metric, or `default` if there is none."""
        return super().get(self._full(name), default)

    def add(self, result: Mapping[str, Any]) -> None:
        """Add the values of an earlier result whose names are missing."""
        for name, value in flatten(result).items():
            self.setdefault(name, value)

    def add_indexed(self, index: Any, result: Mapping[str, Any]) -> None:
        """Add the values of an earlier result under an index whose names are missing."""
        for name, value in flatten(metrics_of(result)).items():
            full = f"{index}.{name}"
            if not super().__contains__(full):
                self[full] = value
                self._origins[full] = (str(index), name)
                self._bare[name] = None if name in self._bare else full

    def origin(self, name: str) -> tuple[str, str] | None:
        """Return the index and the name of a result under an index; None for other metrics."""
        return self._origins.get(self._full(name))

    def _full(self, name: str) -> str:
        return name if super().__contains__(name) else self._bare.get(name) or name


def metrics_of(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the metrics of a result under an index; of a search, the best score of a scorer."""
    if SEARCHED in result:
        return {}
    if "best_params" in result and "best_score" in result:
        return {"best_score": result["best_score"]}
    return result


class Table(NamedTuple):
    """The columns of epochs, batches or results.

    Attributes:
        numbers: the numbers of the records by name, such as `epoch_num`.
        values: the values by flat name.
        times: the times.
    """

    numbers: dict[str, Column]
    values: dict[str, Sequence[Any]]
    times: Times

    def latest(self) -> Table:
        """Return a row per number with the latest value of each metric, sorted by number."""
        groups = grouped(list(self.numbers.values()))
        last = [group[-1] for group in groups]
        return Table(
            {name: [column[i] for i in last] for name, column in self.numbers.items()},
            {name: latest_values(column, groups) for name, column in self.values.items()},
            self.times.picked(last),
        )


def grouped(numbers: Sequence[Sequence[Any]]) -> list[list[int]]:
    """Return the positions of the records of each number, sorted by number.

    Args:
        numbers: the columns of numbers; of batches, their number and their epoch.
    """
    groups: dict[Key, list[int]] = {}
    places = zip(*(map(_place, column) for column in reversed(numbers)), strict=True)
    for i, key in enumerate(places):
        groups.setdefault(key, []).append(i)
    return [groups[key] for key in sorted(groups)]


def key_of(numbers: Iterable[Any]) -> Key:
    """Return the sort key of a record with the given numbers; batches are sorted by epoch first."""
    return tuple(map(_place, reversed(list(numbers))))


def latest_values(values: Sequence[Any], groups: Iterable[Sequence[int]]) -> list[Any]:
    """Return the last value in each group of positions, or None if it has no value."""
    return [
        next((values[i] for i in reversed(group) if values[i] is not None), None)
        for group in groups
    ]


def over_epochs(numbers: Sequence[Any], epochs: Sequence[Any]) -> Sequence[Any]:
    """Return the numbers of batches, counted on over the epochs if each numbers them anew."""
    if is_rising(numbers) or not _are_numbers(numbers):
        return numbers
    pairs = list(map(key_of, zip(numbers, epochs, strict=False)))
    if all(map(lt, pairs, islice(pairs, 1, None))):
        return array("q", range(1, len(pairs) + 1))
    places = {pair: place for place, pair in enumerate(sorted(set(pairs)), 1)}
    is_anew = len(places) > len(set(numbers))
    return [places[pair] for pair in pairs] if is_anew else numbers


def is_rising(numbers: Sequence[Any]) -> bool:
    """Return whether each value is a number and larger than the value before."""
    return _are_numbers(numbers) and all(map(lt, numbers, islice(numbers, 1, None)))


def _are_numbers(values: Sequence[Any]) -> bool:
    is_whole = isinstance(values, array) and values.typecode == "q"
    return is_whole or {int, float}.issuperset(map(type, values))


def updated(nested: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested dicts with the values of a later result."""
    merged = dict(nested)
    for name, value in later.items():
        before = merged.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            merged[name] = updated(before, value)
        elif value is not None or name not in merged:
            merged[name] = value
    return merged


def free_name(name: str, taken: Collection[str], others: Collection[str]) -> str:
    """Return the name of a metric's column, `metric.NAME` if another column has its name."""
    if name in taken:
        name = f"metric.{name}"
        while name in others or name in taken:
            name = f"metric.{name}"
    return name


def _place(number: Any) -> tuple[int, Any]:
    """Return a sort key of numbers; other values in files edited by hand come last."""
    if number is None:
        return 0, 0
    is_number = isinstance(number, (int, float)) and number == number
    return (1, number) if is_number else (2, str(number))
