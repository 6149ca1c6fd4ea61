"""Tables of sweeps for `casket ls --sweep` and `casket sweep`."""

from __future__ import annotations

from collections.abc import Sequence

from casket.cli import tables
from casket.cli.tail import running_table
from casket.reading.sweeps import SweepView

MOST_IMPORTANT = 3
"""The number of params whose importance is shown."""


def sweeps_text(sweeps: Sequence[SweepView]) -> str:
    """Return a table of sweeps, and a table of what runs in each of them."""
    rows = [_row(sweep) for sweep in sweeps]
    parts = [tables.table(rows, list(rows[0]), keep=("sweep", "done"))]
    parts += [running_table(sweep.running, workers=True) for sweep in sweeps if sweep.running]
    return "\n\n".join(parts)


def done_of(sweep: SweepView) -> str:
    """Return how many sets are done, such as `12 of 40`."""
    return f"{sweep.done}" if sweep.size is None else f"{sweep.done} of {sweep.size}"


def best_text(sweep: SweepView) -> str:
    """Return the best value with its metric and session, empty if there is none."""
    best = sweep.best()
    if best is None:
        return ""
    metric, value, session = best
    return f"{metric} {tables.text(value)} ({session.id[:8]})"


def end_text(sweep: SweepView) -> str:
    """Return the expected end in the local time zone, empty if it is not known."""
    end = sweep.expected_end
    return f"{end.astimezone():%Y-%m-%d %H:%M}" if end else ""


def per_hour_text(sweep: SweepView) -> str:
    """Return how many sets are completed in an hour, empty if it is not known."""
    rate = sweep.per_hour
    if not rate:
        return ""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _row(sweep: SweepView) -> dict[str, str]:
    return {
        "sweep": sweep.id[:8],
        "experiment": sweep.experiment,
        "model": sweep.model,
        "done": done_of(sweep),
        "running": str(len(sweep.running)),
        "failed": str(sweep.unsuccessful),
        "an hour": per_hour_text(sweep),
        "ends": end_text(sweep),
        "best": best_text(sweep),
        "importance": _importance_text(sweep),
    }


def _importance_text(sweep: SweepView) -> str:
    """Return the params that explain most of the best metric, such as `lr 82 %, seed 3 %`."""
    shares = list(sweep.importance().items())[:MOST_IMPORTANT]
    return ", ".join(f"{name} {share:.0%}".replace("%", " %") for name, share in shares)
