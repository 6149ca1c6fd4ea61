"""Format values and tables for the terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click
from tabulate import tabulate

from casket.cli import terminal
from casket.reading import numbers
from casket.reading.numbers import MOST_DIGITS, digits_apart, shown_number
from casket.reading.views import SessionView, parse_time

STATUS_COLORS = {"completed": "green", "running": "cyan", "failed": "red", "killed": "yellow"}
LEVEL_COLORS = {"info": "cyan", "warning": "yellow", "error": "red"}
LONGEST = 24
"""Maximum characters of a value in a table."""

NAMED = 6
"""Maximum number of hidden columns listed by name."""

Rows = Sequence[Mapping[str, Any]]


def text(value: Any, digits: int = MOST_DIGITS) -> str:
    """Format a value for a table; floats get at most `digits` significant digits."""
    if value is None:
        return ""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return shown_number(value, digits) if is_number else terminal.one_line(str(value))


def exact(value: Any) -> str:
    """Format a value with full precision."""
    return terminal.one_line(numbers.exact(value))


def column(values: Sequence[Any]) -> list[str]:
    """Format the values of a column with enough digits to distinguish them."""
    digits = digits_apart(values)
    return [text(value, digits) for value in values]


def span(seconds: float) -> str:
    """Format a duration in its two largest units, such as `2 h 5 min`."""
    seconds = max(seconds, 0.0)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    parts: list[tuple[int, str]] = []
    for name, size in units:
        count, whole = divmod(whole, size)
        if count or parts:
            parts.append((count, name))
    return " ".join(f"{count} {name}" for count, name in parts[:2] if count)


def ago(seconds: float) -> str:
    """Format an elapsed time in its largest unit."""
    return span(seconds).partition(" ")[0] + " " + span(seconds).split(" ")[1]


def clock(time: str | None) -> str:
    """Format a time in the local time zone, with the date unless it is today."""
    if not time:
        return ""
    local = parse_time(time).astimezone()
    is_today = local.date() == datetime.now().astimezone().date()
    return f"{local:%H:%M:%S}" if is_today else f"{local:%Y-%m-%d %H:%M}"


def status_of(session: SessionView) -> str:
    """Return the colored status of a session, with the restarts of its job while it is running."""
    status = colored_status(session.status)
    if session.status == "running" and session.restart:
        status += f" (restart {session.restart})"
    return status


def colored_status(status: str) -> str:
    """Return a status with its terminal color."""
    return terminal.styled(status, fg=STATUS_COLORS.get(status))


def alert_text(title: str, text: str, level: str) -> str:
    """Return an alert with its level in color."""
    shown = terminal.styled(level, fg=LEVEL_COLORS.get(level))
    return f"{shown} {terminal.safe(': '.join(filter(None, (title, text))))}"


def table(
    rows: Rows,
    columns: Sequence[str],
    keep: Collection[str] = (),
    headers: Mapping[str, str] | None = None,
    widest: int | None = None,
    least: Sequence[str] = (),
    is_whole: bool = False,
) -> str:
    """Return rows as a table that fits the width of the terminal, if any.

    Args:
        rows: the cells of each row by column.
        columns: the columns to show, in order.
        keep: columns that are never hidden. Other columns are hidden from the last to the first.
        headers: column titles that differ from the column names.
        widest: maximum characters per line if the output is not a terminal. Without it, lines and
            values have any length there.
        least: columns to hide before all others, in this order.
        is_whole: whether to show all columns and whole values, for a pager.
    """
    titles = {name: terminal.one_line((headers or {}).get(name, name)) for name in columns}
    rows = [{name: terminal.one_line(str(row.get(name, ""))) for name in columns} for row in rows]
    width = widest
    if is_whole:
        return _plain(rows, titles)
    if sys.stdout.isatty() or widest is not None:
        rows = [{name: _cut(cell) for name, cell in row.items()} for row in rows]
    if sys.stdout.isatty():
        width = click.get_current_context().terminal_width or shutil.get_terminal_size().columns
    if width is None:
        return _plain(rows, titles)
    shown = _fitting(rows, titles, _going(columns, keep, least), width)
    text = _plain(rows, {name: titles[name] for name in columns if name in shown})
    hidden = [title for name, title in titles.items() if name not in shown]
    if hidden:
        text += f"\n{left_out('no room for', hidden)}"
    return text


def left_out(why: str, names: Sequence[str]) -> str:
    """Return a note that lists the hidden columns and how to show them."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    some = f"{', '.join(_cut(terminal.one_line(name)) for name in names[:NAMED])}{more}"
    return f"({why} {some}: select columns with --columns, or show all with --csv or --json)"


def constant(rows: Rows, columns: Sequence[str]) -> list[str]:
    """Return the columns whose cells are equal in all rows; none if there is one row."""
    if len(rows) < 2:
        return []
    return [name for name in columns if len({row.get(name, "") for row in rows}) == 1]


def _going(columns: Sequence[str], keep: Collection[str], least: Sequence[str]) -> list[str]:
    """Return the columns that may be hidden, in order of removal."""
    order = dict.fromkeys([*least, *reversed(columns)])
    return [name for name in order if name in columns and name not in keep]


def _plain(rows: Rows, titles: Mapping[str, str]) -> str:
    # The titles are a row like the others, because tabulate pads headers.
    cells = [list(titles.values()), *([row.get(name, "") for name in titles] for row in rows)]
    return tabulate(cells, tablefmt="plain", disable_numparse=True)


def _fitting(rows: Rows, titles: Mapping[str, str], going: Iterable[str], width: int) -> set[str]:
    """Return the columns that fit, hiding those in `going` first."""
    longest = {name: min(_longest(rows, name), LONGEST) for name in titles}
    shown = dict(titles)
    for name in going:
        if _width(shown, longest) <= width:
            break
        del shown[name]
    return set(shown)


def _width(titles: Mapping[str, str], longest: Mapping[str, int]) -> int:
    """Return the line width of a table, with two spaces between columns."""
    widths = [max(len(title), longest[name]) for name, title in titles.items()]
    return sum(widths) + 2 * (len(widths) - 1)


def _longest(rows: Rows, name: str) -> int:
    return max((len(click.unstyle(str(row.get(name, "")))) for row in rows), default=0)


def _cut(cell: str) -> str:
    if len(click.unstyle(cell)) <= LONGEST:
        return cell
    return click.unstyle(cell)[: LONGEST - 1] + "…"
