"""Optuna's storages: an SQLite database or the file of a journal.

Optuna itself is not needed. The study becomes the experiment, and each trial a run of the model
`trials` with the trial's params. Intermediate values become epochs by step, under the name
`intermediate_value`; the objective values become a result, under the names of the study's metrics
or `value` (`value_0`, `value_1`, ... if there are several). A pruned trial is `completed` and
marked in `meta["pruned"]`. User attributes are stored in the meta. Optuna stores no times of
intermediate values, and no errors of failed trials. Waiting trials are not imported.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from casket.imports.databases import Database, has_tables, open_database
from casket.imports.parsing import header_of, parse_time, read_json_lines, to_datetime
from casket.imports.report import Report
from casket.imports.runs import Point, Run, Status, as_results, by_step

_TABLES = {
    "studies": {"study_id", "study_name"},
    "trials": {"trial_id", "number", "study_id", "state"},
    "trial_params": {"param_name", "param_value", "distribution_json"},
}
_STATUSES: dict[str, Status] = {"COMPLETE": "completed", "PRUNED": "completed", "FAIL": "failed"}
_STATES = ("RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING")
"""The states of trials and the directions of studies by their numbers in a journal."""
_DIRECTIONS = ("NOT_SET", "MINIMIZE", "MAXIMIZE")
_METRIC_NAMES = "study:metric_names"
_ODD_VALUES = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}


@dataclass
class _Study:
    name: str
    directions: list[str]
    user_attrs: dict[str, Any] = field(default_factory=dict)
    system_attrs: dict[str, Any] = field(default_factory=dict)
    trials: list[_Trial] = field(default_factory=list)


@dataclass
class _Trial:
    number: int
    state: str = "RUNNING"
    started: Any = None
    ended: Any = None
    params: dict[str, Any] = field(default_factory=dict)
    values: list[float] = field(default_factory=list)
    intermediate: dict[int, float] = field(default_factory=dict)
    user_attrs: dict[str, Any] = field(default_factory=dict)


def recognizes(path: Path) -> bool:
    """Return whether a path is a storage of Optuna."""
    return path.is_file() and (has_tables(path, _TABLES) or _is_journal(path))


def count(path: Path) -> int:
    """Return the maximum number of runs."""
    return sum(len(study.trials) for study in _studies(path, Report("optuna", str(path))))


def runs(path: Path, report: Report) -> Iterator[Run]:
    """Yield the trials of all studies, except waiting ones."""
    for study in _studies(path, report):
        for trial in study.trials:
            if trial.state == "WAITING":
                report.leave_out("waiting trials")
            else:
                yield _run(study, trial)


def _studies(path: Path, report: Report) -> list[_Study]:
    if _is_journal(path):
        return _Replay(path, report).studies()
    with open_database(path, report) as database:
        return [_stored(database, row) for row in database.rows("studies", "ORDER BY study_id")]


def _run(study: _Study, trial: _Trial) -> Run:
    started, ended = parse_time(trial.started), parse_time(trial.ended)
    points = [Point("intermediate_value", s, v) for s, v in trial.intermediate.items()]
    final = [
        Point(name, 0, value, ended)
        for name, value in zip(_names(study, trial), trial.values, strict=False)
    ]
    attributes = {"user_attrs": trial.user_attrs, "study": study.user_attrs}
    return Run(
        facts=[study.name, trial.number, str(started)],
        name="trials",
        experiment=study.name,
        started=started or to_datetime(0),
        ended=ended,
        status=_STATUSES.get(trial.state),
        source_status=trial.state,
        params=trial.params,
        meta={
            "number": trial.number,
            "directions": [direction.lower() for direction in study.directions],
            **({"pruned": True} if trial.state == "PRUNED" else {}),
            **{name: values for name, values in attributes.items() if values},
        },
        entries=[*by_step(points), *as_results(final)],
    )


def _names(study: _Study, trial: _Trial) -> list[str]:
    names = study.system_attrs.get(_METRIC_NAMES)
    several = [f"value_{i}" for i in range(len(trial.values))]
    return names or (["value"] if len(several) == 1 else several)


def _param(value: float, distribution: str) -> Any:
    """Return a param as the script saw it; a categorical param is stored as an index."""
    about = json.loads(distribution)
    if about["name"].startswith("Categorical"):
        return about["attributes"]["choices"][int(value)]
    return int(value) if about["name"].startswith("Int") else value


# The database.


def _stored(database: Database, row: Any) -> _Study:
    key = row["study_id"]
    directions = database.rows("study_directions", "WHERE study_id = ? ORDER BY objective", key)
    study = _Study(row["study_name"], [each["direction"] for each in directions])
    study.user_attrs = _attributes(database, "study_user_attributes", "study_id", key)
    study.system_attrs = _attributes(database, "study_system_attributes", "study_id", key)
    trials = database.rows("trials", "WHERE study_id = ? ORDER BY number", key)
    study.trials = [_stored_trial(database, trial) for trial in trials]
    return study


def _stored_trial(database: Database, row: Any) -> _Trial:
    key, where = row["trial_id"], "WHERE trial_id = ? ORDER BY"
    return _Trial(
        row["number"],
        row["state"],
        row["datetime_start"],
        row["datetime_complete"],
        params={
            each["param_name"]: _param(each["param_value"], each["distribution_json"])
            for each in database.rows("trial_params", f"{where} param_id", key)
        },
        values=[
            _value(each, "value")
            for each in database.rows("trial_values", f"{where} objective", key)
        ],
        intermediate={
            each["step"]: _value(each, "intermediate_value")
            for each in database.rows("trial_intermediate_values", f"{where} step", key)
        },
        user_attrs=_attributes(database, "trial_user_attributes", "trial_id", key),
    )


def _attributes(database: Database, table: str, column: str, key: int) -> dict[str, Any]:
    rows = database.rows(table, f"WHERE {column} = ? ORDER BY key", key)
    return {row["key"]: json.loads(row["value_json"]) for row in rows}


def _value(row: Any, name: str) -> float:
    """Return a value; the database stores NaN and the infinities by a type."""
    kind = row[f"{name}_type"] if f"{name}_type" in row.keys() else ""  # noqa: SIM118 - of sqlite3.Row
    value: float = _ODD_VALUES.get(kind, row[name])
    return math.nan if value is None else value


# The journal: a line for each change, with the number of the operation.


def _is_journal(path: Path) -> bool:
    return path.is_file() and header_of(path).startswith('{"op_code"')


class _Replay:
    """Applies the operations of a journal."""

    def __init__(self, path: Path, report: Report) -> None:
        self._path = path
        self._report = report
        self._studies: list[_Study] = []
        self._deleted: set[int] = set()
        self._trials: list[_Trial] = []
        self._operations: dict[int, Callable[[Any], None]] = {
            0: self._create_study,
            1: lambda log: self._deleted.add(log["study_id"]),
            2: lambda log: self._study(log).user_attrs.update(log["user_attr"]),
            3: lambda log: self._study(log).system_attrs.update(log["system_attr"]),
            4: self._create_trial,
            5: self._set_param,
            6: self._set_state,
            7: self._set_intermediate,
            8: lambda log: self._trial(log).user_attrs.update(log["user_attr"]),
        }

    def studies(self) -> list[_Study]:
        """Return the studies that were not deleted."""
        for log in read_json_lines(self._path, self._report):
            try:
                operation = self._operations.get(log["op_code"])
                if operation is not None:
                    operation(log)
            except (KeyError, IndexError, TypeError, ValueError) as error:
                self._report.problem(self._path, f"an operation is not valid: {error!r}; skipped")
        return [each for i, each in enumerate(self._studies) if i not in self._deleted]

    def _study(self, log: dict[str, Any]) -> _Study:
        study: _Study = self._studies[log["study_id"]]
        return study

    def _trial(self, log: dict[str, Any]) -> _Trial:
        trial: _Trial = self._trials[log["trial_id"]]
        return trial

    def _create_study(self, log: dict[str, Any]) -> None:
        living = [each for i, each in enumerate(self._studies) if i not in self._deleted]
        if log["study_name"] not in [study.name for study in living]:
            directions = [_DIRECTIONS[number] for number in log["directions"]]
            self._studies.append(_Study(log["study_name"], directions))

    def _create_trial(self, log: dict[str, Any]) -> None:
        trial = _Trial(len(self._study(log).trials), started=log.get("datetime_start"))
        self._study(log).trials.append(trial)
        self._trials.append(trial)
        trial.user_attrs = log.get("user_attrs", {})
        trial.intermediate = {int(s): v for s, v in log.get("intermediate_values", {}).items()}
        distributions = log.get("distributions", {})
        for name, value in log.get("params", {}).items():
            trial.params[name] = _param(value, distributions[name])
        self._set_outcome(trial, log)

    def _set_param(self, log: dict[str, Any]) -> None:
        name, value = log["param_name"], log["param_value_internal"]
        self._trial(log).params[name] = _param(value, log["distribution"])

    def _set_state(self, log: dict[str, Any]) -> None:
        trial = self._trial(log)
        if trial.state in {"RUNNING", "WAITING"}:
            trial.started = log.get("datetime_start") or trial.started
            self._set_outcome(trial, log)

    def _set_outcome(self, trial: _Trial, log: dict[str, Any]) -> None:
        trial.state = _STATES[log["state"]] if "state" in log else trial.state
        values = log.get("values") or ([log["value"]] if log.get("value") is not None else None)
        trial.values = values or trial.values
        trial.ended = log.get("datetime_complete") or trial.ended

    def _set_intermediate(self, log: dict[str, Any]) -> None:
        self._trial(log).intermediate[log["step"]] = log["intermediate_value"]
