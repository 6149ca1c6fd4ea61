"""Search for the sessions whose params are nearest to given params."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from heapq import nsmallest
from typing import Any, NamedTuple

import orjson

from casket.errors import shorten
from casket.format.values import LoadArray, restore
from casket.reading.columns import flatten
from casket.reading.rows import is_number
from casket.reading.views import SessionView
from casket.stores.base import Store


class Near(NamedTuple):
    """A session and the difference between its params and the requested params."""

    session: SessionView
    difference: dict[str, tuple[Any, Any]]
    """The session's value and the requested value, by flat name (`opt.name`); None if absent."""

    def summary(self) -> str:
        """Return the session and the difference as a line of text."""
        difference = ", ".join(
            f"{name}={shorten(repr(theirs), 60)} (asked for: {shorten(repr(ours), 60)})"
            for name, (theirs, ours) in self.difference.items()
        )
        return f"session {self.session.id}, {self.session.status}: {difference or 'the same'}"


Start = tuple[int, str, dict[str, Any], str | None]
"""The number of a start, its session, its params and the id of the session's parent, if any."""


def starts_of(
    store: Store, experiment: str, model: str, load_array: LoadArray, latest: int | None = None
) -> Iterator[Start]:
    """Yield the starts of a model's sessions, in order.

    Args:
        store: the store.
        experiment: the id of the experiment.
        model: the id of the model.
        load_array: loads an array from a file.
        latest: the number of starts of the store to read, counted from the end; None for all.
    """
    start_texts = getattr(store, "start_texts", None)
    texts = start_texts(latest) if start_texts is not None else None
    if texts is None:
        for number, start in deque(store.records(kinds={"session"}), latest):
            if (start.get("experiment"), start.get("model")) == (experiment, model):
                yield number, start["session"], *_body(start, load_array)
        return
    owner = b'{"kind":"session","v":1,"experiment":%b,"model":%b,"session":"' % (
        orjson.dumps(experiment),
        orjson.dumps(model),
    )
    for number, text in texts:
        if text.startswith(owner):
            session_stop = text.find(b'"', len(owner))
            yield number, text[len(owner) : session_stop].decode(), *_body_in(text, load_array)
        elif not text.startswith(owner[: owner.find(b":", _AS_WRITTEN)]):
            start = orjson.loads(text)
            if (start.get("experiment"), start.get("model")) == (experiment, model):
                yield number, start["session"], *_body(start, load_array)


_AS_WRITTEN = len('{"kind":"session","v":1,')


def _body(start: Mapping[str, Any], load_array: LoadArray) -> tuple[dict[str, Any], str | None]:
    """Return the params of a start and the id of the session's parent, if any."""
    params: dict[str, Any] = start["body"]["params"]
    parent = start["body"].get("parent")
    return (restore(params, load_array) if "extended" in start else params), parent


def _body_in(text: bytes, load_array: LoadArray) -> tuple[dict[str, Any], str | None]:
    """Return the same, parsing only the params if the start has casket's own format."""
    begin = text.find(_PARAMS) + len(_PARAMS)
    if begin >= len(_PARAMS) and _EXTENDED not in text and _PARENT not in text:
        # Cut at a param of the same name, the text is not valid JSON.
        with suppress(orjson.JSONDecodeError):
            params: dict[str, Any] = orjson.loads(text[begin : text.find(_META, begin)])
            return params, None
    return _body(orjson.loads(text), load_array)


_PARAMS, _META = b'"body":{"params":', b',"meta":'
_EXTENDED, _PARENT = b'"extended":true', b'"parent":"'


class NearStart(NamedTuple):
    """The id of a session and the difference of its params, as in `Near`."""

    session: str
    difference: dict[str, tuple[Any, Any]]


def nearest(
    sessions: Iterable[tuple[str, Mapping[str, Any]]], params: Mapping[str, Any], n: int
) -> list[NearStart]:
    """Return the `n` sessions whose params differ least from `params`, nearest first.

    Args:
        sessions: the id and the params of each session.
        params: the requested params.
        n: the number of sessions to return.
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
    """Return the distance of two values, 0 to 1; for numbers, relative to the larger."""
    if not (is_number(a) and is_number(b)):
        return 1.0
    try:
        apart = abs(a - b) / max(abs(a), abs(b))
    except (OverflowError, ZeroDivisionError):
        return 1.0
    return float(apart) if apart < 1.0 else 1.0  # NaN: infinity is at distance 1 from all else


def _equal(a: Any, b: Any) -> bool:
    """Return whether two params are equal in the sense of `ensure_unique`."""
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
    except ValueError:  # arrays of different shapes
        return False
    if hasattr(same, "all"):
        return bool(same.all())
    return bool(same or (a != a and b != b))
