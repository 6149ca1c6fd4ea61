"""Exports of Neptune: the parquet files that `neptune-exporter` has written.

The project becomes the experiment, the run's name (or its id) the model. Attributes with a single
value become params under their paths, those under `sys/` meta, tags and the note. Series of numbers
become epochs by step, with their times; series of texts become results, indexed by their path.
Files are imported if they are in a folder `files` beside the exported data. Histograms and series
of files are not imported. If the steps of a series are not whole numbers, its values are numbered
in their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from casket.errors import missing
from casket.imports.parsing import file_time, whole
from casket.imports.report import Report
from casket.imports.runs import Entry, Point, Run, Status, by_step

_VALUES = {
    "float": "float_value",
    "int": "int_value",
    "string": "string_value",
    "bool": "bool_value",
    "datetime": "datetime_value",
    "string_set": "string_set_value",
}
_COLUMNS = {"project_id", "run_id", "attribute_path", "attribute_type", "step"}
_MAGIC = b"PAR1"
_SYSTEM = "sys/"
_FACTS = {"id": "run_id", "custom_run_id": "run_id", "owner": "user", "hostname": "host"}


@dataclass
class _Export:
    """The content of the files of a run."""

    file: Path
    values: dict[str, Any] = field(default_factory=dict)
    system: dict[str, Any] = field(default_factory=dict)
    series: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    texts: list[Entry] = field(default_factory=list)
    artifacts: dict[str, Path] = field(default_factory=dict)


def recognizes(path: Path) -> bool:
    """Return whether a path is or contains an exported parquet file."""
    return any(_files(path))


def count(path: Path) -> int:
    """Return the maximum number of runs, without reading them."""
    return len({(file.parent, file.name.rpartition("_part_")[0]) for file in _files(path)})


def runs(path: Path, report: Report) -> Iterator[Run]:
    """Yield one run for each run id of a project.

    Raises:
        MissingDependency: pyarrow is not installed.
    """
    exports: dict[tuple[str, str], _Export] = {}
    for file in sorted(_files(path), key=lambda file: (file.parent, len(file.name), file.name)):
        for row in _rows(file, report):
            key = row["project_id"], row["run_id"]
            export = exports.setdefault(key, _Export(file))
            _add(export, row, report)
    for (project, run_id), export in exports.items():
        yield _run(project, run_id, export, report)


def _files(path: Path) -> Iterator[Path]:
    files = path.rglob("*_part_*.parquet") if path.is_dir() else [path]
    return (file for file in files if "_part_" in file.name and _is_parquet(file))


def _is_parquet(file: Path) -> bool:
    try:
        with file.open("rb") as content:
            return content.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def _rows(file: Path, report: Report) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow.parquet  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ModuleNotFoundError as error:
        raise missing(error, "pyarrow", "neptune") from error
    try:
        table = pyarrow.parquet.ParquetFile(file)
        if not _COLUMNS.issubset(table.schema_arrow.names):
            report.problem(file, "it has other columns than an export of Neptune")
            return
        for batch in table.iter_batches():
            yield from batch.to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        report.problem(file, error)


def _add(export: _Export, row: dict[str, Any], report: Report) -> None:
    name, kind = row["attribute_path"], row["attribute_type"]
    if kind in _VALUES and name.startswith(_SYSTEM):
        export.system[name.removeprefix(_SYSTEM)] = row[_VALUES[kind]]
    elif kind in _VALUES:
        export.values[name] = row[_VALUES[kind]]
    elif kind == "float_series":
        export.series.setdefault(name, []).append(row)
    elif kind == "string_series":
        values = {"step": float(row["step"]), "text": row["string_value"]}
        export.texts.append(Entry("result", {"index": name}, values, row["timestamp"]))
    elif kind == "file":
        _add_file(export, name, (row["file_value"] or {}).get("path"), report)
    else:
        report.leave_out(kind)


def _add_file(export: _Export, name: str, path: str | None, report: Report) -> None:
    folders = [folder / "files" for folder in export.file.parents[1:3]]
    files = [folder / path for folder in folders if path and (folder / path).is_file()]
    if files:
        export.artifacts[name] = files[0]
    else:
        report.leave_out("files")


def _run(project: str, run_id: str, export: _Export, report: Report) -> Run:
    points = [p for name, rows in export.series.items() for p in _points(name, rows, report)]
    points.sort(key=lambda point: (point.time is not None, point.time or 0, point.step))
    times = [point.time for point in points if point.time is not None]
    system = export.system
    origin = system.get("forking/parent")
    ended = max(times, default=None)
    return Run(
        facts=[project, run_id],
        name=str(system.get("name") or run_id),
        is_named=bool(system.get("name")),
        experiment=project,
        started=system.get("creation_time") or min(times, default=file_time(export.file)),
        ended=ended,
        status=_status(system),
        source_status=None if system.get("state") is None else str(system["state"]),
        params=_nested(export.values),
        meta={"run_id": run_id, **{n: system[k] for k, n in _FACTS.items() if system.get(k)}},
        tags=[str(tag) for tag in system.get("tags") or ()],
        note=str(system.get("description") or ""),
        forked_from=[project, origin] if origin else None,
        entries=[*by_step(points), *export.texts],
        artifacts=export.artifacts,
    )


def _points(name: str, rows: list[dict[str, Any]], report: Report) -> Iterator[Point]:
    steps = [whole(float(row["step"])) for row in rows]
    if None in steps:
        report.problem(name, "steps are not whole numbers; values were numbered in their order")
        steps = list(range(len(rows)))
    for step, row in zip(steps, rows, strict=True):
        yield Point(name, step or 0, row["float_value"], row["timestamp"])


def _status(system: dict[str, Any]) -> Status | None:
    if system.get("failed"):
        return "failed"
    return None if str(system.get("state")).lower() in {"active", "running"} else "completed"


def _nested(values: dict[str, Any]) -> dict[str, Any]:
    """Return values by path as nested dicts; a path below another value stays one name."""
    nested: dict[str, Any] = {}
    for path, value in sorted(values.items()):
        inner, names = nested, path.split("/")
        for name in names[:-1]:
            inner = inner.setdefault(name, {}) if isinstance(inner, dict) else inner
        if isinstance(inner, dict):
            inner[names[-1]] = value
        else:
            nested[path] = value
    return nested
