"""Sessions that are alike in some params, such as the seeds of one setting, taken together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from casket.reading.metrics import Interval, interval
from casket.reading.query import Names
from casket.reading.summary import as_json, numeric_metrics
from casket.reading.views import SessionView


class Group(NamedTuple):
    """Sessions with the same values under some names.

    Attributes:
        values: the values, by name; None where a session has none.
        sessions: the sessions.
    """

    values: dict[str, Any]
    sessions: list[SessionView]

    def metrics(self) -> dict[str, Interval]:
        """Return each metric's mean and interval over the latest values of the sessions."""
        samples: dict[str, list[float]] = {}
        for session in self.sessions:
            for name in numeric_metrics(session):
                samples.setdefault(name, []).append(session.last[name])
        return {name: interval(sample) for name, sample in samples.items()}

    def as_json(self) -> dict[str, Any]:
        """Return `{"group": ..., "n": ..., "sessions": ids, "metrics": {name: {"mean", ...}}}`."""
        metrics = {name: interval_as_json(each) for name, each in self.metrics().items()}
        return {
            "group": as_json(self.values),
            "n": len(self.sessions),
            "sessions": [session.id for session in self.sessions],
            "metrics": metrics,
        }


def interval_as_json(interval: Interval) -> dict[str, Any]:
    """Return an interval as `{"mean", "margin", "n"}`; the margin is None if there is none."""
    margin = None if math.isnan(interval.margin) else as_json(interval.margin)
    return {"mean": as_json(interval.mean), "margin": margin, "n": interval.n}


def groups(sessions: Iterable[SessionView], texts: Sequence[str], names: Names) -> list[Group]:
    """Return the sessions in groups of equal values.

    Args:
        sessions: the sessions.
        texts: names as in a `where` expression, such as `params.lr`.
        names: the meanings of names.

    Raises:
        BadExpression: no session has one of the names.
    """
    parts = {text: names.parts(text) for text in texts}
    made: dict[str, Group] = {}
    for session in sessions:
        values = {text: names.given(session, name) for text, name in parts.items()}
        key = str(as_json(values))
        made.setdefault(key, Group(values, [])).sessions.append(session)
    return list(made.values())
