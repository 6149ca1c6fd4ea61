"""Events of sessions that a person wants to hear of: failures, silence, metrics out of bounds."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any, Literal, NamedTuple, get_args

from casket.reading.columns import NO_TIME
from casket.reading.fold import Fold
from casket.reading.metrics import better, weight
from casket.reading.reader import Reader
from casket.reading.rows import NUMBERS, Kind
from casket.reading.views import SessionView
from casket.statistics.intervals import as_float

EventKind = Literal["nan", "diverged", "stalled", "killed", "failed", "alert"]
EVENT_KINDS: tuple[EventKind, ...] = get_args(EventKind)

RECENT, EARLIER, RISE = 3, 200, 10.0
"""A metric has diverged if the median of its `RECENT` latest values exceeds `RISE` times the median
of up to `EARLIER` values before them."""

LEAST_EARLIER = 3
"""The minimum number of values before the recent ones."""

LATEST = 20
"""The number of latest records that determine the usual interval between records."""

LONGER, LEAST_SILENCE = 10, timedelta(minutes=10)
"""A running session is silent after `LONGER` times its usual interval, but not before
`LEAST_SILENCE`."""


class Event(NamedTuple):
    """Something that happened to a session.

    Attributes:
        kind: the kind of the event.
        detail: distinguishes events of the same kind and session.
        title: what happened.
        text: the details; may be empty.
        level: `"info"`, `"warning"` or `"error"`.
        time: the time at which it happened.
        session: the session.
    """

    kind: EventKind
    detail: str
    title: str
    text: str
    level: str
    time: datetime
    session: SessionView

    @property
    def key(self) -> tuple[str, str, str]:
        """Identifies the event; the same whenever the store is read."""
        return self.session.id, self.kind, self.detail


class EventReader:
    """Reads the events of a store; each call reads the records appended since the last call.

    Args:
        reader: the reader of the store.
        kinds: the kinds of events to look for.
    """

    def __init__(self, reader: Reader[Fold], kinds: Collection[EventKind]) -> None:
        self._reader = reader
        self._kinds = [kind for kind in EVENT_KINDS if kind in kinds]
        # The sessions to look at even if they have no new records: at first, all.
        self._open = set(reader.fold.sessions)

    def read_on(self, now: datetime | None = None) -> list[Event]:
        """Return the current events of sessions that have new records or were running.

        Events that were returned before are repeated while they last.

        Args:
            now: the time at which silence ends; by default, the current time.
        """
        touched = {record.get("session", "") for record in self._reader.read_on()}
        sessions = self._reader.fold.sessions
        looked_at = [sessions[key] for key in touched | self._open if key in sessions]
        self._open = {session.id for session in looked_at if session.status == "running"}
        now = now or datetime.now(UTC)
        events = [
            event
            for session in looked_at
            for kind in self._kinds
            for event in _FINDERS[kind](session, now)
        ]
        return sorted(events, key=lambda event: event.time)


def silence_limit(session: SessionView) -> timedelta | None:
    """Return how long a session may be silent before it counts as stalled.

    Returns:
        Ten times the usual interval between its epochs and batches, but at least ten minutes; None
        if it has logged fewer than two of them.
    """
    kinds: tuple[Kind, ...] = ("epoch", "batch")
    recent = (session.logged(kind).times.microseconds[-LATEST:] for kind in kinds)
    times = sorted(time for each in recent for time in each if time != NO_TIME)[-LATEST:]
    if len(times) < 2:
        return None
    usual = median(later - earlier for earlier, later in pairwise(times))
    return max(LONGER * timedelta(microseconds=usual), LEAST_SILENCE)


def _stalled(session: SessionView, now: datetime) -> Iterator[Event]:
    if session.status != "running":
        return
    limit, silence = silence_limit(session), now - session.last_seen
    if limit is not None and silence > limit:
        minutes = int(silence.total_seconds() // 60)
        text = f"no record for {minutes} minutes"
        since = session.last_seen
        yield Event("stalled", since.isoformat(), "stalled", text, "warning", since, session)


def _ended(status: Literal["failed", "killed"]) -> Callable[[SessionView, datetime], Any]:
    def find(session: SessionView, _: datetime) -> Iterator[Event]:
        ended = session.ended
        if session.status == status and ended is not None:
            text = session.error or ""
            yield Event(status, ended.isoformat(), status, text, "error", ended, session)

    return find


def _alerts(session: SessionView, _: datetime) -> Iterator[Event]:
    for title, text, level, time in session.alerts:
        detail = f"{time.isoformat()} {title}"
        yield Event("alert", detail, title, text, level, time, session)


def _not_finite(session: SessionView, _: datetime) -> Iterator[Event]:
    """Find the metrics with a value that is NaN or infinite."""
    seen = set()
    for kind, metric, values in _metrics(session):
        position = _first_not_finite(values)
        if position is not None and metric not in seen:
            seen.add(metric)
            title = f"{metric} is {values[position]}"
            yield _of_metric("nan", metric, title, session, kind, position)


def _diverged(session: SessionView, _: datetime) -> Iterator[Event]:
    """Find the metrics that are better if lower and have risen far above their usual values."""
    seen = set()
    for kind, metric, values in _metrics(session):
        if kind == "result" or metric in seen or better(metric) != "min" or not weight(metric):
            continue
        latest = [value for value in values[-RECENT - EARLIER :] if value is not None]
        recent, earlier = latest[-RECENT:], latest[:-RECENT]
        if has_diverged(recent, earlier):
            seen.add(metric)
            title = f"{metric} has diverged to {recent[-1]:.6g} from {median(earlier):.6g}"
            yield _of_metric("diverged", metric, title, session, kind, len(values) - 1)


def has_diverged(recent: Sequence[float], earlier: Sequence[float]) -> bool:
    """Return whether the recent values of a positive metric are far above the earlier ones."""
    if len(earlier) < LEAST_EARLIER or not all(map(math.isfinite, [*recent, *earlier])):
        return False
    usual = median(earlier)
    return usual > 0 and median(recent) > RISE * usual


def _metrics(session: SessionView) -> Iterator[tuple[Kind, str, Sequence[Any]]]:
    """Yield the values of each metric in the order they were logged; None if there is no number."""
    for kind in NUMBERS:
        logged = session.logged(kind)
        for metric in logged.metrics():
            values: Sequence[Any] = logged.values(metric)
            if not isinstance(values, array):
                values = [as_float(each) if type(each) in {int, float} else None for each in values]
            yield kind, metric, values


def _first_not_finite(values: Sequence[Any]) -> int | None:
    if isinstance(values, array) and math.isfinite(sum(values)):
        return None
    numbers = enumerate(values)
    return next((i for i, each in numbers if each is not None and not math.isfinite(each)), None)


def _of_metric(
    kind: Literal["nan", "diverged"],
    metric: str,
    title: str,
    session: SessionView,
    logged_as: Kind,
    position: int,
) -> Event:
    """Return the event of a value, given by the position of its record."""
    logged = session.logged(logged_as)
    number = logged.numbers[NUMBERS[logged_as][0]][position]
    text = "" if number is None else f"at {logged_as} {number}"
    seconds = logged.seconds()[position]
    time = datetime.fromtimestamp(seconds, UTC) if math.isfinite(seconds) else session.last_seen
    return Event(kind, metric, title, text, "error", time, session)


_FINDERS: dict[EventKind, Callable[[SessionView, datetime], Iterator[Event]]] = {
    "nan": _not_finite,
    "diverged": _diverged,
    "stalled": _stalled,
    "killed": _ended("killed"),
    "failed": _ended("failed"),
    "alert": _alerts,
}
