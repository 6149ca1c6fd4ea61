"""Which sessions come nearest to given params, and how they differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import nsmallest
from typing import Any, NamedTuple

from casket.rows import flatten, is_number
from casket.views import SessionView


class Near(NamedTuple):
    """A session and how its params differ from others."""

    session: SessionView
    difference: dict[str, tuple[Any, Any]]
    """By flat name (`opt.name`): the session's value, the value asked for; None if absent."""

    def summary(self) -> str:
        """Say it in a line."""
        difference = ", ".join(
            f"{name}={theirs!r} (asked for: {ours!r})"
            for name, (theirs, ours) in self.difference.items()
        )
        return f"session {self.session.id}, {self.session.status}: {difference or 'the same'}"


class NearStart(NamedTuple):
    """A session by its id, and how its params differ from others; see `Near`."""

    session: str
    difference: dict[str, tuple[Any, Any]]


def nearest(
    sessions: Iterable[tuple[str, Mapping[str, Any]]], params: Mapping[str, Any], n: int
) -> list[NearStart]:
    """Return the `n` sessions whose params differ least from `params`, nearest first.

    Args:
        sessions: the id and the params of each.
        params: the params asked for.
        n: how many.
    """
    wanted = flatten(params)
    near = (NearStart(key, _difference(flatten(theirs), wanted)) for key, theirs in sessions)
    return nsmallest(n, near, key=lambda each: _distance(each.difference))


def _difference(theirs: dict[str, Any], wanted: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    difference = {
        name: (theirs.get(name), value)
        for name, value in wanted.items()
        if name not in theirs or not _equal(theirs[name], value)
    }
    for name, value in theirs.items():
        if name not in wanted:
            difference[name] = (value, None)
    return difference


def _distance(difference: dict[str, tuple[Any, Any]]) -> tuple[int, float]:
    return len(difference), sum(_apart(*pair) for pair in difference.values())


def _apart(a: Any, b: Any) -> float:
    """Return how far two values are apart, 0 to 1: of numbers, relative to the larger."""
    if not (is_number(a) and is_number(b)):
        return 1.0
    try:
        apart = abs(a - b) / max(abs(a), abs(b))
    except (OverflowError, ZeroDivisionError):
        return 1.0
    return float(apart) if apart < 1.0 else 1.0  # nan: an infinity is far from all else


def _equal(a: Any, b: Any) -> bool:
    """Return whether two params are equal, as they are where a session must be unique."""
    if type(a) is type(b) is str:
        return bool(a == b)
    if isinstance(a, bool) is not isinstance(b, bool):
        return False
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    try:
        same = a == b
    except ValueError:  # arrays of unlike shapes
        return False
    if hasattr(same, "all"):
        return bool(same.all())
    return bool(same or (a != a and b != b))
