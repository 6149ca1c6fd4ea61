"""Recovery of the rows of a damaged SQLite database.

SQLite stops at a damaged page of a tree and loses all pages below it. Therefore it gets a copy of
the database with a new first page, whose only table has each page in turn as its root: SQLite then
reads every page without the pages above it. Only rows that it still refuses are recovered from the
text of their records.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import orjson

from casket.stores.sqlite.statements import APPLICATION_ID

Row = tuple[int, bytes]
"""The number and text of a record; the number is 0 if it is unknown."""

_MAGIC = b"SQLite format 3\0"
_HEADER = 100
_PAGE_SIZE = 4096
_TABLE = "CREATE TABLE records (number INTEGER PRIMARY KEY, kind, session, claim, record)"
_ROWS = "SELECT number, ifnull(CAST(record AS BLOB), '') FROM records"
_LEAF = 13
# First bytes of other sound pages: overflow pages (of files below 64 GB) and trees.
_OTHERS = frozenset({0, 2, 5, 10})
_SEARCHED = 16 << 20
_LONGEST = 1 << 20
"""Bytes of the largest record that is found outside of pages."""

_START = re.compile(rb'\{"kind":"')
_decoder = json.JSONDecoder()


class Page(NamedTuple):
    """The content of a page: its rows in order, and a description of its damage, if any."""

    rows: Sequence[Row] = ()
    problem: str = ""


class Salvage:
    """The pages of a damaged database, including those in the log beside it.

    Args:
        path: the database file; it must not be open in this process.

    Attributes:
        are_caskets: whether the header contains casket's application id.
        has_header: whether the file begins with the header of a SQLite database.
        page_size: the page size in bytes.
        size: the size of the file in bytes.
        length: the size that the file should have according to its header, or has if larger.
        pages: the median row number and the number of each page with rows or damage, in order.
            A page without numbers has the median of the page before it.
    """

    def __init__(self, path: Path) -> None:
        header = header_of(path)
        self.has_header = header.startswith(_MAGIC)
        self.are_caskets = int.from_bytes(header[68:72], "big") == APPLICATION_ID
        self.page_size = page_size_of(header)
        log = path.with_name(f"{path.name}-wal")
        pages = 0 if log.is_file() else int.from_bytes(header[28:32], "big")
        self.size = path.stat().st_size
        self.length = max(self.size, pages * self.page_size)
        self._folder = tempfile.TemporaryDirectory(prefix="casket-")
        copy = Path(self._folder.name, "copy")
        shutil.copyfile(path, copy)
        if log.is_file():
            shutil.copyfile(log, f"{copy}-wal")
        os.truncate(copy, _whole_pages(self.size, self.page_size))
        self._connection = _connect(copy, self.page_size)
        self._file = copy.open("rb")
        self.pages = self._survey()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._connection.close()
        self._folder.cleanup()

    def page(self, number: int) -> Page:
        """Return the content of a page."""
        text = self.text(number)
        if text[0] == _LEAF:
            return self._leaf(number, text)
        if not text.strip(b"\0"):
            return Page(problem=f"page {number} is empty")
        if text[0] in _OTHERS and not _START.search(text):
            return Page()
        return Page([(0, each) for each in _texts(text)], f"page {number} is damaged")

    def text(self, number: int) -> bytes:
        """Return the bytes of a page."""
        self._file.seek((number - 1) * self.page_size)
        return self._file.read(self.page_size)

    def whole_texts(self) -> Iterator[bytes]:
        """Yield the texts that look like records, wherever they lie.

        Bytes that are missing or were added in the middle of a file move all later pages.
        """
        at, size = 0, self._file.seek(0, 2)
        while at < size:
            self._file.seek(at)
            yield from _texts(self._file.read(_SEARCHED + _LONGEST))
            at += _SEARCHED

    def _survey(self) -> list[tuple[float, int]]:
        pages: list[tuple[float, int]] = []
        middle = 0.0
        for number in range(2, self._file.seek(0, 2) // self.page_size + 1):
            page = self.page(number)
            numbers = [row[0] for row in page.rows if row[0]]
            # A single damaged number changes the median little.
            middle = statistics.median(numbers) if numbers else middle
            if page.rows or page.problem:
                pages.append((middle, number))
        return sorted(pages)

    def _leaf(self, number: int, page: bytes) -> Page:
        self._connection.execute("PRAGMA writable_schema = ON")
        self._connection.execute("UPDATE sqlite_schema SET rootpage = ?", (number,))
        self._connection.execute("PRAGMA writable_schema = RESET")
        try:
            rows = self._connection.execute(_ROWS).fetchall()
        except sqlite3.DatabaseError as error:
            return Page(_completed(self._single_rows(), page), f"page {number} is damaged: {error}")
        return Page(rows if all(_is_whole(text) for _, text in rows) else _completed(rows, page))

    def _single_rows(self) -> list[Row]:
        """Return the rows of a leaf, read separately; (0, b"") for unreadable rows."""
        try:
            [(count,)] = self._connection.execute("SELECT count(*) FROM records")
        except sqlite3.DatabaseError:
            return []
        return [self._row(place) for place in range(count)]

    def _row(self, place: int) -> Row:
        with contextlib.suppress(sqlite3.DatabaseError):
            for number, text in self._connection.execute(f"{_ROWS} LIMIT 1 OFFSET {place}"):
                return number, text
        return 0, b""


def header_of(path: Path) -> bytes:
    """Return the header of a database file, padded if the file is too short."""
    with path.open("rb") as file:
        return file.read(_HEADER).ljust(_HEADER, b"\0")


def page_size_of(header: bytes) -> int:
    """Return the page size in a header, or the default if it is damaged."""
    size = int.from_bytes(header[16:18], "big")
    size = 65536 if size == 1 else size
    return size if size >= 512 and size & (size - 1) == 0 else _PAGE_SIZE


def _whole_pages(size: int, page_size: int) -> int:
    """Return a size rounded up to whole pages, with room for the page of a table at least."""
    return max(-(-size // page_size), 2) * page_size


def _connect(path: Path, page_size: int) -> sqlite3.Connection:
    """Open a copy of a database that gets a new first page, after its log was applied."""
    first = _first_page(path.with_name("first"), page_size)
    for versions in (b"\2\2", b"\1\1"):  # of a database with a log, and without
        with path.open("r+b") as file:
            file.write(first[:18] + versions + first[20:])
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = DELETE")
        if versions == b"\2\2":
            connection.close()
    connection.execute("PRAGMA journal_mode = OFF")
    return connection


def _first_page(path: Path, page_size: int) -> bytes:
    """Return the first page of a database with a single table."""
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA page_size = {page_size}")
    connection.execute(_TABLE)
    connection.close()
    page = path.read_bytes()[:page_size]
    # Without a valid version number, SQLite takes the number of pages from the size of the file.
    return page[:92] + bytes(4) + page[96:]


def _is_whole(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _completed(rows: Sequence[Row], page: bytes) -> list[Row]:
    """Put records that are whole in the text of a page in the place of rows that are not."""
    known = {text for _, text in rows}
    others = iter([text for text in _texts(page) if text not in known])
    completed = [(n, text if _is_whole(text) else next(others, text)) for n, text in rows]
    return [row for row in completed if row[1]] + [(0, text) for text in others]


def _texts(page: bytes) -> list[bytes]:
    """Return the whole JSON objects in a page that look like records, in the order of their rows.

    SQLite fills a page from its end.
    """
    characters = page.decode("latin-1")  # a character per byte
    texts: list[bytes] = []
    stop = 0
    for match in _START.finditer(page):
        if match.start() >= stop:
            with contextlib.suppress(json.JSONDecodeError, RecursionError):
                stop = _decoder.raw_decode(characters, match.start())[1]
                texts.append(page[match.start() : stop])
    return texts[::-1]
