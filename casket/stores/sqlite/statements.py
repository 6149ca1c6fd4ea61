"""The tables of a SQLite database, and the statements that read and change them."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson

from casket.format.records import FORMAT_VERSION, Record, covering, encoded
from casket.stores import base
from casket.stores.sqlite.locking import when_free

APPLICATION_ID = 0x63736B74
"""`cskt`, the application id in the header of a casket database."""

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
IDENTITY = """
SELECT application_id, (SELECT count(*) FROM sqlite_master),
    (SELECT count(*) FROM sqlite_master WHERE name IN ('records', 'heads', 'claims'))
FROM pragma_application_id
"""

# The tombstone of a deletion always has the largest number, so a rowid is never used again.
INSERT_NUMBERED = (
    "INSERT INTO records (number, kind, session, claim, record) VALUES (?, ?, ?, ?, ?)"
)
INSERT = "INSERT INTO records (kind, session, claim, record) VALUES (?, ?, ?, ?)"

ROWS = 5000
"""Rows read at a time."""

Row = tuple[str, str | None, str | None, str]


def prepare(connection: sqlite3.Connection) -> None:
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


def delete(connection: sqlite3.Connection, tombstone: Record) -> None:
    """Append a tombstone and delete the records that it covers."""
    is_covered = covering(tombstone)
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        rows = connection.execute("SELECT number, CAST(record AS BLOB) FROM records")
        covered = [(number,) for number, text in rows if _is_deleted(text, is_covered)]
        # First, so that its number is larger than the deleted numbers.
        connection.execute(INSERT, row_of(tombstone))
        connection.executemany("DELETE FROM records WHERE number = ?", covered)


def _is_deleted(text: bytes, is_covered: Callable[[Record], bool]) -> bool:
    """Return whether a stored record is covered; a damaged record is kept for a later repair."""
    try:
        return is_covered(orjson.loads(text))
    except orjson.JSONDecodeError:
        return False


def row_of(record: Record) -> Row:
    """Return the row that stores a record."""
    text = encoded(record).decode()
    return record["kind"], record.get("session"), record.get("claim"), text


def query_for(filters: base.Filters) -> tuple[str, list[object]]:
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


SESSIONS = "SELECT DISTINCT session FROM records WHERE session IS NOT NULL"


def query_for_latest(sessions: Sequence[bytes]) -> tuple[str, list[object]]:
    """Return the query for the records of sessions and those that concern all sessions."""
    marks = ", ".join("?" * len(sessions))
    query = f"SELECT number, record FROM records WHERE session IN ({marks}) OR session IS NULL"  # noqa: S608 - only our own words
    return f"{query} ORDER BY number", [session.decode() for session in sessions]


def insert(connection: sqlite3.Connection, row: Row) -> int:
    """Insert a row; return its number."""
    return connection.execute(INSERT, row).lastrowid or 0


def checkpoint(connection: sqlite3.Connection) -> bool:
    """Copy the log into the database, so that a copy of this file is complete.

    It waits for nobody: parts of the log that others use remain there until the next time.

    Returns:
        Whether all of the log was copied.
    """
    with contextlib.suppress(sqlite3.Error):
        busy, log, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return not busy and log == moved
    return False


def checkpoint_all(connection: sqlite3.Connection) -> None:
    """Checkpoint a log that will not be read again; wait a little for current readers."""
    give_up = time.monotonic() + LONGEST_EXIT
    while not checkpoint(connection) and time.monotonic() < give_up:
        time.sleep(0.01)


def shrink(connection: sqlite3.Connection, path: Path) -> None:
    """Free the space of deleted rows, as far as readers and a full disk permit it."""
    with contextlib.suppress(sqlite3.OperationalError):
        when_free(path, lambda: connection.execute("VACUUM"))
    with contextlib.suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
