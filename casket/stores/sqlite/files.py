"""The files of a SQLite database: their state, and what SQLite leaves beside it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from casket.stores.sqlite.locking import WAIT_FOR_LOCK

ONE_PAGE = 4096
"""Bytes of a database without tables."""


class Disturbed(Exception):
    """A database that was at rest is in use now."""


class State(NamedTuple):
    """Inode, size and modification time of each file of a database."""

    database: tuple[int, ...]
    log: tuple[int, ...]
    shared: tuple[int, ...]
    journal: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> State:
        name = os.path.realpath(path)  # as SQLite does
        return cls(*(_look_at(name + suffix) for suffix in ("", "-wal", "-shm", "-journal")))

    @property
    def size(self) -> int:
        return self.database[1] if self.database else 0

    @property
    def is_being_created(self) -> bool:
        """Whether the tables are missing, or their creator was killed; a writer cleans up."""
        return bool(self.journal) and self.size <= ONE_PAGE

    @property
    def is_in_use(self) -> bool:
        """Whether a process has the database open, or was killed while it had."""
        return bool(self.shared or self.journal)

    @property
    def has_log(self) -> bool:
        """Whether there is a log that is not empty."""
        return bool(self.log and self.log[1])

    def check(self, path: Path) -> None:
        """Raise `Disturbed` if a database that was at rest has been changed since."""
        if not self.is_in_use and State.of(path) != self:
            raise Disturbed

    def check_failed(self, path: Path) -> None:
        """Raise `Disturbed` if a failure to read may be due to a change meanwhile."""
        self.check(path)
        if self.is_in_use and not State.of(path).is_in_use:
            raise Disturbed


def _look_at(name: str) -> tuple[int, ...]:
    try:
        status = os.stat(name)
    except FileNotFoundError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


def inode_of(path: Path | str) -> tuple[int, int]:
    """Return the device and inode of a file."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


BESIDE = ("-wal", "-shm")


def inodes(names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return the inodes of the files that exist."""
    inodes = {}
    for name in names:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            inodes[name] = inode_of(name)
    return inodes


def remove_if_same(files: dict[str, tuple[int, int]]) -> None:
    """Remove files whose names still refer to the given inodes.

    They belong to a database that is no longer at its path. SQLite would use them for the database
    that takes its place, which destroys both.
    """
    for name, inode in files.items():
        with contextlib.suppress(OSError):  # SQLite refuses files that it cannot use
            if inode_of(name) == inode:
                os.unlink(name)


def remove_orphans(path: Path) -> None:
    """Remove the log of a deleted database before a new database is created at its path."""
    name = os.path.realpath(path)
    beside = inodes(f"{name}{end}" for end in BESIDE)
    # In this order: a database is created before the files beside it.
    if beside and not os.path.exists(name):
        remove_if_same(beside)


def create_file(path: Path) -> None:
    """Create a missing file, with the permissions that the umask allows: SQLite ignores it."""
    with contextlib.suppress(OSError):  # SQLite reports what is wrong
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


_UNLOCKED = "&vfs=unix-none"


def _options(path: Path, state: State) -> str:
    """Return SQLite's options for reading without creating files, if possible."""
    if state.is_in_use:
        return "" if _is_writable(path) else "&readonly_shm=1"
    if not state.has_log:
        return "&immutable=1"
    # The log was copied without its index, which SQLite keeps in memory if it need not lock. If
    # the log is writable it must lock and create an index, as it removes a log that seems unused.
    is_writable = _is_writable(path) and _is_writable(f"{os.path.realpath(path)}-wal")
    return "" if is_writable else _UNLOCKED


def _is_writable(path: Path | str) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


@contextlib.contextmanager
def reading(path: Path, state: State) -> Iterator[sqlite3.Connection]:
    """Open a database that has this state for reading, without creating files if possible."""
    options = _options(path, state)
    uri = f"{path.absolute().as_uri()}?mode=ro{options}"
    name = os.path.realpath(path)
    beside = inodes(f"{name}{end}" for end in BESIDE)
    connection = sqlite3.connect(uri, uri=True, timeout=WAIT_FOR_LOCK)
    try:
        if options == _UNLOCKED:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        yield connection
    finally:
        connection.close()
        if options and not _is_writable(path):
            _remove_created(name, beside)


def _remove_created(name: str, earlier: Mapping[str, tuple[int, int]]) -> None:
    """Remove files that SQLite created beside a database that this user may only read.

    They would lock its owner out. No other user may write to them, so that nothing is lost.
    """
    for path, inode in inodes(f"{name}{end}" for end in BESIDE).items():
        with contextlib.suppress(OSError):
            status = os.stat(path)
            is_own = status.st_uid == os.geteuid() and not status.st_mode & 0o022
            if path not in earlier and is_own:
                remove_if_same({path: inode})
