"""Curves: the values of metrics over epochs, batches or time, with a limited number of points.

Longer curves are down-sampled: the range is divided into equal parts, which are the same for all
curves of an answer, and each part contributes its minimum, its maximum and, if there is any, a
non-finite value.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from itertools import islice, pairwise
from operator import le
from typing import Any, NamedTuple

from casket.dashboard.answers.encoding import (
    DIGITS,
    DIGITS_DOWN_SAMPLED,
    csv_of,
    shortened,
)
from casket.dashboard.answers.requests import CurvesRequest
from casket.reading.curves import thin_dense, thin_gaps
from casket.reading.latest import is_rising, latest_values, over_epochs
from casket.reading.rows import NUMBERS, MetricLog
from casket.reading.summary import as_json
from casket.reading.views import SessionView
from casket.statistics.intervals import as_float

Look = Callable[[str], AbstractContextManager[SessionView | None]]
"""Context manager that yields a session by its key, unchanged meanwhile; None if it is missing."""


class Line(NamedTuple):
    """The logged values of a metric in order of x.

    Attributes:
        session: the key of the session.
        metric: the flat name of the metric.
        order: the order of the records.
        xs: the numbers or times.
        ys: the values; None for missing values.
        is_dense: whether all values are present and finite.
        left_out: the number of values that are not numbers.
        seen: the number of records of the session.
        continues: whether it holds only the records that are new to the page.
    """

    session: str
    metric: str
    order: _Order
    xs: Sequence[float]
    ys: Sequence[Any]
    is_dense: bool
    left_out: int
    seen: int
    continues: bool


def answer(request: CurvesRequest, look: Look) -> dict[str, Any]:
    """Return the requested curves."""
    lines = list(_lines(request, look))
    cutter = _Cutter(lines, request)
    axes, shown = _Shared(), []
    for line in lines:
        chosen, fields = cutter.cut(line)
        shown.append({**fields, "x": axes.index(_picked(line.xs, chosen))})
    return {"xs": list(map(_as_steps, axes.lists)), "curves": shown}


def with_times(request: CurvesRequest, look: Look) -> dict[str, Any]:
    """Return the requested curves for a report, with the time of each point in seconds."""
    lines = list(_lines(request, look))
    cutter = _Cutter(lines, request)
    axes, times, shown = _Shared(), _Shared(), []
    for line in lines:
        chosen, fields = cutter.cut(line)
        seconds = _picked(line.order.times(), chosen)
        places = {
            "x": axes.index(_picked(line.xs, chosen)),
            "times": times.index([round(second, 3) for second in seconds]),
        }
        shown.append({**fields, **places})
    known = [[time if time == time else None for time in one] for one in times.lists]
    return {"xs": axes.lists, "times": known, "curves": shown}


def as_csv(request: CurvesRequest, look: Look) -> Iterator[str]:
    """Yield all values of the requested curves as CSV."""
    yield csv_of([("session", "metric", request.kind, "time", "value")])
    for key in request.sessions:
        with look(key) as session:
            rows = [] if session is None else list(_raw(session, request))
        yield csv_of(rows)


def _raw(session: SessionView, request: CurvesRequest) -> Iterator[tuple[Any, ...]]:
    logged = session.logged(request.kind)
    count = len(logged)
    numbers = logged.numbers[NUMBERS[request.kind][0]][:count]
    times = [None if s != s else _iso(s) for s in logged.seconds()[:count]]
    for metric in request.metrics:
        values = logged.values(metric)[:count]
        for number, time, value in zip(numbers, times, values, strict=True):
            if value is not None:
                yield session.id, metric, number, time, value


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _lines(request: CurvesRequest, look: Look) -> Iterator[Line]:
    for key in request.sessions:
        with look(key) as session:
            if session is not None:
                yield from _of_session(key, session, request)


def _of_session(key: str, session: SessionView, request: CurvesRequest) -> Iterator[Line]:
    logged = session.logged(request.kind)
    metrics = [name for name in request.metrics if name in logged.metrics()]
    if not metrics:
        return
    order = _Order(session, logged, request)
    start = request.since.get(key, 0)
    continues = 0 < start <= order.seen and order.is_plain and not order.is_renumbered
    first = start if continues else 0
    for metric in metrics:
        ys, left_out = _cleaned(order.arranged(logged.values(metric)[: order.seen]))
        yield Line(
            session=key,
            metric=metric,
            order=order,
            xs=order.xs[first:],
            ys=ys[first:],
            is_dense=isinstance(ys, array) and math.isfinite(sum(ys)),
            left_out=left_out,
            seen=order.seen,
            continues=continues,
        )


class _Order:
    """The order of a session's records on the axis, without repeated numbers.

    Attributes:
        seen: the number of records.
        is_plain: whether the records are in logging order and no number is repeated.
        is_renumbered: whether batches are counted on over the epochs.
        xs: the position of each record.
    """

    def __init__(self, session: SessionView, logged: MetricLog, request: CurvesRequest) -> None:
        self.seen = len(logged)
        self._logged = logged
        self._started = session.started.timestamp()
        stored = logged.numbers[NUMBERS[request.kind][0]][: self.seen]
        numbers = (
            stored if request.kind == "epoch" else over_epochs(stored, logged.numbers["epoch"])
        )
        self.is_renumbered = numbers is not stored
        places: Sequence[float] = numbers
        if request.x != "number":
            places = self._seconds(self._started if request.x == "time" else 0)
        self.is_plain = is_rising(numbers) and (request.x == "number" or _is_sorted(places))
        self._groups = [] if self.is_plain else _groups(numbers, places)
        self.xs = places if self.is_plain else _picked(places, self._latest())

    def times(self) -> Sequence[float]:
        """Return the seconds since the start of the session."""
        seconds = self._seconds(self._started)
        return seconds if self.is_plain else _picked(seconds, self._latest())

    def _seconds(self, start: float) -> array[float]:
        seconds = self._logged.seconds()[: self.seen]
        return array("d", [second - start for second in seconds]) if start else seconds

    def _latest(self) -> list[int]:
        """Return the index of the last record of each number."""
        return [group[-1] for group in self._groups]

    def arranged(self, values: Sequence[Any]) -> Sequence[Any]:
        """Return values in this order; a repeated number has its last value."""
        if self.is_plain:
            return values
        return latest_values(values, self._groups)


def _is_sorted(places: Sequence[float]) -> bool:
    return all(map(le, places, islice(places, 1, None))) and (not places or places[0] == places[0])


def _groups(numbers: Sequence[Any], places: Sequence[float]) -> list[list[int]]:
    """Return the record indices of each number, sorted by the position of its last record."""
    groups: dict[Any, list[int]] = {}
    for i, number in enumerate(numbers):
        if type(number) in {int, float} and places[i] == places[i]:
            groups.setdefault(number, []).append(i)
    return sorted(groups.values(), key=lambda group: places[group[-1]])


def _cleaned(values: Sequence[Any]) -> tuple[Sequence[Any], int]:
    """Replace values that are not numbers by None; return the values and the number replaced."""
    if isinstance(values, array):
        return values, 0
    kinds = set(map(type, values))
    if kinds <= {int, float}:
        return array("d", map(as_float, values)), 0
    left_out = sum(type(value) not in {int, float, type(None)} for value in values)
    return [as_float(v) if type(v) in {int, float} else None for v in values], left_out


class _Shared:
    """Lists of numbers without duplicates.

    Attributes:
        lists: the lists.
    """

    def __init__(self) -> None:
        self.lists: list[list[float]] = []
        self._places: dict[bytes, int] = {}

    def index(self, numbers: list[float]) -> int:
        """Return the index of a list, which is added if it is new."""
        place = self._places.setdefault(array("d", numbers).tobytes(), len(self.lists))
        if place == len(self.lists):
            self.lists.append(numbers)
        return place


def _as_steps(numbers: list[float]) -> list[float] | dict[str, list[float]]:
    """Encode integers by their differences, which halves the size."""
    if not {int}.issuperset(map(type, numbers)):
        return numbers
    return {"steps": [next_ - one for one, next_ in pairwise([0, *numbers])]}


def _picked(values: Sequence[Any], chosen: Sequence[int]) -> list[Any]:
    if isinstance(chosen, range):
        return list(values[chosen.start : chosen.stop])
    return [values[i] for i in chosen]


class _Cutter:
    """Cuts lines to a range and down-samples them in common parts."""

    def __init__(self, lines: Sequence[Line], request: CurvesRequest) -> None:
        self._points = request.points
        self._range = request.range
        ends = [(line.xs[0], line.xs[-1]) for line in lines if line.xs]
        start, end = request.range or (
            min((first for first, _ in ends), default=0),
            max((last for _, last in ends), default=0),
        )
        # A part contributes two points, or three if there are non-finite values.
        each = 2 if all(line.is_dense for line in lines if len(line.xs) > request.points) else 3
        parts = max(request.points // each, 1)
        self._edges = [start + (end - start) * i / parts for i in range(1, parts)]
        self._cuts: dict[tuple[Any, ...], list[int]] = {}

    def cut(self, line: Line) -> tuple[Sequence[int], dict[str, Any]]:
        """Return the indices of a line's selected values, and the fields of its answer."""
        low, high = 0, len(line.xs)
        if self._range:
            low, high = bisect_left(line.xs, self._range[0]), bisect_right(line.xs, self._range[1])
        count = _count(line.ys, low, high)
        chosen = self._chosen(line, low, high, count)
        shown = min(count, len(chosen))
        if self._range:
            chosen = _with_neighbors(chosen, low, high, len(line.xs))
        fields = {
            "session": line.session,
            "metric": line.metric,
            "y": _as_json(line, _picked(line.ys, chosen), is_whole=shown == count),
            "count": count,
            "shown": shown,
            "left_out": line.left_out,
            "seen": line.seen,
        }
        return chosen, {**fields, "continues": True} if line.continues else fields

    def _chosen(self, line: Line, low: int, high: int, count: int) -> Sequence[int]:
        if high - low <= self._points:
            return range(low, high)
        if count <= self._points:
            return [i for i in range(low, high) if line.ys[i] is not None]
        thin = thin_dense if line.is_dense else thin_gaps
        return thin(line.ys, self._parts(line.xs, low, high))

    def _parts(self, xs: Sequence[float], low: int, high: int) -> list[int]:
        """Return the start index of each part of a line, and the end index of the last part."""
        key = (len(xs), xs[0], xs[-1], low, high) if _is_counting(xs) else (id(xs), low, high)
        if key not in self._cuts:
            inner = [bisect_left(xs, edge, low, high) for edge in self._edges]
            self._cuts[key] = [low, *inner, high]
        return self._cuts[key]


def _is_counting(xs: Sequence[float]) -> bool:
    """Return whether rising integers have no gaps, so that the first and last define them."""
    return isinstance(xs[0], int) and isinstance(xs[-1], int) and xs[-1] - xs[0] == len(xs) - 1


def _count(ys: Sequence[Any], low: int, high: int) -> int:
    if isinstance(ys, array):
        return high - low
    return sum(value is not None for value in ys[low:high])


def _with_neighbors(chosen: Sequence[int], low: int, high: int, count: int) -> list[int]:
    before, after = range(max(low - 1, 0), low), range(high, min(high + 1, count))
    return [*before, *chosen, *after]


def _as_json(line: Line, values: list[Any], *, is_whole: bool) -> list[Any]:
    digits = DIGITS if is_whole else DIGITS_DOWN_SAMPLED
    short = [shortened(value, digits) for value in values]
    return short if line.is_dense else [as_json(value) for value in short]
