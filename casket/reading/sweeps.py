"""Sweeps as readers see them: how many sets are done, what runs, and when the sweep will end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import NoneType
from typing import Any, TypeGuard

from casket.reading.metrics import better
from casket.reading.rows import best_of
from casket.reading.summary import as_json, best_values
from casket.reading.views import SessionView, parse_time


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

    def best(self, metric: str | None = None) -> tuple[str, float, SessionView] | None:
        """Return a metric with its best value and the completed session that has it.

        Args:
            metric: the metric; by default, the first one whose name implies a direction.
        """
        completed = self._with("completed")
        if metric is None:
            metric = next((name for view in completed for name in best_values(view)), None)
        mode = better(metric) if metric else None
        if metric is None or mode is None:
            return None
        by_session = {
            view.id: (values[metric], view)
            for view in completed
            if metric in (values := best_values(view))
        }
        best = best_of([value for value, _ in by_session.values()], mode)
        return next(
            ((metric, value, view) for value, view in by_session.values() if value == best), None
        )

    def _with(self, status: str) -> list[SessionView]:
        return [view for view in self.sessions if view.status == status]


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
