"""Trackio's databases: one file per project, or a folder of such files.

The project becomes the experiment, the run's name the model, its config the params. The values
logged at a step become an epoch with its time. Trackio stores no status: runs are `completed`.
System metrics, alerts, media and artifacts are not imported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from casket.imports.databases import Database, has_tables, open_database
from casket.imports.parsing import file_time, parse_time
from casket.imports.report import Report
from casket.imports.runs import Point, Run, by_step

_TABLES = {"metrics": {"run_name", "step", "metrics", "timestamp"}}
_LEFT_OUT = ("system_metrics", "alerts", "traces", "artifact_versions")
_NUMBERS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_KIND = "_type"
"""The key that marks a logged table, image or other medium."""


def recognizes(path: Path) -> bool:
    """Return whether a path is a Trackio database or a folder of them."""
    return any(_databases(path))


def count(path: Path) -> int:
    """Return the maximum number of runs, without reading them."""
    total = 0
    for file in _databases(path):
        with open_database(file, Report("trackio", str(path))) as database:
            total += sum(1 for _ in database.rows(_runs_in(_key(database))))
    return total


def runs(path: Path, report: Report) -> Iterator[Run]:
    """Yield the runs of every project."""
    for file in sorted(_databases(path)):
        with open_database(file, report) as database:
            yield from _runs_of(database, file, report)


def _databases(path: Path) -> Iterator[Path]:
    files = path.glob("*.db") if path.is_dir() else [path]
    return (file for file in files if has_tables(file, _TABLES))


def _key(database: Database) -> str:
    """Return the column that identifies runs; before version 0.24, runs had only a name."""
    return "run_id" if "run_id" in database.columns("metrics") else "run_name"


def _runs_in(key: str) -> str:
    """Return the query for the runs with metrics, in the order of their first metric."""
    return f"(SELECT {key}, run_name FROM metrics GROUP BY {key}, run_name ORDER BY min(id))"  # noqa: S608 - constants only


def _runs_of(database: Database, file: Path, report: Report) -> Iterator[Run]:
    key = _key(database)
    configs = {}
    if database.columns("configs"):
        configs = {row[key]: row for row in database.rows("configs", "ORDER BY id")}
    names = {row[key]: row["run_name"] for row in configs.values()}
    names.update({row[key]: row["run_name"] for row in database.rows(_runs_in(key))})
    for table in _LEFT_OUT:
        report.leave_out(table.replace("_", " "), database.count(table))
    for run, name in names.items():
        points = list(
            _points(database.rows("metrics", f"WHERE {key} = ? ORDER BY id", run), report)
        )
        config = _loaded(configs[run]["config"], report) if run in configs else {}
        yield _run(file, run, name, config, points)


def _run(file: Path, run: str, name: str, config: dict[str, Any], points: list[Point]) -> Run:
    times = [point.time for point in points if point.time is not None]
    created = parse_time(config.get("_Created")) or min(times, default=file_time(file))
    meta = {"user": config.get("_Username"), "group": config.get("_Group")}
    return Run(
        facts=[file.stem, run],
        name=name,
        is_named=True,
        experiment=file.stem,
        started=min([created, *times]),
        params={key: value for key, value in config.items() if not key.startswith("_")},
        meta={key: value for key, value in meta.items() if value is not None},
        entries=by_step(points),
    )


def _points(rows: Iterator[Any], report: Report) -> Iterator[Point]:
    for row in rows:
        time = parse_time(row["timestamp"])
        for name, value in _loaded(row["metrics"], report).items():
            if isinstance(value, dict) and _KIND in value:
                report.leave_out(str(value[_KIND]).rpartition(".")[2])
            else:
                yield Point(name, row["step"], value, time)


def _loaded(text: str, report: Report) -> dict[str, Any]:
    try:
        values = _restored(json.loads(text))
    except ValueError as error:
        report.problem(f"the row {text[:40]!r}", error)
        return {}
    return values if isinstance(values, dict) else {}


def _restored(value: Any) -> Any:
    """Decode a value written by Trackio."""
    if isinstance(value, dict):
        return {name: _restored(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_restored(item) for item in value]
    return _NUMBERS.get(value, value) if isinstance(value, str) else value
