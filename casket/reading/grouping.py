"""Grouping of sessions by equal values, such as the seeds of the same setting."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from casket.reading import frames
from casket.reading.query import Names
from casket.reading.summary import as_json, is_numeric, numeric_metrics
from casket.reading.views import SessionView
from casket.statistics.intervals import Interval, interval

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


@dataclass(frozen=True)
class Group:
    """A group of sessions with equal values.

    Attributes:
        values: the values by name; None if the sessions have no value.
        sessions: the sessions.
        others: the sessions with another status, which do not count in `n` and the metrics.
        names: resolves the names of metrics.
    """

    values: dict[str, Any]
    sessions: Sequence[SessionView]
    others: Sequence[SessionView] = ()
    names: Names | None = field(default=None, repr=False)

    @property
    def n(self) -> int:
        """The number of sessions."""
        return len(self.sessions)

    def mean(self, metric: str) -> float:
        """Return the mean of the latest values of a metric; NaN if no session has it.

        Raises:
            BadExpression: no session of the store has the metric.
        """
        return self.interval(metric).mean

    def interval(self, metric: str) -> Interval:
        """Return the mean of the latest values of a metric with its 95 % confidence interval.

        Raises:
            BadExpression: no session of the store has the metric.
        """
        values: Iterable[Any] = (session.last.get(metric) for session in self.sessions)
        sample = [value for value in values if is_numeric(value)]
        if not sample and self.names is not None:
            self.names.check_metric(metric)
        return interval(sample)

    def to_pandas(self, table: frames.Table = "sessions") -> pd.DataFrame:
        """Return the sessions of the group as a pandas DataFrame; see `Casket.to_pandas`."""
        return frames.to_pandas(self.sessions, table)

    def to_polars(self, table: frames.Table = "sessions") -> pl.DataFrame:
        """Return the sessions of the group as a polars DataFrame; see `Casket.to_pandas`."""
        return frames.to_polars(self.sessions, table)

    def metrics(self) -> dict[str, Interval]:
        """Return the mean and confidence interval of the latest values of each metric."""
        samples: dict[str, list[float]] = {}
        for session in self.sessions:
            for name in numeric_metrics(session):
                samples.setdefault(name, []).append(session.last[name])
        return {name: interval(sample) for name, sample in samples.items()}

    def counts(self) -> dict[str, int]:
        """Return the number of sessions, as `n`, and of others by their status."""
        return {"n": len(self.sessions), **Counter(session.status for session in self.others)}

    def as_json(self) -> dict[str, Any]:
        """Return `{"group": ..., "n": ..., "sessions": ids, "metrics": {name: {"mean", ...}}}`.

        The numbers of sessions that do not count are under their status, such as `"failed"`.
        """
        metrics = {name: interval_as_json(each) for name, each in self.metrics().items()}
        return {
            "group": as_json(self.values),
            **self.counts(),
            "sessions": [session.id for session in self.sessions],
            "metrics": metrics,
        }

    def row(self) -> dict[str, Any]:
        """Return the values, the counts, and `METRIC.mean` and `METRIC.margin` of each metric.

        A value with the name of a count or of such a metric is under `params.NAME`.
        """
        intervals = {
            f"{name}.{part}": getattr(each, part)
            for name, each in self.metrics().items()
            for part in ("mean", "margin")
        }
        return _beside(self.values, {**self.counts(), **intervals})


class GroupMean(NamedTuple):
    """The mean of a metric in a group.

    Attributes:
        values: the values of the group by name.
        mean: the mean of the latest values of its sessions.
        margin: half the width of the 95 % confidence interval; NaN if `n` is 1.
        n: the number of sessions that have the metric.
    """

    values: dict[str, Any]
    mean: float
    margin: float
    n: int


class Means(list[GroupMean], frames.Tabular):
    """The mean of a metric in each group."""

    def columns(self) -> frames.Columns:
        """Return the values of the groups, `mean`, `margin` and `n`.

        A value with one of these names is under `params.NAME`.
        """
        return frames.table([_beside(mean.values, _numbers(mean)) for mean in self])


class Groups(list[Group], frames.Tabular):
    """Groups of sessions, in the order of their first session."""

    def mean(self, metric: str) -> Means:
        """Return the mean of the latest values of a metric in each group, with its interval.

        Raises:
            BadExpression: no session of the store has the metric.
        """
        return Means(GroupMean(group.values, *group.interval(metric)) for group in self)

    def columns(self) -> frames.Columns:
        """Return the values, the counts and the metrics of each group; see `Group.row`."""
        return frames.table([group.row() for group in self])


def _beside(values: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the values and facts of a group, which may have the same names."""
    named = {f"params.{name}" if name in facts else name: value for name, value in values.items()}
    return {**named, **facts}


def _numbers(mean: GroupMean) -> dict[str, Any]:
    return {"mean": mean.mean, "margin": mean.margin, "n": mean.n}


def interval_as_json(interval: Interval) -> dict[str, Any]:
    """Return an interval as `{"mean", "margin", "n"}`; an undefined margin is None."""
    margin = None if math.isnan(interval.margin) else as_json(interval.margin)
    return {"mean": as_json(interval.mean), "margin": margin, "n": interval.n}


def groups(
    sessions: Iterable[SessionView],
    texts: Sequence[str],
    names: Names,
    status: str = "completed",
) -> Groups:
    """Group sessions by equal values.

    Args:
        sessions: the sessions.
        texts: the names to group by, as in a `where` expression, such as `params.lr`.
        names: resolves the names.
        status: the status of the sessions that count, unless `texts` contains `status`; others
            are counted beside them.

    Raises:
        BadExpression: a name is unknown to all sessions.
    """
    parts = {text: names.parts(text) for text in texts}
    listed = list(sessions)
    made: dict[str, tuple[dict[str, Any], list[SessionView]]] = {}
    for session in listed:
        values = {text: names.given(session, name) for text, name in parts.items()}
        made.setdefault(str(as_json(values)), (values, []))[1].append(session)
    is_counted = {session.id: "status" in texts or session.status == status for session in listed}
    return Groups(
        Group(
            values,
            [session for session in members if is_counted[session.id]],
            [session for session in members if not is_counted[session.id]],
            names,
        )
        for values, members in made.values()
    )
