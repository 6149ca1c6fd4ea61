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
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, Unpack

import orjson

from casket.errors import (
    CasketError,
    CasketWarning,
    DamagedFile,
    NotACasketFile,
    NotFound,
    StoreUnavailable,
)
from casket.format.records import Record, names_nothing
from casket.stores import base, replaced
from casket.stores.base import LOOK_INTERVAL
from casket.stores.jsonfile.layout import is_record
from casket.stores.latest import Latest, Starts, Unclear
from casket.stores.sqlite.files import (
    BESIDE,
    Disturbed,
    State,
    create_file,
    inode_of,
    inodes,
    reading,
    remove_if_same,
    remove_orphans,
)
from casket.stores.sqlite.locking import PAUSE, is_busy, when_free
from casket.stores.sqlite.statements import (
    APPLICATION_ID,
    IDENTITY,
    INSERT,
    INSERT_NUMBERED,
    LONGEST_EXIT,
    ROWS,
    SESSIONS,
    Row,
    checkpoint,
    checkpoint_all,
    delete,
    insert,
    prepare,
    query_for,
    query_for_latest,
    row_of,
    shrink,
)
from casket.system import failures, forks

TURN = 2
"""Consecutive appends after which a writer pauses if there are other writers."""

CONTESTED = 1.0
"""Seconds for which a writer takes turns after it met another writer."""

# With a damaged schema, Python may be unable to decode SQLite's message.
_FAILURES = (sqlite3.Error, PermissionError, UnicodeDecodeError)
_UNSYNCED = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})

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
        return _open[inode_of(path)] > 0
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
        self._doubtful: list[tuple[int, Row]] = []
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
        row = row_of(records[0])
        try:
            number = connection.execute(INSERT, row).lastrowid or 0
        except sqlite3.OperationalError as error:
            number = self._repeated(connection, error, lambda: insert(connection, row))
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
            rows = self._undisturbed((SESSIONS, []))
            if not starts.has_all({session for (session,) in rows}):
                return None
            records = [
                (number, orjson.loads(text))
                for number, text in self._undisturbed(query_for_latest(chosen))
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
            with contextlib.suppress(Disturbed), _inside.lock:
                state = State.of(self._path)
                with reading(self._path, state) as connection:
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
                    INSERT_NUMBERED, ((number, *row_of(record)) for number, record in rows)
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
            self._persist(connection, lambda: delete(connection, tombstone))
        shrink(connection, self._path)

    def close(self) -> None:
        with _inside.lock:
            connection, self._connection = self._connection, None
            if connection is None:
                return
            is_in_place = self._is_in_place()
            if not is_in_place:
                # SQLite would leave records in a log that is never read again.
                checkpoint_all(connection)
            connection.close()
            _open[self._opened] -= 1
            if not is_in_place:
                remove_if_same(self._beside)

    def settle(self) -> None:
        """Checkpoint and close the database at the end of this process."""
        if _inside.lock.acquire(timeout=LONGEST_EXIT):
            try:
                if self._connection is not None:
                    checkpoint(self._connection)
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
            return inode_of(self._path) == self._opened
        except OSError as error:
            return error.errno not in {errno.ENOENT, errno.ENOTDIR}

    def _connect(self) -> sqlite3.Connection:
        self._refuse_foreign()
        if self._create:
            remove_orphans(self._path)
            create_file(self._path)
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode={self._mode}",
            uri=True,
            timeout=0.0,  # see when_free
            isolation_level=None,
            check_same_thread=False,
        )
        self._is_full_sync = True  # the default of a connection
        try:
            self._persist(connection, lambda: prepare(connection))
            # If it has already been removed again, the check after the append notices.
            self._opened = inodes([str(self._path)]).get(str(self._path), (0, 0))
            self._is_other = self._is_other or not self._has_known(connection)
        except BaseException:
            connection.close()
            raise
        self._synced = self._looked = 0.0
        self._connection = connection
        self._beside = inodes(f"{os.path.realpath(self._path)}{end}" for end in BESIDE)
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
            checkpoint(connection)
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
            rows = [row_of(record) for record in self._completed(records)]
            (last,) = connection.execute("SELECT coalesce(max(number), 0) FROM records").fetchone()
            known = self._last_known()
            # Numbers are never reused.
            first = 1 + (max(last, known[0]) if self._is_other and known else last)
            numbered = list(enumerate(rows, first))
            connection.executemany(INSERT_NUMBERED, ((number, *row) for number, row in numbered))
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
        if is_busy(error):
            return when_free(self._path, action)
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
        while is_more and (rows := self._undisturbed(query_for(filters))):
            is_more = len(rows) == ROWS
            base.check_order([number for number, _ in rows], filters.after, self._path)
            if self._known is None:
                self._known = rows[-1]
            yield from rows
            filters = filters._replace(after=rows[-1][0])

    def _undisturbed(self, query: tuple[str, list[object]]) -> list[Any]:
        while True:
            with contextlib.suppress(Disturbed), _inside.lock:
                return self._select(query)

    def _select(self, query: tuple[str, list[object]]) -> list[Any]:
        """Run a query on a separate, temporary connection that changes nothing.

        A database that is not in use is read without SQLite's locks, for which SQLite would
        create files beside it.

        Raises:
            Disturbed: it was read without locks, and has changed in the meantime.
        """
        state = State.of(self._path)
        if not state.size or state.is_being_created:
            return []
        with reading(self._path, state) as connection:
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
        application, tables, own = connection.execute(IDENTITY).fetchone()
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


_stores: weakref.WeakSet[SqliteStore] = weakref.WeakSet()


@atexit.register
def _settle_all() -> None:
    """Leave complete databases behind, even if threads still run.

    In a forked child, none of its parent's connections is open.
    """
    for store in list(_stores):
        store.settle()
