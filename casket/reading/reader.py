"""Incremental reading of a store: each call reads the records appended since the last call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, Protocol, TypeVar

from casket.format.records import Record
from casket.reading.fold import in_chunks
from casket.stores.base import Numbered, Store


class RecordFold(Protocol):
    """The interface that a `Reader` needs of the state it keeps; see `casket.reading.fold.Fold`."""

    def add(self, records: Iterable[Record], /) -> list[Record]:
        """Add the next records; return the ones not seen before."""

    def has(self, record: Record, /) -> bool:
        """Return whether a record has been added."""

    def find_gone(self) -> dict[str, list[str]]:
        """Return the writers whose process has exited, by session."""

    def settle(self, gone: Mapping[str, list[str]], /) -> None:
        """Record that the store has been read to its end after these writers had exited."""


F = TypeVar("F", bound=RecordFold)

Mark = tuple[int, str, int]
"""The number, writer and `n` of the last record read."""


class Reader(Generic[F]):
    """Reads a store incrementally into a fold.

    Args:
        store: the store.
        new_fold: returns an empty fold; called again if the file has been replaced.
        lock: held while records are added to the fold.
        filters: the filters passed to `Store.records`.

    Attributes:
        fold: the records read so far.
    """

    def __init__(
        self,
        store: Store,
        new_fold: Callable[[], F],
        *,
        lock: AbstractContextManager[Any] | None = None,
        **filters: Any,
    ) -> None:
        self._store = store
        self._new_fold = new_fold
        self._lock = lock or nullcontext()
        self._filters = filters
        self._earlier: list[F] = []
        self._mark: Mark | None = None
        self.fold = new_fold()

    def read_on(self) -> list[Record]:
        """Read to the end of the store and return the records appended since the last call."""
        return [record for chunk in self.chunks() for record in chunk]

    def chunks(self) -> Iterator[list[Record]]:
        """Read to the end of the store, yielding the new records chunk by chunk.

        Each chunk is in the fold before it is yielded. A session whose process has exited counts
        as killed only after the store has been read once more, so that the records the process
        wrote before it exited are included.
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
            # Ctrl-C may have interrupted the fold in the middle of a record: start over.
            self._begin_anew()
            raise

    def _read(self) -> Iterator[list[Record]]:
        for chunk in in_chunks(self._following()):
            with self._lock:
                new = self.fold.add(record for _, record in chunk)
            self._mark = self._mark_of(chunk)
            if self._earlier:
                new = [each for each in new if not any(fold.has(each) for fold in self._earlier)]
            yield new

    def _following(self) -> Iterator[Numbered]:
        """Return the records after the mark, or all records if the file has been replaced."""
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
        """Return the mark of the last number, which the records of a nested document share."""
        last = chunk[-1][0]
        first = next(numbered for numbered in chunk if numbered[0] == last)
        if self._mark is not None and self._mark[0] == last:
            return self._mark
        return _mark_at(first)


def _mark_at(numbered: Numbered) -> Mark:
    number, record = numbered
    return number, record["writer"], record["n"]
