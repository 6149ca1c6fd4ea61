"""HTML of sessions for notebooks: tables and curves as inline SVG, without scripts or style sheets.

All texts of a file are escaped. Colors come from the page around it, light or dark. The size is
limited: long tables show their first and last rows, long texts their beginning.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Any, Protocol

from casket.reading.columns import flatten
from casket.reading.curves import Curve, curve_of
from casket.reading.metrics import better, weight
from casket.reading.numbers import MOST_DIGITS, digits_apart, shown_number
from casket.reading.plain_text import cut, encodable, on_one_line, visible
from casket.reading.rows import Kind, MetricLog, best_of, is_number

MOST_ROWS = 20
MOST_PARAMS = 6
MOST_METRICS = 3
MOST_ALERTS = 5
LONGEST = 48
"""Maximum characters of a text in a cell."""

POINTS = 48
"""Maximum number of points of a curve."""

WIDTH, HEIGHT, MARGIN = 120, 22, 2
"""The size of a curve in pixels."""

STATUS_COLORS = {"completed": "#2a9d4a", "running": "#2f81f7", "failed": "#e5484d"}
OTHER_COLOR = "#d08700"
"""Colors of the mark before a status, legible on light and dark backgrounds."""

_TABLE = '<table style="margin:0.4em 0">'
_LEFT = ' style="text-align:left;white-space:nowrap;padding:0.1em 0.7em"'


class Session(Protocol):
    """The parts of a `SessionView` that are shown."""

    id: str
    experiment: str
    model: str

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def status(self) -> str: ...  # noqa: D102
    @property
    def error(self) -> str | None: ...  # noqa: D102
    @property
    def note(self) -> str: ...  # noqa: D102
    @property
    def children(self) -> Sequence[Session]: ...  # noqa: D102
    @property
    def alerts(self) -> list[Any]: ...  # noqa: D102
    @property
    def tags(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def params(self) -> dict[str, Any]: ...  # noqa: D102
    @property
    def last(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def started(self) -> datetime: ...  # noqa: D102
    @property
    def duration(self) -> timedelta: ...  # noqa: D102
    def logged(self, kind: Kind) -> MetricLog: ...  # noqa: D102


def session_html(session: Session) -> str:
    """Return a session with its params and metrics."""
    head = (
        f"<div><b>{_text(session.name)}</b> {_text(session.id[:8])} {_status(session.status)} "
        f"{_text(session.experiment)} / {_text(session.model)}, "
        f"started {session.started:%Y-%m-%d %H:%M:%S} UTC, took {_span(session.duration)}</div>"
    )
    return _block([head, *_remarks(session), _params(session), _metrics(session)])


def sessions_html(sessions: Sequence[Session]) -> str:
    """Return a list of sessions as a table with the params that vary and the main metrics."""
    return _block([f"<div>{_counts(sessions)}</div>", _listing(sessions)])


def store_html(title: str, counts: Mapping[str, int], sessions: Sequence[Session]) -> str:
    """Return a store with its sessions.

    Args:
        title: its name.
        counts: the numbers of experiments and models.
        sessions: its sessions.
    """
    parts = [f"{name} {count:,}" for name, count in counts.items()]
    head = f"<div><b>{_text(title)}</b> {', '.join([*parts, _counts(sessions)])}</div>"
    return _block([head, _listing(sessions)])


def curve_svg(name: str, curve: Curve) -> str:
    """Return a curve as a small picture; empty if it has fewer than two finite points."""
    finite = [y for y in curve.ys if math.isfinite(y)]
    if len(finite) < 2:
        return ""
    xs = _scaled(curve.xs, min(curve.xs), max(curve.xs), WIDTH)
    ys = [HEIGHT - y for y in _scaled(curve.ys, min(finite), max(finite), HEIGHT)]
    label = f"{name} from {shown_number(finite[0])} to {shown_number(finite[-1])}"
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{_text(label)}" style="display:inline-block;vertical-align:middle">'
        f'<path d="{_path(xs, ys)}" fill="none" stroke="currentColor" stroke-width="1.2" '
        'stroke-linejoin="round"/></svg>'
    )


def _scaled(values: Sequence[float], low: float, high: float, size: int) -> list[float]:
    """Scale values to the pixels between the margins; equal values are in the middle."""
    # Halves, because the difference of two floats may overflow.
    extent = high / 2 - low / 2
    room = size - 2 * MARGIN
    if not extent:
        return [size / 2 if math.isfinite(value) else math.nan for value in values]
    return [MARGIN + room * ((value / 2 - low / 2) / extent) for value in values]


def _path(xs: Iterable[float], ys: Iterable[float]) -> str:
    """Return the path through points, with gaps at non-finite points."""
    parts, move = [], "M"
    for x, y in zip(xs, ys, strict=True):
        if math.isfinite(y):
            parts.append(f"{move}{x:.1f} {y:.1f}")
            move = "L"
        else:
            move = "M"
    return "".join(parts)


def _block(parts: Iterable[str]) -> str:
    return f'<div style="overflow-x:auto">{"".join(parts)}</div>'


def _remarks(session: Session) -> Iterator[str]:
    if session.error:
        yield f'<div style="color:{STATUS_COLORS["failed"]}">{_text(session.error, 400)}</div>'
    for alert in session.alerts[-MOST_ALERTS:]:
        yield f"<div><b>{_text(alert.level)}</b> {_text(f'{alert.title} {alert.text}', 200)}</div>"
    if session.children:
        by_status = Counter(child.status for child in session.children)
        yield f"<div>children {len(session.children)} ({_listed(by_status)})</div>"
    if session.tags:
        yield f"<div>tags {_text(', '.join(session.tags), 200)}</div>"
    if session.note:
        yield f"<div>note {_text(session.note, 400)}</div>"


def _params(session: Session) -> str:
    params = flatten(session.params)
    rows = [[_text(name), _value(params[name])] for name in list(params)[:MOST_ROWS]]
    return _table(["param", "value"], rows, len(params), MOST_ROWS) if rows else ""


def _metrics(session: Session) -> str:
    names = _by_weight(_numeric(session))
    rows = []
    for name in names[:MOST_ROWS]:
        best = _best(session, name)
        shown = "" if best is None else _value(best)
        curve = curve_svg(name, _curve(session, name))
        rows.append([_text(name), _value(session.last[name]), shown, curve])
    return _table(["metric", "last", "best", ""], rows, len(names), MOST_ROWS) if rows else ""


def _best(session: Session, metric: str) -> Any:
    mode = better(metric)
    return best_of(session.logged("epoch").values(metric), mode) if mode else None


def _listing(sessions: Sequence[Session]) -> str:
    if not sessions:
        return ""
    shown = _ends(sessions)
    columns = {"session": [_text(each.id[:8]) for each in shown]}
    columns["name"] = [_text(each.name) for each in shown]
    columns["status"] = [_status(each.status) for each in shown]
    columns |= _varying({
        name: [_text(getattr(each, name)) for each in shown] for name in ("experiment", "model")
    })  # fmt: skip
    columns |= dict(list(_varying(_param_cells(shown)).items())[:MOST_PARAMS])
    columns |= _metric_cells(shown)
    columns["started"] = [f"{each.started:%Y-%m-%d %H:%M}" for each in shown]
    columns["took"] = [_span(each.duration) for each in shown]
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return _table([_text(name) for name in columns], rows, len(sessions), MOST_ROWS // 2)


def _param_cells(sessions: Sequence[Session]) -> dict[str, list[str]]:
    tables = [flatten(session.params) for session in sessions]
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: _column([table.get(name) for table in tables]) for name in names}


def _metric_cells(sessions: Sequence[Session]) -> dict[str, list[str]]:
    counts = Counter(name for session in sessions for name in _numeric(session))
    cells = {}
    for name in _by_weight(name for name, _ in counts.most_common())[:MOST_METRICS]:
        texts = _column([session.last.get(name) for session in sessions])
        curves = [curve_svg(name, _curve(session, name)) for session in sessions]
        cells[name] = [f"{text} {curve}" for text, curve in zip(texts, curves, strict=True)]
    return cells


def _varying(columns: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return the columns whose cells differ; all columns if there is a single row."""
    return {
        name: cells for name, cells in columns.items() if len(cells) == 1 or len(set(cells)) > 1
    }


def _numeric(session: Session) -> list[str]:
    return [name for name, value in session.last.items() if is_number(value)]


def _by_weight(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: -weight(name))


def _curve(session: Session, metric: str) -> Curve:
    kind: Kind = "epoch" if len(session.logged("epoch")) > 1 else "batch"
    return curve_of(session.logged(kind), kind, metric, POINTS)


def _ends(sessions: Sequence[Session]) -> list[Session]:
    """Return the first and the last sessions of a long list."""
    half = MOST_ROWS // 2
    is_long = len(sessions) > MOST_ROWS
    return [*sessions[:half], *sessions[-half:]] if is_long else list(sessions)


def _counts(sessions: Sequence[Session]) -> str:
    by_status = Counter(session.status for session in sessions)
    return f"sessions {len(sessions):,}{f' ({_listed(by_status)})' if by_status else ''}"


def _listed(by_status: Counter[str]) -> str:
    return ", ".join(f"{count:,} {status}" for status, count in by_status.items())


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], count: int, cut_at: int) -> str:
    """Return a table of cells, which are HTML.

    Args:
        titles: the title of each column.
        rows: the rows to show.
        count: the number of rows there are.
        cut_at: the position at which the others are left out.
    """
    lines = [_row("td", cells) for cells in rows]
    if count > len(rows):
        more = f"and {count - len(rows):,} more"
        lines.insert(cut_at, f'<tr><td colspan="{len(titles)}"{_LEFT}>… {more} …</td></tr>')
    return f"{_TABLE}<thead>{_row('th', titles)}</thead><tbody>{''.join(lines)}</tbody></table>"


def _row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}{_LEFT}>{cell}</{tag}>' for cell in cells)}</tr>"


def _status(status: str) -> str:
    color = STATUS_COLORS.get(status, OTHER_COLOR)
    return f'<span style="color:{color}">●</span> {status}'


def _column(values: Sequence[Any]) -> list[str]:
    """Format the values of a column with enough digits to distinguish them."""
    digits = digits_apart(values)
    return [_value(value, digits) for value in values]


def _value(value: Any, digits: int = MOST_DIGITS) -> str:
    if value is None:
        return ""
    is_numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    return _text(shown_number(value, digits) if is_numeric else str(value))


def _text(text: str, length: int = LONGEST) -> str:
    """Return a text of a file as HTML, on one line and without control characters."""
    return escape(encodable(visible(on_one_line(cut(text, length)))))


def _span(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
