"""DVCLive: a folder with `metrics.json`, `params.yaml` and a table for each metric.

The folder becomes the model, its parent folder the experiment. The tables in `plots/metrics` become
epochs by step, with times if they were logged. Values that are only in `metrics.json` become a
result. DVCLive stores no status: runs are `completed`. Images and other plots are not imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from casket.imports.parsing import (
    file_time,
    number_of,
    read_json,
    read_table,
    read_yaml,
    to_datetime,
    whole,
)
from casket.imports.report import Report
from casket.imports.runs import Entry, Point, Run, by_step

_METRICS, _PARAMS, _TABLES = "metrics.json", "params.yaml", "plots/metrics"


def recognizes(path: Path) -> bool:
    """Return whether a path is or contains a folder of DVCLive."""
    return any(_folders(path))


def count(path: Path) -> int:
    """Return the maximum number of runs, without reading them."""
    return sum(1 for _ in _folders(path))


def runs(path: Path, report: Report) -> Iterator[Run]:
    """Yield one run per folder."""
    for folder in sorted(_folders(path)):
        tables = sorted((folder / _TABLES).rglob("*.tsv"))
        points = [point for table in tables for point in _points(table, folder, report)]
        points.sort(key=lambda point: (point.step, point.time is None))
        plots = [path for path in (folder / "plots").rglob("*") if path.is_file()]
        report.leave_out("plots", len(plots) - len(tables))
        yield _run(folder, points, report)


def _folders(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for tables in path.rglob(_TABLES):
            if (tables.parents[1] / _METRICS).is_file():
                yield tables.parents[1]


def _points(table: Path, folder: Path, report: Report) -> Iterator[Point]:
    name = table.relative_to(folder / _TABLES).with_suffix("").as_posix()
    for row in read_table(table, report, separator="\t"):
        step = whole(number_of(row.get("step", "")))
        if step is None:
            report.problem(f"{table}, step {row.get('step')!r}", "not an integer; skipped")
        else:
            yield Point(name, step, number_of(row[table.stem]), _time(row))


def _time(row: dict[str, str]) -> datetime | None:
    milliseconds = number_of(row.get("timestamp", ""))
    return None if isinstance(milliseconds, str) else to_datetime(milliseconds / 1000)


def _run(folder: Path, points: list[Point], report: Report) -> Run:
    latest = read_json(folder / _METRICS, report)
    params = read_yaml(folder / _PARAMS, report, core=True) if (folder / _PARAMS).is_file() else {}
    times = [point.time for point in points if point.time]
    first = points[0] if points else None
    return Run(
        facts=[folder.parent.name, folder.name, first and [first.name, first.step, first.value]],
        name=folder.name,
        experiment=folder.parent.name,
        started=min(times, default=file_time(folder / _METRICS)),
        params=params if isinstance(params, dict) else {},
        entries=[*by_step(points), *_results(latest, {point.name for point in points})],
        folder=folder,
    )


def _results(latest: Any, logged: set[str]) -> Iterator[Entry]:
    flat = _flat(latest) if isinstance(latest, dict) else {}
    values = {name: flat[name] for name in flat if name not in logged | {"step"}}
    if values:
        yield Entry("result", {"index": None}, values)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values under the names they were logged by, such as `train/loss`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}/")
        else:
            flat[prefix + name] = value
    return flat
