"""Recovery of rows from the pages of a damaged SQLite database.

SQLite itself stops at a damaged page of the tree. This module reads every page with rows
independently (https://www.sqlite.org/fileformat.html), including pages that exist only in the
write-ahead log beside the database.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from casket.stores.sqlite.store import APPLICATION_ID

PAGE_SIZE = 4096
"""Page size in bytes if the header does not specify it."""

_MAGIC = b"SQLite format 3\0"
_HEADER = 100
_INTERIOR_INDEX, _INTERIOR_TABLE, _LEAF_INDEX, _LEAF_TABLE = 2, 5, 10, 13
_OF_TREES = frozenset({_INTERIOR_INDEX, _INTERIOR_TABLE, _LEAF_INDEX, _LEAF_TABLE})
_LOG_HEADER, _FRAME_HEADER = 32, 24
_RECORD_COLUMN = 4
_LOCKS = 2**30
"""Offset of the page that SQLite never uses, because it contains the lock bytes."""

Row = tuple[int, bytes]
"""The number and text of a record."""


class BadPage(ValueError):
    """A page is missing or damaged."""


class Fault(NamedTuple):
    """A damaged range of bytes of the database."""

    start: int
    stop: int
    problem: str


class Pages:
    """The pages of a database file.

    Args:
        path: the database file.

    Attributes:
        size: the page size in bytes.
        count: the number of pages that exist or should exist.
        length: the size of the file in bytes.
        has_header: whether the file begins with the header of a SQLite database.
        are_caskets: whether the header contains casket's application id.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.length = path.stat().st_size
        header = self._file.read(_HEADER).ljust(_HEADER, b"\0")
        self.has_header = header.startswith(_MAGIC)
        self.are_caskets = int.from_bytes(header[68:72], "big") == APPLICATION_ID
        size = int.from_bytes(header[16:18], "big")
        size = 65536 if size == 1 else size
        is_size = self.has_header and size >= 512 and size & (size - 1) == 0
        self.size = size if is_size else PAGE_SIZE
        self._usable = self.size - (header[20] if is_size else 0)
        there = -(-self.length // self.size)
        self.count = max(int.from_bytes(header[28:32], "big") if is_size else 0, there)
        self._first_free = int.from_bytes(header[32:36], "big") if is_size else 0
        self._log = _Log(path.with_name(f"{path.name}-wal"), self.size)
        self.count = self._log.count or self.count

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._log.close()

    def range_of(self, number: int) -> tuple[int, int]:
        """Return the byte range of a page in the database file."""
        return (number - 1) * self.size, number * self.size

    def read(self, number: int) -> bytes:
        """Return a page.

        Raises:
            BadPage: the page is missing or incomplete.
        """
        page = self._log.read(number)
        if page is None and number > 0:
            self._file.seek(self.range_of(number)[0])
            page = self._file.read(self.size)
        if page is None or len(page) < self.size:
            raise BadPage(f"page {number} is not there")
        return page

    def text(self, start: int, stop: int) -> bytes:
        """Return the bytes of a range of the database file, as far as it exists."""
        self._file.seek(start)
        return self._file.read(stop - start)

    def free(self) -> set[int]:
        """Return the unused pages, as far as the free list can be read."""
        unused: set[int] = set()
        trunk = self._first_free
        while trunk and trunk not in unused and trunk <= self.count:
            unused.add(trunk)
            try:
                page = self.read(trunk)
            except BadPage:
                break
            trunk, length = struct.unpack_from(">II", page)
            leaves = min(length, self._usable // 4 - 2)
            unused.update(struct.unpack_from(f">{leaves}I", page, 8))
        return unused

    def rows(self, number: int, overflow: set[int] | None = None) -> list[Row]:
        """Return the rows with records of a page; none if it is not a table leaf.

        Args:
            number: the number of the page.
            overflow: a set to which the overflow pages of long rows are added.

        Raises:
            BadPage: the page is damaged or does not exist.
        """
        page = self.read(number)
        at = _HEADER if number == 1 else 0
        if page[at] != _LEAF_TABLE:
            return []
        try:
            (count,) = struct.unpack_from(">H", page, at + 3)
            pointers = struct.unpack_from(f">{count}H", page, at + 8)
            cells = [self._cell(page, pointer, overflow) for pointer in pointers]
        except (IndexError, struct.error) as error:
            raise BadPage(f"page {number} is damaged: {error}") from None
        return [(number, text) for number, text in cells if text is not None]

    def is_of_a_tree(self, number: int) -> bool:
        """Return whether a page looks like a page of a table or an index."""
        return self.read(number)[_HEADER if number == 1 else 0] in _OF_TREES

    def _cell(self, page: bytes, at: int, overflow: set[int] | None) -> tuple[int, bytes | None]:
        length, at = _varint(page, at)
        number, at = _varint(page, at)
        most = self._usable - 35
        if length <= most:
            payload = page[at : at + length]
        else:
            least = (self._usable - 12) * 32 // 255 - 23
            local = least + (length - least) % (self._usable - 4)
            local = local if local <= most else least
            (following,) = struct.unpack_from(">I", page, at + local)
            payload = page[at : at + local] + self._overflow(following, length - local, overflow)
            return number, _record_text(payload)
        if len(payload) != length:
            raise BadPage("a row is cut")
        return number, _record_text(payload)

    def _overflow(self, number: int, length: int, overflow: set[int] | None) -> bytes:
        """Return the readable part of a row's overflow; parsing detects a truncated row."""
        parts = []
        while length > 0:
            try:
                page = self.read(number)
            except BadPage:
                break
            if overflow is not None:
                overflow.add(number)
            (number,) = struct.unpack_from(">I", page)
            parts.append(page[4 : 4 + min(length, self._usable - 4)])
            length -= len(parts[-1])
        return b"".join(parts)


class _Log:
    """The pages in the write-ahead log, as of its last complete transaction."""

    def __init__(self, path: Path, page_size: int) -> None:
        self.frames: dict[int, int] = {}
        self.count = 0
        self._size = page_size
        self._file = path.open("rb") if path.is_file() else None
        if self._file is not None:
            self._find_frames(self._file.read(_LOG_HEADER))

    def _find_frames(self, header: bytes) -> None:
        assert self._file is not None  # noqa: S101 - for the type checker
        waiting: dict[int, int] = {}
        at = _LOG_HEADER
        while len(frame := self._file.read(_FRAME_HEADER)) == _FRAME_HEADER:
            number, pages = struct.unpack_from(">II", frame)
            if frame[8:16] != header[16:24]:  # left from an earlier use of the log
                break
            waiting[number] = at + _FRAME_HEADER
            if pages:  # a transaction ends
                self.frames.update(waiting)
                self.count = pages
            at = self._file.seek(at + _FRAME_HEADER + self._size)

    def read(self, number: int) -> bytes | None:
        if self._file is None or number not in self.frames:
            return None
        self._file.seek(self.frames[number])
        return self._file.read(self._size)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class Survey(NamedTuple):
    """An overview of the pages of a database.

    Attributes:
        leaves: the first and last record number and the page number of each page with records, in
            order.
        faults: the damaged ranges.
    """

    leaves: list[tuple[int, int, int]]
    faults: list[Fault]


def survey(pages: Pages) -> Survey:
    """Examine every page and return the overview."""
    free, overflow = pages.free(), set[int]()
    leaves, unknown, faults = [], [], []
    for number in range(1, pages.count + 1):
        start, stop = pages.range_of(number)
        if number in free or start == _LOCKS:
            continue
        try:
            rows = pages.rows(number, overflow)
            if rows:
                leaves.append((rows[0][0], rows[-1][0], number))
            elif not pages.is_of_a_tree(number):
                unknown.append(number)
        except BadPage as error:
            is_missing = stop > pages.length
            problem = "the file ends too soon" if is_missing else str(error)
            faults.append(Fault(start, stop, problem))
    if not pages.has_header:
        faults.append(Fault(0, len(_MAGIC), "the header of a SQLite database is damaged"))
    faults += [
        Fault(*pages.range_of(number), f"page {number} is damaged: it holds nothing known")
        for number in unknown
        if number not in overflow
    ]
    return Survey(sorted(leaves), _merged(sorted(faults)))


def rows(pages: Pages, overview: Survey) -> Iterator[Row]:
    """Yield the rows in the order of their numbers, without duplicates."""
    last = 0
    for _, _, number in overview.leaves:
        for row in pages.rows(number):
            if row[0] > last:
                last = row[0]
                yield row


def _merged(faults: list[Fault]) -> list[Fault]:
    """Merge adjacent faults with the same problem."""
    merged: list[Fault] = []
    for fault in faults:
        before = merged[-1] if merged else None
        if before and before.stop == fault.start and before.problem == fault.problem:
            merged[-1] = before._replace(stop=fault.stop)
        else:
            merged.append(fault)
    return merged


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(8):
        byte = data[at + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    return value << 8 | data[at + 8], at + 9


def _record_text(payload: bytes) -> bytes | None:
    """Return the last column of a row of casket's table, or None for any other table."""
    header, at = _varint(payload, 0)
    start, types = header, []
    while at < header:
        kind, at = _varint(payload, at)
        types.append(kind)
    if len(types) != _RECORD_COLUMN + 1 or types[-1] < 13 or types[-1] % 2 == 0:
        return None
    start += sum(map(_length, types[:-1]))
    text = payload[start : start + _length(types[-1])]
    return text if text.startswith(b"{") else None


def _length(kind: int) -> int:
    """Return the size in bytes of a value with the given serial type."""
    return (kind - 12) // 2 if kind >= 12 else (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)[kind]
