"""Curves of metrics as plots of characters."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, zip_longest
from typing import NamedTuple

import click
import plotille  # type: ignore[import-untyped]  # has no types

from casket.cli import tables, terminal
from casket.reading.columns import flatten
from casket.reading.latest import over_epochs
from casket.reading.metrics import better
from casket.reading.rows import Rows, is_number
from casket.reading.views import SessionView

SIZE = 60, 10
"""Maximum width and height of a plot in characters."""
BESIDE = 20
"""Characters beside a plot: its labels, and the space before the next."""
TICK = 10
"""Characters between two ticks of plotille's horizontal axis."""
COLORS = ("cyan", "yellow", "magenta", "green", "red", "blue")

Points = list[tuple[float, float]]


class Curves(NamedTuple):
    """The curves of a session by the name of the metric, over `epoch` or `batch`."""

    points: dict[str, Points]
    unit: str


def of_session(session: SessionView) -> Curves:
    """Return the curves of a session over its epochs, or over its batches if it has none."""
    rows, number = session.epochs.latest, "epoch_num"
    if len(rows) < 2:
        rows, number = session.batches.latest, "batch_num"
    return Curves(_points(rows, number), number.removesuffix("_num"))


def text(curves: Mapping[str, Curves], names: Sequence[str] = ()) -> str:
    """Return a plot for each metric, side by side in a wide terminal; empty without curves.

    Args:
        curves: the curves of each session by its title; titles are shown unless there is only one.
            Of one session, the curves of training and validation share a plot.
        names: the metrics to plot; all if empty.
    """
    known = dict.fromkeys(name for each in curves.values() for name in each.points)
    wanted = [name for name in known if not names or name in names]
    plots = [_plot(shown, unit) for shown, unit in _together(curves, wanted)]
    count = max(shutil.get_terminal_size().columns // (SIZE[0] + BESIDE), 1)
    rows = [plots[i : i + count] for i in range(0, len(plots), count)]
    return "\n".join(line for row in rows for line in _side_by_side(row))


def _together(
    curves: Mapping[str, Curves], wanted: Sequence[str]
) -> Iterator[tuple[dict[str, Points], str]]:
    """Yield the curves of each plot by their title, and the unit of their axis."""
    for name in wanted:
        if len(curves) > 1:
            sharing = {title: each for title, each in curves.items() if name in each.points}
            titled = {f"{name} of {title}": each.points[name] for title, each in sharing.items()}
            yield titled, next(iter(sharing.values())).unit
            continue
        [(points, unit)] = curves.values()
        if name.startswith("val_") and name.removeprefix("val_") in wanted:
            continue  # drawn in the plot of the training metric
        partner = f"val_{name}"
        yield {each: points[each] for each in (name, partner) if each in wanted}, unit


def _side_by_side(plots: Sequence[str]) -> Iterator[str]:
    """Yield the lines of plots in columns, with an empty line above."""
    if not sys.stdout.isatty() or len(plots) == 1:
        yield from (f"\n{plot}" for plot in plots)
        return
    yield ""
    for lines in zip_longest(*(plot.splitlines() for plot in plots), fillvalue=""):
        width = SIZE[0] + BESIDE
        yield "".join(line + " " * (width - len(click.unstyle(line))) for line in lines).rstrip()


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


def _plot(curves: Mapping[str, Points], unit: str) -> str:
    width = max(min(shutil.get_terminal_size().columns - BESIDE, SIZE[0]), 20)
    xs, ys = zip(*(point for points in curves.values() for point in points), strict=True)
    figure = plotille.Figure()
    *x_limits, columns = _axis(xs, width // TICK - 1, least=1)
    *y_limits, figure.height = _axis(ys, SIZE[1])
    figure.width = columns * TICK
    figure.set_x_limits(*x_limits)
    figure.set_y_limits(*y_limits)
    figure.origin = False
    figure.x_label, figure.y_label = unit, terminal.one_line(next(iter(curves)))
    for kind in (int, float):
        figure.register_label_formatter(kind, _label)
    figure.color_mode = "names"
    figure.with_colors = sys.stdout.isatty()
    for points, color in zip(curves.values(), cycle(COLORS), strict=False):
        xs, ys = zip(*points, strict=True)
        figure.plot(xs, ys, lc=color if sys.stdout.isatty() else None)
    return f"{_title(curves)}\n{terminal.marked(figure.show())}"


def _title(curves: Mapping[str, Points]) -> str:
    """Return the last and best values of curves; in the colors of the curves if there are some."""
    said = [_said(name, points) for name, points in curves.items()]
    if len(said) < 2:
        return "".join(said)
    return ", ".join(
        terminal.styled(text, fg=color) for text, color in zip(said, cycle(COLORS), strict=False)
    )


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
