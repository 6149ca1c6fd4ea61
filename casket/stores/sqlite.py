"""SQLite: one row a record, in write-ahead logging mode."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from casket import forks
from casket.errors import CasketError, CasketWarning, NotACasketFile, NotFound
from casket.records import FORMAT_VERSION, Record, covering, names_nothing
from casket.stores import base

APPLICATION_ID = 0x63736B74
"""`cskt`: what a casket database carries in its header."""

WAIT_FOR_LOCK = 120.0
"""Seconds a writer waits for the others: each holds the lock for microseconds."""

_SCHEMA = f"""
CREATE TABLE records (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    session TEXT,
    claim TEXT,
    record TEXT NOT NULL
);
CREATE INDEX heads ON records (kind, session) WHERE kind NOT IN ('epoch', 'batch', 'result');
CREATE INDEX claims ON records (claim) WHERE claim IS NOT NULL;
PRAGMA user_version = {FORMAT_VERSION};
"""
_IDENTITY = "SELECT application_id, (SELECT count(*) FROM sqlite_master) FROM pragma_application_id"

# The tombstone of a deletion always has the largest number, so a rowid is never used again.
_INSERT_NUMBERED = (
    "INSERT INTO records (number, kind, session, claim, record) VALUES (?, ?, ?, ?, ?)"
)
_INSERT = "INSERT INTO records (kind, session, claim, record) VALUES (?, ?, ?, ?)"

ONE_PAGE = 4096
"""Bytes of a database without tables."""

ROWS = 5000
"""Rows read at a time."""

# Held by a thread that is inside SQLite, through a whole transaction.
_inside = forks.RestingLock()

# The databases this process writes, by device and inode.
_open: Counter[tuple[int, int]] = Counter()


def is_open_here(path: Path) -> bool:
    """Tell whether this process has a database open to write.

    Opening and closing such a file by other means would drop the locks SQLite holds on it (so
    POSIX says), and another process could then remove the log this one goes on writing.
    """
    try:
        return _open[_inode(path)] > 0
    except OSError:
        return False


class SqliteStore:
    """A SQLite database on this machine.

    Args:
        path: the file.
        writing: whether appending may create and change it.
        sync: when to sync against power loss.
        create: whether appending may create it.
    """

    def __init__(
        self,
        path: Path,
        *,
        writing: bool = True,
        sync: base.Sync = "session",
        create: bool = True,
    ) -> None:
        self._path = path
        self._writing = writing
        self._mode = "rwc" if create else "rw"
        self._always_sync = sync == "always"
        self._synced = 0.0
        self._warned: set[int] = set()
        self._connection: sqlite3.Connection | None = None
        self._opened = (0, 0)
        self._is_full_sync = True
        # A child in which SQLite believes to hold the parent's locks would take none of its own.
        forks.close_before_forks(self)

    def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
        try:
            with _inside.lock:
                connection = self._connection or self._connect()
                self._sync_if_due(connection, records)
                if len(records) == 1 and claim is None:
                    return connection.execute(_INSERT, _row(records[0])).lastrowid or 0
                return self._append_all(connection, records, claim)
        except (sqlite3.Error, PermissionError) as error:
            raise self._failure(error) from error

    def records(
        self,
        *,
        experiment: str | None = None,
        session: str | None = None,
        claim: str | None = None,
        kinds: Collection[str] | None = None,
        after: int = 0,
    ) -> Iterator[base.Numbered]:
        for number, text in self._texts(_Filters(session, claim, kinds), after):
            record = self._parsed(number, text)
            if record is not None and experiment in {None, record.get("experiment")}:
                yield number, record

    def texts(self) -> Iterator[tuple[int, bytes]]:
        """Yield the numbers and the texts of all records, whole or damaged."""
        return self._texts(_Filters(None, None, None), 0)

    def problems(self) -> list[str]:
        """Return what SQLite finds wrong with its pages."""
        try:
            found = self._undisturbed(("PRAGMA integrity_check(20)", []))
        except sqlite3.Error as error:
            return [str(error)]
        return [text.decode(errors="replace") for (text,) in found if text != b"ok"]

    def write(self, rows: Iterable[tuple[int, Record]]) -> None:
        """Write records with their numbers into a database that is empty."""
        with _inside.lock:
            connection = self._connection or self._connect()
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                connection.executemany(
                    _INSERT_NUMBERED, ((number, *_row(record)) for number, record in rows)
                )

    def prune(self, tombstone: Record, /) -> None:
        try:
            with _inside.lock:
                connection = self._connection or self._connect()
                if not names_nothing(tombstone):
                    _delete(connection, tombstone)
                _shrink(connection)
        except (sqlite3.Error, PermissionError) as error:
            raise self._failure(error) from error

    def close(self) -> None:
        with _inside.lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
                _open[self._opened] -= 1

    def __del__(self) -> None:
        self.close()

    def _connect(self) -> sqlite3.Connection:
        self._refuse_foreign()
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode={self._mode}",
            uri=True,
            timeout=WAIT_FOR_LOCK,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._synced = 0.0
        self._is_full_sync = True  # the default of a connection
        self._connection = connection
        self._opened = _inode(self._path)
        _open[self._opened] += 1
        return connection

    def _refuse_foreign(self) -> None:
        """Raise `NotACasketFile` if the path holds something else, which is not touched."""
        if self._path.is_file():
            next(self._rows(_Filters(None, None, None), after=2**62), None)

    def _append_all(
        self, connection: sqlite3.Connection, records: Sequence[Record], claim: str | None
    ) -> int:
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            if claim is not None:
                base.refuse_held(claim, self.records, records)
            for record in records:
                last = connection.execute(_INSERT, _row(record)).lastrowid
        return last or 0

    def _sync_if_due(self, connection: sqlite3.Connection, records: Sequence[Record]) -> None:
        """Let the commit that follows sync the log, if the last one that did is too old."""
        now = time.monotonic()
        is_due = (
            now - self._synced >= base.SYNC_INTERVAL
            or self._always_sync
            or records[-1]["kind"] == "end"
        )
        if is_due:
            self._synced = now
        if is_due != self._is_full_sync:
            connection.execute(f"PRAGMA synchronous = {'FULL' if is_due else 'NORMAL'}")
            self._is_full_sync = is_due

    def _texts(self, filters: _Filters, after: int) -> Iterator[tuple[int, bytes]]:
        try:
            yield from self._rows(filters, after)
        except sqlite3.Error as error:
            raise self._failure(error) from error
        except PermissionError as error:
            raise base.unreadable(self._path, error.errno) from error

    def _parsed(self, number: int, text: bytes) -> Record | None:
        """Return a record; None, with a warning, if its text is damaged."""
        try:
            record: Record = orjson.loads(text)
        except orjson.JSONDecodeError:
            if number not in self._warned:
                self._warned.add(number)
                warnings.warn(
                    f"{self._path}: record {number} is damaged and was skipped "
                    "(`casket doctor` tells more)",
                    CasketWarning,
                    stacklevel=2,
                )
            return None
        return record

    def _rows(self, filters: _Filters, after: int) -> Iterator[tuple[int, bytes]]:
        if not self._path.exists():
            if self._writing:
                return
            raise NotFound(str(self._path))
        while rows := self._some_rows(filters, after):
            yield from rows
            after = rows[-1][0]

    def _some_rows(self, filters: _Filters, after: int) -> list[tuple[int, bytes]]:
        """Return the first rows that fit and come after a number."""
        return self._undisturbed(filters.query(after))

    def _undisturbed(self, query: tuple[str, list[object]]) -> list[Any]:
        while True:
            with contextlib.suppress(_Disturbed), _inside.lock:
                return self._select(query)

    def _select(self, query: tuple[str, list[object]]) -> list[Any]:
        """Run a query on a connection of its own, which changes nothing and is not kept.

        A database that nobody has open is read without SQLite's locks: for those, SQLite would
        create files beside it.

        Raises:
            _Disturbed: it was so read, and has changed meanwhile.
        """
        state = _State.of(self._path)
        if not state.size or state.is_being_created:
            return []
        with _reading(self._path, state) as connection:
            connection.text_factory = bytes  # one that is damaged may be no Unicode
            try:
                rows = connection.execute(*query).fetchall() if self._is_ready(connection) else []
            except sqlite3.Error:
                state.check(self._path)
                raise
        state.check(self._path)
        return rows

    def _is_ready(self, connection: sqlite3.Connection) -> bool:
        """Tell whether the database has casket's tables; an empty one may be taken over."""
        application, tables = connection.execute(_IDENTITY).fetchone()
        if application != APPLICATION_ID and (tables or application):
            raise NotACasketFile(str(self._path), "it is another program's SQLite database")
        return bool(tables)

    def _failure(self, error: sqlite3.Error | PermissionError) -> CasketError:
        """Return the error that names the file and what to do."""
        if isinstance(error, PermissionError):
            return base.unavailable(self._path, error.errno, "nothing was written")
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code == sqlite3.SQLITE_CANTOPEN and self._mode == "rw" and not self._path.exists():
            return NotFound(str(self._path), base.GONE)
        if code == sqlite3.SQLITE_NOTADB:
            return NotACasketFile(str(self._path), "it is no SQLite database")
        return base.unavailable(self._path, self._errno(code), f"SQLite says: {error}")

    def _errno(self, code: int) -> int:
        if code == sqlite3.SQLITE_FULL:
            return errno.ENOSPC
        if code == sqlite3.SQLITE_BUSY:
            return errno.EBUSY
        if not self._path.parent.is_dir():
            return errno.ENOENT
        if self._path.is_dir():
            return errno.EISDIR
        if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
            is_read_only = os.statvfs(self._path.parent).f_flag & os.ST_RDONLY
            return errno.EROFS if is_read_only else errno.EACCES
        return errno.EIO


class _Disturbed(Exception):
    """A database that was at rest is in use now."""


class _State(NamedTuple):
    """What there is of a database's files: inode, size and time of change of each."""

    database: tuple[int, ...]
    log: tuple[int, ...]
    shared: tuple[int, ...]
    journal: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> _State:
        name = os.path.realpath(path)  # as SQLite does
        return cls(*(_look_at(name + suffix) for suffix in ("", "-wal", "-shm", "-journal")))

    @property
    def size(self) -> int:
        return self.database[1] if self.database else 0

    @property
    def is_being_created(self) -> bool:
        """Whether there are no tables yet, or their creator was killed; a writer clears up."""
        return bool(self.journal) and self.size <= ONE_PAGE

    @property
    def is_in_use(self) -> bool:
        """Whether somebody has the database open, or was killed while having it open."""
        return bool(self.shared or self.journal)

    @property
    def has_log(self) -> bool:
        """Whether there is a log with something in it."""
        return bool(self.log and self.log[1])

    def check(self, path: Path) -> None:
        """Raise `_Disturbed` if a database that was at rest has been changed since."""
        if not self.is_in_use and _State.of(path) != self:
            raise _Disturbed


def _look_at(name: str) -> tuple[int, ...]:
    try:
        status = os.stat(name)
    except FileNotFoundError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _prepare(connection: sqlite3.Connection) -> None:
    """Bring a connection's database into write-ahead mode, with its tables."""
    if _is_empty(connection):
        # Before the log is used: so it is in the file's own header, whatever becomes of the log.
        _when_free(connection, f"PRAGMA application_id = {APPLICATION_ID}")
    _when_free(connection, "PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        if _is_empty(connection):
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)


def _is_empty(connection: sqlite3.Connection) -> bool:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return not tables


def _when_free(connection: sqlite3.Connection, statement: str) -> None:
    """Execute a statement for which SQLite does not wait by itself.

    It does not where many processes open a new file at once.
    """
    deadline = time.monotonic() + WAIT_FOR_LOCK
    while True:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _delete(connection: sqlite3.Connection, tombstone: Record) -> None:
    is_covered = covering(tombstone)
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        rows = connection.execute("SELECT number, CAST(record AS BLOB) FROM records")
        covered = [(number,) for number, text in rows if _is_deleted(text, is_covered)]
        # First, so that its number is larger than those that go.
        connection.execute(_INSERT, _row(tombstone))
        connection.executemany("DELETE FROM records WHERE number = ?", covered)


def _is_deleted(text: bytes, is_covered: Callable[[Record], bool]) -> bool:
    """Tell whether a stored record is covered; one that is damaged is kept for who mends it."""
    try:
        return is_covered(orjson.loads(text))
    except orjson.JSONDecodeError:
        return False


def _shrink(connection: sqlite3.Connection) -> None:
    """Give back the room of deleted rows, as far as readers and a full disk let it."""
    with contextlib.suppress(sqlite3.OperationalError):
        connection.execute("VACUUM")
    connection.execute("PRAGMA busy_timeout = 0")
    with contextlib.suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute(f"PRAGMA busy_timeout = {WAIT_FOR_LOCK * 1000:.0f}")


_UNLOCKED = "&vfs=unix-none"


def _options(path: Path, state: _State) -> str:
    """Return SQLite's options to read in a way that creates nothing, if there is one."""
    if state.is_in_use:
        return ""
    if not state.has_log:
        return "&immutable=1"
    # The log was copied without its index, which SQLite keeps in memory if it need not lock. Where
    # it might write it must lock, and makes an index: it would remove a log it cannot see in use.
    return "" if os.access(f"{os.path.realpath(path)}-wal", os.W_OK) else _UNLOCKED


@contextlib.contextmanager
def _reading(path: Path, state: _State) -> Iterator[sqlite3.Connection]:
    options = _options(path, state)
    uri = f"{path.absolute().as_uri()}?mode=ro{options}"
    connection = sqlite3.connect(uri, uri=True, timeout=WAIT_FOR_LOCK)
    try:
        if options == _UNLOCKED:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        yield connection
    finally:
        connection.close()


def _row(record: Record) -> tuple[str, str | None, str | None, str]:
    text = orjson.dumps(record).decode()
    return record["kind"], record.get("session"), record.get("claim"), text


class _Filters(NamedTuple):
    session: str | None
    claim: str | None
    kinds: Collection[str] | None

    def query(self, after: int) -> tuple[str, list[object]]:
        """Return the query for the records that fit and come after a number, and its values."""
        conditions = ["number > ?"]
        values: list[object] = [after]
        if self.claim is not None:
            conditions.append("claim = ?")
            values.append(self.claim)
        if self.session is not None:
            conditions.append("session = ?")
            values.append(self.session)
        if self.kinds is not None:
            conditions.append(f"kind IN ({', '.join('?' * len(self.kinds))})")
            values += self.kinds
            if base.HEADS.issuperset(self.kinds):
                # Says what the partial index says, so that SQLite may use it.
                conditions.append("kind NOT IN ('epoch', 'batch', 'result')")
        query = f"SELECT number, record FROM records WHERE {' AND '.join(conditions)}"  # noqa: S608 - only our own words
        return f"{query} ORDER BY number LIMIT {ROWS}", values
