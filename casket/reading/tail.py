"""The latest sessions of a store, read without the records of the others where it can be done."""

from __future__ import annotations

from typing import Any, NamedTuple

from casket.format.intact import is_intact
from casket.reading.fold import Fold
from casket.reading.views import SessionView
from casket.stores.base import StoreOptions
from casket.stores.latest import HasLatest
from casket.stores.location import Location


class Tail(NamedTuple):
    """The latest sessions of a store.

    Attributes:
        sessions: the sessions, in order of their start.
        total: the number of all sessions of the store.
    """

    sessions: list[SessionView]
    total: int


def read_tail(url: str, count: int, offset: int = 0) -> Tail | None:
    """Read the latest sessions of a store; nothing is created, locked or changed.

    Args:
        url: the path or URL of the store.
        count: the maximum number of sessions.
        offset: the number of later sessions to leave out.

    Returns:
        None if all records have to be read to find them.
    """
    location = Location.of(url)
    if location.kind not in {"json", "sqlite"}:
        return None
    store: Any = location.open(StoreOptions(), writing=False)
    try:
        return _tail(location, store, count, offset)
    finally:
        store.close()


def _tail(location: Location, store: HasLatest, count: int, offset: int) -> Tail | None:
    """Read the sessions; once more if a process has exited, as its end may be there by now."""
    gone: dict[str, list[str]] = {}
    while True:
        latest = store.latest(count, offset)
        if latest is None or not all(is_intact(record) for _, record in latest.records):
            return None
        fold = Fold(location.artifacts())
        fold.add(record for _, record in latest.records)
        is_read = bool(gone)
        gone = gone or fold.find_gone()
        if is_read or not gone:
            fold.settle(gone)
            return Tail([fold.sessions[each] for each in latest.sessions], latest.total)
