"""Sacred's `FileStorageObserver`: folders with `run.json`, `config.json`, `metrics.json`.

The name of Sacred's experiment becomes the experiment, its command (`main`) the model, its config
the params. Metrics become epochs by step, each with its time. The return value of the run becomes a
result, `info.json` becomes part of the meta, and the comment becomes the note. Artifacts, resources
and captured output are imported; source files are not. A run stopped by Ctrl-C or a timeout gets
the status `failed`, as in casket.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from casket.imports.jsonpickle import restored
from casket.imports.parsing import file_time, parse_time, read_json, whole
from casket.imports.report import Report
from casket.imports.runs import Entry, Point, Run, Status, by_step

_STATUSES: dict[str, Status | None] = {
    "COMPLETED": "completed",
    "RUNNING": None,
    "QUEUED": None,
}
_CAPTURED = "cout.txt"


def recognizes(path: Path) -> bool:
    """Return whether a path is or contains a folder with a `run.json` and a `config.json`."""
    return any(_folders(path))


def count(path: Path) -> int:
    """Return the maximum number of runs, without reading them."""
    return sum(1 for _ in _folders(path))


def runs(path: Path, report: Report) -> Iterator[Run]:
    """Yield one run per folder."""
    for folder in sorted(_folders(path), key=_by_number):
        entry = read_json(folder / "run.json", report)
        if isinstance(entry, dict) and isinstance(entry.get("experiment"), dict):
            yield _run(folder, entry, report)
        elif entry is not None:
            report.problem(
                folder / "run.json", "it does not name its experiment; the run was skipped"
            )


def _folders(path: Path) -> Iterator[Path]:
    folders = (path, *path.glob("*/")) if path.is_dir() else ()
    return (folder for folder in folders if (folder / "run.json").is_file() and _is_sacred(folder))


def _is_sacred(folder: Path) -> bool:
    return (folder / "config.json").is_file() or (folder / _CAPTURED).is_file()


def _by_number(folder: Path) -> tuple[int, str]:
    return (int(folder.name) if folder.name.isdecimal() else 0), folder.name


def _run(folder: Path, entry: dict[str, Any], report: Report) -> Run:
    experiment = str(entry["experiment"].get("name", folder.parent.name))
    source_status = str(entry.get("status"))
    started = parse_time(entry.get("start_time")) or file_time(folder / "run.json")
    report.leave_out("sources", len(entry["experiment"].get("sources") or ()))
    return Run(
        facts=[experiment, folder.name, entry.get("start_time")],
        name=str(entry.get("command") or "run"),
        experiment=experiment,
        started=started,
        ended=parse_time(entry.get("stop_time") or entry.get("heartbeat")),
        status=_STATUSES.get(source_status, "failed"),
        source_status=source_status,
        error=_error(source_status, entry.get("fail_trace")),
        params=_params(folder, report),
        meta=_meta(folder, entry, report),
        note=str((entry.get("meta") or {}).get("comment") or ""),
        entries=[*by_step(_points(folder, report)), *_results(folder, entry, report)],
        artifacts=_artifacts(folder, entry),
    )


def _error(status: str, trace: Any) -> str | None:
    if status in _STATUSES:
        return None
    return str(trace[-1]).strip() if isinstance(trace, list) and trace else status


def _params(folder: Path, report: Report) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        report.problem(path, "missing; the run has no params")
        return {}
    config = read_json(path, report)
    return restored(config, path, report) if isinstance(config, dict) else {}


def _meta(folder: Path, entry: dict[str, Any], report: Report) -> dict[str, Any]:
    host = entry.get("host") or {}
    repository: dict[str, Any] = next(iter(entry["experiment"].get("repositories") or ()), {})
    info = read_json(folder / "info.json", report) if (folder / "info.json").is_file() else None
    facts = {
        "run_id": folder.name,
        "host": host.get("hostname"),
        "python": host.get("python_version"),
        "platform": " ".join(map(str, host.get("os") or ())) or None,
        "commit": repository.get("commit"),
        "dirty": repository.get("dirty"),
        "info": restored(info, folder / "info.json", report),
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def _points(folder: Path, report: Report) -> list[Point]:
    path = folder / "metrics.json"
    metrics = read_json(path, report) if path.is_file() else {}
    points: list[Point] = []
    for name, metric in (metrics or {}).items():
        columns = [metric.get(column) or [] for column in ("steps", "values", "timestamps")]
        if len({len(column) for column in columns}) > 1:
            report.problem(f"{path}, {name}", "different numbers of steps, values and times")
        for step, value, time in zip(*columns, strict=False):
            number = whole(step)
            if number is None:
                report.problem(f"{path}, {name}", f"step {step!r} is not an integer; skipped")
            else:
                points.append(Point(name, number, restored(value, path, report), parse_time(time)))
    return sorted(points, key=_time)


def _time(point: Point) -> float:
    return point.time.timestamp() if point.time is not None else 0.0


def _results(folder: Path, entry: dict[str, Any], report: Report) -> Iterator[Entry]:
    result = restored(entry.get("result"), folder / "run.json", report)
    if result is not None:
        values = result if isinstance(result, dict) else {"result": result}
        time: datetime | None = parse_time(entry.get("stop_time"))
        yield Entry("result", {"index": None}, values, time)


def _artifacts(folder: Path, entry: dict[str, Any]) -> dict[str, Path]:
    files = {str(name): folder / str(name) for name in entry.get("artifacts") or ()}
    for name, path in entry.get("resources") or ():
        # The recorded path is from the original machine; the copy is beside the runs.
        files[Path(name).name] = folder.parent / "_resources" / Path(path).name
    captured = folder / _CAPTURED
    if captured.is_file() and captured.stat().st_size:
        files[_CAPTURED] = captured
    return files
