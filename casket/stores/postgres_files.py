"""The artifacts in a PostgreSQL database: a row per chunk, and a row per complete file.

Chunks are stored under the name of the unfinished upload. When all are there, they get the name of
the file, in the transaction that creates its row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any, BinaryIO

from casket.errors import StoreUnavailable
from casket.format.files import CHUNK, StoredFile, Upload, is_unfinished, missing_file

_TABLES = """
SELECT pg_advisory_xact_lock(7161889360113362805);
CREATE TABLE IF NOT EXISTS casket_files (
    name text PRIMARY KEY,
    size bigint NOT NULL,
    modified timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS casket_chunks (
    name text,
    n bigint,
    modified timestamptz NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (name, n)
);
ALTER TABLE casket_chunks ALTER COLUMN content SET STORAGE EXTERNAL
"""
# Not to_regclass: see `casket.stores.postgres`.
_ARE_THERE = """
SELECT EXISTS (
    SELECT FROM pg_tables
    WHERE tablename = 'casket_files' AND schemaname = ANY(current_schemas(false))
)
"""
_RENEW = "UPDATE casket_files SET modified = %(modified)s WHERE name = %(name)s"
_ARRIVED = "SELECT count(*) FROM casket_chunks WHERE name = %(part)s"
_ADD = (
    "INSERT INTO casket_chunks VALUES (%(part)s, %(n)s, now(), %(content)s) ON CONFLICT DO NOTHING"
)
_SIZE = "SELECT coalesce(sum(length(content)), 0) FROM casket_chunks WHERE name = %(part)s"
_FINISH = """
INSERT INTO casket_files VALUES (%(name)s, %(size)s, %(modified)s) ON CONFLICT DO NOTHING;
UPDATE casket_chunks SET name = %(name)s
    WHERE name = %(part)s AND NOT EXISTS (SELECT FROM casket_chunks WHERE name = %(name)s)
"""
_DROP = "DELETE FROM casket_chunks WHERE name = %(part)s"
_READ = "SELECT content FROM casket_chunks WHERE name = %(name)s AND n = %(n)s"
_IS_THERE = "SELECT FROM casket_files WHERE name = %(name)s"
_LIST = """
SELECT name, size, modified FROM casket_files
UNION ALL SELECT name, sum(length(content)), max(modified) FROM casket_chunks
    WHERE name LIKE '.%%' GROUP BY name
ORDER BY 1
"""
_DELETE = """
DELETE FROM casket_files WHERE name = %(name)s
    AND (%(modified)s::timestamptz IS NULL OR modified <= %(modified)s)
"""


class PostgresFiles:
    """The files in a database; see `casket.format.files.Files`.

    Args:
        on_connection: calls a function with a connection of psycopg.
        location: the URL of the store, without the password.
    """

    def __init__(self, on_connection: Callable[[Callable[[Any], Any]], Any], location: str) -> None:
        self._on_connection = on_connection
        self._location = location

    def renew(self, name: str, modified: datetime, /) -> bool:
        def work(connection: Any) -> bool:
            values = {"name": name, "modified": modified}
            return _are_there(connection) and connection.execute(_RENEW, values).rowcount == 1

        renewed: bool = self._on_connection(work)
        return renewed

    def put(self, upload: Upload, content: BinaryIO, /) -> None:
        self._on_connection(_make_tables)
        values = upload._asdict()
        [(n,)] = self._rows(_ARRIVED, values)
        content.seek(n * CHUNK)
        while chunk := content.read(CHUNK):
            self._rows(_ADD, {**values, "n": n, "content": chunk})
            n += 1
        if not self._on_connection(partial(_finish, values=values)):
            advice = "parts of the upload were removed meanwhile; it begins again"
            raise StoreUnavailable(self._location, advice)

    def read(self, name: str, start: int = 0, /) -> Iterator[bytes]:
        if not self._on_connection(_are_there) or not self._rows(_IS_THERE, {"name": name}):
            raise missing_file(name, self._location)
        n, skipped = divmod(start, CHUNK)
        while rows := self._rows(_READ, {"name": name, "n": n}):
            yield bytes(rows[0][0][skipped:])
            n, skipped = n + 1, 0

    def listed(self) -> Iterator[StoredFile]:
        if self._on_connection(_are_there):
            for name, size, modified in self._rows(_LIST, {}):
                yield StoredFile(name, int(size), modified)

    def delete(self, name: str, modified: datetime | None = None, /) -> bool:
        return bool(
            self._on_connection(_are_there)
            and self._on_connection(partial(_delete, name=name, modified=modified))
        )

    def _rows(self, query: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Run a statement and return the rows that it selects, if any."""
        rows: list[tuple[Any, ...]]
        rows = self._on_connection(lambda connection: connection.binary(query, values))
        return rows


def _are_there(connection: Any) -> bool:
    [(are_there,)] = connection.execute(_ARE_THERE)
    return bool(are_there)


def _make_tables(connection: Any) -> None:
    if not _are_there(connection):
        connection.execute(f"BEGIN; {_TABLES}; COMMIT")


def _finish(connection: Any, values: dict[str, Any]) -> bool:
    """Turn an upload into a file; return whether it was complete."""
    with connection.transaction():
        [(size,)] = connection.execute(_SIZE, values)
        is_complete = bool(size == values["size"])
        if is_complete:
            connection.execute(_FINISH, values)
        connection.execute(_DROP, values)
    return is_complete


def _delete(connection: Any, name: str, modified: datetime | None) -> bool:
    with connection.transaction():
        files = connection.execute(_DELETE, {"name": name, "modified": modified}).rowcount
        if not (files or is_unfinished(name)):
            return False
        chunks = connection.execute(_DROP, {"part": name}).rowcount
    return bool(files or chunks)
