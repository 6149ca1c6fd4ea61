"""MLflow's tracking store: a SQLite database (`mlflow.db`) or a folder (`mlruns`).

MLflow itself is not needed. Its experiment becomes the experiment, the run name the model. MLflow
stores params as strings; strings that are a Boolean, or a number in the spelling of Python, are
converted. Metrics become epochs by step, each with its time. MLflow gives metrics without a step
the step 0: if a metric has only that step, it becomes a result if it was logged once and the run
has ended, and is numbered by time if it was logged several times. Tags become tags of the form
`name=value`; MLflow's own tags are stored in the meta, nested runs become children of their parent,
and the description becomes the note. Killed and failed runs keep their status. Deleted runs,
traces, datasets and logged models are not imported.

Artifacts are imported if they are on this machine: at the location recorded in the run, or in
`mlruns` or `mlartifacts` beside the database.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from casket.imports.databases import Database, has_tables, open_database
from casket.imports.parsing import (
    number_of,
    read_text,
    read_yaml,
    to_datetime,
    value_of,
    whole,
    whole_lines,
)
from casket.imports.report import Report
from casket.imports.runs import Entry, Point, Run, Status, as_results, by_step

_META = "meta.yaml"
_TABLES = {
    "experiments": {"experiment_id", "name"},
    "runs": {"run_uuid", "experiment_id", "status", "start_time", "end_time"},
    "metrics": {"run_uuid", "key", "value", "timestamp", "step"},
}
_LEFT_OUT = {"traces": "trace_info", "logged models": "logged_models"}
_DATASETS = "WHERE source_type = 'DATASET'"
_FOLDERS = {
    "traces": "*/traces/*/",
    "logged models": "*/models/*/",
    "deleted runs": ".trash/*/*/meta.yaml",
}
"""The parts of the folder that are not imported."""
_STATUSES: dict[str, Status | None] = {
    "RUNNING": None,
    "SCHEDULED": None,
    "FINISHED": "completed",
    "FAILED": "failed",
    "KILLED": "killed",
}
# The status numbers in the folder.
_STATUS_NUMBERS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
_OWN = "mlflow."
_FACTS = {"user": "user", "source.name": "command", "source.git.commit": "commit"}
"""MLflow's own tags that have a name in casket."""


class _Stored(NamedTuple):
    """A run as read from either kind of store."""

    run: dict[str, Any]
    experiment: str
    params: dict[str, str]
    tags: dict[str, str]
    points: list[Point]
    artifacts: Path | None


def recognizes(path: Path) -> bool:
    """Return whether a path is MLflow's database or folder."""
    return has_tables(path, _TABLES) or any(_experiments(path))


def count(path: Path) -> int:
    """Return the maximum number of runs, without reading them."""
    if path.is_dir():
        return sum(1 for folder in _experiments(path) for _ in folder.glob(f"*/{_META}"))
    with open_database(path, Report("mlflow", str(path))) as database:
        return database.count("runs")


def runs(path: Path, report: Report) -> Iterator[Run]:
    """Yield all runs except deleted ones."""
    for stored in _in_folder(path, report) if path.is_dir() else _in_database(path, report):
        if stored.run.get("lifecycle_stage") == "deleted":
            report.leave_out("deleted runs")
        else:
            yield _run(stored)


def _run(stored: _Stored) -> Run:
    run, tags = stored.run, stored.tags
    run_id = str(run.get("run_uuid") or run["run_id"])
    source_status = _status(run.get("status"))
    status = _STATUSES.get(source_status)
    facts = {name.removeprefix(_OWN): tags[name] for name in tags if name.startswith(_OWN)}
    facts.pop("runName", None)
    parent = facts.pop("parentRunId", None)
    note = facts.pop("note.content", "")
    given = tags.get(f"{_OWN}runName") or run.get("name") or run.get("run_name")
    own_tags = [name for name in tags if not name.startswith(_OWN)]
    return Run(
        facts=[run_id],
        name=str(given or run_id),
        is_named=bool(given),
        experiment=stored.experiment,
        started=_time(run.get("start_time")) or to_datetime(0),
        ended=_time(run.get("end_time")),
        status=status,
        source_status=source_status,
        params={name: value_of(text) for name, text in stored.params.items()},
        meta={
            "run_id": run_id,
            **{_FACTS[name]: facts.pop(name) for name in _FACTS if name in facts},
            **({"mlflow": facts} if facts else {}),
        },
        tags=[f"{name}={tags[name]}" if tags[name] else name for name in own_tags],
        note=note,
        parent=[parent] if parent else None,
        entries=_entries(stored.points, has_ended=status is not None),
        artifacts=_files(stored.artifacts),
    )


def _entries(points: list[Point], *, has_ended: bool) -> list[Entry]:
    """Group points into epochs by step, and single points without a step into results."""
    points.sort(key=lambda point: (point.time or to_datetime(0), point.step))
    counts = Counter(point.name for point in points)
    has_steps = {point.name for point in points if point.step != 0}
    alone = {name for name in counts if has_ended and counts[name] == 1 and name not in has_steps}
    curves = [point for point in points if point.name not in alone]
    results = [point for point in points if point.name in alone]
    return [*by_step(_numbered(curves, counts.keys() - has_steps)), *as_results(results)]


def _numbered(points: list[Point], stepless: set[str]) -> Iterator[Point]:
    """Number the points of the metrics that have no steps."""
    made: Counter[str] = Counter()
    for point in points:
        yield point._replace(step=made[point.name]) if point.name in stepless else point
        made[point.name] += 1


def _status(status: Any) -> str:
    return _STATUS_NUMBERS.get(status, str(status))


def _time(milliseconds: Any) -> datetime | None:
    return None if milliseconds is None else to_datetime(milliseconds / 1000)


def _files(folder: Path | None) -> dict[str, Path]:
    if folder is None or not folder.is_dir():
        return {}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in files}


# The database.


def _in_database(path: Path, report: Report) -> Iterator[_Stored]:
    with open_database(path, report) as database:
        for name, table in _LEFT_OUT.items():
            report.leave_out(name, database.count(table))
        report.leave_out("datasets", database.count("inputs", _DATASETS))
        experiments = {row["experiment_id"]: row["name"] for row in database.rows("experiments")}
        for row in database.rows("runs", "ORDER BY start_time, run_uuid"):
            run = dict(row)
            yield _Stored(
                run,
                experiments.get(run["experiment_id"], str(run["experiment_id"])),
                _pairs(database, "params", run["run_uuid"]),
                _pairs(database, "tags", run["run_uuid"]),
                _rows(database, run["run_uuid"]),
                _artifact_folder(path, run),
            )


def _pairs(database: Database, table: str, run: str) -> dict[str, str]:
    rows = database.rows(table, "WHERE run_uuid = ? ORDER BY key", run)
    return {row["key"]: row["value"] or "" for row in rows}


def _rows(database: Database, run: str) -> list[Point]:
    has_nan = "is_nan" in database.columns("metrics")
    return [
        Point(
            row["key"],
            row["step"],
            float("nan") if has_nan and row["is_nan"] else _logged(row["value"]),
            to_datetime(row["timestamp"] / 1000),
        )
        for row in database.rows("metrics", "WHERE run_uuid = ? ORDER BY timestamp, step", run)
    ]


def _logged(value: float) -> float:
    """Return the logged value; the database stores infinity as the largest float."""
    return math.copysign(math.inf, value) if abs(value) == sys.float_info.max else value


def _artifact_folder(path: Path, run: dict[str, Any]) -> Path | None:
    uri = urlsplit(str(run.get("artifact_uri") or ""))
    inside = Path(str(run["experiment_id"]), str(run["run_uuid"]), "artifacts")
    places = [path.parent / name / inside for name in ("mlruns", "mlartifacts")]
    if uri.scheme in {"", "file"} and uri.path:
        places.insert(0, path.parent / unquote(uri.path))
    return next((place for place in places if place.is_dir()), None)


# The folder: experiments hold runs; runs hold one file per param, tag and metric.


def _experiments(path: Path) -> Iterator[Path]:
    metas = path.glob(f"*/{_META}") if path.is_dir() else ()
    return (meta.parent for meta in metas if "artifact_location:" in read_text(meta))


def _in_folder(path: Path, report: Report) -> Iterator[_Stored]:
    for name, pattern in _FOLDERS.items():
        report.leave_out(name, sum(1 for _ in path.glob(pattern)))
    for folder in sorted(_experiments(path)):
        about = read_yaml(folder / _META, report)
        name = str(about.get("name", folder.name)) if isinstance(about, dict) else folder.name
        stored = [_stored(run, name, report) for run in folder.glob("*/") if _is_run(run, report)]
        yield from sorted(filter(None, stored), key=_start)


def _is_run(folder: Path, report: Report) -> bool:
    """Return whether a folder is a run; report a problem if its description is missing."""
    if (folder / _META).is_file():
        return True
    if (folder / "metrics").is_dir() or (folder / "params").is_dir():
        report.problem(folder / _META, "missing; the run was skipped")
    return False


def _start(stored: _Stored) -> tuple[int, str]:
    return stored.run.get("start_time") or 0, str(stored.run["run_id"])


def _stored(folder: Path, experiment: str, report: Report) -> _Stored | None:
    run = read_yaml(folder / _META, report)
    if not isinstance(run, dict) or "run_id" not in run:
        if run is not None:
            report.problem(folder / _META, "it does not describe a run; skipped")
        return None
    report.leave_out("datasets", sum(1 for _ in folder.glob("inputs/*/")))
    points = [
        point
        for name, file in _files(folder / "metrics").items()
        for point in _lines(name, file, report)
    ]
    params, tags = _texts(folder / "params", report), _texts(folder / "tags", report)
    return _Stored(run, experiment, params, tags, points, folder / "artifacts")


def _texts(folder: Path, report: Report) -> dict[str, str]:
    texts = {}
    for name, file in _files(folder).items():
        try:
            texts[name] = read_text(file)
        except OSError as error:
            report.problem(file, error)
    return texts


def _lines(name: str, file: Path, report: Report) -> Iterator[Point]:
    for line in whole_lines(file, report):
        fields = line.split(" ")
        time, value, step = [*(number_of(field.strip()) for field in fields), 0, 0, 0][:3]
        if whole(time) is None or whole(step) is None or isinstance(value, str) or not fields[1:]:
            report.problem(file, f"the line {line.strip()[:40]!r} is not a metric; skipped")
        else:
            yield Point(name, int(step), float(value), to_datetime(time / 1000))
