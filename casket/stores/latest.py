"""The records of the latest sessions of a large store, without parsing those of the others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

import orjson

from casket.format.intact import DAMAGED, check
from casket.format.lifecycle import Life
from casket.format.records import FORMAT_VERSION, Record, covering
from casket.stores.base import Numbered


class Unclear(Exception):
    """All records have to be read to find the latest sessions."""


class Latest(NamedTuple):
    """The latest sessions of a store.

    Attributes:
        records: their records and those that belong to no session, in order.
        sessions: their ids, in order of their start.
        total: the number of all sessions.
    """

    records: list[Numbered]
    sessions: list[str]
    total: int


class HasLatest(Protocol):
    """A store that finds its latest sessions faster than by reading all records."""

    def latest(self, count: int, offset: int = 0) -> Latest | None:
        """Return the latest sessions by the time of their start.

        Args:
            count: the maximum number of sessions.
            offset: the number of later sessions to leave out.

        Returns:
            None if all records have to be read to find them.
        """


_START = re.compile(
    rb'\{"kind":"session","v":%d,"experiment":"([^"\\]*)","model":"([^"\\]*)",'
    rb'"session":"([^"\\]+)","writer":"[^"\\]+","n":\d+,'
    rb'"time":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)"' % FORMAT_VERSION
)


_PARENT = b'"parent":"'


class Starts:
    """The starts of the sessions of a store, in the order of their records."""

    def __init__(self) -> None:
        self._texts: dict[bytes, bytes] = {}
        self._times: dict[bytes, bytes] = {}
        self._again: dict[bytes, list[bytes]] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: bytes) -> None:
        """Add the next record if it is of kind `session` or `deleted`.

        Args:
            text: its JSON; a comma may follow.

        Raises:
            Unclear: a start is not in casket's form, or that of a child, which may be listed or
                not; or a session was removed but is still stored.
        """
        start = _START.match(text)
        if _PARENT in text:
            raise Unclear
        if start is not None:
            session = start[3]
            if self._texts.setdefault(session, text) is not text:
                self._again.setdefault(session, []).append(text)
            self._times[session] = start[4]
        elif text.startswith(b'{"kind":"session",'):
            raise Unclear
        elif text.startswith(b'{"kind":"deleted",'):
            self._add_tombstone(_parsed(text))

    def _add_tombstone(self, tombstone: Record) -> None:
        is_covered = covering(tombstone)
        if tombstone["v"] > FORMAT_VERSION or any(map(is_covered, map(_owner, self._starts()))):
            raise Unclear

    def _starts(self) -> Iterable[re.Match[bytes]]:
        return filter(None, map(_START.match, self._texts.values()))

    def has_all(self, sessions: Set[bytes]) -> bool:
        """Return whether all of these sessions have a start."""
        return sessions <= self._texts.keys()

    def latest(self, count: int, offset: int) -> list[bytes]:
        """Return the ids of the latest sessions; see `HasLatest`."""
        times = self._times | {session: self._first_time(session) for session in self._again}
        ordered = [session for session, _ in sorted(times.items(), key=itemgetter(1))]
        stop = max(len(ordered) - offset, 0)
        return ordered[max(stop - count, 0) : stop]

    def _first_time(self, session: bytes) -> bytes:
        """Return the time of the first start of a session that was continued."""
        texts = [self._texts[session], *self._again[session]]
        time: str = Life(map(_parsed, texts)).starts[0]["time"]
        return time.encode()


def _parsed(text: bytes) -> Record:
    try:
        record: Record = orjson.loads(text.rstrip(b","))
        check(record)
    except DAMAGED:
        raise Unclear from None
    return record


def _owner(start: re.Match[bytes]) -> Any:
    experiment, model, session = (start[i].decode() for i in (1, 2, 3))
    return {"experiment": experiment, "model": model, "session": session}
