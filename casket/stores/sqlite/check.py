"""Inspection and repair of SQLite databases."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from casket.errors import NotACasketFile, NotFound, StoreUnavailable
from casket.format.records import Record, covering
from casket.stores.base import StoreOptions
from casket.stores.inspection import Damage, Part, copied, problem_of
from casket.stores.sqlite.pages import Fault, Pages, Row, Survey, rows, survey
from casket.stores.sqlite.store import SqliteStore, is_open_here
from casket.system import failures

TOGETHER = 1000
"""Rows inspected between two progress reports."""

MOST_SHOWN = 1 << 20
"""Maximum number of bytes of a damaged range whose content is examined."""

_LOCKS_AT, _LOCKS = 2**30, 512
"""The byte range of SQLite's locks: every process with the database open holds a lock in it."""

_ENOUGH = 400
"""Bytes of a row used to find it in its page."""

_TOMBSTONE = b'{"kind":"deleted"'
_BESIDE = ("-wal", "-shm", "-journal")


class SqliteInspection:
    """Inspection of a SQLite database.

    SQLite reads a database that it considers sound; any other is read page by page.

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
        if not problems:
            for part in _parts(store.texts()):
                yield part._replace(damages=self._located(part.damages)) if part.damages else part
            return
        try:
            yield from self._damaged(problems)
        except OSError as error:
            raise failures.unreadable(self._path, error.errno) from error

    def repair(self, kept: Path) -> None:
        """Write every intact record to a new database; see `Inspection`.

        No other process may have the database open, because SQLite would continue to write to the
        old file.
        """
        self._refuse_if_open()
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
        with contextlib.closing(SqliteStore(self._path, StoreOptions(writing=False))) as store:
            store.copy_to(target)
        shutil.copymode(self._path, target)

    def _write(self, new: Path) -> None:
        new.unlink(missing_ok=True)
        store = SqliteStore(new, StoreOptions(sync="always"))
        try:
            store.write(one for part in self.parts() for one in part.records)
        finally:
            store.close()

    def _refuse_if_open(self) -> None:
        """Raise `StoreUnavailable` if the database is known to be open."""
        if is_open_here(self._path) or _is_locked(self._path):
            advice = "others have it open: end them, then repair it; nothing was changed"
            raise StoreUnavailable(str(self._path), advice, errno.EBUSY)

    def _located(self, damages: list[Damage]) -> list[Damage]:
        """Return the damages with the byte ranges of rows in sound pages filled in."""
        pages = Pages(self._path)
        try:
            overview = survey(pages)
            return [_where(pages, overview, damage) for damage in damages]
        finally:
            pages.close()

    def _damaged(self, problems: list[str]) -> Iterator[Part]:
        """Yield the readable content of a damaged database, page by page."""
        pages = Pages(self._path)
        count = 0
        try:
            overview = survey(pages)
            damages = [_damage(pages, overview, fault) for fault in overview.faults]
            if not damages:  # perhaps only an index is damaged, so that no row is lost
                damages = [Damage(0, pages.length, problem) for problem in problems]
            deleted = _Tombstones(rows(pages, overview))
            for part in _parts(rows(pages, overview)):
                there = [one for one in part.records if not deleted.cover(*one)]
                count += len(there)
                damages += [_where(pages, overview, damage) for damage in part.damages]
                yield Part(there, damages, part.size)
                damages = []
        finally:
            pages.close()
        if not count and not pages.are_caskets:
            raise NotACasketFile(str(self._path), f"no record can be read ({problems[0]})")


class _Tombstones:
    """The tombstones among rows, needed because unused pages may still hold deleted records."""

    def __init__(self, stored: Iterator[Row]) -> None:
        self._covering = [
            (number, covering(orjson.loads(text)))
            for number, text in stored
            if text.startswith(_TOMBSTONE) and _parsed(text).record is not None
        ]

    def cover(self, number: int, record: Record) -> bool:
        """Return whether a record was deleted."""
        return any(number < after and covers(record) for after, covers in self._covering)


def _problem_of_reading(store: SqliteStore) -> list[str]:
    """Return the error, if any, from reading a database whose pages are sound."""
    try:
        next(store.texts(), None)
    except StoreUnavailable as error:
        return [str(error)]
    return []


def _damage(pages: Pages, overview: Survey, fault: Fault) -> Damage:
    before = [last for _, last, page in overview.leaves if pages.range_of(page)[0] < fault.start]
    stop = min(fault.stop, fault.start + MOST_SHOWN)
    text = pages.text(fault.start, stop) or b"\0"
    return Damage(*fault, after=max(before, default=0), text=text)


def _where(pages: Pages, overview: Survey, damage: Damage) -> Damage:
    for first, last, page in overview.leaves:
        start, stop = pages.range_of(page)
        at = pages.text(start, stop).find(damage.text[:_ENOUGH])
        if first <= damage.number <= last and at >= 0:
            return damage._replace(start=start + at, stop=min(start + at + len(damage.text), stop))
    return damage


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


def _parts(stored: Iterator[Row]) -> Iterator[Part]:
    """Yield the records of rows in batches."""
    records: list[tuple[int, Record]] = []
    damages: list[Damage] = []
    last = size = 0
    for number, text in stored:
        parsed = _parsed(text)
        if parsed.record is None:
            problem = f"row {number}: {parsed.problem}"
            damages.append(Damage(0, 0, problem, last, text, number))
        else:
            records.append((number, parsed.record))
        last, size = number, size + len(text)
        if len(records) >= TOGETHER:
            yield Part(records, damages, size)
            records, damages, size = [], [], 0
    yield Part(records, damages, size)


class _Parsed(NamedTuple):
    record: Record | None
    problem: str = ""


def _parsed(text: bytes) -> _Parsed:
    try:
        record: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return _Parsed(None, f"it holds no whole record ({error})")
    fault = problem_of(record) if isinstance(record, dict) else "it is no object"
    return _Parsed(None, f"it is no record: {fault}") if fault else _Parsed(record)
