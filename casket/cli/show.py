"""`casket show`: shows a session with its curves."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import click

from casket.cli import curves, options, tables, terminal
from casket.cli.wording import size
from casket.format.artifacts import Artifact
from casket.reading.columns import flatten
from casket.reading.query import Names
from casket.reading.summary import details, numeric_metrics
from casket.reading.views import SessionView

MANY = 12
"""Maximum number of alerts, and of results per index; `--json` shows all."""
SPARKS = 30
"""Maximum width of a line of bars."""
BARS = "▁▂▃▄▅▆▇█"


@click.command(cls=options.FileAnywhere)
@click.argument("session", type=options.SessionType(), default="@last")
@options.file_argument
@click.option(
    "--metrics",
    shell_complete=options.complete_metrics,
    metavar="NAMES",
    help="The curves to draw, separated by commas; default: all.",
)
@click.option("--epochs", "kind", flag_value="epoch", help="Show a table of the epochs.")
@click.option("--batches", "kind", flag_value="batch", help="Show a table of the batches.")
@click.option("--results", "kind", flag_value="result", help="Show a table of the results.")
@click.option("--page", is_flag=True, help="Show the table in a pager ($PAGER), in full width.")
@options.json_option
def show(
    session: str, file: str | None, metrics: str | None, kind: str | None, page: bool, as_json: bool
) -> None:
    """Show a session: params, meta, results, artifacts and curves.

    \b
    casket show @last
    casket show 65ab runs.json --metrics loss,val_loss
    casket show @last --epochs --page
    """
    with options.open_file(file) as runs:
        view = options.found_session(runs, session)
        if as_json:
            options.write_json(details(view))
            return
        wanted = options.names(metrics)
        for name in wanted:
            Names([view]).check_metric(name)
        if kind:
            text = _table(_rows(view, kind), wanted, is_whole=page)
            (terminal.page if page else click.echo)(text)
            return
        click.echo("\n".join([*_head(view), *_facts(view), *_results(view), *_children(view)]))
        text = curves.text({"": curves.of_session(view)}, wanted)
        if text:
            click.echo(text)
        for line in [] if wanted else _system(view):
            click.echo(line)


def _rows(session: SessionView, kind: str) -> list[dict[str, Any]]:
    """Return the epochs, batches or results of a session, with flat names."""
    if kind != "result":
        return [flatten(row) for row in (session.epochs if kind == "epoch" else session.batches)]
    return [
        {"index": index, **flatten(result)}
        for index in (None, *session.indexes)
        for result in session.results(index)
    ]


def _table(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str], *, is_whole: bool) -> str:
    if not rows:
        raise options.NothingFound("the session has no such records")
    fixed = {"epoch_num", "batch_num", "epoch", "index"}
    columns = [
        name
        for name in dict.fromkeys(name for row in rows for name in row)
        if not metrics or name in metrics or name in fixed
    ]
    texts = {name: tables.column([row.get(name) for row in rows]) for name in columns}
    cells = [{name: texts[name][i] for name in columns} for i in range(len(rows))]
    return tables.table(cells, columns, keep=fixed, is_whole=is_whole)


def _head(session: SessionView) -> Iterator[str]:
    status = tables.status_of(session)
    took = tables.span(session.duration.total_seconds())
    name = terminal.one_line(session.name)
    yield f"session {terminal.styled(session.id, bold=True)}  {name}  {status}"
    yield terminal.one_line(f"experiment {session.experiment}, model {session.model}")
    if session.parent_id:
        yield f"child of {session.parent_id}"
    yield f"started {session.started:%Y-%m-%d %H:%M:%S} UTC, took {took}"
    if session.error:
        yield terminal.styled(_indented(session.error), fg="red")
    if session.group:
        yield f"group {terminal.one_line(session.group)}"
    if session.tags:
        yield f"tags {', '.join(map(terminal.one_line, session.tags))}"
    if session.note:
        yield f"note {_indented(session.note)}"
    for alert in session.alerts[-MANY:]:
        text = tables.alert_text(alert.title, alert.text, alert.level)
        yield f"alert {alert.time:%Y-%m-%d %H:%M:%S} UTC {_indented(text)}"
    if len(session.alerts) > MANY:
        yield f"  ... and {len(session.alerts) - MANY} earlier alerts: --json shows all"


def _indented(text: str) -> str:
    """Indent all lines but the first, so that they cannot pass for the command's own."""
    return text.strip().replace("\n", "\n  ")


def _facts(session: SessionView) -> Iterator[str]:
    yield from _section("params", flatten(session.params))
    yield from _section("config", flatten(session.config))
    meta = {name: value for name, value in flatten(session.meta).items() if value is not None}
    yield from _section("meta", meta)
    described = {name: _described(artifact) for name, artifact in session.artifacts.items()}
    captured = {name: described.pop(name) for name in session.captured}
    yield from _section("artifacts", described)
    yield from _section("captured", captured)


def _described(artifact: Artifact) -> str:
    parts = [size(artifact.size), artifact.media_type]
    if artifact.step is not None:
        parts.append(f"step {artifact.step}")
    if len(artifact.history) > 1:
        parts.append(f"{len(artifact.history) - 1} earlier")
    return ", ".join([*parts, f"{artifact.folder.path.name}/{artifact.file}"])


def _section(title: str, values: Mapping[str, Any]) -> Iterator[str]:
    if values:
        yield ""
        yield terminal.styled(title, bold=True)
        width = min(max(map(len, values)), 28)
        for name, value in values.items():
            yield _cut(f"  {terminal.one_line(name):{width}}  {_one_line(value)}")


def _results(session: SessionView) -> Iterator[str]:
    for index in [None, *session.indexes]:
        rows = session.results(index)
        if rows:
            title = "results" if index is None else terminal.one_line(f"results {index}")
            yield from ["", terminal.styled(title, bold=True)]
            yield from (_cut(f"  {_one_line(row)}") for row in rows[:MANY])
            if len(rows) > MANY:
                yield f"  ... and {len(rows) - MANY} more: --json shows all"


def _children(session: SessionView) -> Iterator[str]:
    """Yield a line for each child: its id, status, own params and last metrics."""
    children = session.children
    if children:
        yield from ["", terminal.styled("children", bold=True)]
    for child in children:
        own = {name: value for name, value in child.params.items() if name not in session.params}
        metrics = {name: child.last[name] for name in numeric_metrics(child)}
        name = terminal.one_line(child.name)
        facts = "  ".join(_one_line(values) for values in (own, metrics) if values)
        yield _cut(f"  {child.id[:8]}  {name}  {tables.colored_status(child.status):9}  {facts}")


def _one_line(value: Any) -> str:
    if isinstance(value, Mapping):
        parts = (
            f"{terminal.one_line(name)}={_one_line(each)}" for name, each in flatten(value).items()
        )
        return ", ".join(parts)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(tables.exact, value))}]"
    return tables.exact(value)


def _cut(line: str) -> str:
    """Cut a line to the width of the terminal, if any."""
    width = shutil.get_terminal_size().columns
    return line if not sys.stdout.isatty() or len(line) <= width else f"{line[: width - 1]}…"


def _system(session: SessionView) -> Iterator[str]:
    """Yield a line of each system metric: its course as a sparkline, its last and highest value."""
    columns, _ = session.system_table()
    texts = {}
    for name, column in columns.items():
        values = [value for value in column if value is not None]
        shown = [size(each) if name.endswith("_bytes") else tables.text(each) for each in
                 (values[-1], max(values))]  # fmt: skip
        texts[name] = f"{_sparkline(values):{SPARKS}}  last {shown[0]}, highest {shown[1]}"
    yield from _section("system", texts)


def _sparkline(values: Sequence[float]) -> str:
    """Return values as a line of bars, each the mean of the values of its part."""
    width = min(SPARKS, len(values))
    edges = [len(values) * i // width for i in range(width + 1)]
    means = [sum(values[i:j]) / (j - i) for i, j in pairwise(edges)]
    low, extent = min(means), max(means) - min(means) or 1.0
    return "".join(BARS[round((mean - low) / extent * (len(BARS) - 1))] for mean in means)
