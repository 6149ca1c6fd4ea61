"""The system metrics of a session, as curves of a few points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from casket.dashboard.answers.encoding import shortened
from casket.reading.views import SessionView

POINTS = 300
DIGITS = 5


def curves(session: SessionView) -> dict[str, Any] | None:
    """Return the seconds since the session's start, and the values by name; None without any.

    Of more than 300 rows, neighbors are averaged.
    """
    columns, times = session.system_table()
    if not times:
        return None
    start = session.started.timestamp()
    seconds = [second - start for second in times.seconds()]
    return {
        "seconds": _means(seconds),
        "values": {name: _means(values) for name, values in columns.items()},
    }


def _means(values: Sequence[float | None]) -> list[float | None]:
    count = min(POINTS, len(values))
    edges = [len(values) * i // count for i in range(count + 1)]
    return [_mean([each for each in values[i:j] if each is not None]) for i, j in pairwise(edges)]


def _mean(values: list[float]) -> float | None:
    mean: float | None = shortened(sum(values) / len(values), DIGITS) if values else None
    return mean
