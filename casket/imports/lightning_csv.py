"""Lightning's `CSVLogger`: a folder, or a tree of folders, with `metrics.csv` and `hparams.yaml`.

The result is the same as that of casket's own Lightning logger: each row becomes a batch, numbered
by its step, and the end of each epoch becomes an epoch with the latest value of each metric. Rows
without an epoch, as `LearningRateMonitor` writes them, belong to the epoch of the next row that has
one; if no row has an epoch, as with Fabric, the rows become batches only. The metrics of
`Trainer.test` become a result with the index `test`. The folder becomes the model (`version_0`),
its parent folder the experiment. The files hold no times and no status; the modification time of
the file is used instead. Checkpoints are not imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

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
        entries = list(_entries(table, report))
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
        facts=[
            folder.parent.name,
            folder.name,
            entries[0].numbers["batch_num"],
            entries[0].values,
        ],
        name=folder.name,
        experiment=folder.parent.name,
        started=file_time(table),
        params=hyperparameters(folder, report),
        entries=entries,
        folder=folder,
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


class _Row(NamedTuple):
    step: int
    epoch: int | None
    values: dict[str, Any]


def _entries(table: Path, report: Report) -> Iterator[Entry]:
    """Yield a batch for each row, and an epoch or the result of a test after its last row."""
    rows = _with_epochs(list(_rows(table, report)))
    known: set[str] = set()
    for epoch, group in groupby(rows, key=lambda row: row.epoch):
        metrics: dict[str, Any] = {}
        tested: dict[str, Any] = {}
        for row in group:
            yield Entry("batch", {"batch_num": row.step, "epoch": epoch}, row.values)
            (tested if _is_test(row.values, known) else metrics).update(row.values)
        if epoch is not None and metrics:
            yield Entry("epoch", {"epoch_num": epoch}, metrics)
        if tested:
            yield Entry("result", {"index": "test"}, tested)
        known |= metrics.keys()


def _rows(table: Path, report: Report) -> Iterator[_Row]:
    for row in read_table(table, report):
        values = {name: number_of(text) for name, text in row.items() if text}
        step, epoch = whole(values.pop("step", None)), whole(values.pop("epoch", None))
        if step is None:
            report.problem(f"{table}, step {row['step']!r}", "not an integer; the row was skipped")
        else:
            yield _Row(step, epoch, values)


def _with_epochs(rows: list[_Row]) -> list[_Row]:
    """Give rows without an epoch, such as those of `LearningRateMonitor`, that of the next row."""
    epoch: int | None = None
    completed = []
    for row in reversed(rows):
        epoch = row.epoch if row.epoch is not None else epoch
        completed.append(row._replace(epoch=epoch))
    return completed[::-1]


def _is_test(values: dict[str, Any], known: set[str]) -> bool:
    """Return whether a row is from `Trainer.test`, which logs under the epoch after the last.

    Args:
        values: the metrics of the row.
        known: the metrics of the earlier epochs.
    """
    has_test_names = all(name.startswith("test") for name in values)
    return has_test_names or (bool(known) and known.isdisjoint(values))
