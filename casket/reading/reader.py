"""Reading a store again and again: each time the records that were added since."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from casket.format.records import Record
from casket.reading.fold import Fold, in_chunks
from casket.stores.base import Numbered, Store

Mark = tuple[int, str, int]
"""The number, writer and `n` of the record that was read last."""


class Reader:
    """Reads a store into a fold.

    Args:
        store: the store.
        new_fold: makes an empty fold; called again if the place holds another file by now.
        lock: held while records are added to the fold.
        filters: those of `Store.records`.

    Attributes:
        fold: the records read so far.
    """

    def __init__(
        self,
        store: Store,
        new_fold: Callable[[], Fold],
        *,
        lock: AbstractContextManager[Any] | None = None,
        **filters: Any,
    ) -> None:
        self._store = store
        self._new_fold = new_fold
        self._lock = lock or nullcontext()
        self._filters = filters
        self._earlier: list[Fold] = []
        self._mark: Mark | None = None
        self.fold = new_fold()

    def read_on(self) -> list[Record]:
        """Read to the end of the store; return the records that were added since the last time."""
        return [record for chunk in self.chunks() for record in chunk]

    def chunks(self) -> Iterator[list[Record]]:
        """Do the same in steps: yield the new records of each chunk once they are in the fold.

        Sessions whose processes are gone count as killed only after they were looked at and the
        store was read once more: the records that a process wrote before it left come first.
        """
        try:
            yield from self._read()
            gone = self.fold.find_gone()
            if gone:
                yield from self._read()
            with self._lock:
                self.fold.settle(gone)
        except (Exception, GeneratorExit):
            raise
        except BaseException:
            # Ctrl-C, maybe in the middle of a record: the fold is not to be trusted.
            self._begin_anew()
            raise

    def _read(self) -> Iterator[list[Record]]:
        for chunk in in_chunks(self._following()):
            with self._lock:
                new = self.fold.add(record for _, record in chunk)
            self._mark = self._mark_of(chunk)
            yield [record for record in new if not any(fold.has(record) for fold in self._earlier)]

    def _following(self) -> Iterator[Numbered]:
        """Yield the records after the mark; all of them if the place holds another file."""
        mark = self._mark
        if mark is None:
            return self._store.records(**self._filters)
        following = self._store.records(**self._filters, after=mark[0] - 1)
        first = next(following, None)
        if first is not None and _mark_at(first) == mark:
            return following
        self._begin_anew()
        return self._store.records(**self._filters)

    def _begin_anew(self) -> None:
        self._earlier.append(self.fold)
        with self._lock:
            self.fold, self._mark = self._new_fold(), None

    def _mark_of(self, chunk: list[Numbered]) -> Mark:
        """Return the mark of the last number; a nested document gives several records of one."""
        last = chunk[-1][0]
        first = next(numbered for numbered in chunk if numbered[0] == last)
        if self._mark is not None and self._mark[0] == last:
            return self._mark
        return _mark_at(first)


def _mark_at(numbered: Numbered) -> Mark:
    number, record = numbered
    return number, record["writer"], record["n"]
