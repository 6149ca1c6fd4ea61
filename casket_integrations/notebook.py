"""A live widget for notebooks: `live(model)` draws the curves of sessions while they run.

It is an anywidget, which Jupyter, VS Code, Colab and marimo show. A thread of the kernel reads the
store, so the widget follows a training in the same kernel as well as in other processes.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import casket
from casket import CasketError, Experiment, Model, SessionView
from casket.errors import missing
from casket.reading.casket import Casket
from casket.reading.columns import flatten
from casket.reading.curves import curve_of
from casket.reading.metrics import weight
from casket.reading.numbers import shown_number
from casket.reading.plain_text import cut, encodable, on_one_line, visible
from casket.reading.rows import Kind, is_number
from casket.reading.summary import varying

try:
    import anywidget
    import traitlets
except ModuleNotFoundError as error:
    raise missing(error, "anywidget", "notebook") from error

MOST_SESSIONS = 8
MOST_METRICS = 4
POINTS = 150
"""Maximum number of points of a curve."""

LONGEST = 40
"""Maximum characters of a label."""

SHARE = 0.02
"""Maximum share of a processor that the thread takes, however large the store is."""

Source = Experiment | Model | str | os.PathLike[str]


def live(
    source: Source,
    *,
    metrics: Sequence[str] | None = None,
    where: str | None = None,
    every: float = 1.0,
) -> Live:
    """Return a widget that draws the curves of the newest sessions while they run.

    Args:
        source: an experiment, a model, or the path or URL of a store.
        metrics: the metrics to draw; by default, the main ones.
        where: draw only sessions that match this condition, as for `Casket.sessions`.
        every: the minimum number of seconds between two updates.

    Raises:
        NotFound: the store does not exist.
        StoreUnavailable: the store cannot be read.
    """
    widget = Live(_opened(source), metrics, {**_owner(source), "where": where}, every)
    _close_replaced(widget)
    return widget


_last_run: dict[str, tuple[int, list[Live]]] = {}
"""By cell of Jupyter, the number of its last run and the widgets created by it."""


def _close_replaced(widget: Live) -> None:
    """Close the widgets of earlier runs of the cell, which Jupyter would keep for ever."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    cell = kernel.get_parent().get("metadata", {}).get("cellId") if kernel else None
    if shell is None or cell is None:
        return
    run, widgets = _last_run.get(cell, (0, []))
    if run != shell.execution_count:
        for earlier in widgets:
            earlier.close()
        widgets = []
    _last_run[cell] = (shell.execution_count, [*widgets, widget])


def _opened(source: Source) -> Casket:
    if not isinstance(source, (Experiment, Model)):
        return casket.open(source)
    location = source.backend.location
    if location.kind == "memory":
        return source._read()
    # A store of its own, so that reading does not delay a training of this process.
    return Casket.at(location)


def _owner(source: Source) -> dict[str, str]:
    """Return the experiment and the model to draw, as arguments of `Casket.sessions`."""
    if isinstance(source, Model):
        return {"experiment": source.experiment.id, "model": source.id}
    return {"experiment": source.id} if isinstance(source, Experiment) else {}


class Live(anywidget.AnyWidget):
    """The widget of `live`; a thread updates it until `close` or the notebook closes it.

    Attributes:
        picture: the data to draw, as JSON.
    """

    _esm = Path(__file__).with_name("notebook.js").read_text(encoding="utf-8")
    picture = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        runs: Casket,
        metrics: Sequence[str] | None,
        filters: dict[str, Any],
        every: float,
    ) -> None:
        self._runs, self._metrics, self._filters = runs, metrics, filters
        self._closing = threading.Event()
        super().__init__(picture=picture_of(runs.sessions(**filters), metrics))
        thread = threading.Thread(
            target=self._follow, args=(every,), name="casket-live", daemon=True
        )
        thread.start()

    def close(self) -> None:
        """Close the widget and end its thread."""
        self._closing.set()
        super().close()

    @property
    def is_open(self) -> bool:
        """Whether neither `close` nor the notebook has closed the widget."""
        is_disposed = self.comm is None or getattr(self.comm, "_closed", False)
        return not (is_disposed or self._closing.is_set())

    def _follow(self, every: float) -> None:
        pause = every
        with self._runs:
            while not self._closing.wait(pause) and self.is_open:
                began = time.thread_time()
                picture = self._picture()
                if picture != self.picture and self.is_open:
                    self.picture = picture
                pause = max(every, (time.thread_time() - began) / SHARE)

    def _picture(self) -> dict[str, Any]:
        try:
            return picture_of(self._runs.sessions(**self._filters), self._metrics)
        except CasketError as error:
            return {"sessions": [], "charts": [], "more": 0, "problem": _text(str(error), 400)}


def picture_of(sessions: Sequence[SessionView], metrics: Sequence[str] | None) -> dict[str, Any]:
    """Return the data that the widget draws, as JSON.

    Args:
        sessions: the sessions; of many, those that run and the newest are drawn.
        metrics: the metrics; by default, the main ones.
    """
    newest = sorted(sessions, key=lambda each: (each.status == "running", each.started))
    shown = sorted(newest[-MOST_SESSIONS:], key=lambda each: each.started)
    names = list(metrics) if metrics else _main_metrics(shown)
    return {
        "sessions": [
            {"name": _text(each.name), "params": params, "status": each.status}
            for params, each in zip(_varying_params(shown), shown, strict=True)
        ],
        "charts": [_chart(name, shown) for name in names],
        "more": len(sessions) - len(shown),
        "problem": "",
    }


def _main_metrics(sessions: Iterable[SessionView]) -> list[str]:
    counts = Counter(
        name
        for session in sessions
        for kind in ("epoch", "batch")
        for name in session.logged(kind).metrics()
    )
    names = [name for name, _ in counts.most_common()]
    return sorted(names, key=lambda name: -weight(name))[:MOST_METRICS]


def _varying_params(sessions: Sequence[SessionView]) -> list[str]:
    """Return the params of each session that vary, as text."""
    params = [flatten(session.params) for session in sessions]
    names = varying(params)
    return [
        " ".join(_text(f"{name}={_shown(each[name])}") for name in names if name in each)
        for each in params
    ]


def _shown(value: Any) -> str:
    return shown_number(value) if is_number(value) else str(value)


def _text(text: str, length: int = LONGEST) -> str:
    return encodable(visible(on_one_line(cut(text, length))))


def _chart(metric: str, sessions: Sequence[SessionView]) -> dict[str, Any]:
    lines = [_line(metric, session) for session in sessions]
    return {"metric": _text(metric), "lines": lines}


def _line(metric: str, session: SessionView) -> dict[str, Any]:
    """Return the curve of a session; non-finite values are None."""
    kind: Kind = "epoch" if metric in session.logged("epoch").metrics() else "batch"
    curve = curve_of(session.logged(kind), kind, metric, POINTS)
    ys = [float(f"{y:.6g}") if math.isfinite(y) else None for y in curve.ys]
    return {"unit": kind, "xs": curve.xs, "ys": ys}
