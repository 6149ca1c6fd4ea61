"""Lightning's `CSVLogger`: a folder, or a tree of folders, with `metrics.csv` and `hparams.yaml`.

The result is the same as that of casket's own Lightning logger: each row becomes a batch, numbered
by its step, and the end of each epoch becomes an epoch with the latest value of each metric. Rows
without an epoch, as written by Fabric, become batches only. The folder becomes the model
(`version_0`), its parent folder the experiment. The files hold no times and no status; the
modification time of the file is used instead. Checkpoints are not imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from casket.imports.parsing import file_time, header_of, number_of, read_table, read_yaml, whole
from casket.imports.report import Report
from casket.imports.runs import Entry, Run

METRICS, HPARAMS = "metrics.csv", "hparams.yaml"


def recognizes(path: Path) -> bool:
    """Return whether a path is or contains a `metrics.csv` with a column `step`."""
    return any(_tables(path))


def count(path: Path) -> int:
    """Return the maximum number of runs, without reading them."""
    return sum(1 for _ in _tables(path))


def runs(path: Path, report: Report) -> Iterator[Run]:
    """Yield one run per folder."""
    for table in sorted(_tables(path)):
        entries = list(_entries(read_table(table, report), table, report))
        if entries:
            yield _run(table, entries, report)
        else:
            report.problem(table, "it has no complete row")


def _tables(path: Path) -> Iterator[Path]:
    files = path.rglob(METRICS) if path.is_dir() else [path] if path.name == METRICS else []
    return (table for table in files if "step" in header_of(table).split(","))


def _run(table: Path, entries: list[Entry], report: Report) -> Run:
    folder = table.parent
    report.leave_out("checkpoints", len(list(folder.glob("checkpoints/*"))))
    return Run(
        facts=[folder.parent.name, folder.name, entries[0].numbers, entries[0].values],
        name=folder.name,
        experiment=folder.parent.name,
        started=file_time(table),
        params=hyperparameters(folder, report),
        entries=entries,
    )


def hyperparameters(folder: Path, report: Report) -> dict[str, Any]:
    """Return the params in a folder's `hparams.yaml`; report a problem if it is missing."""
    path = folder / HPARAMS
    if not path.is_file():
        report.problem(path, "missing; the run has no params")
        return {}
    params = read_yaml(path, report)
    if isinstance(params, dict):
        return params
    if params is not None:
        report.problem(path, f"it holds a {type(params).__name__} instead of a mapping")
    return {}


def _entries(rows: list[dict[str, str]], table: Path, report: Report) -> Iterator[Entry]:
    epoch: int | None = None
    latest: dict[str, Any] = {}
    for row in rows:
        values = {name: number_of(text) for name, text in row.items() if text}
        step, number = whole(values.pop("step", None)), whole(values.pop("epoch", None))
        if step is None:
            report.problem(f"{table}, step {row['step']!r}", "not an integer; the row was skipped")
            continue
        if number != epoch:
            yield from _epoch(epoch, latest)
            epoch, latest = number, {}
        latest.update(values)
        yield Entry("batch", {"batch_num": step, "epoch": number}, values)
    yield from _epoch(epoch, latest)


def _epoch(number: int | None, latest: dict[str, Any]) -> Iterator[Entry]:
    if number is not None:
        yield Entry("epoch", {"epoch_num": number}, dict(latest))
