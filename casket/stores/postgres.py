"""PostgreSQL: a row per record, through psycopg.

A writer first locks the row that holds the schema's version, until the commit. Numbers therefore
ascend in the order of the commits: no smaller number appears after a larger number has been read,
which could happen with a sequence. That commit does not wait for the disk, so that the lock is held
briefly; a second one does, for many writers at once. `docs/decisions/0029-group-commit.md` has the
reasons and the figures.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from threading import RLock
from typing import Any, TypeVar, Unpack

import orjson

from casket.errors import (
    BadLocation,
    NotFound,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    missing,
)
from casket.format.records import Record, encoded, names_nothing
from casket.stores import base, replaced, urls
from casket.stores.postgres_files import PostgresFiles
from casket.stores.remote import repeats as databases
from casket.system import forks

try:
    import psycopg
    from psycopg import conninfo
except ModuleNotFoundError as error:
    raise missing(error, "psycopg", "postgres") from error

SCHEMA_VERSION = 1

PATIENCE = 12.0
"""Seconds after which an append or a read is given up, connecting included."""

FILE_PATIENCE = 20.0
"""Seconds after which sending or fetching a part of a file is given up."""

CONNECTING = 7
"""Seconds for connecting to an address; a name may have two."""

ROWS = 5000
"""The largest number of rows read at a time."""

_SCHEMA = f"""
CREATE TABLE casket_store (version integer NOT NULL, last_lost bigint NOT NULL DEFAULT 0);
INSERT INTO casket_store VALUES ({SCHEMA_VERSION});
CREATE UNLOGGED TABLE IF NOT EXISTS casket_running (is_running boolean NOT NULL);
INSERT INTO casket_running SELECT true WHERE NOT EXISTS (SELECT FROM casket_running);
CREATE TABLE casket_records (
    number bigint PRIMARY KEY,
    kind text NOT NULL,
    experiment text,
    model text,
    session text,
    claim text,
    writer text NOT NULL,
    n bigint NOT NULL,
    record json NOT NULL,
    UNIQUE (writer, n)
);
CREATE INDEX ON casket_records (session, number);
CREATE INDEX ON casket_records (claim) WHERE claim IS NOT NULL;
CREATE INDEX ON casket_records (experiment, kind, number)
    WHERE kind NOT IN ('epoch', 'batch', 'result');
CREATE INDEX ON casket_records (experiment, number);
"""  # noqa: S608 - only our own words
# An arbitrary number, common to all creators of these tables.
_CREATE_LOCK = "SELECT pg_advisory_xact_lock(7161889360113362804)"
_LOCK = "SELECT version FROM casket_store FOR UPDATE"
_BEGIN = f"BEGIN; {_LOCK}"
# For a commit that does not wait for the disk.
_BEGIN_QUICKLY = f"BEGIN; SET LOCAL synchronous_commit = off; {_LOCK}"
# A commit waits for the disk only if its transaction has written to the log, as this does.
_SYNC = "SELECT pg_logical_emit_message(true, 'casket', '')"

MOST_LOST = 1_000_000
"""The largest number of records that a crash of the server can lose before they were synced."""

# A crash empties an unlogged table. The next writer then skips the numbers that may have been lost.
_SKIP_LOST = f"""
{_BEGIN};
UPDATE casket_store SET last_lost =
    greatest(last_lost, (SELECT coalesce(max(number), 0) FROM casket_records)) + {MOST_LOST}
    WHERE NOT EXISTS (SELECT FROM casket_running);
INSERT INTO casket_running SELECT true WHERE NOT EXISTS (SELECT FROM casket_running);
COMMIT
"""  # noqa: S608 - only our own words
# Not to_regclass: it uses a cache, which is not refreshed while waiting for the lock.
_IS_THERE = """
SELECT current_setting('server_encoding'), EXISTS (
    SELECT FROM pg_tables
    WHERE tablename = 'casket_store' AND schemaname = ANY(current_schemas(false))
)
"""
_VERSION = "SELECT version FROM casket_store"

# A client that is suspended while it holds the lock is disconnected, so that others can continue.
_SETTINGS = (
    f"SET lock_timeout = '{PATIENCE:.0f}s'; "
    f"SET idle_in_transaction_session_timeout = '{PATIENCE:.0f}s'; "
    "SET default_transaction_isolation = 'read committed'"
)
_DURABLE = "; SET synchronous_commit = on"

_COLUMNS = ("kind", "experiment", "model", "session", "claim", "writer", "n", "record")
_INSERT = """
INSERT INTO casket_records (number, kind, experiment, model, session, claim, writer, n, record)
SELECT
    (SELECT greatest(last_lost, (SELECT max(number) FROM casket_records)) FROM casket_store)
        + row_number() OVER (ORDER BY place),
    kind, experiment, model, session, claim, writer, n, record::json
FROM unnest(
    %(kind)s::text[], %(experiment)s::text[], %(model)s::text[], %(session)s::text[],
    %(claim)s::text[], %(writer)s::text[], %(n)s::bigint[], %(record)s::text[]
) WITH ORDINALITY AS new (kind, experiment, model, session, claim, writer, n, record, place)
WHERE NOT EXISTS (
    SELECT FROM casket_records AS old WHERE old.writer = new.writer AND old.n = new.n
) AND EXISTS (SELECT FROM casket_running)
"""
_NUMBER = """
SELECT number FROM casket_running
LEFT JOIN casket_records ON writer = %(last_writer)s AND n = %(last_n)s
"""
_STORED = """
SELECT writer, n FROM casket_records
JOIN unnest(%(writer)s::text[], %(n)s::bigint[]) AS asked (writer, n) USING (writer, n)
"""
# Equivalent to `casket.format.records.covering`.
_DELETE = """
DELETE FROM casket_records WHERE number < %(number)s AND (
    session = ANY(%(sessions)s::text[])
    OR (session IS NULL OR NOT %(only_named)s) AND (
        (experiment, model) IN (
            SELECT * FROM unnest(%(experiments_of_models)s::text[], %(models)s::text[])
        )
        OR experiment = ANY(%(experiments)s::text[]) AND (model IS NULL OR NOT %(only_named)s)
    )
)
"""

# Errors, by the first two letters of their code, for which a retry does not help.
_PERMANENT = frozenset({"0A", "22", "28", "3D", "3F", "42", "54"})
_NO_ROOM = frozenset({"53100", "53200"})
_ADVICE = {
    "42501": "ask its owner for permission, or name another schema",
    "3F000": "create the schema that the search_path names",
    "54000": "the record exceeds the size of a row in PostgreSQL",
}
# A refused connection has no code, and its text may be in the server's language: errors that are
# not listed here are retried.
_REFUSALS = (
    (r"password authentication failed|no password supplied", errno.EACCES, "correct the password"),
    (r"database .* does not exist", errno.ENOENT, "create the database, or correct its name"),
    (r"role .* does not exist", errno.EACCES, "correct the user's name"),
    (
        r"no pg_hba.conf entry|permission denied|not permitted to log in|authentication failed",
        errno.EACCES,
        "ask the administrator of the server for permission",
    ),
)

T = TypeVar("T")
_Row = tuple[Any, ...]


class PostgresStore:
    """Tables `casket_store` and `casket_records` in a PostgreSQL database.

    They are searched for along the `search_path`, and created in its first schema by the first
    append. By default, the server syncs every append before it returns.

    Args:
        url: such as `postgresql://user@host/database`. Without a password, it is taken from
            `$CASKET_PASSWORD`, or from the usual places of libpq.
        options: how to open it; `sync="always"` overrides a server that does not sync every
            append.
    """

    drops_copies = True

    def __init__(self, url: str, options: base.StoreOptions = base.DEFAULTS) -> None:
        self._shown = urls.shown(urls.checked(url))
        self._parameters = _parameters(url, self._shown)
        self._writing = options.writing
        self._heads = options.heads
        self._appended: Record | None = None
        self._settings = _SETTINGS + _DURABLE * (options.sync == "always")
        self._connection: _Connection | None = None
        self._has_tables = False
        self._lock = RLock()
        forks.renew_in_children(self)

    def after_fork(self) -> None:
        """Leave the parent's connection to the parent, in the child."""
        self._lock = RLock()
        if self._connection is not None:
            self._connection.disown()
        self.close()

    def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
        def work(connection: _Connection) -> int:
            self._make_tables(connection)
            try:
                number = self._append(connection, records, claim)
            except psycopg.errors.UndefinedTable:  # they were dropped
                connection.execute("ROLLBACK")
                self._has_tables = False
                self._make_tables(connection)
                number = self._append(connection, self._completed(records), claim)
            self._appended = records[-1]
            return number

        return self._guarded(work)

    def _append(self, connection: _Connection, records: Sequence[Record], claim: str | None) -> int:
        rows = _rows(records)
        finish = f"{_INSERT}; COMMIT; {_SYNC}; {_NUMBER}"
        if claim is None:
            # Sent together, the statements take a single round trip.
            number = connection.last(f"{_BEGIN_QUICKLY}; {finish}", rows)
        else:
            self._check_claim(connection, records, claim, rows)
            number = connection.last(finish, rows)
        if number is None:
            connection.execute(_SKIP_LOST)
            return self._append(connection, records, claim)
        return number

    def _check_claim(
        self,
        connection: _Connection,
        records: Sequence[Record],
        claim: str,
        rows: dict[str, Any],
    ) -> None:
        """Begin a transaction, unless the claim is held.

        Raises:
            Claimed: it is held.
        """
        connection.execute(_BEGIN_QUICKLY)
        stored = set(connection.execute(_STORED, rows))
        if databases.must_ask(claim, records, stored):
            try:
                base.refuse_held(claim, connection.records, records)
            except base.Claimed:
                connection.execute("ROLLBACK")  # otherwise the connection would be closed
                raise

    def _completed(self, records: Sequence[Record]) -> list[Record]:
        """Return records, preceded by those that this handle must repeat in new tables."""
        return replaced.completed(
            records,
            doubtful=[],  # acknowledged records were in the tables when they were dropped
            last=self._appended,
            heads=self._heads,
            read=self.records,
            location=self._shown,
        )

    def records(self, **chosen: Unpack[base.Chosen]) -> Iterator[base.Numbered]:
        filters = base.Filters(**chosen)
        pace = databases.Pace(ROWS)

        def work(connection: _Connection) -> list[_Row]:
            return connection.rows(filters, pace.rows) if self._exists(connection) else []

        is_more = True
        while is_more and (rows := self._guarded(work)):
            is_more = len(rows) == pace.rows
            base.check_order([number for number, _ in rows], filters.after, self._shown)
            yield from _fitting(filters, rows)
            filters = filters._replace(after=rows[-1][0])
            pace.came([len(text) for _, text in rows])

    @property
    def files(self) -> PostgresFiles:
        """The artifacts, in tables of their own."""
        return PostgresFiles(self._on_connection, self._shown)

    def _on_connection(self, work: Callable[[Any], T]) -> T:
        """Do some work for the artifacts, of which a part may take long to send."""

        def patiently(connection: _Connection) -> T:
            connection.deadline = time.monotonic() + FILE_PATIENCE
            return work(connection)

        return self._guarded(patiently)

    def prune(self, tombstone: Record, /) -> None:
        def work(connection: _Connection) -> None:
            self._make_tables(connection)
            is_deleting = not names_nothing(tombstone)
            if is_deleting:
                connection.execute(f"{_SKIP_LOST}; {_BEGIN}")
            connection.deadline = math.inf  # the server answers; there may be millions of rows
            if is_deleting:
                number = connection.last(f"{_INSERT}; {_NUMBER}", _rows([tombstone]))
                connection.execute(f"{_DELETE}; COMMIT", _covered(tombstone, number or 0))
            connection.execute("VACUUM casket_records")

        self._guarded(work)

    def close(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            self._has_tables = False
            if connection is not None:
                connection.close()

    def __del__(self) -> None:
        if hasattr(self, "_lock"):  # not where the URL was refused
            self.close()

    def _guarded(self, work: Callable[[_Connection], T]) -> T:
        """Do some work on the connection; an unfinished transaction is rolled back."""
        with self._lock:
            try:
                return work(self._connected())
            except (psycopg.Error, TimeoutError) as error:
                self._has_tables &= not isinstance(error, psycopg.errors.UndefinedTable)
                failure = _failure(self._shown, error)
            finally:
                if self._connection is not None and not self._connection.is_at_rest:
                    self.close()
            raise failure  # here, where the driver's error, which might quote the URL, is gone

    def _connected(self) -> _Connection:
        deadline = time.monotonic() + PATIENCE
        connection = self._connection
        if connection is None or connection.closed:
            self._has_tables = False
            connection = _Connection.connect(
                **self._parameters, autocommit=True, cursor_factory=psycopg.ClientCursor
            )
            self._connection = connection
            connection.deadline = deadline
            connection.execute(self._settings)
        connection.deadline = deadline
        return connection

    def _exists(self, connection: _Connection) -> bool:
        """Return whether the tables exist.

        Raises:
            NotFound: they do not, and the store is open for reading.
        """
        if not self._has_tables:
            self._has_tables = self._look(connection)
        if not (self._has_tables or self._writing):
            raise NotFound(self._shown)
        return self._has_tables

    def _look(self, connection: _Connection) -> bool:
        [(encoding, is_there)] = connection.execute(_IS_THERE)
        if encoding != "UTF8":
            raise StoreRefused(
                self._shown,
                f"the database's encoding is {encoding}; create one with ENCODING 'UTF8'",
                errno.EILSEQ,
            )
        if not is_there:
            return False
        [(version,)] = connection.execute(_VERSION)
        if version > SCHEMA_VERSION:
            raise StoreRefused(
                self._shown,
                f"its tables are of version {version}, made by a newer casket: upgrade casket",
                errno.EPROTO,
            )
        return True

    def _make_tables(self, connection: _Connection) -> None:
        if not self._has_tables and not self._look(connection):
            connection.execute(f"BEGIN; {_CREATE_LOCK}")
            if not self._look(connection):
                connection.execute(_SCHEMA)
            connection.execute("COMMIT")
        self._has_tables = True


class _Connection(psycopg.Connection[_Row]):
    """A connection that waits for the server until its deadline."""

    deadline = math.inf

    @property
    def is_at_rest(self) -> bool:
        """Whether no transaction is open."""
        return self.info.transaction_status == psycopg.pq.TransactionStatus.IDLE

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        """Wait like psycopg, which would wait forever for an unresponsive server."""
        return super().wait(self._until_deadline(gen), *args, **options)

    def _until_deadline(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        try:
            awaited = next(gen)
            while True:
                ready = yield awaited
                if time.monotonic() > self.deadline:
                    raise TimeoutError
                awaited = gen.send(ready)
        except StopIteration as done:
            result: T = done.value
            return result

    def last(self, statements: str, values: dict[str, Any]) -> int | None:
        """Run statements; return the number that the last query among them selects, if any."""
        cursor = self.execute(statements, values)
        rows: list[_Row] = []
        is_more: bool | None = True
        while is_more:
            if cursor.description is not None:
                rows = cursor.fetchall()
            is_more = cursor.nextset()
        return rows[0][0] if rows else None

    def binary(self, statement: str, values: dict[str, Any]) -> list[_Row]:
        """Run a statement with values and rows that are sent as they are, and not as text."""
        with psycopg.Cursor(self) as cursor:
            cursor.execute(statement, values, prepare=False, binary=True)
            return cursor.fetchall() if cursor.description is not None else []

    def records(self, **chosen: Unpack[base.Chosen]) -> Iterator[base.Numbered]:
        """Yield all stored records in the order of their numbers; loads them at once."""
        filters = base.Filters(**chosen)
        return _fitting(filters, self.rows(filters, None))

    def rows(self, filters: base.Filters, limit: int | None) -> list[_Row]:
        """Return numbers and texts of the first rows that may fit."""
        return self.execute(*_query(filters, limit)).fetchall()

    def disown(self) -> None:
        """Disconnect a forked child, so that closing sends nothing to the parent's server."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        with contextlib.suppress(psycopg.OperationalError):  # it was lost before the fork
            os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def _query(filters: base.Filters, limit: int | None) -> tuple[str, dict[str, Any]]:
    """Return the query for the first rows that may fit, and its values."""
    conditions = ["number > %(after)s"]
    values: dict[str, Any] = {"after": filters.after, "limit": limit}
    for name in ("experiment", "session", "claim"):
        value = getattr(filters, name)
        if value is not None:
            conditions.append(f"{name} = %({name})s")
            values[name] = databases.column(value)
    if filters.kinds is not None:
        conditions.append("kind = ANY(%(kinds)s)")
        values["kinds"] = [databases.column(kind) for kind in filters.kinds]
        if filters.are_for_heads:
            # Implied by `kinds`; repeated so that PostgreSQL uses the partial index.
            conditions.append("kind NOT IN ('epoch', 'batch', 'result')")
    query = f"SELECT number, record::text FROM casket_records WHERE {' AND '.join(conditions)}"  # noqa: S608 - only our own words
    return f"{query} ORDER BY number LIMIT %(limit)s", values


def _fitting(filters: base.Filters, rows: Sequence[_Row]) -> Iterator[base.Numbered]:
    for number, text in rows:
        record: Record = orjson.loads(text)
        if filters.fits(record):
            yield number, record


def _rows(records: Sequence[Record]) -> dict[str, Any]:
    """Return the values of `_INSERT` for records, without duplicates."""
    last_writer, last_n = databases.identity(records[-1])
    rows: dict[str, Any] = {name: [] for name in _COLUMNS}
    for record in databases.once_each(records):
        for name in ("kind", "experiment", "model", "session", "claim", "writer"):
            rows[name].append(databases.column_of(record, name))
        rows["n"].append(record["n"])
        rows["record"].append(encoded(record).decode())
    return {**rows, "last_writer": last_writer, "last_n": last_n}


def _covered(tombstone: Record, number: int) -> dict[str, Any]:
    """Return the values of `_DELETE` for a tombstone."""
    body = tombstone["body"]
    return {
        "number": number,
        "sessions": [databases.column(session) for session in body["sessions"]],
        "experiments": [databases.column(experiment) for experiment in body["experiments"]],
        "experiments_of_models": [databases.column(experiment) for experiment, _ in body["models"]],
        "models": [databases.column(model) for _, model in body["models"]],
        "only_named": bool(body.get("only_named")),
    }


def _parameters(url: str, shown: str) -> dict[str, Any]:
    """Return the parameters of the connection.

    Raises:
        BadLocation: libpq cannot read the URL.
    """
    try:
        given = conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        given = None
    # Outside of the handler: the driver's error quotes the URL.
    if given is None or not re.fullmatch(r"[\d,]*", str(given.get("port") or "")):
        raise BadLocation(
            f"{shown}: PostgreSQL cannot read this URL; it has the form "
            "postgresql://user:password@host:5432/database"
        )
    password = databases.environment_password()
    return {
        "connect_timeout": CONNECTING,
        "application_name": "casket",
        "tcp_user_timeout": int(PATIENCE * 1000),
        **({} if password is None else {"password": password}),
        **given,
        "client_encoding": "UTF8",
    }


def _failure(shown: str, error: psycopg.Error | TimeoutError) -> StoreUnavailable:
    """Return the error that names the location and how to continue."""
    if isinstance(error, TimeoutError):
        return StoreUnavailable(shown, "the server did not answer in time", errno.ETIMEDOUT)
    said = f"PostgreSQL says: {' '.join(str(error).split())}"
    code = error.sqlstate
    if code is None:
        return _connection_failure(shown, error, said)
    if code in _NO_ROOM:
        return StoreFull(
            shown, f"no record was lost; make room and continue ({said})", errno.ENOSPC
        )
    if code[:2] in _PERMANENT:
        return StoreRefused(shown, f"{_ADVICE.get(code, 'it refused')}; {said}", errno.EACCES)
    return StoreUnavailable(shown, f"whether it was written is not known; {said}", errno.EIO)


def _connection_failure(shown: str, error: psycopg.Error, said: str) -> StoreUnavailable:
    for pattern, number, advice in _REFUSALS:
        if re.search(pattern, said):
            return StoreRefused(shown, f"{advice}; {said}", number)
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return StoreUnavailable(
            shown, f"the server did not answer in time; {said}", errno.ETIMEDOUT
        )
    return StoreUnavailable(shown, f"the server cannot be reached; {said}", errno.ENOTCONN)
