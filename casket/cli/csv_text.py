"""CSV of sessions, as `ls --csv` and `export` write it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click

from casket.cli import options
from casket.reading.frames import Columns, Parts, Table, parts
from casket.reading.query import Names, nearest_names, unknown_name
from casket.reading.summary import as_json
from casket.reading.views import SessionView

_FORMULA = re.compile(r"[=@\t\r]|[+-](?!\d*\.?\d+([eE][+-]?\d+)?$)")
"""Matches a text that a spreadsheet would run as a formula; texts of plain numbers are none."""


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV. An apostrophe precedes texts that a spreadsheet would run as formulas."""
    lines = _Lines()
    # Python 3.11 quotes a carriage return only if lines end with one.
    writer = csv.writer(lines, lineterminator="\r\n")
    writer.writerow(map(_cell, header))
    writer.writerows(map(_cell, row) for row in rows)
    return "".join(lines)


class _Lines(list[str]):
    """Collects the lines of a CSV writer, with `\\n` at their ends."""

    def write(self, line: str) -> None:
        self.append(f"{line[:-2]}\n")


def sessions_csv(
    sessions: Sequence[SessionView], table: Table, names: Sequence[str], known: Names
) -> str:
    """Return a table of sessions as CSV.

    Args:
        sessions: the sessions.
        table: the entities to return as rows.
        names: the columns; all if empty. In the sessions table, any name that `ls --columns` takes.
        known: resolves the names of columns.
    """
    made = parts(sessions, table)
    if table == "sessions":
        made.owners.update(_further(sessions, [n for n in names if n not in made.owners], known))
    header = chosen([*made.owners, *made.rows], names)
    with options.progress_bar(f"writing {table}", sum(made.counts)) as advance:

        def rows() -> Iterator[list[Any]]:
            for row in _rows(made, header):
                yield row
                advance(1)

        return csv_text(header, rows())


def chosen(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the selected columns; all if none are named."""
    for name in names:
        if name not in columns:
            raise click.UsageError(unknown_name(name, nearest_names(name, columns), columns))
    return list(names or columns)


def _further(sessions: Sequence[SessionView], names: Iterable[str], known: Names) -> Columns:
    columns: Columns = {}
    for name in names:
        meaning = known.parts(name)
        columns[name] = [known.given(session, meaning) for session in sessions]
    return columns


def _rows(made: Parts, header: Sequence[str]) -> Iterator[list[Any]]:
    for row, owner in enumerate(made.positions()):
        yield [
            made.owners[name][owner] if name in made.owners else made.rows[name][row]
            for name in header
        ]


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return f"'{value}" if _FORMULA.match(value) else value
    plain = as_json(value)
    return options.json_line(plain) if isinstance(plain, (dict, list)) else plain
