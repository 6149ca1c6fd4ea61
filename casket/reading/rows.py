"""The epochs, batches and results of a session, stored by column and read as rows."""

from __future__ import annotations

import warnings
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, pairwise, repeat
from operator import itemgetter, lt
from typing import Any, Literal, get_args

from casket.errors import BadLocation, CasketWarning
from casket.format.artifacts import ArtifactFolder
from casket.format.intact import DAMAGED, described
from casket.format.records import Record, is_counted
from casket.reading.columns import Column, Columns, Shape, Times, by_path, flatten, shape_of
from casket.reading.latest import (
    SEARCHED,
    Key,
    LastValues,
    Table,
    free_name,
    key_of,
    updated,
)
from casket.reading.lazydict import LazyDict

Kind = Literal["epoch", "batch", "result"]
Mode = Literal["min", "max"]

NUMBERS: dict[Kind, tuple[str, ...]] = {
    "epoch": ("epoch_num",),
    "batch": ("batch_num", "epoch"),
    "result": ("index",),
}
"""The fields beside the result in the body of a record."""

_OWN = {kind: frozenset({*names, "timestamp"}) for kind, names in NUMBERS.items()}


class Rows(list[dict[str, Any]]):
    """Epochs, batches or results, in the order they were logged.

    Args:
        rows: the rows.
        numbers: the keys of the numbers of a row, such as `epoch_num`; empty for results.
    """

    def __init__(self, rows: Iterable[dict[str, Any]] = (), numbers: Collection[str] = ()) -> None:
        super().__init__(rows)
        self._numbers = numbers

    @property
    def latest(self) -> Rows:
        """A row per number with the latest value of each metric, sorted by number.

        This is the curve after a resume. Batches are sorted by epoch, then by number.
        """
        if not self._numbers:
            return self
        merged: dict[Key, dict[str, Any]] = {}
        for row in self:
            key = key_of(row[name] for name in self._numbers)
            merged[key] = updated(merged.get(key, {}), row)
        return Rows((merged[key] for key in sorted(merged)), self._numbers)

    def best(self, metric: str, mode: Mode = "min") -> dict[str, Any] | None:
        """Return the row with the lowest or highest value of a metric, or None if it has no values.

        Args:
            metric: the flat name of the metric, such as `loss` or `test.acc`.
            mode: `"min"` or `"max"`.

        Raises:
            BadLocation: `mode` is neither `"min"` nor `"max"`.
        """
        pick = _picker(mode)
        rated = [(value_under(row, metric), row) for row in self]
        numbers = [(value, row) for value, row in rated if is_number(value)]
        best: dict[str, Any] | None = pick(numbers, key=itemgetter(0), default=(None, None))[1]
        return best


class MetricLog:
    """All epochs, batches or results of a session.

    There may be millions of them, so they are stored by column, grouped by the names and types of
    their values. A thread may read while another adds records: a record is counted only once it
    is complete, and readers use the count at the start of the call.

    Attributes:
        numbers: the numbers of the records by name, such as `epoch_num`; a value per record.
        times: the time of each record; None if it is not shown.
        is_in_order: whether all records have the same writer and are in the order it wrote them.
    """

    def __init__(self, kind: Kind, files: ArtifactFolder) -> None:
        self.numbers: dict[str, Column] = {
            name: [] if kind == "result" else array("q") for name in NUMBERS[kind]
        }
        self._kind = kind
        self._names = NUMBERS[kind]
        self._own = _OWN[kind]
        self.times = Times()
        self._files = files
        # For each record, the index of its columns; records outside of columns are in `_others`.
        self._places = bytearray()
        self._columns: list[Columns] = []
        self._others: dict[int, LazyDict] = {}
        # The number of records and their values by name, if they were asked for.
        self._transposed: tuple[int, dict[str, Sequence[Any]]] | None = None
        self._by_shape: dict[Shape, int] = {}
        self._width = 0
        self._last_shape: Shape | None = None
        self._last_place = NOWHERE
        self._last_append: Callable[[Iterable[Any]], object]
        # The start of each run of records of the same writer, and the `n` of each record.
        self._runs: list[tuple[int, str]] = []
        self._turns = array("q")
        self.is_in_order = True

    def __len__(self) -> int:
        return len(self._places)

    def add(self, records: Sequence[Record]) -> None:
        """Add records; warn about records that were edited and cannot be read."""
        if self._add_alike(records):
            return
        for record in records:
            try:
                self._add_one(record)
            except DAMAGED as error:
                name_unreadable(record, described(error))

    def _add_alike(self, records: Sequence[Record]) -> bool:
        """Add records in bulk if their values are floats under the same names.

        This is by far the most common case, and four times as fast as adding them individually.

        Returns:
            Whether the records were added.
        """
        try:
            bodies = [record["body"] for record in records]
            results = [body["result"] for body in bodies]
            names, types = set(map(tuple, results)), set(map(type, _values_of(results)))
            if types != {float} or len(names) != 1 or any("extended" in each for each in records):
                return False
            numbers = [self._in_kind(name, [body[name] for body in bodies]) for name in self._names]
            times = [
                record["time"] if body.get("timestamp", True) else None
                for record, body in zip(records, bodies, strict=True)
            ]
            turns = array("q", [record["n"] for record in records])
            self._turn_to(records[0])
        except (_NoColumns, KeyError, OverflowError, *_BY_HAND):
            return False
        # Nothing below may fail, as in `_add_one`.
        self._last_append(_values_of(results))
        for name, column in zip(self._names, numbers, strict=True):
            self.numbers[name].extend(column)
        self.times.extend(times)
        self._note_turns(records, turns)
        self._places.extend(bytes([self._last_place]) * len(records))
        return True

    def _note_turns(self, records: Sequence[Record], turns: array[int]) -> None:
        """Store the writer and the `n` of records that are being added."""
        writer = self._runs[-1][1] if self._runs else None
        for i, record in enumerate(records, len(self._turns)):
            if record["writer"] != writer:
                writer = record["writer"]
                self._runs.append((i, writer))
        is_rising = all(map(lt, turns, islice(turns, 1, None)))
        follows = not self._turns or self._turns[-1] < turns[0]
        if len(self._runs) > 1 or (is_counted(writer or "") and not (is_rising and follows)):
            self.is_in_order = False
        self._turns += turns

    def _add_one(self, record: Record) -> None:
        body = record["body"]
        result, numbers = body["result"], [body[name] for name in self._names]
        time = record["time"] if body.get("timestamp", True) else None
        turn = record["n"]
        try:
            # Nearly every result has the shape of the previous result.
            if "extended" in record or (*result, *map(type, result.values())) != self._last_shape:
                result = self._turn_to(record)
            self._last_append(result.values())
            place = self._last_place
        except (_NoColumns, OverflowError, *_BY_HAND):
            stored = LazyDict.of(record, "result", self._files)
            stored.without_arrays()
            self._others[len(self._places)] = stored
            place = NOWHERE
        # Nothing below may fail: half a record would shift all later records.
        for name, number in zip(self._names, numbers, strict=True):
            if type(number) is not int or not LEAST <= number <= MOST:
                self._number_by_list(name)
            self.numbers[name].append(number)
        self.times.append(time)
        self._note_turns(
            [record], array("q", [turn if type(turn) is int and LEAST <= turn <= MOST else 0])
        )
        self._places.append(place)  # last, because this makes the record count

    @property
    def writers(self) -> list[str]:
        """The writers of the records, in order of first appearance."""
        return list(dict.fromkeys(writer for _, writer in self._runs))

    def arranged(self, ranks: Mapping[str, int], numbered: Collection[str]) -> MetricLog:
        """Return the records sorted by the ranks of their writers.

        Args:
            ranks: the rank of each writer; records of equal rank keep their order.
            numbered: the writers whose records are sorted by number.

        Returns:
            A new log, or this log if the records are already in that order.
        """
        writers = self._writers_of_all()
        keys = [
            (ranks[writer], turn if writer in numbered else 0)
            for writer, turn in zip(writers, self._turns, strict=True)
        ]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        if order == list(range(len(keys))):
            return self
        return self._in(order, [writers[i] for i in order])

    def _writers_of_all(self) -> list[str]:
        starts = [start for start, _ in self._runs] + [len(self)]
        lengths = [stop - start for start, stop in pairwise(starts)]
        runs = zip(self._runs, lengths, strict=True)
        return [writer for (_, writer), length in runs for _ in range(length)]

    def _in(self, order: Sequence[int], writers: Sequence[str]) -> MetricLog:
        """Return the records in another order."""
        other = MetricLog(self._kind, self._files)
        other._by_shape = dict(self._by_shape)
        # The position of each record within its columns.
        rows: list[int] = []
        counts = Counter[int]()
        for place in self._places:
            rows.append(counts[place])
            counts[place] += 1
        for place, columns in enumerate(self._columns):
            chosen = [rows[i] for i in order if self._places[i] == place]
            other._columns.append(columns.picked(chosen))
        other.numbers = {
            name: _like(column, [column[i] for i in order]) for name, column in self.numbers.items()
        }
        other.times = self.times.picked(order)
        other._others = {
            new: self._others[old] for new, old in enumerate(order) if old in self._others
        }
        other._turns = array("q", [self._turns[i] for i in order])
        other._runs = [
            (i, writer) for i, writer in enumerate(writers) if i == 0 or writer != writers[i - 1]
        ]
        other._places = bytearray(self._places[i] for i in order)
        other.is_in_order = False
        return other

    def metrics(self) -> list[str]:
        """Return the flat names with at least one number, in order of first appearance."""
        count = len(self)
        by_position = {
            self._places.find(place, 0, count): columns.metrics
            for place, columns in enumerate(self._columns)
        }
        for i, flat in self._flat_others():
            by_position[i] = [name for name, value in flat.items() if type(value) in {int, float}]
        return list(
            dict.fromkeys(name for i in sorted(by_position) if i >= 0 for name in by_position[i])
        )

    def values(self, name: str) -> Sequence[Any]:
        """Return the value under a flat name for each record, or None where it is missing.

        The values are an `array` if all of them are floats. The sequence may be the internal
        column, which grows as records are added: do not modify it, and read no more values than
        there were records. Arrays stored in files are returned as None.
        """
        count = len(self)
        if len(self._columns) == 1 and not self._others:
            column = self._columns[0].values(name)
            return [None] * count if column is None else column
        if self._others or len(self._columns) > FEW:
            return self._by_name(count).get(name) or [None] * count
        return _compact(
            self._in_order(count, [each.values(name) for each in self._columns], iter(()))
        )

    def _by_name(self, count: int) -> dict[str, Sequence[Any]]:
        """Return the values of every name, made at once for results of many shapes."""
        if self._transposed is None or self._transposed[0] != count:
            pairs = self._in_order(
                count,
                [each.pairs() for each in self._columns],
                (flat.items() for _, flat in self._flat_others()),
            )
            values: defaultdict[str, list[Any]] = defaultdict(lambda: [None] * count)
            for i, row in enumerate(pairs):
                for name, value in row:
                    values[name][i] = value
            self._transposed = count, {name: _compact(each) for name, each in values.items()}
        return self._transposed[1]

    def table(self) -> Table:
        """Return the columns, including arrays stored in files.

        Metrics with the name of a number or `timestamp` are named `metric.epoch_num`.
        """
        count = len(self)
        if self._others:
            rows = [flatten(result) for result in self.results()]
            names = dict.fromkeys(name for row in rows for name in row)
            values: dict[str, Sequence[Any]] = {
                name: [row.get(name) for row in rows] for name in names
            }
        else:
            names = dict.fromkeys(name for each in self._columns for name in each.names)
            values = {name: self.values(name)[:count] for name in names}
        return Table(
            {name: column[:count] for name, column in self.numbers.items()},
            {free_name(name, self._own, values): column for name, column in values.items()},
            self.times.picked(range(count)),
        )

    def seconds(self) -> array[float]:
        """Return the time of each record in seconds since the epoch, or NaN if it has no time."""
        return self.times.seconds()

    def results(self) -> list[dict[str, Any]]:
        """Return the results as the user logged them, in order."""
        count = len(self)
        others = (dict(stored.restored()) for stored in list(self._others.values()))
        return self._in_order(count, [each.rows() for each in self._columns], others)

    def rows(self) -> Rows:
        """Return a dict for each record: its numbers, its result and its time."""
        rows = []
        for time, result, *numbers in zip(
            self.times, self.results(), *self.numbers.values(), strict=False
        ):
            row = dict(zip(self._names, numbers, strict=True))
            if self._own.isdisjoint(result):
                row |= result
            else:
                row |= {free_name(name, self._own, result): each for name, each in result.items()}
            if time is not None:
                row["timestamp"] = time
            rows.append(row)
        return Rows(rows, () if self._kind == "result" else self._names)

    def add_latest(self, latest: LastValues) -> None:
        """Add the latest value of each metric whose flat name is not yet in `latest`."""
        if self._kind == "result":
            unindexed = [i for i in self._last_of_each() if self.numbers["index"][i] is None]
        else:
            unindexed = self._last_of_each()
        for i in unindexed:
            if not self._adds_nothing(i, latest):
                latest.add(self._result(i))

    def add_latest_indexed(self, latest: LastValues) -> None:
        """Add the latest value of each metric of the results under each index."""
        indexes = self.numbers["index"]
        for i in self._last_of_each():
            if indexes[i] is not None and SEARCHED not in self._stored(i):
                latest.add_indexed(indexes[i], self._result(i))

    def _last_of_each(self) -> list[int]:
        """Return the position of the last record of each index and shape, latest first.

        Records in the same columns have the same names, so that earlier records add nothing.
        """
        count = len(self)
        if self._kind == "result":
            keys = zip(map(index_key, self.numbers["index"]), self._places[:count], strict=False)
            last = set({key: i for i, key in enumerate(keys)}.values())
        else:
            last = {self._places.rfind(place, 0, count) for place in range(len(self._columns))}
        positions = last.union(list(self._others))
        return sorted((i for i in positions if 0 <= i < count), reverse=True)

    def _in_kind(self, name: str, numbers: list[Any]) -> Column:
        """Return numbers as the kind of column that stores them.

        Raises:
            OverflowError, TypeError: the column cannot hold them.
        """
        if type(self.numbers[name]) is list:
            return numbers
        if set(map(type, numbers)) != {int}:
            raise TypeError
        return array("q", numbers)

    def _number_by_list(self, name: str) -> None:
        if type(self.numbers[name]) is not list:
            self.numbers[name] = list(self.numbers[name])

    def _turn_to(self, record: Record) -> Mapping[Any, Any]:
        """Select the columns for a record and return its result in the form they accept.

        Raises:
            _NoColumns: the result cannot be stored in columns.
        """
        result: Mapping[Any, Any] = record["body"]["result"]
        if "extended" in record:
            result = _with_floats(result)
        shape = shape_of(result)
        if dict in shape:
            result = by_path(result)
            shape = shape_of(result)
        place = self._by_shape.get(shape, len(self._columns))
        if place == NOWHERE or not result:
            raise _NoColumns
        if place == len(self._columns):
            self._width += len(result)
            if self._columns and self._width > WIDEST:
                raise _NoColumns
            self._columns.append(Columns(shape))
            self._by_shape[shape] = place
        self._last_shape, self._last_place = shape, place
        self._last_append = self._columns[place].append
        return result

    def _in_order(
        self, count: int, columns: Iterable[Iterable[Any] | None], others: Iterator[Any]
    ) -> list[Any]:
        """Merge values from each column into record order, with None for missing columns."""
        sources = [repeat(None) if each is None else iter(each) for each in columns]
        if not self._others and len(sources) == 1:
            return list(islice(sources[0], count))
        by_place = dict(enumerate(sources))
        by_place[NOWHERE] = others
        return [next(by_place[place]) for place in self._places[:count]]

    def _flat_others(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the positions and flat values, without arrays, of records outside of columns."""
        for i, stored in list(self._others.items()):
            value = stored.without_arrays()
            yield i, flatten(value) if dict in map(type, value.values()) else value

    def _result(self, i: int) -> dict[str, Any]:
        return self._others[i].restored() if i in self._others else self._stored(i)

    def _stored(self, i: int) -> dict[str, Any]:
        if i in self._others:
            return self._others[i].value
        place = self._places[i]
        return self._columns[place].row(self._places.count(place, 0, i))

    def _adds_nothing(self, i: int, latest: Mapping[str, Any]) -> bool:
        """Return whether a result surely adds no metric, without loading arrays from files."""
        if i not in self._others:
            return latest.keys() >= set(self._columns[self._places[i]].names)
        if not self._others[i].value.keys() <= latest.keys():
            return False
        values = self._others[i].value.values()
        return all(type(value) is not dict or value.keys() <= _LEAVES for value in values)


def _compact(values: list[Any]) -> Sequence[Any]:
    return array("d", values) if set(map(type, values)) == {float} else values


def _like(column: Column, values: list[Any]) -> Column:
    """Return values as the same kind of column as `column`."""
    return array(column.typecode, values) if isinstance(column, array) else values


LEAST, MOST = -(2**63), 2**63 - 1
"""The range of integers that an `array` can hold."""

_BY_HAND = (AttributeError, TypeError, RecursionError)
"""Errors caused by a result that was edited by hand: not a dict, or nested too deeply."""

_LEAVES = frozenset({"$numberDouble", "$integer", "$numberDecimal", "$date", "$array"})
"""Keys of a stored dict that encodes another type of value."""

FEW = 8
"""The number of shapes up to which the values of one name are gathered by shape."""

WIDEST = 10_000
"""The number of names up to which the columns of another shape are added."""

NOWHERE = 255
"""The place of a result that is not in columns, because it holds extended values or a number
that is too large, or because there are too many shapes already."""

_NOT_FINITE = [({"$numberDouble": text}, float(text)) for text in ("NaN", "Infinity", "-Infinity")]


def _with_floats(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result with NaN and infinities decoded.

    Raises:
        _NoColumns: the result may contain other extended values.
    """
    read: dict[str, Any] = {}
    for key, value in stored.items():
        if key[:1] == "$" or type(value) is list:
            raise _NoColumns
        if type(value) is dict:
            numbers = [number for form, number in _NOT_FINITE if value == form]
            read[key] = numbers[0] if numbers else _with_floats(value)
        else:
            read[key] = value
    return read


def _values_of(results: Iterable[dict[str, Any]]) -> Iterator[Any]:
    return chain.from_iterable(map(dict.values, results))


def name_unreadable(record: Record, problem: str) -> None:
    """Warn that a record is skipped, which is damaged or was edited."""
    identity = f"{record.get('writer')}:{record.get('n')}"
    warnings.warn(
        f"a record of kind {record.get('kind')!r}, {identity}, {problem}; it is "
        "not shown, and stays in the store: run `casket doctor`",
        CasketWarning,
        stacklevel=2,
    )


class _NoColumns(Exception):
    """Raised for a result that cannot be stored in columns."""


def best_of(values: Sequence[Any], mode: Mode) -> Any:
    """Return the lowest or highest number among values, or None if there are no numbers."""
    return _picker(mode)(_numbers(values), default=None)


def _numbers(values: Sequence[Any]) -> Sequence[Any]:
    """Return the values that are numbers, with a fast path if all of them are."""
    if isinstance(values, array) or {float, int}.issuperset(map(type, values)):
        try:
            has_nan = (total := sum(values)) != total
        except OverflowError:  # an integer too large for a float
            has_nan = True
        if not has_nan:
            return values
    return [value for value in values if is_number(value)]


def value_under(result: Mapping[str, Any], name: str) -> Any:
    """Return the value under a flat name, or None if it is missing."""
    if name in result or "." not in name:
        return result.get(name)
    return flatten(result).get(name)


def index_key(index: Any) -> tuple[bool, Any]:
    """Return a key that compares indexes as JSON does: True differs from 1, 1.0 does not."""
    return isinstance(index, bool), str(index) if isinstance(index, (list, dict)) else index


def is_number(value: Any) -> bool:
    """Return whether a value is a number; bools and NaN are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _picker(mode: Mode) -> Any:
    if mode not in get_args(Mode):
        raise BadLocation(f"mode={mode!r}: give one of {get_args(Mode)}")
    return min if mode == "min" else max
