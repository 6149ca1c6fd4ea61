"""`casket diff`: compares two sessions or two groups of sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from casket.cli import options, tables
from casket.reading.casket import Casket
from casket.reading.columns import flatten
from casket.reading.grouping import Group, interval_as_json
from casket.reading.numbers import with_margin
from casket.reading.summary import as_json, varying
from casket.reading.views import SessionView
from casket.statistics.intervals import Interval

PARTS = ("params", "config", "meta", "metrics")
EVERY_RUN = frozenset({"pid", "start"})
"""Names that differ between any two runs and are left out of the comparison."""


@click.command(cls=options.FileAnywhere)
@click.argument("a", metavar="A", type=options.SessionType())
@click.argument("b", metavar="B", type=options.SessionType())
@options.file_argument
@click.option("--all", "show_all", is_flag=True, help="Show equal values, too.")
@options.json_option
@click.pass_context
def diff(
    ctx: click.Context, a: str, b: str, file: str | None, show_all: bool, as_json: bool
) -> None:
    """Show the differences between two sessions or groups of sessions.

    A and B are sessions, or conditions as in `ls --where` that select groups of sessions. The
    metrics of groups are compared by mean ± 95 % interval. The exit code is 1 if they differ.

    \b
    casket diff 65ab @last
    casket diff "params.lr == 0.1" "params.lr == 0.01" runs.json
    """
    with options.open_file(file) as runs:
        sides = [_side(runs, name) for name in (a, b)]
        differences = {part: _differences(sides, part, show_all) for part in PARTS}
        if as_json:
            options.write_json({"a": sides[0].ids, "b": sides[1].ids, **_as_json(differences)})
        else:
            _show(sides, differences)
    differs = any(one != other for rows in differences.values() for one, other in rows.values())
    ctx.exit(1 if differs else 0)


class _Side:
    """One side of a comparison: a session or a group of sessions."""

    def __init__(self, sessions: Sequence[SessionView], title: str, *, is_group: bool) -> None:
        self.title = title
        self.is_group = is_group
        self.ids = [session.id for session in sessions]
        self._sessions = sessions

    def values(self, part: str, *, as_group: bool) -> dict[str, Any]:
        """Return the values of a part by flat name, or the means of a group's metrics."""
        if part == "metrics":
            return self._means() if as_group else self._latest()
        tables_of = [as_json(flatten(getattr(each, part))) for each in self._sessions]
        names = dict.fromkeys(name for table in tables_of for name in table)
        return {name: self._together([table.get(name) for table in tables_of]) for name in names}

    def _together(self, values: list[Any]) -> Any:
        different = list({str(value): value for value in values}.values())
        if len(different) == 1:
            return different[0]
        shown = ", ".join(map(tables.exact, different[:4]))
        return shown if len(different) <= 4 else f"{shown}, … ({len(different)} values)"

    def _latest(self) -> dict[str, Any]:
        (session,) = self._sessions
        return {"status": session.status, **as_json(dict(session.last))}

    def _means(self) -> dict[str, Any]:
        return {"sessions": len(self._sessions), **Group({}, list(self._sessions)).metrics()}


def _side(runs: Casket, name: str) -> _Side:
    if any(sign in name for sign in " <>=("):
        sessions = runs.sessions(where=name)
        if not sessions:
            raise options.NothingFound(f"no session matches {name!r}")
        return _Side(sessions, name, is_group=True)
    session = options.found_session(runs, name)
    return _Side([session], session.id[:8], is_group=False)


def _differences(sides: Sequence[_Side], part: str, show_all: bool) -> dict[str, tuple[Any, Any]]:
    as_group = any(side.is_group for side in sides)
    one, other = (side.values(part, as_group=as_group) for side in sides)
    ignored = EVERY_RUN if part == "meta" else frozenset()
    names = dict.fromkeys([*one, *other]) if show_all else varying([one, other])
    return {
        name: (one.get(name), other.get(name)) for name in names if show_all or name not in ignored
    }


def _as_json(differences: Mapping[str, Mapping[str, tuple[Any, Any]]]) -> dict[str, Any]:
    return {
        part: {name: {"a": _plain(one), "b": _plain(other)} for name, (one, other) in rows.items()}
        for part, rows in differences.items()
    }


def _plain(value: Any) -> Any:
    return interval_as_json(value) if isinstance(value, Interval) else value


def _cell(value: Any) -> str:
    is_interval = isinstance(value, Interval)
    return with_margin(value.mean, value.margin) if is_interval else tables.exact(value)


def _show(sides: Sequence[_Side], differences: Mapping[str, Mapping[str, tuple[Any, Any]]]) -> None:
    titles = [side.title for side in sides]
    if titles[0] == titles[1]:
        titles[1] += " "  # the column names of a table must differ
    for part, rows in differences.items():
        if rows:
            cells = [
                {part: name, titles[0]: _cell(one), titles[1]: _cell(other)}
                for name, (one, other) in rows.items()
            ]
            click.echo(tables.table(cells, [part, *titles], keep=(part, *titles)) + "\n")
    if not any(differences.values()):
        click.echo("no difference in params, config, meta and metrics")
