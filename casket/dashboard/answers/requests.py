"""The requests of the page, with validation of every parameter."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from casket.reading.rows import Kind, Mode

MAX_POINTS = 4_000
MAX_METRICS = 100
MAX_SESSIONS = 10_000
MAX_CURVES = 20_000
MAX_VALUES = 2_000_000
"""Maximum points of all curves of an answer."""

MAX_ROWS = 1_000
MAX_NUMBER = 2**53
MAX_NAME = 10_000
MAX_NOTE = 100_000
MAX_TAGS = 100
MAX_BODY = 4 << 20
"""Maximum bytes of a request body."""

CurveKind = Literal["epoch", "batch"]
Axis = Literal["number", "time", "wall"]


class RequestError(Exception):
    """A request that cannot be answered.

    Args:
        message: the reason.
        parameter: the name of the invalid parameter.
        status: the HTTP status of the response.
    """

    def __init__(self, message: str, parameter: str, status: int = 400) -> None:
        super().__init__(message)
        self.parameter = parameter
        self.status = status


class CurvesRequest(NamedTuple):
    """A request for curves; `docs/dashboard-api.md` documents its fields."""

    metrics: list[str]
    sessions: list[str]
    kind: CurveKind
    x: Axis
    points: int
    range: tuple[float, float] | None
    since: Mapping[str, int]

    @classmethod
    def read(cls, asked: Any) -> CurvesRequest:
        """Read it from the body of a request."""
        asked = _object(asked, cls._fields)
        metrics = _texts(asked, "metrics", MAX_METRICS)
        sessions = _texts(asked, "sessions", MAX_SESSIONS)
        points = whole("points", asked.get("points", 800), 4, MAX_POINTS)
        count = len(metrics) * len(sessions)
        if count > MAX_CURVES:
            raise RequestError(
                f"sessions: {count} curves; at most {MAX_CURVES} at once", "sessions"
            )
        if count * points > MAX_VALUES:
            raise RequestError(
                f"points={points}: at most {MAX_VALUES // count} for each of {count} curves",
                "points",
            )
        return cls(
            metrics,
            sessions,
            choice("kind", asked.get("kind", "epoch"), get_args(CurveKind)),
            choice("x", asked.get("x", "number"), get_args(Axis)),
            points,
            _range(asked.get("range")),
            _since(asked.get("since", {})),
        )


class RowsRequest(NamedTuple):
    """A request for rows."""

    kind: Kind
    start: int
    limit: int

    @classmethod
    def read(cls, asked: Mapping[str, str]) -> RowsRequest:
        """Read it from the query of an address."""
        return cls(
            choice("kind", asked.get("kind", "epoch"), get_args(Kind)),
            whole("from", asked.get("from", "0"), 0, MAX_NUMBER),
            whole("limit", asked.get("limit", "200"), 1, MAX_ROWS),
        )


class BestRequest(NamedTuple):
    """A metric and which of its values are the best."""

    metric: str
    mode: Mode

    @classmethod
    def read(cls, asked: Mapping[str, str]) -> BestRequest:
        """Read it from the query of a request."""
        metric = _text("metric", asked.get("metric"), MAX_NAME)
        return cls(metric, choice("mode", asked.get("mode"), get_args(Mode)))


class Annotation(NamedTuple):
    """A change of a session's note and tags."""

    note: str | None
    add: list[str]
    remove: list[str]

    @classmethod
    def read(cls, asked: Any) -> Annotation:
        """Read it from the body of a request."""
        asked = _object(asked, cls._fields)
        note = asked.get("note")
        if note is not None:
            note = _text("note", note, MAX_NOTE)
        add, remove = (
            _texts(asked, name, MAX_TAGS) if name in asked else [] for name in ("add", "remove")
        )
        return cls(note, add, remove)


def whole(name: str, value: Any, least: int, most: int) -> int:
    """Validate and return an integer parameter within bounds."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise RequestError(f"{name}={_short(value)}: give a whole number", name)
    if not least <= value <= most:
        bound = f"at most {most}" if value > most else f"at least {least}"
        raise RequestError(f"{name}={value}: {bound}", name)
    return value


def choice(name: str, value: Any, choices: Sequence[str]) -> Any:
    """Validate and return a parameter with a fixed set of values."""
    if value not in choices:
        raise RequestError(f"{name}={_short(value)}: give one of {', '.join(choices)}", name)
    return value


def _object(asked: Any, names: Sequence[str]) -> dict[str, Any]:
    if not isinstance(asked, dict):
        raise RequestError("the request has to be a JSON object", "body")
    unknown = next((name for name in asked if name not in names), None)
    if unknown is not None:
        known = ", ".join(names)
        raise RequestError(f"{_short(unknown)} is not asked for here; there are {known}", unknown)
    return asked


def _texts(asked: dict[str, Any], name: str, most: int) -> list[str]:
    items = asked.get(name)
    if not isinstance(items, list):
        raise RequestError(f"{name}={_short(items)}: give a list of names", name)
    if len(items) > most:
        raise RequestError(f"{name}: {len(items)} of them; at most {most}", name)
    return list(dict.fromkeys(_text(name, item, MAX_NAME) for item in items))


def _text(name: str, value: Any, longest: int) -> str:
    if not isinstance(value, str):
        raise RequestError(f"{name}={_short(value)}: give text", name)
    if len(value) > longest:
        raise RequestError(f"{name}: {len(value)} characters; at most {longest}", name)
    return value


def _range(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    is_pair = isinstance(value, list) and len(value) == 2
    if not is_pair or not all(type(end) in {int, float} for end in value):
        raise RequestError(f"range={_short(value)}: give [from, to], or null", "range")
    start, end = value
    if not -MAX_NUMBER <= start <= end <= MAX_NUMBER:
        raise RequestError(f"range={_short(value)}: give [from, to] with from <= to", "range")
    return float(start), float(end)


def _since(value: Any) -> dict[str, int]:
    if not isinstance(value, dict) or len(value) > MAX_SESSIONS:
        raise RequestError(f"since={_short(value)}: give how many records by session", "since")
    return {key: whole("since", count, 0, MAX_NUMBER) for key, count in value.items()}


def _short(value: Any) -> str:
    return reprlib.repr(value)  # limits depth and length
