"""Keras' `CSVLogger`: a table with a column `epoch` and one row per epoch.

Each row becomes an epoch with the same number; Keras counts from 0 in this file. The file name
becomes the model, the folder name the experiment. The file holds no params, times or status. `NA`,
which Keras writes for metrics that were not computed, is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from casket.imports.parsing import file_time, header_of, number_of, read_table, whole
from casket.imports.report import Report
from casket.imports.runs import Entry, Run

_ABSENT = frozenset({"NA", ""})


def recognizes(path: Path) -> bool:
    """Return whether a path is a table whose first column is `epoch`."""
    header = header_of(path) if path.is_file() else ""
    return header.startswith("epoch") and header[5:6] in {",", ";", "\t", "|", " "}


def count(_path: Path) -> int:
    """Return the number of runs."""
    return 1


def runs(path: Path, report: Report) -> Iterator[Run]:
    """Yield the run of a file."""
    rows = read_table(path, report, separator=header_of(path)[5])
    entries = [entry for row in rows if (entry := _epoch(row, path, report)) is not None]
    if not entries:
        report.problem(path, "it has no complete row")
        return
    yield Run(
        facts=[path.name, entries[0].numbers, entries[0].values],
        name=path.stem,
        experiment=path.parent.name,
        started=file_time(path),
        entries=entries,
        folder=path.parent,
    )


def _epoch(row: dict[str, str], path: Path, report: Report) -> Entry | None:
    text = row.pop("epoch")
    number = whole(number_of(text))
    if number is None:
        report.problem(f"{path}, epoch {text!r}", "not an integer; the row was skipped")
        return None
    values = {name: number_of(text) for name, text in row.items() if text not in _ABSENT}
    return Entry("epoch", {"epoch_num": number}, values)
