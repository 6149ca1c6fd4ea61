"""The sessions with the best values of a metric."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from casket.errors import UnknownMode
from casket.reading import frames
from casket.reading.metrics import better
from casket.reading.rows import Mode
from casket.reading.views import SessionView


class Ranked(NamedTuple):
    """A session and its best value of a metric.

    Attributes:
        value: the value.
        session: the session.
        epoch: the number of the epoch that has it; None if it is of a batch or a result.
    """

    value: float
    session: SessionView
    epoch: int | None


class Ranking(list[Ranked], frames.Tabular):
    """Sessions with their best value of a metric, best first.

    Attributes:
        metric: the flat name of the metric.
        mode: `"min"` or `"max"`.
    """

    def __init__(self, ranked: Iterable[Ranked], metric: str, mode: Mode) -> None:
        super().__init__(ranked)
        self.metric = metric
        self.mode = mode

    def columns(self) -> frames.Columns:
        """Return `value` and `epoch`, and the columns of the sessions."""
        own: frames.Columns = {
            "value": [each.value for each in self],
            "epoch": [each.epoch for each in self],
        }
        return {**own, **frames.parts((each.session for each in self), "sessions").owners}


def rank(
    sessions: Iterable[SessionView], metric: str, mode: Mode | None = None, top: int | None = None
) -> Ranking:
    """Return the sessions with the best values of a metric, best first.

    Args:
        sessions: the sessions; those without numbers of that name are left out.
        metric: the flat name of the metric.
        mode: the direction; by default, as implied by the name of the metric.
        top: the number of sessions to return; None for all.

    Raises:
        UnknownMode: no mode is given, and the name of the metric does not imply one.
    """
    mode = mode or better(metric)
    if mode is None:
        raise UnknownMode(metric)
    rated = []
    for session in sessions:
        try:
            rated.append((session.best(metric, mode), session))
        except KeyError:
            continue  # the session does not have this metric
    rated.sort(key=lambda pair: pair[0], reverse=mode == "max")
    best = (Ranked(value, each, _epoch_of(each, metric, mode)) for value, each in rated[:top])
    return Ranking(best, metric, mode)


def _epoch_of(session: SessionView, metric: str, mode: Mode) -> int | None:
    row = session.epochs.best(metric, mode)
    return row["epoch_num"] if row else None
