"""Ray Tune: a trial's folder with `result.json` and `params.json`, or a tree of such folders.

The folder of the experiment becomes the experiment, the folder of the trial the model, its config
the params. Each report becomes an epoch, numbered by the training iteration, with its time in whole
seconds. The status is read from `experiment_state-*.json` in the experiment's folder, otherwise
from `error.txt`, whose last line is the error. Checkpoints are not imported, nor are the event
files and the `progress.csv` beside the results, which hold the same values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from casket.imports.parsing import (
    file_time,
    read_json,
    read_json_lines,
    read_text,
    to_datetime,
    whole,
)
from casket.imports.report import Report
from casket.imports.runs import Entry, Run, Status

_RESULTS, _PARAMS = "result.json", "params.json"
_STATUSES: dict[str, Status] = {"TERMINATED": "completed", "ERROR": "failed"}
_FACTS = {
    "trial_id": "trial_id",
    "hostname": "host",
    "pid": "pid",
    "experiment_tag": "experiment_tag",
}
_NUMBER, _TIME = "training_iteration", "timestamp"
_OWN = {*_FACTS, _NUMBER, _TIME, "date", "node_ip", "config", "done", "checkpoint_dir_name"}
"""Ray's own keys of a report that are not metrics."""


def recognizes(path: Path) -> bool:
    """Return whether a path is or contains the folder of a trial."""
    return any(_trials(path))


def count(path: Path) -> int:
    """Return the maximum number of runs, without reading them."""
    return sum(1 for _ in _trials(path))


def runs(path: Path, report: Report) -> Iterator[Run]:
    """Yield one run per trial."""
    states: dict[Path, dict[str, str]] = {}
    for folder in sorted(_trials(path)):
        if folder.parent not in states:
            states[folder.parent] = _states(folder.parent, report)
        rows = [row for row in read_json_lines(folder / _RESULTS, report) if _NUMBER in row]
        report.leave_out("checkpoints", sum(1 for _ in folder.glob("checkpoint_*/")))
        if rows:
            yield _run(folder, rows, states[folder.parent], report)
        else:
            report.problem(folder / _RESULTS, "it has no complete report")


def _trials(path: Path) -> Iterator[Path]:
    files = path.rglob(_RESULTS) if path.is_dir() else [path] if path.name == _RESULTS else []
    return (file.parent for file in files if (file.parent / _PARAMS).is_file())


def _states(folder: Path, report: Report) -> dict[str, str]:
    """Return the statuses of the trials of an experiment."""
    states: dict[str, str] = {}
    for path in sorted(folder.glob("experiment_state-*.json")):
        content = read_json(path, report)
        trials = content.get("trial_data", ()) if isinstance(content, dict) else ()
        for trial, _ in trials:
            about = json.loads(trial)
            states[about["trial_id"]] = about["status"]
    return states


def _run(folder: Path, rows: list[dict[str, Any]], states: dict[str, str], report: Report) -> Run:
    first, last = rows[0], rows[-1]
    status, source_status = _status(folder, last, states)
    params = read_json(folder / _PARAMS, report)
    taken = timedelta(seconds=first.get("time_total_s", 0))
    return Run(
        facts=[first.get("trial_id"), folder.name],
        name=folder.name,
        experiment=folder.parent.name,
        started=(_time(first) or file_time(folder / _RESULTS)) - taken,
        ended=_time(last) if status else None,
        status=status,
        source_status=source_status,
        error=_error(folder) if status == "failed" else None,
        params=params if isinstance(params, dict) else {},
        meta={name: last[key] for key, name in _FACTS.items() if key in last},
        entries=[_entry(row) for row in rows],
    )


def _entry(row: dict[str, Any]) -> Entry:
    values = {name: value for name, value in row.items() if name not in _OWN}
    return Entry("epoch", {"epoch_num": whole(row[_NUMBER]) or 0}, values, _time(row))


def _time(row: dict[str, Any]) -> datetime | None:
    return to_datetime(row[_TIME]) if _TIME in row else None


def _status(
    folder: Path, last: dict[str, Any], states: dict[str, str]
) -> tuple[Status | None, str | None]:
    state = states.get(str(last.get("trial_id")))
    if state is not None:
        return _STATUSES.get(state), state
    if (folder / "error.txt").is_file():
        return "failed", None
    return ("completed" if last.get("done") else None), None


def _error(folder: Path) -> str | None:
    path = folder / "error.txt"
    lines = read_text(path).split("\n") if path.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), None)
