"""The log of a place in S3, as a handle knows it.

An object is named by the number of its first record and says the number of the next object, so that
writers compete for the same name. Its content does not change, apart from two cases. Pruning drops
records; readers drop them by themselves as soon as the tombstone is in the log, whatever content
they have. Packing adds the content of the following objects to an object before they are deleted.
Only objects of a certain age are packed, long after every writer has seen that their names are
taken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import NamedTuple, Protocol, Unpack

import orjson

from casket.format.records import Record, covering
from casket.stores import base
from casket.stores.remote import repeats
from casket.stores.s3.batch import Batch

PACKED_AFTER = 3600.0
"""Seconds for which a batch keeps an object of its own: much longer than any append takes."""

WINDOW = 10_000
"""The numbers of records whose batches are packed into one object."""

LARGEST = 64 << 20
"""The size in bytes that an object does not exceed when others are packed into it."""


class Listed(NamedTuple):
    """An object of the log.

    Attributes:
        first: its number.
        etag: the identity of its content.
        changed: when it was last written.
    """

    first: int
    etag: str
    changed: datetime


class Objects(Protocol):
    """The place of the objects; no method changes an object that another process has changed."""

    @property
    def now(self) -> datetime:
        """The time of the place at its last answer to `listed`."""

    def key(self, first: int) -> str:
        """Return the name of an object of the log."""

    def listed(self, at_least: int) -> Iterable[Listed]:
        """Return the objects of the log in order, from a number on."""

    def read(self, first: int) -> tuple[str, bytes] | None:
        """Return the ETag and the content of an object; None if it does not exist."""

    def read_all(self, firsts: Sequence[int]) -> list[tuple[str, bytes] | None]:
        """Return what `read` returns for each of several objects."""

    def create(self, first: int, content: bytes) -> str | None:
        """Create an object; return its ETag, or None if it exists."""

    def replace(self, first: int, content: bytes, etag: str) -> str | None:
        """Replace the content that has an ETag; return the new one, or None if there is another."""

    def delete(self, firsts: Sequence[int]) -> None:
        """Delete objects of the log."""

    def probe(self, content: bytes) -> None:
        """Check that the place keeps these promises.

        Args:
            content: the content of a file that describes the place, created if it is missing.

        Raises:
            StoreRefused: it does not.
        """

    def close(self) -> None:
        """Release all resources."""


_Tombstone = tuple[int, Callable[[Record], bool]]
"""The number of a tombstone, and whether it covers a record."""


class _Known(NamedTuple):
    batch: Batch
    etag: str
    changed: datetime | None = None


class Log:
    """A mirror of the log.

    Args:
        bucket: the objects.

    Attributes:
        next: the number of the next object.
    """

    def __init__(self, bucket: Objects) -> None:
        self._bucket = bucket
        self.next = 1
        self._end = 0
        self._known: list[_Known] = []
        self.forget()

    def forget(self) -> None:
        """List all objects at the next look, and read those whose ETag has changed."""
        self._cached = {(known.batch.first, known.etag): known.batch for known in self._known}
        self._known = []
        self._tombstones: list[_Tombstone] = []
        self._covered: list[_Known] = []  # packed, and not deleted yet

    def __bool__(self) -> bool:
        return bool(self._known)

    def look(self) -> bool:
        """Read what was added since the last look.

        Returns:
            Whether the last object that was known is gone: objects were packed or deleted.
        """
        if self._add(self._known[-1].batch.first if self._known else 0):
            self._follow()
            return False
        self.forget()
        self._add(0)
        self._follow()
        return True

    def find_end(self) -> bool:
        """Find the number of the next object, without reading all objects.

        Returns:
            Whether the last object that was known is gone.
        """
        listed = list(self._bucket.listed(self._end))
        if self._end and (not listed or listed[0].first != self._end):
            return self.look()
        if listed and listed[-1].first >= self.next:
            last = self._read_one(listed[-1].first)
            if last is None:
                return self.look()
            self._end, self.next = last.batch.first, last.batch.next
        return False

    def append(self, batch: Batch) -> bool:
        """Create the object of a batch at `next`; return False if another writer did.

        An answer may be lost and the request repeated; the id of the batch shows whose object it
        is.
        """
        etag = self._bucket.create(batch.first, batch.content)
        if etag is None:
            other = self._read_one(batch.first)
            if other is None or other.batch.id != batch.id:
                return False
            etag = other.etag
        is_next = batch.first == (self._known[-1].batch.next if self._known else 1)
        if is_next:
            self._take(_Known(batch, etag))
        self._end, self.next = batch.first, batch.next
        return True

    def records(self, **chosen: Unpack[base.Chosen]) -> Iterator[base.Numbered]:
        """Yield the numbers and records that are known, without those that were pruned."""
        filters = base.Filters(**chosen)
        batches = [known.batch for known in self._known if known.batch.next > filters.after + 1]
        return _fitting(batches, filters, list(self._tombstones))

    def numbers(self, writers: Iterable[str]) -> dict[repeats.Identity, int]:
        """Return the numbers of all stored records of some writers, by their identities."""
        batches = [known.batch for known in self._known]
        wanted = set(writers)
        return {
            repeats.identity(record): number
            for text in map(orjson.dumps, wanted)
            for number, record in _containing(batches, text, self._tombstones)
            if record["writer"] in wanted
        }

    def rewrite(self) -> None:
        """Remove pruned records from the objects."""
        is_done = False
        while not is_done:
            self.forget()
            self.look()
            is_done = sum(not self._rewrite(known) for known in self._known) == 0

    def pack(self) -> None:
        """Pack old objects into larger ones; leave the last, after which others are appended."""
        self.forget()
        self.look()
        old = self._old(self._known[:-1])
        self._bucket.delete([known.batch.first for known in self._old(self._covered)])
        # All processes pack into the first object of a window, which decides between them.
        for _, window in groupby(old, key=lambda one: one.batch.first // WINDOW):
            self._pack(list(window))
        self.forget()

    def _old(self, known: Sequence[_Known]) -> list[_Known]:
        limit = self._bucket.now - timedelta(seconds=PACKED_AFTER)
        return [one for one in known if one.changed and one.changed <= limit]

    def _rewrite(self, known: _Known) -> bool:
        """Return False if the object has changed."""
        if all(not self._drops(known.batch.numbered(line)) for line in known.batch.lines()):
            return True
        kept = Batch.packed([known.batch], self._drops)
        return self._bucket.replace(kept.first, kept.content, known.etag) is not None

    def _pack(self, window: list[_Known]) -> None:
        anchor, size, packed = window[0], 0, list[_Known]()
        if anchor.batch.first != self._first_in(anchor.batch.first // WINDOW):
            return
        for known in window:
            is_next = not packed or packed[-1].batch.next == known.batch.first
            size += len(known.batch.content)
            if not is_next or size > LARGEST:
                break
            packed.append(known)
        if len(packed) > 1:
            whole = Batch.packed([known.batch for known in packed], self._drops)
            if self._bucket.replace(whole.first, whole.content, anchor.etag) is not None:
                self._bucket.delete([known.batch.first for known in packed[1:]])

    def _first_in(self, window: int) -> int:
        firsts = (known.batch.first for known in self._known)
        return next(first for first in firsts if first // WINDOW == window)

    def _drops(self, numbered: base.Numbered) -> bool:
        return _is_dropped(numbered, self._tombstones)

    def _add(self, begin: int) -> bool:
        """Read the objects from a number on; return False if objects before them are lacking."""
        listed = list(self._bucket.listed(begin))
        if begin and (not listed or listed[0].first != begin):
            return False
        for known in self._read(listed[1:] if begin else listed):
            expected = self._known[-1].batch.next if self._known else 0
            if known is None or (begin and known.batch.first > expected):
                return False  # packed meanwhile
            if known.batch.first < expected:
                self._covered.append(known)
            else:
                self._take(known)
        return True

    def _read(self, listed: Sequence[Listed]) -> Iterator[_Known | None]:
        """Yield the batches of objects, of which those that are new or changed are read."""
        fresh = [one for one in listed if (one.first, one.etag) not in self._cached]
        answers = dict(zip(fresh, self._bucket.read_all([one.first for one in fresh]), strict=True))
        for one in listed:
            if one not in answers:
                yield _Known(self._cached[one.first, one.etag], one.etag, one.changed)
            elif (answer := answers[one]) is None:
                yield None
            else:
                yield self._made(one.first, *answer, one.changed)

    def _take(self, known: _Known) -> None:
        self._known.append(known)
        for line in known.batch.lines(b'"kind":"deleted"'):
            number, record = known.batch.numbered(line)
            if record["kind"] == "deleted":
                self._tombstones.append((number, covering(record)))

    def _follow(self) -> None:
        if self._known:
            last = self._known[-1].batch
            self._end, self.next = last.first, last.next

    def _read_one(self, first: int) -> _Known | None:
        answer = self._bucket.read(first)
        return None if answer is None else self._made(first, *answer)

    def _made(
        self, first: int, etag: str, content: bytes, changed: datetime | None = None
    ) -> _Known:
        return _Known(Batch.read(first, content, self._bucket.key(first)), etag, changed)


def _fitting(
    batches: Sequence[Batch], filters: base.Filters, tombstones: Sequence[_Tombstone]
) -> Iterator[base.Numbered]:
    text = _text_of(filters)
    for number, record in () if text is None else _containing(batches, text, tombstones):
        if number > filters.after and filters.fits(record):
            yield number, record


def _containing(
    batches: Sequence[Batch], text: bytes, tombstones: Sequence[_Tombstone]
) -> Iterator[base.Numbered]:
    """Yield the numbers and records whose lines contain a text, without those that were pruned."""
    for batch in batches:
        for line in batch.lines(text):
            numbered = batch.numbered(line)
            if not _is_dropped(numbered, tombstones):
                yield numbered


def _is_dropped(numbered: base.Numbered, tombstones: Sequence[_Tombstone]) -> bool:
    number, record = numbered
    return any(number < limit and is_covered(record) for limit, is_covered in tombstones)


def _text_of(filters: base.Filters) -> bytes | None:
    """Return a text that the lines of all fitting records contain; None if no record fits."""
    with contextlib.suppress(orjson.JSONEncodeError):
        for value in (filters.claim, filters.session, filters.experiment):
            if value is not None:
                return orjson.dumps(value)
        return b""
    return None
