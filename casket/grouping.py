"""Sessions that are alike in some params, such as the seeds of one setting, taken together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from casket.metrics import Interval, interval
from casket.reading import look_up
from casket.summary import as_json, numeric_metrics
from casket.views import SessionView
from casket.where import MISSING


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
                samples.setdefault(name, []).append(float(session.last[name]))
        return {name: interval(sample) for name, sample in samples.items()}

    def as_json(self) -> dict[str, Any]:
        """Return `{"group": ..., "n": ..., "sessions": ids, "metrics": {name: {"mean", ...}}}`."""
        metrics = {
            name: {
                "mean": as_json(found.mean),
                "margin": None if math.isnan(found.margin) else found.margin,
                "n": found.n,
            }
            for name, found in self.metrics().items()
        }
        return {
            "group": as_json(self.values),
            "n": len(self.sessions),
            "sessions": [session.id for session in self.sessions],
            "metrics": metrics,
        }


def groups(sessions: Iterable[SessionView], names: Sequence[str]) -> list[Group]:
    """Return the sessions in groups of equal values.

    Args:
        sessions: the sessions.
        names: names as in a `where` expression, such as `params.lr`.
    """
    found: dict[str, Group] = {}
    for session in sessions:
        values = {name: value_of(session, name) for name in names}
        key = str(as_json(values))
        found.setdefault(key, Group(values, [])).sessions.append(session)
    return list(found.values())


def value_of(session: SessionView, name: str) -> Any:
    """Return what a name means for a session, as in a `where` expression; None if nothing."""
    value = look_up(session, tuple(name.split(".")))
    return None if value is MISSING else value
