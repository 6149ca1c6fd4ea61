"""W&B's offline runs: a `.wandb` file, a run's folder, or a tree of such folders.

W&B itself is not needed. The project becomes the experiment, the run's name the model, its config
the params. The values logged at a step become an epoch with its time. Values of the summary that
the script has set itself become a result with the index `summary`. The group, the job type and the
facts about the machine are stored in the meta; tags and notes are kept, and the files of the run
become artifacts. A run that did not finish has no end; a run with an exit code other than 0 is
`failed`. Several files of a run that was resumed are one run. Logged media, artifacts and system
metrics are not imported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from casket.imports.parsing import file_time, to_datetime
from casket.imports.protobuf import Damage, double, fields, signed, text
from casket.imports.report import Report
from casket.imports.runs import Entry, Point, Run, Status, by_step
from casket.imports.wandblog import MAGIC, messages

_HISTORY, _SUMMARY, _CONFIG, _STATS, _ARTIFACT, _RUN, _EXIT, _ENVIRONMENT = (
    2,
    3,
    5,
    7,
    8,
    17,
    18,
    26,
)
_LEFT_OUT = {_STATS: "system metrics", _ARTIFACT: "logged artifacts"}
_RUN_FACTS = {6: "group", 7: "job_type", 12: "sweep", 2: "entity"}
_MACHINE_FACTS = {1: "platform", 2: "python", 12: "host", 13: "user"}
_OWN = "_"
"""The prefix of W&B's own keys."""
_KIND = "_type"
"""The key that marks a logged medium."""


@dataclass
class _Log:
    """The content of the files of a run."""

    paths: list[Path]
    run: dict[int, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    exit: dict[int, Any] | None = None


def recognizes(path: Path) -> bool:
    """Return whether a path is or contains a `.wandb` file."""
    return any(_files(path))


def count(path: Path) -> int:
    """Return the maximum number of runs, without reading them."""
    return len(_files(path))


def runs(path: Path, report: Report) -> Iterator[Run]:
    """Yield all runs; a run with several files is yielded once."""
    logs: dict[str, _Log] = {}
    for file in _files(path):
        _read(file, logs, report)
    yield from (_run(run_id, log) for run_id, log in logs.items())


def _files(path: Path) -> list[Path]:
    # `latest-run` is a link to one of the folders.
    files = path.rglob("*.wandb") if path.is_dir() else [path]
    return sorted({file.resolve() for file in files if _is_log(file)})


def _is_log(file: Path) -> bool:
    try:
        with file.open("rb") as content:
            return content.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _read(file: Path, logs: dict[str, _Log], report: Report) -> None:
    log: _Log | None = None
    for message in messages(file, lambda damage: report.problem(file, damage)):
        try:
            for number, content in fields(message):
                if number == _RUN:
                    run_id = text(dict(fields(content)).get(1, b""))
                    log = logs.setdefault(run_id, _Log([]))
                    log.paths.append(file)
                if log is not None:
                    _add(log, number, content, report)
        except (Damage, ValueError, TypeError, AttributeError) as error:
            report.problem(file, f"a record is not valid: {error}; it was skipped")
    if log is None:
        report.problem(file, "it has no complete run")


def _add(log: _Log, number: int, content: Any, report: Report) -> None:
    if number == _RUN:
        _add_run(log, content)
    elif number == _CONFIG:
        _update(log.config, content)
    elif number == _SUMMARY:
        _update(log.summary, content)
    elif number == _HISTORY:
        _add_history(log, content, report)
    elif number == _ENVIRONMENT:
        _add_environment(log, content)
    elif number == _EXIT:
        log.exit = dict(fields(content))
    elif number in _LEFT_OUT:
        report.leave_out(_LEFT_OUT[number])


def _add_run(log: _Log, content: bytes) -> None:
    run = dict(fields(content))
    log.run, log.exit = {**run, **log.run}, None
    log.tags = [text(tag) for number, tag in fields(content) if number == 10] or log.tags
    log.facts |= {name: text(run[number]) for number, name in _RUN_FACTS.items() if number in run}
    _update(log.config, run.get(4, b""))
    _update(log.summary, run.get(5, b""))
    commit = dict(fields(run.get(21, b""))).get(2)
    if commit:
        log.facts["commit"] = text(commit)


def _add_environment(log: _Log, content: bytes) -> None:
    facts = dict(fields(content))
    log.facts |= {n: text(facts[f]) for f, n in _MACHINE_FACTS.items() if f in facts}
    arguments = [text(value) for number, value in fields(content) if number == 5]
    if 6 in facts:
        log.facts["command"] = " ".join([text(facts[6]), *arguments])


def _add_history(log: _Log, content: bytes, report: Report) -> None:
    values: dict[str, Any] = {}
    for number, item in fields(content):
        if number == 1:
            path, value = _item(item)
            _within(values, path)[path[-1]] = value
    step_message = dict(fields(content)).get(2, b"")
    step = values.get("_step", signed(dict(fields(step_message)).get(1, 0)))
    time = to_datetime(values["_timestamp"]) if "_timestamp" in values else None
    for name, value in values.items():
        if isinstance(value, dict) and _KIND in value:
            report.leave_out(str(value[_KIND]))
        elif not name.startswith(_OWN):
            log.points.append(Point(name, step, value, time))


def _update(values: dict[str, Any], content: bytes) -> None:
    """Apply the items of a config or summary record: field 1 sets, field 2 removes."""
    for number, item in fields(content):
        if number in {1, 2}:
            path, value = _item(item)
            inner = _within(values, path)
            if number == 1:
                inner[path[-1]] = value
            else:
                inner.pop(path[-1], None)


def _within(values: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """Return the dict that holds the last key of a path, created if necessary."""
    for key in path[:-1]:
        inner = values.get(key)
        if not isinstance(inner, dict):
            inner = values[key] = {}
        values = inner
    return values


def _item(content: bytes) -> tuple[list[str], Any]:
    """Return the keys and the value of an item.

    Since version 0.31, values of the history are also stored without JSON.
    """
    path: list[str] = []
    value: Any = None
    for number, part in fields(content):
        if number in {1, 2}:
            path.append(text(part))
        elif number in {8, 16}:
            value = json.loads(text(part))
        elif number in _PLAIN:
            value = _PLAIN[number](part)
    return path, value


_PLAIN: dict[int, Callable[[Any], Any]] = {
    4: bool,
    5: lambda number: (number >> 1) ^ -(number & 1),  # zigzag
    6: double,
    7: text,
}


def _run(run_id: str, log: _Log) -> Run:
    times = [point.time for point in log.points if point.time]
    started = _time(log.run.get(17)) or min(times, default=file_time(log.paths[0]))
    project = text(log.run.get(3, b"")) or "uncategorized"
    status, source_status = _status(log)
    given = text(log.run.get(8, b""))
    runtime = timedelta(seconds=(log.exit or {}).get(2, 0))
    return Run(
        facts=[project, run_id],
        name=given or run_id,
        is_named=bool(given),
        experiment=project,
        started=min([started, *times]),
        ended=max([started + runtime, *times]) if status else None,
        status=status,
        source_status=source_status,
        error=source_status if status == "failed" else None,
        params={key: value for key, value in log.config.items() if key != "_wandb"},
        meta={"run_id": run_id, **log.facts},
        tags=log.tags,
        note=text(log.run.get(9, b"")),
        entries=[*by_step(log.points), *_summary(log)],
        artifacts=_artifacts(log.paths),
        folder=log.paths[0].parent,
    )


def _status(log: _Log) -> tuple[Status | None, str | None]:
    if log.exit is None:
        return None, None
    code = log.exit.get(1, 0)
    return ("failed", f"exit code {code}") if code else ("completed", "exit code 0")


def _time(timestamp: bytes | None) -> datetime | None:
    if timestamp is None:
        return None
    parts = dict(fields(timestamp))
    return to_datetime(parts.get(1, 0)) + timedelta(microseconds=parts.get(2, 0) // 1000)


def _summary(log: _Log) -> Iterator[Entry]:
    """Yield the values of the summary that are not the last logged ones."""
    last = {point.name: point.value for point in log.points}
    values = {
        name: value
        for name, value in log.summary.items()
        if not name.startswith(_OWN)
        and not (name in last and _same(last[name], value))
        and not (isinstance(value, dict) and _KIND in value)
    }
    if values:
        yield Entry("result", {"index": "summary"}, values)


def _same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other) or bool(one == other)


def _artifacts(paths: Iterable[Path]) -> dict[str, Path]:
    folders = [path.parent / "files" for path in paths]
    return {
        file.relative_to(folder).as_posix(): file
        for folder in folders
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
