"""Sweeps as readers see them: how many sets are done, what runs, and when the sweep will end."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import NoneType
from typing import Any, TypeGuard

from casket.reading.columns import flatten
from casket.reading.metrics import better, main_metric
from casket.reading.rows import best_of
from casket.reading.summary import as_json, best_value, best_values, varying
from casket.reading.views import SessionView, parse_time
from casket.statistics.importance import importance


@dataclass
class SweepView:
    """The sessions of a sweep, over all processes; see `Model.sweep`.

    Attributes:
        id: the id of the space of the sweep.
        experiment: the experiment of its sessions.
        model: the model of its sessions.
        size: the number of sets of the space, None if it is not known.
        sessions: its sessions, in order of their start.
    """

    id: str
    experiment: str
    model: str
    size: int | None
    sessions: list[SessionView] = field(default_factory=list)

    @property
    def done(self) -> int:
        """The number of sets that are completed."""
        return len({_set_of(view) for view in self._with("completed")})

    @property
    def running(self) -> list[SessionView]:
        """The sessions that are running."""
        return self._with("running")

    @property
    def unsuccessful(self) -> int:
        """The number of sets that failed or were killed, and are neither done nor running."""
        others = {_set_of(view) for view in (*self._with("completed"), *self.running)}
        return len({_set_of(view) for view in self.sessions} - others)

    @property
    def left(self) -> int | None:
        """The number of sets that are not done, None if the size is not known."""
        return None if self.size is None else max(self.size - self.done, 0)

    @property
    def per_hour(self) -> float | None:
        """How many sets are completed in an hour, since the processes at work began."""
        began = max((view.meta["sweep"].get("began", "") for view in self.sessions), default="")
        ends = sorted(
            view.ended
            for view in self._with("completed")
            if view.ended and view.meta["sweep"].get("began") == began
        )
        if not ends:
            return None
        hours = (ends[-1] - datetime.fromisoformat(began)) / timedelta(hours=1)
        return len(ends) / hours if hours > 0 else None

    @property
    def expected_end(self) -> datetime | None:
        """The time at which all sets will be done at this rate; None if nothing is running."""
        if not self.left or not self.per_hour or not self.running:
            return None
        return datetime.now(UTC) + timedelta(hours=self.left / self.per_hour)

    @property
    def metric(self) -> str | None:
        """The metric that best describes the quality of completed sessions, as on the page."""
        return main_metric(map(best_values, self._with("completed")))

    def best(self, metric: str | None = None) -> tuple[str, float, SessionView] | None:
        """Return a metric with its best value and the completed session that has it.

        Args:
            metric: the metric; by default, that of `metric`.
        """
        metric = metric or self.metric
        mode = better(metric) if metric else None
        if metric is None or mode is None:
            return None
        scored = self._scored(metric)
        best = best_of([value for _, value in scored], mode)
        return next(((metric, value, view) for view, value in scored if value == best), None)

    def importance(self, metric: str | None = None) -> dict[str, float]:
        """Return how much of the variance of a metric each param explains, the largest first.

        Params that do not vary, or of which too few sets are completed, are left out; see
        `casket.statistics.importance`.

        Args:
            metric: the metric; by default, that of `metric`.
        """
        scored = self._scored(metric or self.metric or "")
        scored = [(view, score) for view, score in scored if math.isfinite(score)]
        tables = [flatten(as_json(view.params)) for view, _ in scored]
        shares = {
            name: importance([table.get(name) for table in tables], [score for _, score in scored])
            for name in varying(tables)
        }
        known = [(name, share) for name, share in shares.items() if share is not None]
        return dict(sorted(known, key=lambda pair: -pair[1]))

    def facts(self) -> dict[str, Any]:
        """Return the state of the sweep, as JSON.

        Returns:
            id, experiment, model, size, done and failed (numbers of sets), running (ids of
            sessions), workers (host, pid, session and params of each running session), per_hour,
            expected_end, best (metric, value and session, or None) and importance (of each param).
        """
        metric = self.metric
        best = self.best(metric)
        return {
            "id": self.id,
            "experiment": self.experiment,
            "model": self.model,
            "size": self.size,
            "done": self.done,
            "running": [view.id for view in self.running],
            "workers": [
                {
                    **dict(zip(("host", "pid"), worker_of(view), strict=True)),
                    "session": view.id,
                    "params": as_json(view.params),
                }
                for view in self.running
            ],
            "failed": self.unsuccessful,
            "per_hour": self.per_hour,
            "expected_end": as_json(self.expected_end),
            "best": best and {"metric": best[0], "value": as_json(best[1]), "session": best[2].id},
            "importance": self.importance(metric),
        }

    def _scored(self, metric: str) -> list[tuple[SessionView, float]]:
        """Return the completed sessions with their best value of a metric, if they have one."""
        scored = [(view, best_value(view, metric)) for view in self._with("completed")]
        return [(view, value) for view, value in scored if value is not None]

    def _with(self, status: str) -> list[SessionView]:
        return [view for view in self.sessions if view.status == status]


def worker_of(view: SessionView) -> tuple[str | None, int | None]:
    """Return the host and the pid of the process that started or continued a session last."""
    meta = view.meta
    starts = meta.get("starts")
    latest = starts[-1] if isinstance(starts, list) and starts else meta
    return latest.get("host"), latest.get("pid")


def sweeps_of(sessions: Iterable[SessionView]) -> Sequence[SweepView]:
    """Return the sweeps that sessions belong to, in order of their first session."""
    sweeps: dict[tuple[str, str, str], SweepView] = {}
    for view in sessions:
        sweep = view.meta.get("sweep")
        if not _is_sweep(sweep):
            continue
        key = (view.experiment, view.model, str(sweep["id"]))
        if key not in sweeps:
            sweeps[key] = SweepView(key[2], view.experiment, view.model, sweep["size"])
        sweeps[key].sessions.append(view)
    return list(sweeps.values())


def _is_sweep(value: Any) -> TypeGuard[dict[str, Any]]:
    """Return whether a value was written by a sweep; `meta` may hold anything of that name."""
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        return False
    is_counted = type(value.get("position")) is int and type(value.get("size", 0)) in (
        int,
        NoneType,
    )
    try:
        return is_counted and "size" in value and parse_time(value["began"]).tzinfo is not None
    except (KeyError, TypeError, ValueError):
        return False


def _set_of(view: SessionView) -> str:
    """Return the params of a session as text; the positions of a search are not unique."""
    return json.dumps(as_json(view.params), sort_keys=True)
