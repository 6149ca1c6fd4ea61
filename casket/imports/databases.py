"""Read-only access to the SQLite databases of other programs."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from casket.imports.report import Report

_MAGIC = b"SQLite format 3\0"


class Database:
    """An open database; read errors are reported instead of raised."""

    def __init__(self, connection: sqlite3.Connection, path: Path, report: Report) -> None:
        self._connection = connection
        self._path = path
        self._report = report

    def rows(self, table: str, rest: str = "", *values: Any) -> Iterator[sqlite3.Row]:
        """Yield the rows of a table, up to the first unreadable row.

        Args:
            table: the name of the table.
            rest: the rest of the query, such as `WHERE run_id = ?`.
            values: the values of its placeholders.
        """
        try:
            yield from self._connection.execute(f"SELECT * FROM {table} {rest}", values)  # noqa: S608 - constants only
        except sqlite3.Error as error:
            self._report.problem(f"{self._path}, table {table}", f"SQLite: {error}")

    def columns(self, table: str) -> set[str]:
        """Return the column names of a table; an empty set if it does not exist."""
        return {row["name"] for row in self.rows(f"pragma_table_info('{table}')")}

    def count(self, table: str, rest: str = "") -> int:
        """Return the number of rows in a table; 0 if it does not exist."""
        if not self.columns(table):
            return 0
        return sum(row["n"] for row in self.rows(f"(SELECT count(*) AS n FROM {table} {rest})"))  # noqa: S608 - constants only


@contextlib.contextmanager
def open_database(path: Path, report: Report) -> Iterator[Database]:
    """Open a database for reading."""
    # Without a log no process is writing, so SQLite need not lock or create files.
    log = path.with_name(f"{path.name}-wal")
    options = "" if log.exists() and log.stat().st_size else "&immutable=1"
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{options}", uri=True)
    connection.row_factory = sqlite3.Row
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    try:
        yield Database(connection, path, report)
    finally:
        connection.close()


def has_tables(path: Path, tables: dict[str, set[str]]) -> bool:
    """Return whether a path is a database that has at least these tables and columns.

    A database with unreadable tables counts as having none.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return False
    except OSError:
        return False
    with open_database(path, Report("", "")) as database:
        return all(columns <= database.columns(table) for table, columns in tables.items())
