"""`casket ls` and `casket best`: list sessions as tables."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, get_args

import click

import casket
from casket.cli import options, tables, terminal
from casket.cli.csv_text import csv_text, sessions_csv
from casket.cli.sweeps import sweeps_text
from casket.reading.casket import STATUSES
from casket.reading.columns import flatten
from casket.reading.grouping import Groups, groups
from casket.reading.metrics import is_held_out
from casket.reading.numbers import digits_apart, with_margin
from casket.reading.query import Names
from casket.reading.ranking import Ranking
from casket.reading.rows import Mode, is_number
from casket.reading.summary import best_values, epoch_count, facts, numeric_metrics, varying
from casket.reading.sweeps import SweepView, sweeps_of
from casket.reading.tail import read_tail
from casket.reading.views import SessionView

SHOWN = 50
"""Default number of sessions shown in a terminal."""

Cell = Callable[[SessionView], str]

CELLS: dict[str, Cell] = {
    "session": lambda session: session.id[:8],
    "id": lambda session: session.id[:8],
    "name": lambda session: session.name,
    "group": lambda session: session.group or "",
    "parent": lambda session: (session.parent_id or "")[:8],
    "status": tables.status_of,
    "epochs": lambda session: str(epoch_count(session) or ""),
    "age": lambda session: tables.ago(session.age.total_seconds()),
    "duration": lambda session: tables.span(session.duration.total_seconds()),
    "started": lambda session: f"{session.started:%Y-%m-%d %H:%M}",
    "ended": lambda session: f"{session.ended:%Y-%m-%d %H:%M}" if session.ended else "",
    "tags": lambda session: " ".join(session.tags),
}
"""Formatters of the columns that are not plain values."""

INDENT = "└ "
"""Precedes children in a table, once for each level."""

FIRST_HIDDEN = ("tags", "age", "duration", "epochs", "name")
"""The columns that are hidden in a narrow terminal, after those with equal values, in order."""

FEW = 0.1
"""Minimum share of sessions with a param or metric for it to get a column."""

MOST = 0.8
"""Columns with values in a smaller share of sessions are hidden first."""

WIDEST = 200
"""Maximum characters per line if the output is not a terminal."""


@click.command()
@options.file_argument
@options.where_option
@click.option("--status", type=click.Choice(STATUSES), help="Only sessions with this status.")
@click.option("--tag", shell_complete=options.complete_tags, help="Only sessions with this tag.")
@click.option(
    "--sort",
    shell_complete=options.complete_names,
    metavar="NAME",
    help="Sort by a name, such as params.lr or best.METRIC; -NAME sorts in descending order.",
)
@click.option(
    "--columns",
    shell_complete=options.complete_names,
    metavar="NAMES",
    help="The columns, separated by commas, such as id,params.lr.",
)
@click.option(
    "--limit",
    type=click.IntRange(0),
    metavar="N",
    help=f"Show at most N sessions, 0 for all; the default is {SHOWN} in a terminal, else all.",
)
@click.option(
    "--offset",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Skip N sessions before --limit.",
)
@click.option("--page", is_flag=True, help="Show the table in a pager ($PAGER).")
@click.option(
    "--group-by",
    shell_complete=options.complete_names,
    metavar="NAMES",
    help="One row per group of equal values, such as params.lr: mean ± 95 % interval, and n.",
)
@click.option(
    "--sweep", "by_sweep", is_flag=True, help="One row per sweep: its progress, and what runs."
)
@options.children_option
@click.option("--csv", "as_csv", is_flag=True, help="Write CSV.")
@options.json_option
def ls(
    file: str | None,
    where: str | None,
    status: str | None,
    tag: str | None,
    sort: str | None,
    columns: str | None,
    limit: int | None,
    offset: int,
    page: bool,
    group_by: str | None,
    by_sweep: bool,
    children: bool,
    as_csv: bool,
    as_json: bool,
) -> None:
    """List sessions with the params that vary and their metrics.

    The newest session comes last. A metric's best value is in brackets if it is not the latest.
    With --children, sessions are followed by their children, unless they are sorted.

    \b
    casket ls runs.json --where "status == 'completed' and val_loss < 0.3" --sort val_loss
    casket ls --group-by params.lr
    casket ls --columns id,params.lr,best.val_acc --sort -best.val_acc --limit 10
    """
    is_read = as_json or as_csv or not sys.stdout.isatty() or page
    count = limit if limit is not None else (0 if is_read else SHOWN)
    path = options.chosen_file(file)
    is_plain = not (where or status or tag or sort or columns or group_by or by_sweep or children)
    tail = read_tail(path, count, offset) if is_plain and count else None
    if tail is not None and tail.total:
        shown, total, names = tail.sessions, tail.total, Names(tail.sessions)
    else:
        sessions, names = _matching(path, where, status, tag, children=children, as_json=as_json)
        if by_sweep:
            _show_sweeps(sweeps_of(sessions), as_json=as_json)
            return
        if group_by:
            made = groups(sessions, options.names(group_by), names, status or "completed")
            _show_groups(made, as_csv=as_csv, as_json=as_json)
            return
        if children:
            sessions = under_parents(sessions)
        if sort:
            sessions = sorted_by(sessions, sort, names)
        shown, total = _limited(sessions, count, offset, is_sorted=bool(sort)), len(sessions)
    if as_json:
        options.write_json([facts(session) for session in shown])
    elif as_csv:
        terminal.write(sessions_csv(shown, "sessions", options.names(columns), names))
    else:
        text = listing(shown, options.names(columns), names)
        if page:
            is_titled = text.startswith(("experiment ", "model ")) and not columns
            terminal.page(text, header=1 + is_titled)
        else:
            click.echo(text)
        hidden = total - offset - len(shown)
        if shown and hidden > 0:
            more = "1 more session is" if hidden == 1 else f"{hidden} more sessions are"
            click.echo(f"{more} hidden: --limit 0 shows all", err=True)


def _matching(
    path: str,
    where: str | None,
    status: str | None,
    tag: str | None,
    *,
    children: bool,
    as_json: bool,
) -> tuple[list[SessionView], Names]:
    """Return the sessions of a file that match all filters, and the names of all its sessions."""
    with casket.open(path) as runs:
        sessions = runs.sessions(status=status, tag=tag, where=where, children=children)
        if not sessions:
            if as_json:
                options.write_json([])
            raise options.NothingFound(f"no session matches in {runs.location}")
        return sessions, runs.names()


def _show_sweeps(sweeps: Sequence[SweepView], *, as_json: bool) -> None:
    if as_json:
        options.write_json([sweep.facts() for sweep in sweeps])
    elif sweeps:
        click.echo(sweeps_text(sweeps))
    else:
        raise options.NothingFound("no session that matches belongs to a sweep")


@click.command(cls=options.FileAnywhere)
@click.argument("metric", shell_complete=options.complete_metrics)
@options.file_argument
@click.option("--mode", type=click.Choice(get_args(Mode)), help="Which values are better.")
@click.option(
    "--top", type=click.IntRange(1), default=10, show_default=True, help="The number of sessions."
)
@options.where_option
@options.children_option
@options.json_option
def best(
    metric: str,
    file: str | None,
    mode: Mode | None,
    top: int,
    where: str | None,
    children: bool,
    as_json: bool,
) -> None:
    """List the sessions with the best values of METRIC.

    --mode defaults to the direction that the name implies (loss, error: min; acc, f1: max).

    \b
    casket best val_loss runs.json
    casket best reward --mode max --top 3
    """
    with options.open_file(file) as runs:
        ranking = runs.best(metric, mode, where, top, children=children)
        if not ranking:
            raise options.NothingFound(f"no matching session has numbers named {metric!r}")
        if as_json:
            options.write_json(
                [
                    {"value": each.value, "epoch": each.epoch, **facts(each.session)}
                    for each in ranking
                ]
            )
        else:
            click.echo(_ranking(ranking, runs.names()))


def _ranking(ranking: Ranking, names: Names) -> str:
    """Return the best sessions as a table."""
    shown = [each.session for each in ranking]
    params = [f"params.{name}" for name in _varying_params(shown)]
    columns = ["session", "name", "status", "model", *params, "age"]
    cells = {
        ranking.metric: tables.column([each.value for each in ranking]),
        "epoch": [tables.text(each.epoch) for each in ranking],
    }
    own = zip(*cells.values(), strict=True)
    rows = [
        {**row, **dict(zip(cells, values, strict=True))}
        for row, values in zip(_rows(shown, columns, names), own, strict=True)
    ]
    head, keep = [*cells, *columns], (ranking.metric, "session")
    return tables.table(rows, head, keep=keep, widest=WIDEST, least=["name"])


def listing(sessions: Sequence[SessionView], columns: Sequence[str], names: Names) -> str:
    """Return sessions as a table; by default with the columns that distinguish them."""
    if columns:
        return tables.table(_rows(sessions, columns, names), columns)
    heads = [{"experiment": each.experiment, "model": each.model} for each in sessions]
    apart = varying(heads)
    shares = _shares(sessions)
    varied = [f"params.{name}" for name in _varying_params(sessions)]
    taken = {*heads[0], *CELLS, *varied}
    measured = [name for name in _metric_columns(sessions) if name not in taken]
    ranked = [*sorted(varied, key=lambda name: -shares[name]), *measured]
    chosen = [name for name in ranked if shares[name] >= FEW]
    metrics = [name for name in chosen if name in measured]
    labels = [
        *(["tags"] if any(session.tags for session in sessions) else []),
        *(["group"] if any(session.group for session in sessions) else []),
    ]
    shown = ["session", "name", "status", *labels, *apart, *chosen, "epochs", "age", "duration"]
    rows = _rows(sessions, [name for name in shown if name not in metrics], names)
    for row, cells in zip(rows, _metric_cells(sessions, metrics), strict=True):
        row.update(cells)
    headers = {name: name.removeprefix("params.") for name in varied}
    partial = [name for name in reversed(chosen) if shares[name] < MOST]
    least = [
        *([] if any(session.named for session in sessions) else ["name"]),
        *tables.constant(rows, shown), *FIRST_HIDDEN,
        *(name for name in chosen if name.startswith("config.")),
        *sorted(partial, key=lambda name: shares[name]),
    ]  # fmt: skip
    firsts = [name for name in chosen if name in varied][:1] + metrics[:1]
    text = tables.table(
        rows, shown, keep=("session", *firsts), headers=headers, widest=WIDEST, least=least
    )
    same = [terminal.one_line(f"{name} {heads[0][name]}") for name in heads[0] if name not in apart]
    rare = [headers.get(name, name) for name in ranked if name not in chosen]
    hint = [tables.left_out("in few sessions:", rare)] if rare else []
    return "\n".join([*([", ".join(same)] if same else []), text, *hint])


def _shares(sessions: Sequence[SessionView]) -> dict[str, float]:
    """Return the share of sessions with each param (as `params.NAME`) and each metric."""
    counts: Counter[str] = Counter()
    for session in sessions:
        counts.update({f"params.{name}" for name in flatten(session.params)})
        counts.update(set(numeric_metrics(session)))
    return {name: count / len(sessions) for name, count in counts.items()}


def under_parents(sessions: Sequence[SessionView]) -> list[SessionView]:
    """Return sessions with the children of each after it; order is kept otherwise."""
    listed = {session.id for session in sessions}
    children: dict[str | None, list[SessionView]] = {}
    for session in sessions:
        parent = session.parent_id if session.parent_id in listed else None
        children.setdefault(parent, []).append(session)
    ordered: list[SessionView] = []
    waiting = children.pop(None, [])[::-1]
    while waiting:
        ordered.append(waiting.pop())
        waiting += children.pop(ordered[-1].id, [])[::-1]
    return ordered


def sorted_by(sessions: Iterable[SessionView], key: str, names: Names) -> list[SessionView]:
    """Return sessions sorted by a name, with sessions without a value last.

    Args:
        sessions: the sessions to sort.
        key: a name as in a `where` expression; a leading `-` sorts in descending order.
        names: resolves names.

    Raises:
        BadExpression: no session has the name.
    """
    parts = names.parts(key.removeprefix("-"))
    valued = [(names.given(session, parts), session) for session in sessions]
    numbers = [pair for pair in valued if is_number(pair[0])]
    others = [pair for pair in valued if not is_number(pair[0]) and not _is_nothing(pair[0])]
    nothing = [session for value, session in valued if _is_nothing(value)]
    is_reversed = key.startswith("-")
    numbers.sort(key=lambda pair: pair[0], reverse=is_reversed)
    others.sort(key=lambda pair: str(pair[0]), reverse=is_reversed)
    return [*(session for _, session in [*numbers, *others]), *nothing]


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _limited(
    sessions: list[SessionView], count: int, offset: int, *, is_sorted: bool
) -> list[SessionView]:
    """Return the first sessions if they are sorted, otherwise the newest."""
    if is_sorted:
        return sessions[offset : offset + count if count else None]
    end = max(len(sessions) - offset, 0)
    return sessions[max(end - count, 0) if count else 0 : end]


def _rows(
    sessions: Sequence[SessionView], columns: Sequence[str], names: Names
) -> list[dict[str, str]]:
    """Return one row of cells per session.

    Raises:
        BadExpression: a column exists in no session.
    """
    cells = [_column(sessions, name, names) for name in columns]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*cells, strict=True)]
    if columns:
        first = columns[0]
        for row, depth in zip(rows, _depths(sessions), strict=True):
            row[first] = INDENT * depth + row[first]
    return rows


def _depths(sessions: Sequence[SessionView]) -> list[int]:
    """Return the depth of each session: 1 for a child that follows its parent, and so on."""
    depths, above = [], list[str]()
    for session in sessions:
        while above and above[-1] != session.parent_id:
            above.pop()
        depths.append(len(above))
        above.append(session.id)
    return depths


def _column(sessions: Sequence[SessionView], name: str, names: Names) -> list[str]:
    if name in CELLS:
        return [CELLS[name](session) for session in sessions]
    parts = names.parts(name)
    return tables.column([names.given(session, parts) for session in sessions])


def _metric_cells(
    sessions: Sequence[SessionView], metrics: Iterable[str]
) -> Iterator[dict[str, str]]:
    """Yield the latest values of metrics, each followed by the best in brackets if it differs."""
    bests = [best_values(session) for session in sessions]
    digits = {
        name: digits_apart(
            [*(session.last.get(name) for session in sessions), *(each.get(name) for each in bests)]
        )
        for name in metrics
    }
    for session, best in zip(sessions, bests, strict=True):
        cells = {}
        for name in digits:
            latest = session.last.get(name)
            cells[name] = tables.text(latest, digits[name])
            if name in best and best[name] != latest:
                cells[name] += f" ({tables.text(best[name], digits[name])})"
        yield cells


def _metric_columns(sessions: Iterable[SessionView]) -> list[str]:
    """Return the names of all metrics, held-out metrics first."""
    names = dict.fromkeys(chain.from_iterable(map(numeric_metrics, sessions)))
    return sorted(names, key=lambda name: not is_held_out(name))


def _varying_params(sessions: Iterable[SessionView]) -> list[str]:
    return varying(flatten(session.params) for session in sessions)


def _show_groups(groups: Groups, *, as_csv: bool, as_json: bool) -> None:
    if as_json:
        options.write_json([group.as_json() for group in groups])
        return
    names = list(groups[0].values)
    metrics = _metric_columns(session for group in groups for session in group.sessions)
    if as_csv:
        columns = groups.columns()
        terminal.write(csv_text(list(columns), zip(*columns.values(), strict=True)))
        return
    counted = list(dict.fromkeys(chain.from_iterable(group.counts() for group in groups)))
    titles = [f"params.{name}" if name in {*counted, *metrics} else name for name in names]
    shown = []
    shared = {
        title: tables.column([group.values[name] for group in groups])
        for title, name in zip(titles, names, strict=True)
    }
    for i, group in enumerate(groups):
        cells = {name: texts[i] for name, texts in shared.items()}
        means = {
            name: with_margin(each.mean, each.margin) for name, each in group.metrics().items()
        }
        counts = {name: str(count) for name, count in group.counts().items()}
        shown.append({**cells, **counts, **means})
    click.echo(tables.table(shown, [*titles, *counted, *metrics], keep=(*titles, *counted)))
