"""Summaries of sessions as plain JSON, for listings, exports and pages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from typing import Any

from casket.format.artifacts import Artifact
from casket.reading.metrics import better
from casket.reading.rows import best_of
from casket.reading.views import SessionView
from casket.statistics.intervals import mean_and_deviation


def facts(session: SessionView) -> dict[str, Any]:
    """Return the fields of a session that listings show, as JSON.

    Returns:
        id, name, group, parent (the id of the session that it is a child of, or None),
        experiment, model, status, started, ended, duration and age (seconds), epochs (their
        number), tags, note, error, params, last (the latest value of each metric, by flat name)
        and best (the best value of each metric whose name implies a direction).
    """
    ended = session.ended
    return {
        "id": session.id,
        "name": session.name,
        "group": session.group,
        "parent": session.parent_id,
        "experiment": session.experiment,
        "model": session.model,
        "status": session.status,
        "started": session.started.isoformat(),
        "ended": ended.isoformat() if ended else None,
        "duration": round(session.duration.total_seconds(), 3),
        "age": round(session.age.total_seconds(), 3),
        "epochs": epoch_count(session),
        "tags": list(session.tags),
        "note": session.note,
        "error": session.error,
        "params": as_json(session.params),
        "last": as_json(dict(session.last)),
        "best": as_json(best_values(session)),
    }


def details(session: SessionView) -> dict[str, Any]:
    """Return all data of a session, as JSON.

    Returns:
        The fields of `facts`, and config, meta, results (a list of
        `{"index": ..., "result": ...}`), artifacts (name, path, size in bytes, media_type, step,
        captured if casket captured it, and history, all artifacts of the name), alerts (title,
        text, level, time), epoch_rows, batch_rows, system_rows and children (their id, name,
        status, error, params and last).
    """
    results = session.logged("result")
    return {
        **facts(session),
        "config": as_json(session.config),
        "meta": as_json(session.meta),
        "results": [
            {"index": index, "result": as_json(result)}
            for index, result in zip(results.numbers["index"], results.results(), strict=False)
        ],
        "artifacts": [
            {
                **_artifact(artifact),
                "history": [_artifact(earlier) for earlier in artifact.history],
            }
            for artifact in session.artifacts.values()
        ],
        "alerts": alerts_as_json(session),
        "epoch_rows": as_json(session.epochs),
        "batch_rows": as_json(session.batches),
        "system_rows": as_json(session.system),
        "children": [_brief(child) for child in session.children],
    }


def _brief(session: SessionView) -> dict[str, Any]:
    facts_of = facts(session)
    return {name: facts_of[name] for name in ("id", "name", "status", "error", "params", "last")}


def _artifact(artifact: Artifact) -> dict[str, Any]:
    return {
        "name": artifact.name,
        "path": str(artifact.folder.place(artifact.file)),
        "size": artifact.size,
        "media_type": artifact.media_type,
        "step": artifact.step,
        **({"captured": artifact.captured} if artifact.captured else {}),
    }


def alerts_as_json(session: SessionView) -> list[dict[str, Any]]:
    """Return the alerts of a session, as JSON."""
    return [as_json(alert._asdict()) for alert in session.alerts]


def epoch_count(session: SessionView) -> int:
    """Return the number of distinct epochs of a session."""
    return len(set(session.logged("epoch").numbers["epoch_num"]))


def best_values(session: SessionView) -> dict[str, float]:
    """Return the best value of each metric whose name implies a direction; see `best_value`."""
    bests = {name: best_value(session, name) for name in numeric_metrics(session)}
    return {name: best for name, best in bests.items() if best is not None}


def best_value(session: SessionView, metric: str, otherwise: Any = None) -> Any:
    """Return the best value of a metric if its name implies a direction.

    This is the best over the epochs, or over the results under an index.
    """
    mode = better(metric)
    if mode is None:
        return otherwise
    best = best_of(session.logged("epoch").values(metric), mode)
    if best is None:
        best = best_of(session.indexed(metric), mode)
    return otherwise if best is None else best


def numeric_metrics(session: SessionView) -> list[str]:
    """Return the flat names of the metrics whose latest value is a number."""
    return [name for name, value in session.last.items() if is_numeric(value)]


def means_of(children: Iterable[SessionView]) -> dict[str, float]:
    """Return the mean of each metric of completed children, and its deviation as `<name>.std`.

    Deviations that children have logged as summaries of their own children are left out.
    """
    samples: dict[str, list[float]] = {}
    for child in children:
        metrics = numeric_metrics(child) if child.status == "completed" else []
        for name in metrics:
            if not (name.endswith(".std") and name.removesuffix(".std") in metrics):
                samples.setdefault(name, []).append(child.last[name])
    means = {}
    for name, sample in samples.items():
        means[name], means[f"{name}.std"] = mean_and_deviation(sample)
    return means


def varying(tables: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the keys whose values differ between tables, in order of appearance."""
    rows = list(tables)
    names = dict.fromkeys(name for row in rows for name in row)
    missing = object()
    first = rows[0] if rows else {}
    return [
        name
        for name in names
        if any(not _is_same(row.get(name, missing), first.get(name, missing)) for row in rows)
    ]


def as_json(value: Any) -> Any:
    """Return a value as JSON: dates as ISO 8601, non-finite floats as `"NaN"` or `"Infinity"`."""
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [as_json(item) for item in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _word(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    return as_json(value.tolist()) if hasattr(value, "tolist") else str(value)


def _word(value: float) -> str:
    if value != value:
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def is_numeric(value: Any) -> bool:
    """Return whether a value is a number, NaN included; bools are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_same(one: Any, other: Any) -> bool:
    return one is other or as_json(one) == as_json(other)
