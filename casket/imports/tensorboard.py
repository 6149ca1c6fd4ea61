"""TensorBoard's event files, `events.out.tfevents.*`: a file or a tree of folders.

A folder with event files is a run. Scalars become epochs by step, each with its time; texts become
results, indexed by their tag. The imported folder becomes the experiment, and the run's path below
it the model. Params are read from the hparams plugin or from Lightning's `hparams.yaml` beside the
events. PyTorch's `add_hparams` writes a separate run below the run it describes; if there is
exactly one such run, its params and metrics are added to the run above. Values that TensorBoard
does not show, because the run was restarted from an earlier step (`purge_step`), get the prefix
`purged/`. Images, histograms, audio and graphs are not imported. Event files of Ray Tune and Guild
AI are left out, because they hold only a part of a run.

TensorBoard stores no status: a run is `completed` unless the hparams plugin marks it as failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from casket.imports import tfevents
from casket.imports.lightning_csv import HPARAMS, hyperparameters
from casket.imports.owners import owner_of
from casket.imports.parsing import to_datetime
from casket.imports.protobuf import Damage, double, fields, text
from casket.imports.report import Report
from casket.imports.runs import Entry, Point, Run, as_results, by_step

_PATTERN = "*tfevents*"
_SCALARS, _TEXTS, _HPARAMS = "scalars", "text", "hparams"
_START, _END = 3, 4
"""The fields of the hparams plugin's data for the start and the end of a session."""
_FAILURE = 2
_PURGED = "purged/"
"""The prefix of values that a restart of the run (`purge_step`) has superseded."""


@dataclass
class _Events:
    """The content of a folder's event files."""

    folder: Path
    first: list[Any]
    points: list[Point] = field(default_factory=list)
    texts: list[Entry] = field(default_factory=list)
    results: list[Entry] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    has_failed: bool = False


def recognizes(path: Path) -> bool:
    """Return whether a path is or contains an event file."""
    return any(_files(path))


def count(path: Path) -> int:
    """Return the maximum number of runs, without reading them."""
    return len({file.parent for file in _files(path)})


def runs(path: Path, report: Report) -> Iterator[Run]:
    """Yield one run per folder with event files."""
    for file in _all_files(path):
        if owner := owner_of(file.parent):
            report.leave_out(f"event files of {owner}")
    folders: dict[Path, list[Path]] = {}
    for file in sorted(_files(path)):
        folders.setdefault(file.parent, []).append(file)
    read = {folder: _read(folder, files, report) for folder, files in folders.items()}
    for folder, events in list(read.items()):
        if events.params and _is_only_part(events, read):
            _join(read[folder.parent], read.pop(folder))
    root = path if path.is_dir() else path.parent
    for events in read.values():
        if events.first[1] is None:
            report.problem(events.folder / events.first[0], "it has no complete event")
        elif events.times:
            yield _run(events, root, report)


def _files(path: Path) -> Iterator[Path]:
    return (file for file in _all_files(path) if owner_of(file.parent) is None)


def _all_files(path: Path) -> Iterator[Path]:
    files = path.rglob(_PATTERN) if path.is_dir() else [path] if path.match(_PATTERN) else []
    return (file for file in files if file.is_file())


def _read(folder: Path, files: list[Path], report: Report) -> _Events:
    events = _Events(folder, [files[0].name, tfevents.first_time(files[0])])
    kinds: dict[str, str] = {}
    for file in files:
        try:
            for value in tfevents.values(file):
                if value.kind == tfevents.RESTART:
                    _purge(events, value.step)
                    continue
                # A file stores the kind of a tag only with its first value.
                kind = kinds.setdefault(value.tag, value.kind) or value.kind
                _add(events, value, kind, report)
        except (Damage, OSError) as error:
            report.problem(file, f"{error}; the rest was skipped")
    return events


def _purge(events: _Events, step: int) -> None:
    """Mark the values that a restarted run logs again, which TensorBoard does not show."""
    for i, point in enumerate(events.points):
        if point.step >= step and not point.name.startswith(_PURGED):
            events.points[i] = point._replace(name=_PURGED + point.name)
    for i, entry in enumerate(events.texts):
        index = entry.numbers["index"]
        if entry.values["step"] >= step and not index.startswith(_PURGED):
            events.texts[i] = entry._replace(numbers={"index": _PURGED + index})


def _add(events: _Events, value: tfevents.Value, kind: str, report: Report) -> None:
    events.times.append(value.wall_time)
    time = to_datetime(value.wall_time)
    if kind == _HPARAMS:
        _add_hparams(events, value.content)
    elif kind == _TEXTS and isinstance(value.value, str):
        values = {"step": value.step, "text": value.value}
        events.texts.append(Entry("result", {"index": value.tag}, values, time))
    elif kind in {_SCALARS, ""} and isinstance(value.value, (int, float)):
        events.points.append(Point(value.tag, value.step, value.value, time))
    else:
        report.leave_out(kind or "tensors")


def _add_hparams(events: _Events, content: bytes) -> None:
    data = dict(fields(content))
    for number, entry in fields(data.get(_START, b"")):
        if number == 1:
            pair = dict(fields(entry))
            events.params[text(pair.get(1, b""))] = _param(pair.get(2, b""))
    if dict(fields(data.get(_END, b""))).get(1) == _FAILURE:
        events.has_failed = True


def _param(message: bytes) -> Any:
    """Return the number, string or Boolean in a `google.protobuf.Value`."""
    value = dict(fields(message))
    if 2 in value:
        number = double(value[2])
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    if 3 in value:
        return text(value[3])
    return bool(value[4]) if 4 in value else None


def _is_only_part(events: _Events, read: dict[Path, _Events]) -> bool:
    """Return whether a folder holds only the params of the run in its parent folder."""
    above = read.get(events.folder.parent)
    beside = [
        other
        for other in read.values()
        if other.params and other.folder.parent == events.folder.parent
    ]
    is_curve = len({point.step for point in events.points}) > 1
    return above is not None and not above.params and len(beside) == 1 and not is_curve


def _join(events: _Events, part: _Events) -> None:
    """Add to a run the params written below it, and the metrics as a result."""
    events.params = part.params
    events.times += part.times
    events.results = as_results(part.points, _HPARAMS)


def _run(events: _Events, root: Path, report: Report) -> Run:
    folder = events.folder
    params = events.params
    if not params and (folder / HPARAMS).is_file():
        params = hyperparameters(folder, report)
    below = folder.relative_to(root)
    times = [events.first[1], *events.times]
    return Run(
        facts=events.first,
        name=below.as_posix() if below.parts else folder.name,
        experiment=root.name if below.parts else folder.parent.name,
        started=to_datetime(min(times)),
        ended=to_datetime(max(times)),
        status="failed" if events.has_failed else "completed",
        params=params,
        entries=[*by_step(events.points), *events.texts, *events.results],
        folder=folder,
    )
