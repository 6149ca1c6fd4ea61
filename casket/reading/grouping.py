"""Grouping of sessions by equal values, such as the seeds of the same setting."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from casket.reading.query import Names
from casket.reading.summary import as_json, numeric_metrics
from casket.reading.views import SessionView
from casket.statistics.intervals import Interval, interval


class Group(NamedTuple):
    """A group of sessions with equal values.

    Attributes:
        values: the values by name; None if the sessions have no value.
        sessions: the sessions.
        others: the sessions with another status, which do not count in `metrics`.
    """

    values: dict[str, Any]
    sessions: list[SessionView]
    others: Sequence[SessionView] = ()

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


def interval_as_json(interval: Interval) -> dict[str, Any]:
    """Return an interval as `{"mean", "margin", "n"}`; an undefined margin is None."""
    margin = None if math.isnan(interval.margin) else as_json(interval.margin)
    return {"mean": as_json(interval.mean), "margin": margin, "n": interval.n}


def groups(
    sessions: Iterable[SessionView],
    texts: Sequence[str],
    names: Names,
    status: str = "completed",
) -> list[Group]:
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
    return [
        Group(
            values,
            [session for session in members if is_counted[session.id]],
            [session for session in members if not is_counted[session.id]],
        )
        for values, members in made.values()
    ]
