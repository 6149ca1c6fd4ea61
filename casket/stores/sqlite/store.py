"""SQLite: a row per record, in write-ahead logging mode."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import sqlite3
import time
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, Unpack

import orjson

from casket.errors import (
    CasketError,
    CasketWarning,
    DamagedFile,
    NotACasketFile,
    NotFound,
    StoreUnavailable,
)
from casket.format.records import FORMAT_VERSION, Record, covering, encoded, names_nothing
from casket.stores import base, replaced, waiting
from casket.stores.base import LOOK_INTERVAL
from casket.stores.jsonfile.layout import is_record
from casket.stores.latest import Latest, Starts, Unclear
from casket.system import failures, forks

APPLICATION_ID = 0x63736B74
"""`cskt`, the application id in the header of a casket database."""

WAIT_FOR_LOCK = 120.0
"""Seconds a writer waits for others, each of which holds the lock for microseconds."""

PAUSE = 0.0005
"""Seconds between two attempts of a writer to get the lock."""

TURN = 2
"""Consecutive appends after which a writer pauses if there are other writers."""

CONTESTED = 1.0
"""Seconds for which a writer takes turns after it met another writer."""

LONGEST_EXIT = 1.0
"""Seconds that the exit of the interpreter waits for a thread inside SQLite."""

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
_IDENTITY = """
SELECT application_id, (SELECT count(*) FROM sqlite_master),
    (SELECT count(*) FROM sqlite_master WHERE name IN ('records', 'heads', 'claims'))
FROM pragma_application_id
"""

# The tombstone of a deletion always has the largest number, so a rowid is never used again.
_INSERT_NUMBERED = (
    "INSERT INTO records (number, kind, session, claim, record) VALUES (?, ?, ?, ?, ?)"
)
_INSERT = "INSERT INTO records (kind, session, claim, record) VALUES (?, ?, ?, ?)"

ONE_PAGE = 4096
"""Bytes of a database without tables."""

ROWS = 5000
"""Rows read at a time."""

# With a damaged schema, Python may be unable to decode SQLite's message.
_FAILURES = (sqlite3.Error, PermissionError, UnicodeDecodeError)
_UNSYNCED = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})

_Row = tuple[str, str | None, str | None, str]
T = TypeVar("T")

# Held by a thread that is inside SQLite, through a whole transaction.
_inside = forks.RestingLock()

# The databases this process writes, by device and inode.
_open: Counter[tuple[int, int]] = Counter()


def is_open_here(path: Path) -> bool:
    """Return whether this process has a database open for writing.

    Opening and closing such a file by other means would release SQLite's locks (a rule of POSIX),
    and another process could then remove the log that this process still writes.
    """
    try:
        return _open[_inode(path)] > 0
    except OSError:
        return False


class SqliteStore:
    """A SQLite database on this machine.

    Args:
        path: the file.
        options: how to open it.
    """

    def __init__(self, path: Path, options: base.StoreOptions = base.DEFAULTS) -> None:
        self._path = path
        self._writing = options.writing
        self._create = options.create
        self._mode = "rwc" if options.create else "rw"
        self._heads = options.heads
        self._always_sync = options.sync == "always"
        self._synced = self._looked = 0.0
        # A stored row with its number; the rows appended since the path was last known to name
        # the database; whether the database lacks the stored row.
        self._known: tuple[int, bytes] | None = None
        self._doubtful: list[tuple[int, _Row]] = []
        self._is_other = self._has_appended = self._has_warned_of_sync = False
        self._is_amid_write = False
        # The last number appended here, the count of consecutive appends, and when another handle
        # was last seen to append.
        self._number = self._in_a_row = 0
        self._met = -CONTESTED
        self._warned: set[int] = set()
        self._connection: sqlite3.Connection | None = None
        self._opened = (0, 0)
        self._beside: dict[str, tuple[int, int]] = {}
        self._is_full_sync: bool | None = True
        # In a child, SQLite would assume that it holds the parent's locks, and take none.
        forks.close_before_forks(self)
        forks.renew_in_children(self)
        _stores.add(self)

    def after_fork(self) -> None:
        """Leave the parent's appends to the parent."""
        self._is_amid_write = False
        if self._doubtful:
            self._known = self._last_known()
            self._doubtful = []

    def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
        try:
            with _inside.lock:
                base.refuse_within(self._is_amid_write, self._path)
                try:
                    self._is_amid_write = True
                    return self._append(records, claim)
                finally:
                    self._is_amid_write = False
        except _FAILURES as error:
            raise self._failure(error) from error

    def _append(self, records: Sequence[Record], claim: str | None) -> int:
        now = time.monotonic()
        is_end = records[-1]["kind"] == "end"
        is_due = now - self._looked >= LOOK_INTERVAL or is_end or not self._create
        connection = self._connection
        if is_due or claim is not None or len(records) > 1 or connection is None:
            return self._append_looking(records, claim, now)
        self._sync_if_due(connection, now, is_end)
        row = _row(records[0])
        try:
            number = connection.execute(_INSERT, row).lastrowid or 0
        except sqlite3.OperationalError as error:
            number = self._repeated(connection, error, lambda: _insert(connection, row))
        self._doubtful.append((number, row))
        self._give_way(number, now)
        return number

    def _give_way(self, number: int, now: float) -> None:
        """Pause after some consecutive appends, if other handles have appended recently."""
        if number != self._number + 1:
            self._met, self._in_a_row = now, 0
        self._number = number
        self._in_a_row += 1
        if self._in_a_row >= TURN and now - self._met < CONTESTED:
            self._in_a_row = 0
            time.sleep(PAUSE)

    def records(self, **chosen: Unpack[base.Chosen]) -> Iterator[base.Numbered]:
        filters = base.Filters(**chosen)
        for number, text in self._texts(filters):
            record = self._parsed(number, text)
            if record is not None and filters.experiment in {None, record.get("experiment")}:
                yield number, record

    def latest(self, count: int, offset: int = 0) -> Latest | None:
        """Return the latest sessions; see `HasLatest`."""
        starts = Starts()
        try:
            for _, text in self._texts(base.Filters(kinds={"session", "deleted"})):
                starts.add(text)
            chosen = starts.latest(count, offset)
            rows = self._undisturbed((_SESSIONS, []))
            if not starts.has_all({session for (session,) in rows}):
                return None
            records = [
                (number, orjson.loads(text))
                for number, text in self._undisturbed(_query_latest(chosen))
            ]
        except (CasketError, Unclear, orjson.JSONDecodeError, *_FAILURES):
            return None
        return Latest(records, [session.decode() for session in chosen], len(starts))

    def texts(self) -> Iterator[tuple[int, bytes]]:
        """Yield the numbers and the texts of all records, whole or damaged."""
        return self._texts(base.Filters())

    def problems(self) -> list[str]:
        """Return the problems that SQLite's integrity check reports."""
        try:
            texts = self._undisturbed(("PRAGMA integrity_check(20)", []))
        except (StoreUnavailable, sqlite3.Error, UnicodeDecodeError) as error:
            return [str(error)]
        return [text.decode(errors="replace") for (text,) in texts if text != b"ok"]

    def copy_to(self, target: Path) -> None:
        """Copy a snapshot of the database into a new file, without its log."""
        is_copied = False
        while not is_copied:
            with contextlib.suppress(_Disturbed), _inside.lock:
                state = _State.of(self._path)
                with _reading(self._path, state) as connection:
                    self._is_ready(connection)
                    with contextlib.closing(sqlite3.connect(target)) as copy:
                        connection.backup(copy)
                state.check(self._path)
                is_copied = True

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
                base.refuse_within(self._is_amid_write, self._path)
                try:
                    self._is_amid_write = True
                    self._prune(tombstone)
                finally:
                    self._is_amid_write = False
        except _FAILURES as error:
            raise self._failure(error) from error

    def _prune(self, tombstone: Record) -> None:
        connection = self._connected()
        if self._is_other:
            self._persist(connection, lambda: self._transact(connection, [], None))
        if not names_nothing(tombstone):
            self._persist(connection, lambda: _delete(connection, tombstone))
        _shrink(connection, self._path)

    def close(self) -> None:
        with _inside.lock:
            connection, self._connection = self._connection, None
            if connection is None:
                return
            is_in_place = self._is_in_place()
            if not is_in_place:
                # SQLite would leave records in a log that is never read again.
                _checkpoint_all(connection)
            connection.close()
            _open[self._opened] -= 1
            if not is_in_place:
                _remove_if_same(self._beside)

    def settle(self) -> None:
        """Checkpoint and close the database at the end of this process."""
        if _inside.lock.acquire(timeout=LONGEST_EXIT):
            try:
                if self._connection is not None:
                    _checkpoint(self._connection)
                    self.close()
            finally:
                _inside.lock.release()

    def __del__(self) -> None:
        self.close()

    def _connected(self) -> sqlite3.Connection:
        """Return a connection to the database that the path currently names."""
        if self._connection is not None and not self._is_in_place():
            self.close()
        return self._connection or self._connect()

    def _is_in_place(self) -> bool:
        """Return whether the path names the open database; True if this cannot be determined."""
        try:
            return _inode(self._path) == self._opened
        except OSError as error:
            return error.errno not in {errno.ENOENT, errno.ENOTDIR}

    def _connect(self) -> sqlite3.Connection:
        self._refuse_foreign()
        if self._create:
            _remove_orphans(self._path)
            _create_file(self._path)
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode={self._mode}",
            uri=True,
            timeout=0.0,  # see _when_free
            isolation_level=None,
            check_same_thread=False,
        )
        self._is_full_sync = True  # the default of a connection
        try:
            self._persist(connection, lambda: _prepare(connection))
            # If it has already been removed again, the check after the append notices.
            self._opened = _inodes([str(self._path)]).get(str(self._path), (0, 0))
            self._is_other = self._is_other or not self._has_known(connection)
        except BaseException:
            connection.close()
            raise
        self._synced = self._looked = 0.0
        self._connection = connection
        self._beside = _inodes(f"{os.path.realpath(self._path)}{end}" for end in _BESIDE)
        _open[self._opened] += 1
        return connection

    def _last_known(self) -> tuple[int, bytes] | None:
        """Return the row that this handle has appended last, or has read first."""
        if not self._doubtful:
            return self._known
        number, row = self._doubtful[-1]
        return number, row[-1].encode()

    def _has_known(self, connection: sqlite3.Connection) -> bool:
        """Return whether the last row known to this handle is stored under its number."""
        known = self._last_known()
        if known is None:
            return True
        number, text = known
        query = "SELECT CAST(record AS BLOB) FROM records WHERE number = ?"
        return bool(connection.execute(query, (number,)).fetchone() == (text,))

    def _refuse_foreign(self) -> None:
        """Raise `NotACasketFile` if the path holds another kind of file, which is left alone."""
        if self._path.is_file():
            next(self._rows(base.Filters(after=2**62)), None)

    def _append_looking(self, records: Sequence[Record], claim: str | None, now: float) -> int:
        """Append, and check before and afterwards that the path names the database."""
        is_end = records[-1]["kind"] == "end"
        while True:
            connection = self._connected()
            self._sync_if_due(connection, now, is_end)
            kept = self._doubtful, self._known
            last, refused = self._persist(
                connection,
                lambda connection=connection: self._transact(connection, records, claim),  # type: ignore[misc]
            )
            if not self._create or self._is_in_place():
                break
            # It was replaced during the append.
            self._doubtful, self._known = kept
            self.close()
        self._looked = now
        self._known, self._doubtful = self._last_known(), []
        if refused is not None:
            raise refused
        if is_end:
            _checkpoint(connection)
        self._number = last  # otherwise the next append would infer another writer
        return last

    def _transact(
        self, connection: sqlite3.Connection, records: Sequence[Record], claim: str | None
    ) -> tuple[int, base.Claimed | None]:
        """Append records, preceded by those that this handle must repeat in another database.

        Returns:
            The number of the last record; and the refused claim, if only repeated records were
            appended.
        """
        refused = None
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            try:
                if claim is not None:
                    base.refuse_held(claim, self.records, records)
            except base.Claimed as error:
                if not (self._is_other and self._doubtful):
                    raise
                refused, records = error, []
            rows = [_row(record) for record in self._completed(records)]
            (last,) = connection.execute("SELECT coalesce(max(number), 0) FROM records").fetchone()
            known = self._last_known()
            # Numbers are never reused.
            first = 1 + (max(last, known[0]) if self._is_other and known else last)
            numbered = list(enumerate(rows, first))
            connection.executemany(_INSERT_NUMBERED, ((number, *row) for number, row in numbered))
        self._doubtful = [*([] if self._is_other else self._doubtful), *numbered]
        self._is_other, self._has_appended = False, True
        return first + len(rows) - 1, refused

    def _completed(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return records, preceded by those that this handle must repeat in another database."""
        if not self._is_other:
            return records
        known = self._last_known()
        return replaced.completed(
            records,
            doubtful=[orjson.loads(row[-1]) for _, row in self._doubtful],
            last=orjson.loads(known[1]) if known and self._has_appended else None,
            heads=self._heads,
            read=self.records,
            location=self._path,
        )

    def _persist(self, connection: sqlite3.Connection, action: Callable[[], T]) -> T:
        """Perform an action that waits for a lock and syncs; repeat it if it fails."""
        try:
            return action()
        except sqlite3.OperationalError as error:
            return self._repeated(connection, error, action)

    def _repeated(
        self, connection: sqlite3.Connection, error: sqlite3.Error, action: Callable[[], T]
    ) -> T:
        """Repeat an action that failed because a lock was held or because a sync failed.

        A transaction whose sync failed is not visible, but would be after a recovery of the log:
        the repeated transaction takes its place in the log, without a sync.
        """
        if _is_busy(error):
            return _when_free(self._path, action)
        if getattr(error, "sqlite_errorcode", None) not in _UNSYNCED:
            raise error
        connection.execute("PRAGMA synchronous = OFF")
        self._is_full_sync = None
        result = action()
        if not self._has_warned_of_sync:
            self._has_warned_of_sync = True
            base.warn_unsynced(self._path, error)
        return result

    def _sync_if_due(self, connection: sqlite3.Connection, now: float, is_end: bool) -> None:
        """Let the next commit sync the log, if the last sync is too long ago."""
        is_due = now - self._synced >= base.SYNC_INTERVAL or self._always_sync or is_end
        if is_due:
            self._synced = now
        if is_due != self._is_full_sync:
            connection.execute(f"PRAGMA synchronous = {'FULL' if is_due else 'NORMAL'}")
            self._is_full_sync = is_due

    def _texts(self, filters: base.Filters) -> Iterator[tuple[int, bytes]]:
        try:
            yield from self._rows(filters)
        except PermissionError as error:
            raise failures.unreadable(self._path, error.errno) from error
        except _FAILURES as error:
            raise self._failure(error) from error

    def _parsed(self, number: int, text: bytes) -> Record | None:
        """Return a record; None, with a warning, if its text is damaged."""
        with contextlib.suppress(orjson.JSONDecodeError):
            record: Any = orjson.loads(text)
            if type(record) is dict and is_record(record):
                return record  # type: ignore[return-value]
        if number not in self._warned:
            self._warned.add(number)
            warnings.warn(
                f"{self._path}: record {number} is damaged and was skipped; `casket doctor` shows "
                "the damage",
                CasketWarning,
                stacklevel=2,
            )
        return None

    def _rows(self, filters: base.Filters) -> Iterator[tuple[int, bytes]]:
        if not self._path.exists():
            if self._writing:
                return
            raise NotFound(str(self._path))
        is_more = True
        while is_more and (rows := self._undisturbed(_query(filters))):
            is_more = len(rows) == ROWS
            base.check_order([number for number, _ in rows], filters.after, self._path)
            if self._known is None:
                self._known = rows[-1]
            yield from rows
            filters = filters._replace(after=rows[-1][0])

    def _undisturbed(self, query: tuple[str, list[object]]) -> list[Any]:
        while True:
            with contextlib.suppress(_Disturbed), _inside.lock:
                return self._select(query)

    def _select(self, query: tuple[str, list[object]]) -> list[Any]:
        """Run a query on a separate, temporary connection that changes nothing.

        A database that is not in use is read without SQLite's locks, for which SQLite would
        create files beside it.

        Raises:
            _Disturbed: it was read without locks, and has changed in the meantime.
        """
        state = _State.of(self._path)
        if not state.size or state.is_being_created:
            return []
        with _reading(self._path, state) as connection:
            connection.text_factory = bytes  # damaged text may not be Unicode
            try:
                rows = connection.execute(*query).fetchall() if self._is_ready(connection) else []
            except sqlite3.Error:
                state.check_failed(self._path)
                raise
        state.check(self._path)
        return rows

    def _is_ready(self, connection: sqlite3.Connection) -> bool:
        """Return whether the database has casket's tables; an empty database may be used."""
        application, tables, own = connection.execute(_IDENTITY).fetchone()
        if application != APPLICATION_ID and (tables or application):
            if own == 3:
                raise DamagedFile(str(self._path), f"its application id is {application:#x}")
            raise NotACasketFile(str(self._path), "it is another program's SQLite database")
        return bool(tables)

    def _failure(self, error: Exception) -> CasketError:
        """Return the error that names the file and how to continue."""
        if isinstance(error, PermissionError):
            return failures.unavailable(self._path, error.errno, "nothing was written")
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code == sqlite3.SQLITE_CANTOPEN and self._mode == "rw" and not self._path.exists():
            return NotFound(str(self._path), base.GONE)
        if code == sqlite3.SQLITE_NOTADB:
            return NotACasketFile(str(self._path), "it is not a SQLite database")
        if code == sqlite3.SQLITE_CORRUPT or isinstance(error, UnicodeDecodeError):
            return DamagedFile(str(self._path), f"SQLite says: {error}")
        return failures.unavailable(self._path, self._errno(code), f"SQLite says: {error}")

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
    """Inode, size and modification time of each file of a database."""

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
        """Raise `_Disturbed` if a database that was at rest has been changed since."""
        if not self.is_in_use and _State.of(path) != self:
            raise _Disturbed

    def check_failed(self, path: Path) -> None:
        """Raise `_Disturbed` if a failure to read may be due to a change meanwhile."""
        self.check(path)
        if self.is_in_use and not _State.of(path).is_in_use:
            raise _Disturbed


def _look_at(name: str) -> tuple[int, ...]:
    try:
        status = os.stat(name)
    except FileNotFoundError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _inode(path: Path | str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


_BESIDE = ("-wal", "-shm")


def _inodes(names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return the inodes of the files that exist."""
    inodes = {}
    for name in names:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            inodes[name] = _inode(name)
    return inodes


def _remove_if_same(files: dict[str, tuple[int, int]]) -> None:
    """Remove files whose names still refer to the given inodes.

    They belong to a database that is no longer at its path. SQLite would use them for the database
    that takes its place, which destroys both.
    """
    for name, inode in files.items():
        with contextlib.suppress(OSError):  # SQLite refuses files that it cannot use
            if _inode(name) == inode:
                os.unlink(name)


def _remove_orphans(path: Path) -> None:
    """Remove the log of a deleted database before a new database is created at its path."""
    name = os.path.realpath(path)
    beside = _inodes(f"{name}{end}" for end in _BESIDE)
    # In this order: a database is created before the files beside it.
    if beside and not os.path.exists(name):
        _remove_if_same(beside)


def _create_file(path: Path) -> None:
    """Create a missing file, with the permissions that the umask allows: SQLite ignores it."""
    with contextlib.suppress(OSError):  # SQLite reports what is wrong
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


def _checkpoint(connection: sqlite3.Connection) -> bool:
    """Copy the log into the database, so that a copy of this file is complete.

    It waits for nobody: parts of the log that others use remain there until the next time.

    Returns:
        Whether all of the log was copied.
    """
    with contextlib.suppress(sqlite3.Error):
        busy, log, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return not busy and log == moved
    return False


def _checkpoint_all(connection: sqlite3.Connection) -> None:
    """Checkpoint a log that will not be read again; wait a little for current readers."""
    give_up = time.monotonic() + LONGEST_EXIT
    while not _checkpoint(connection) and time.monotonic() < give_up:
        time.sleep(0.01)


def _insert(connection: sqlite3.Connection, row: _Row) -> int:
    return connection.execute(_INSERT, row).lastrowid or 0


def _is_busy(error: sqlite3.Error) -> bool:
    """Return whether another connection holds the lock that was needed."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _when_free(path: Path, action: Callable[[], T]) -> T:
    """Call `action` as soon as no other connection holds the lock that it needs.

    SQLite itself increases the pause between two attempts up to 100 ms, so that among many writers
    those that wait would hardly ever get the lock.
    """
    begun, has_warned = time.monotonic(), False
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            waited = time.monotonic() - begun
            if not _is_busy(error) or waited > WAIT_FOR_LOCK:
                raise
        if waited >= waiting.NOTICE and not has_warned:
            has_warned = True
            name = os.path.realpath(path)
            waiting.warn_waiting(path, waiting.holder_of(f"{name}-shm", name), waited)
        time.sleep(PAUSE)


def _prepare(connection: sqlite3.Connection) -> None:
    """Switch a connection's database to write-ahead logging and create its tables."""
    if _is_empty(connection):
        # Before the log is used, so that it is in the file's header even if the log is lost.
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        if _is_empty(connection):
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)


def _is_empty(connection: sqlite3.Connection) -> bool:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return not tables


def _delete(connection: sqlite3.Connection, tombstone: Record) -> None:
    is_covered = covering(tombstone)
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        rows = connection.execute("SELECT number, CAST(record AS BLOB) FROM records")
        covered = [(number,) for number, text in rows if _is_deleted(text, is_covered)]
        # First, so that its number is larger than the deleted numbers.
        connection.execute(_INSERT, _row(tombstone))
        connection.executemany("DELETE FROM records WHERE number = ?", covered)


def _is_deleted(text: bytes, is_covered: Callable[[Record], bool]) -> bool:
    """Return whether a stored record is covered; a damaged record is kept for a later repair."""
    try:
        return is_covered(orjson.loads(text))
    except orjson.JSONDecodeError:
        return False


def _shrink(connection: sqlite3.Connection, path: Path) -> None:
    """Free the space of deleted rows, as far as readers and a full disk permit it."""
    with contextlib.suppress(sqlite3.OperationalError):
        _when_free(path, lambda: connection.execute("VACUUM"))
    with contextlib.suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


_UNLOCKED = "&vfs=unix-none"


def _options(path: Path, state: _State) -> str:
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
def _reading(path: Path, state: _State) -> Iterator[sqlite3.Connection]:
    options = _options(path, state)
    uri = f"{path.absolute().as_uri()}?mode=ro{options}"
    name = os.path.realpath(path)
    beside = _inodes(f"{name}{end}" for end in _BESIDE)
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
    for path, inode in _inodes(f"{name}{end}" for end in _BESIDE).items():
        with contextlib.suppress(OSError):
            status = os.stat(path)
            is_own = status.st_uid == os.geteuid() and not status.st_mode & 0o022
            if path not in earlier and is_own:
                _remove_if_same({path: inode})


def _row(record: Record) -> _Row:
    text = encoded(record).decode()
    return record["kind"], record.get("session"), record.get("claim"), text


def _query(filters: base.Filters) -> tuple[str, list[object]]:
    """Return the query for the first records that may fit, and its values."""
    conditions = ["number > ?"]
    values: list[object] = [filters.after]
    if filters.claim is not None:
        conditions.append("claim = ?")
        values.append(filters.claim)
    if filters.session is not None:
        conditions.append("session = ?")
        values.append(filters.session)
    if filters.kinds is not None:
        conditions.append(f"kind IN ({', '.join('?' * len(filters.kinds))})")
        values += filters.kinds
        if filters.are_for_heads:
            # Implied by `kinds`; repeated so that SQLite uses the partial index.
            conditions.append("kind NOT IN ('epoch', 'batch', 'result')")
    query = f"SELECT number, record FROM records WHERE {' AND '.join(conditions)}"  # noqa: S608 - only our own words
    return f"{query} ORDER BY number LIMIT {ROWS}", values


_SESSIONS = "SELECT DISTINCT session FROM records WHERE session IS NOT NULL"


def _query_latest(sessions: Sequence[bytes]) -> tuple[str, list[object]]:
    """Return the query for the records of sessions and those that concern all sessions."""
    marks = ", ".join("?" * len(sessions))
    query = f"SELECT number, record FROM records WHERE session IN ({marks}) OR session IS NULL"  # noqa: S608 - only our own words
    return f"{query} ORDER BY number", [session.decode() for session in sessions]


_stores: weakref.WeakSet[SqliteStore] = weakref.WeakSet()


@atexit.register
def _settle_all() -> None:
    """Leave complete databases behind, even if threads still run.

    In a forked child, none of its parent's connections is open.
    """
    for store in list(_stores):
        store.settle()
