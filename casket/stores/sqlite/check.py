"""Inspection and repair of SQLite databases."""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import mmap
import os
import shutil
import sqlite3
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from casket.errors import NotACasketFile, NotFound, StoreUnavailable
from casket.format.records import Record, Seen, covering
from casket.stores.base import StoreOptions
from casket.stores.inspection import Damage, Part, copied, problem_of
from casket.stores.sqlite.salvage import Row, Salvage, header_of, page_size_of
from casket.stores.sqlite.store import SqliteStore, is_open_here
from casket.system import access, failures

TOGETHER = 1000
"""Rows inspected between two progress reports."""

_LOCKS_AT, _LOCKS = 2**30, 512
"""The byte range of SQLite's locks: every process with the database open holds a lock in it."""

_ENOUGH = 400
"""Bytes of a row used to find it in the file."""

_BESIDE = ("-wal", "-shm", "-journal")
_OPEN = "others have it open: end them, then repair it; nothing was changed"


class SqliteInspection:
    """Inspection of a SQLite database.

    SQLite reads a database that it considers sound; any other is salvaged page by page.

    Args:
        path: the database file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def parts(self) -> Iterator[Part]:
        """Yield the content of the database; see `Inspection`."""
        if not self._path.exists():
            raise NotFound(str(self._path))
        store = SqliteStore(self._path, StoreOptions(writing=False))
        problems = store.problems() or _problem_of_reading(store)
        items = self._salvaged(problems) if problems else _items(store.texts())
        for part in _parts(items):
            yield part._replace(damages=[self._located(damage) for damage in part.damages])

    def repair(self, kept: Path) -> None:
        """Write every intact record to a new database; see `Inspection`.

        No other process may have the database open, because SQLite would continue to write to the
        old file.
        """
        if is_open_here(self._path) or _is_locked(self._path):
            raise StoreUnavailable(str(self._path), _OPEN, errno.EBUSY)
        old = Path(os.path.realpath(self._path))  # as SQLite does
        new = old.with_name(f"{old.name}.{os.getpid()}.tmp")
        try:
            with copied(old, kept):
                self._write(new)
                shutil.copymode(old, new)
                for suffix in _BESIDE:  # else SQLite would use them with the new database
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(f"{old}{suffix}", f"{kept}{suffix}")
                os.replace(new, old)
        except OSError as error:
            if isinstance(error, StoreUnavailable):
                raise
            raise failures.unavailable(self._path, error.errno, "nothing was changed") from error
        finally:
            new.unlink(missing_ok=True)

    def copy(self, target: Path) -> None:
        """Copy the database with SQLite's backup function; see `Inspection`."""
        _create_private(target)
        with contextlib.closing(SqliteStore(self._path, StoreOptions(writing=False))) as store:
            store.copy_to(target)
        shutil.copymode(self._path, target)

    def _write(self, new: Path) -> None:
        _create_private(new)
        store = SqliteStore(new, StoreOptions(sync="always"))
        try:
            store.write(one for part in self.parts() for one in part.records)
        finally:
            store.close()

    def _salvaged(self, problems: list[str]) -> Iterator[_Item]:
        """Yield the readable content of a damaged database."""
        if is_open_here(self._path):  # to read the file would release the locks on it
            raise StoreUnavailable(str(self._path), _OPEN, errno.EBUSY)
        count = 0
        try:
            with Salvage(self._path) as salvage:
                for item in _salvaged(salvage, problems):
                    count += item.record is not None
                    yield item
        except sqlite3.Error as error:
            raise failures.unreadable(self._path, errno.EIO) from error
        except OSError as error:
            raise failures.unreadable(self._path, error.errno) from error
        if not count and not salvage.are_caskets:
            raise NotACasketFile(str(self._path), f"no record can be read ({problems[0]})")

    def _located(self, damage: Damage) -> Damage:
        """Return a damage with the bytes of its row in the file, if they can be found."""
        needle = damage.text[:_ENOUGH]
        if damage.stop or not needle or is_open_here(self._path):
            return damage
        with (
            self._path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            start = content.find(needle)
        if start < 0:
            return damage
        size = page_size_of(header_of(self._path))
        end_of_page = start - start % size + size
        return damage._replace(start=start, stop=min(start + len(damage.text), end_of_page))


class _Item(NamedTuple):
    """A record or a damage."""

    number: int
    size: int
    record: Record | None = None
    damage: Damage | None = None


def _create_private(path: Path) -> None:
    """Create an empty file that nobody else can read until it gets the mode of another."""
    path.unlink(missing_ok=True)
    access.open_private(path, "xb").close()


def _problem_of_reading(store: SqliteStore) -> list[str]:
    """Return the error, if any, from reading a database whose pages are sound."""
    try:
        next(store.texts(), None)
    except StoreUnavailable as error:
        return [str(error)]
    return []


def _is_locked(path: Path) -> bool:
    """Return whether a process holds a lock that implies that it has the database open."""
    if sys.platform == "win32":  # Windows refuses to replace a file that others have open
        return False
    import fcntl

    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCKS, _LOCKS_AT)
        except OSError:
            return True
    return False


def _salvaged(salvage: Salvage, problems: list[str]) -> Iterator[_Item]:
    """Yield the records of a damaged database that were not deleted, and its damages."""
    # Pages that are no longer in use may still contain deleted records.
    deleted = []
    seen: dict[str, Seen] = defaultdict(Seen)
    last = 0
    for item in _walk(salvage):
        last = max(last, item.number)
        if item.record is not None:
            seen[item.record["writer"]].add(item.record["n"])
            if item.record["kind"] == "deleted":
                deleted.append((item.number, covering(item.record)))
    is_described = False
    for damage in _damages_of_file(salvage):
        is_described = True
        yield _Item(0, 0, damage=damage)
    for item in _walk(salvage):
        is_described = is_described or item.damage is not None
        if not _is_covered(item, deleted):
            yield item
    for number, item in enumerate(_outside_of_pages(salvage, seen), last + 1):
        if not _is_covered(item, deleted):
            yield item._replace(number=number)
    if not is_described:  # for instance only an index is damaged, so that no row is lost
        yield from (_Item(0, 0, damage=Damage(0, salvage.length, each)) for each in problems)


def _is_covered(item: _Item, deleted: list[tuple[int, Callable[[Record], bool]]]) -> bool:
    number, record = item.number, item.record
    return record is not None and any(number < at and covers(record) for at, covers in deleted)


def _outside_of_pages(salvage: Salvage, seen: dict[str, Seen]) -> Iterator[_Item]:
    """Yield the records whose checksum is valid and that no page has, without their numbers."""
    for text in salvage.whole_texts():
        record = _item(0, text, 0).record
        if record is not None and "crc" in record and seen[record["writer"]].add(record["n"]):
            yield _Item(0, len(text), record)


def _damages_of_file(salvage: Salvage) -> Iterator[Damage]:
    """Yield the damages that belong to no page."""
    if not salvage.has_header:
        yield Damage(0, 16, "the header of a SQLite database is damaged")
    if salvage.size < salvage.length:
        yield Damage(salvage.size, salvage.length, "the file ends too soon", after=sys.maxsize)


def _walk(salvage: Salvage) -> Iterator[_Item]:
    """Yield every record once under a number that grows, and the damages of pages and rows."""
    seen: dict[str, Seen] = defaultdict(Seen)
    last = 0
    limits = [*(median for median, _ in salvage.pages), math.inf][1:]
    for (_, page), limit in zip(salvage.pages, limits, strict=True):
        rows, problem = salvage.page(page)
        following = [*(number for number, _ in rows[1:]), limit]
        damage: Damage | None = None
        if problem:
            damage = _damage_of_page(salvage, page, rows, problem)
        for (number, text), most in zip(rows, following, strict=False):
            item = _item(number if last < number <= most else last + 1, text, last)
            record = item.record
            if record is not None and not seen[record["writer"]].add(record["n"]):
                continue  # from a page that is no longer in use
            if damage is not None and item.number > last + 1:
                yield _Item(last, 0, damage=damage._replace(after=last))
                damage = None
            yield item
            last = item.number
        if damage is not None:
            yield _Item(last, 0, damage=damage._replace(after=last))


def _damage_of_page(salvage: Salvage, page: int, rows: Sequence[Row], problem: str) -> Damage:
    remaining = salvage.text(page)
    for _, text in rows:
        remaining = remaining.replace(text, b"")
    start = (page - 1) * salvage.page_size
    return Damage(start, start + salvage.page_size, problem, text=remaining or b"\0")


def _items(rows: Iterable[Row]) -> Iterator[_Item]:
    last = 0
    for number, text in rows:
        yield _item(number, text, last)
        last = number


def _item(number: int, text: bytes, last: int) -> _Item:
    try:
        record: Any = orjson.loads(text)
        problem = problem_of(record) if isinstance(record, dict) else "it is no object"
        problem = problem and f"it is no record: {problem}"
    except orjson.JSONDecodeError as error:
        problem = f"it holds no whole record ({error})"
    if problem is None:
        return _Item(number, len(text), record)
    damage = Damage(0, 0, f"row {number}: {problem}", last, text, number)
    return _Item(number, len(text), damage=damage)


def _parts(items: Iterable[_Item]) -> Iterator[Part]:
    """Yield the records and damages in batches."""
    items = iter(items)
    while batch := list(itertools.islice(items, TOGETHER)):
        yield Part(
            [(item.number, item.record) for item in batch if item.record is not None],
            [item.damage for item in batch if item.damage is not None],
            sum(item.size for item in batch),
        )
