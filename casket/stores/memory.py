"""A store in memory, for tests and experiments."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Unpack

import orjson

from casket.format.records import Record, covering, names_nothing
from casket.stores import base
from casket.system import forks


class MemoryStore:
    """A list of records, encoded so that callers cannot change them."""

    def __init__(self, *_: object) -> None:
        self._lines: list[tuple[int, bytes]] = []
        self._last = 0
        self.after_fork()
        forks.renew_in_children(self)

    def after_fork(self) -> None:
        """Create a new lock."""
        self._lock = threading.RLock()

    def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
        encoded = [orjson.dumps(record) for record in records]
        with self._lock:
            if claim is not None:
                base.refuse_held(claim, self.records, records)
            self._lines += enumerate(encoded, self._last + 1)
            self._last += len(encoded)
            return self._last

    def records(self, **chosen: Unpack[base.Chosen]) -> Iterator[base.Numbered]:
        filters = base.Filters(**chosen)
        with self._lock:
            lines = [line for line in self._lines if line[0] > filters.after]
        for number, line in lines:
            record: Record = orjson.loads(line)
            if filters.fits(record):
                yield number, record

    def prune(self, tombstone: Record, /) -> None:
        with self._lock:
            if names_nothing(tombstone):
                return
            is_covered = covering(tombstone)
            kept = [line for line in self._lines if not is_covered(orjson.loads(line[1]))]
            self._last += 1
            self._lines = [*kept, (self._last, orjson.dumps(tombstone))]

    def close(self) -> None:
        """Keep the records, which exist only in memory."""
