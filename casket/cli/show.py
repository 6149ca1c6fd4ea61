"""`casket show`: shows a session with its curves."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
import plotille  # type: ignore[import-untyped]  # has no types

from casket.cli import options, tables, terminal
from casket.cli.wording import size
from casket.format.artifacts import Artifact
from casket.reading.columns import flatten
from casket.reading.latest import over_epochs
from casket.reading.metrics import better
from casket.reading.query import Names
from casket.reading.rows import Rows, is_number
from casket.reading.summary import details, numeric_metrics
from casket.reading.views import SessionView

MANY = 12
"""Maximum number of alerts, and of results per index; `--json` shows all."""
CURVE = 60, 10
"""Maximum width and height of a curve in characters."""
TICK = 10
"""Characters between two ticks of plotille's horizontal axis."""


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
        for lines in _curves(view, wanted):
            click.echo(lines)


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
    status = tables.colored_status(session.status)
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
    artifacts = {name: _described(artifact) for name, artifact in session.artifacts.items()}
    yield from _section("artifacts", artifacts)


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


def _curves(session: SessionView, names: list[str]) -> Iterator[str]:
    """Yield one plot per metric, with the training and validation curves combined."""
    rows, number = session.epochs.latest, "epoch_num"
    if len(rows) < 2:
        rows, number = session.batches.latest, "batch_num"
    points = _points(rows, number)
    wanted = [name for name in points if not names or name in names]
    for name in wanted:
        partner = f"val_{name}"
        if name.removeprefix("val_") in wanted and name.startswith("val_"):
            continue  # drawn in the plot of the training metric
        shown = [name, *([partner] if partner in wanted else [])]
        yield from _plot({each: points[each] for each in shown}, number.removesuffix("_num"))


Points = list[tuple[float, float]]


def _points(rows: Rows, number: str) -> dict[str, Points]:
    """Return the finite points of each metric with at least two of them."""
    curves: dict[str, Points] = {}
    numbers = [row[number] for row in rows]
    steps = (
        over_epochs(numbers, [row.get("epoch") for row in rows])
        if number == "batch_num"
        else numbers
    )
    for step, row in zip(steps, rows, strict=True):
        for name, value in flatten(row).items():
            if is_number(value) and math.isfinite(value) and name not in {number, "epoch"}:
                curves.setdefault(name, []).append((step, value))
    return {name: points for name, points in curves.items() if len(points) > 1}


def _plot(curves: dict[str, Points], unit: str) -> Iterator[str]:
    width = max(min(shutil.get_terminal_size().columns - 20, CURVE[0]), 20)
    xs, ys = zip(*(point for points in curves.values() for point in points), strict=True)
    figure = plotille.Figure()
    *x_limits, columns = _axis(xs, width // TICK - 1, least=1)
    *y_limits, figure.height = _axis(ys, CURVE[1])
    figure.width = columns * TICK
    figure.set_x_limits(*x_limits)
    figure.set_y_limits(*y_limits)
    figure.origin = False
    figure.x_label, figure.y_label = unit, terminal.one_line(next(iter(curves)))
    for kind in (int, float):
        figure.register_label_formatter(kind, _label)
    figure.color_mode = "names"
    figure.with_colors = sys.stdout.isatty()
    for points, color in zip(curves.values(), ("cyan", "yellow"), strict=False):
        xs, ys = zip(*points, strict=True)
        figure.plot(xs, ys, lc=color if sys.stdout.isatty() else None)
    title = ", ".join(_said(name, points) for name, points in curves.items())
    yield f"\n{title}\n{terminal.marked(figure.show())}"


def _axis(values: Sequence[float], steps: int, least: float = 0) -> tuple[float, float, int]:
    """Return the limits of an axis at multiples of a round step, and the number of steps.

    Args:
        values: the values to cover. If none is negative, the axis is not, either.
        steps: the approximate number of steps.
        least: the smallest step.
    """
    low, high = float(min(values)), float(max(values))
    extent = high - low or abs(low) or 1.0
    if not 1e-300 < extent < math.inf:
        return low, high, steps
    step = max(_round_step(extent / steps), least)
    first = math.floor(low / step)
    count = max(math.ceil(high / step) - first, 1)
    return first * step, (first + count) * step, count


def _round_step(size: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is not below a size."""
    power: float = 10.0 ** math.floor(math.log10(size))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= size * 0.999)


def _label(value: float, chars: int, delta: float, left: bool = False) -> str:  # noqa: ARG001 - plotille's
    """Format an axis label for plotille."""
    text = tables.text(float(value))
    return text.ljust(chars) if left else text.rjust(chars)


def _said(name: str, points: Points) -> str:
    values = [value for _, value in points]
    mode = better(name)
    best = {"min": min, "max": max}[mode](values) if mode else None
    text = f"{terminal.styled(terminal.one_line(name), bold=True)} {tables.exact(values[-1])}"
    return text if best in {None, values[-1]} else f"{text} (best {tables.exact(best)})"
