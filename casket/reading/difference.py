"""The differences between two sessions or two groups of sessions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from casket.reading import frames
from casket.reading.columns import flatten
from casket.reading.grouping import Group, interval_as_json
from casket.reading.numbers import exact
from casket.reading.summary import as_json, varying
from casket.reading.views import SessionView
from casket.statistics.intervals import Interval

EVERY_RUN = frozenset({"pid", "start"})
"""Names that differ between any two runs and are left out of the comparison."""

MOST_SHOWN = 4
"""The number of different values of a group that are listed."""

Pairs = dict[str, tuple[Any, Any]]
"""The values of both sides by flat name; None if a side has no value."""


@dataclass(frozen=True)
class Side:
    """A side of a comparison: a session or a group of sessions.

    Attributes:
        title: the id of the session, or the condition that selects the group.
        sessions: the sessions.
        is_group: whether it is a group, even of a single session.
    """

    title: str
    sessions: Sequence[SessionView]
    is_group: bool

    @property
    def ids(self) -> list[str]:
        """The ids of the sessions."""
        return [session.id for session in self.sessions]

    def values(self, part: str, *, as_group: bool) -> dict[str, Any]:
        """Return the values of a part by flat name, or the means of a group's metrics."""
        if part == "metrics":
            return self._means() if as_group else self._latest()
        tables_of = [as_json(flatten(getattr(each, part))) for each in self.sessions]
        names = dict.fromkeys(name for table in tables_of for name in table)
        return {name: _together([table.get(name) for table in tables_of]) for name in names}

    def _latest(self) -> dict[str, Any]:
        (session,) = self.sessions
        return {"status": session.status, **as_json(dict(session.last))}

    def _means(self) -> dict[str, Any]:
        return {"sessions": len(self.sessions), **Group({}, self.sessions).metrics()}


@dataclass(frozen=True)
class Difference(frames.Tabular):
    """The differences between two sides; true if there are any.

    Each part contains pairs of values by flat name. Metrics of groups are intervals.

    Attributes:
        a: the first side.
        b: the second side.
        params: the params that differ.
        config: the values of `model_config` that differ.
        meta: the meta that differs.
        metrics: the latest metrics that differ, and the status of sessions.
    """

    a: Side
    b: Side
    params: Pairs
    config: Pairs
    meta: Pairs
    metrics: Pairs

    def __bool__(self) -> bool:
        return any(
            _plain(one) != _plain(other)  # as JSON, because NaN is unequal to itself
            for pairs in self.parts.values()
            for one, other in pairs.values()
        )

    @property
    def parts(self) -> dict[str, Pairs]:
        """The pairs of each part by its name."""
        return {name: getattr(self, name) for name in ("params", "config", "meta", "metrics")}

    def columns(self) -> frames.Columns:
        """Return `part`, `name`, `a` and `b`, and the margins of groups."""
        return frames.table(list(self._rows()), ("part", "name", "a", "b"))

    def _rows(self) -> Iterator[dict[str, Any]]:
        for part, pairs in self.parts.items():
            for name, pair in pairs.items():
                row: dict[str, Any] = {"part": part, "name": name}
                for side, value in zip("ab", pair, strict=True):
                    is_interval = isinstance(value, Interval)
                    row[side] = value.mean if is_interval else value
                    if is_interval:
                        row[f"{side}.margin"] = value.margin
                yield row

    def as_json(self) -> dict[str, Any]:
        """Return `{"a": ids, "b": ids, "params": {name: {"a": ..., "b": ...}}, ...}`."""
        parts = {
            part: {name: {"a": _plain(one), "b": _plain(other)} for name, (one, other) in pairs}
            for part, pairs in ((part, pairs.items()) for part, pairs in self.parts.items())
        }
        return {"a": self.a.ids, "b": self.b.ids, **parts}


def difference(a: Side, b: Side, *, all: bool = False) -> Difference:  # noqa: A002 - as the option is called
    """Return the differences between two sides.

    Args:
        a: the first side.
        b: the second side.
        all: return equal values, too.
    """
    as_group = a.is_group or b.is_group
    parts: dict[str, Pairs] = {}
    for part in ("params", "config", "meta", "metrics"):
        one, other = (side.values(part, as_group=as_group) for side in (a, b))
        ignored = EVERY_RUN if part == "meta" and not all else frozenset()
        names = dict.fromkeys([*one, *other]) if all else varying([one, other])
        parts[part] = {
            name: (one.get(name), other.get(name)) for name in names if name not in ignored
        }
    return Difference(a, b, **parts)


def _together(values: Sequence[Any]) -> Any:
    """Return the value that all sessions of a side have, or the different ones as text."""
    different = list({str(value): value for value in values}.values())
    if len(different) == 1:
        return different[0]
    shown = ", ".join(map(exact, different[:MOST_SHOWN]))
    more = f", … ({len(different)} values)" if len(different) > MOST_SHOWN else ""
    return f"{shown}{more}"


def _plain(value: Any) -> Any:
    return interval_as_json(value) if isinstance(value, Interval) else value
