"""`casket diff`: compares two sessions or two groups of sessions."""

from __future__ import annotations

from typing import Any

import click

from casket.cli import curves, options, tables
from casket.cli.wording import counted
from casket.reading.difference import Difference
from casket.reading.numbers import with_margin
from casket.statistics.intervals import Interval


@click.command(cls=options.FileAnywhere)
@click.argument("a", metavar="A", type=options.SessionType())
@click.argument("b", metavar="B", type=options.SessionType())
@options.file_argument
@click.option("--all", "show_all", is_flag=True, help="Show equal values, too.")
@options.children_option
@click.option("--curves", "with_curves", is_flag=True, help="Draw the curves of both in one plot.")
@options.json_option
@click.pass_context
def diff(
    ctx: click.Context,
    a: str,
    b: str,
    file: str | None,
    show_all: bool,
    children: bool,
    with_curves: bool,
    as_json: bool,
) -> None:
    """Show the differences between two sessions or groups of sessions.

    A and B are sessions, or conditions as in `ls --where` that select groups of sessions. The
    metrics of groups are compared by mean ± 95 % interval. The exit code is 1 if they differ.

    \b
    casket diff 65ab @last --curves
    casket diff "params.lr == 0.1" "params.lr == 0.01" runs.json
    """
    with options.open_file(file) as runs, options.reported():
        difference = runs.diff(a, b, all=show_all, children=children)
        if as_json:
            options.write_json(difference.as_json())
        else:
            _show(difference)
            if with_curves:
                click.echo(_curves_of(difference))
    ctx.exit(1 if difference else 0)


def _curves_of(difference: Difference) -> str:
    """Return plots with the curves of all sessions, at most one for each color."""
    views = {view.id[:8]: view for side in (difference.a, difference.b) for view in side.sessions}
    shown = dict(list(views.items())[: len(curves.COLORS)])
    text = curves.text({title: curves.of_session(view) for title, view in shown.items()})
    hidden = len(views) - len(shown)
    return f"{text}\nnot drawn: {counted(hidden, 'session')}" if hidden else text


def _cell(value: Any) -> str:
    is_interval = isinstance(value, Interval)
    return with_margin(value.mean, value.margin) if is_interval else tables.exact(value)


def _show(difference: Difference) -> None:
    titles = [difference.a.title, difference.b.title]
    if titles[0] == titles[1]:
        titles[1] += " "  # the column names of a table must differ
    for part, pairs in difference.parts.items():
        if pairs:
            cells = [
                {part: name, titles[0]: _cell(one), titles[1]: _cell(other)}
                for name, (one, other) in pairs.items()
            ]
            click.echo(tables.table(cells, [part, *titles], keep=(part, *titles)) + "\n")
    if not any(difference.parts.values()):
        click.echo("no difference in params, config, meta and metrics")
