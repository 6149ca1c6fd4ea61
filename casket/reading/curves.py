"""The curve of a metric over epochs or batches, with a limited number of points.

A longer curve is down-sampled: each part of it contributes its minimum, its maximum and, if there
is any, a non-finite value.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from casket.reading.latest import grouped, is_rising, latest_values, over_epochs
from casket.reading.rows import NUMBERS, Kind, MetricLog
from casket.statistics.intervals import as_float


class Curve(NamedTuple):
    """The points of a curve, in order of their numbers.

    Attributes:
        xs: the numbers of the epochs or batches.
        ys: the values, which may be NaN or infinite.
    """

    xs: list[float]
    ys: list[float]


def curve_of(logged: MetricLog, kind: Kind, metric: str, points: int) -> Curve:
    """Return the latest value of a metric for each number.

    Args:
        logged: the epochs or batches of a session.
        kind: `"epoch"` or `"batch"`.
        metric: the flat name of the metric.
        points: the maximum number of points.
    """
    count = len(logged)
    numbers: Sequence[Any] = logged.numbers[NUMBERS[kind][0]][:count]
    if kind == "batch":
        numbers = over_epochs(numbers, logged.numbers["epoch"][:count])
    values = _floats(logged.values(metric)[:count])
    if not is_rising(numbers):
        groups = grouped([numbers])
        numbers = [numbers[group[-1]] for group in groups]
        values = latest_values(values, groups)
    chosen = [i for i in _thinned(values, points) if type(numbers[i]) in {int, float}]
    return Curve([numbers[i] for i in chosen], [values[i] for i in chosen])


def _floats(values: Sequence[Any]) -> Sequence[Any]:
    """Replace values that are not numbers by None."""
    if isinstance(values, array):
        return values
    return [as_float(value) if type(value) in {int, float} else None for value in values]


def _thinned(ys: Sequence[Any], points: int) -> Sequence[int]:
    """Return the indices of at most `points` values; None counts as missing."""
    if len(ys) <= points:
        return [i for i, y in enumerate(ys) if y is not None]
    is_dense = isinstance(ys, array) and math.isfinite(sum(ys))
    parts = max(points // (2 if is_dense else 3), 1)
    thin = thin_dense if is_dense else thin_gaps
    return thin(ys, [len(ys) * i // parts for i in range(parts + 1)])


def thin_dense(ys: Sequence[float], cuts: Sequence[int]) -> list[int]:
    """Return the indices of the minimum and maximum of each part of finite values."""
    chosen = []
    for start, stop in pairwise(cuts):
        if start < stop:
            part = ys[start:stop]
            low, high = part.index(min(part)), part.index(max(part))
            chosen += (
                [start + low]
                if low == high
                else [start + low, start + high]
                if low < high
                else [start + high, start + low]
            )
    return chosen


def thin_gaps(ys: Sequence[Any], cuts: Sequence[int]) -> list[int]:
    """Like `thin_dense`, for missing and non-finite values.

    The first non-finite value of each part is kept.
    """
    chosen = []
    for start, stop in pairwise(cuts):
        there = [i for i in range(start, stop) if ys[i] is not None]
        finite = [i for i in there if math.isfinite(ys[i])]
        kept = {i for i in there if not math.isfinite(ys[i])}
        kept = {min(kept)} if kept else kept
        if finite:
            kept |= {min(finite, key=ys.__getitem__), max(finite, key=ys.__getitem__)}
        chosen += sorted(kept)
    return chosen
