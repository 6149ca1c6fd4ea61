"""Import runs of other trackers: `load` reads a source and adds its runs to a store.

    from casket.imports import load

    report = load("mlruns", "runs.json")
    print(report)

An importer is a module of this package with three functions: `recognizes(path)` returns whether a
path holds its source, `count(path)` returns the maximum number of runs and `runs(path, report)`
yields `casket.imports.runs.Run`s. A new importer is added to `SOURCES`. Its docstring documents
how the source maps to casket.

Importing twice adds nothing; if the source has grown, only the new records are added. Records
deleted in the target stay deleted (see `casket.maintenance.merging`), but are imported again under
a different experiment or model.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from casket.errors import BadLocation, NotACasketFile, NotFound
from casket.format.records import Record
from casket.imports.hydra import add_config
from casket.imports.owners import describe
from casket.imports.report import Problem, Report
from casket.imports.runs import Known, Names, Translator
from casket.maintenance.merging import FileCarrier, add_missing
from casket.stores.base import StoreOptions
from casket.stores.location import Location
from casket.writing.arguments import checked_id
from casket.writing.backend import Backend
from casket.writing.experiment import Experiment

__all__ = ["SOURCES", "Problem", "Report", "load"]

CASKET = "casket"
"""The source kind of casket files, of the first or the current casket, whose records are copied."""

SOURCES = {
    "mlflow": "casket.imports.mlflow",
    "sacred": "casket.imports.sacred",
    "trackio": "casket.imports.trackio",
    "wandb": "casket.imports.wandb",
    "neptune": "casket.imports.neptune",
    "optuna": "casket.imports.optuna",
    "ray": "casket.imports.ray_tune",
    "transformers": "casket.imports.huggingface",
    "dvclive": "casket.imports.dvclive",
    "lightning": "casket.imports.lightning_csv",
    "keras": "casket.imports.keras_csv",
    "tensorboard": "casket.imports.tensorboard",
}
"""The importers, in the order in which they are tried."""

Target = str | os.PathLike[str] | Experiment
Progress = Callable[[Report], None]


def load(
    path: str | os.PathLike[str],
    to: Target,
    *,
    experiment: str | None = None,
    model: str | None = None,
    source: str | None = None,
    artifacts: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Add the runs of another tracker to a store.

    Args:
        path: the file or folder written by the other tracker.
        to: the path or URL of a store, which is created if it does not exist, or an experiment that
            receives all runs.
        experiment: the experiment for all runs. By default, it is taken from the source.
        model: the model for all runs. By default, each run's name is used.
        source: the kind of source, a key of `SOURCES` or `"casket"`. It is detected by default.
        artifacts: whether to import the files of the runs.
        progress: called with the report after each run.

    Returns:
        The number of imported records, and the problems.

    Raises:
        NotFound: there is nothing at `path`.
        UnstorableValue: the experiment or the model is an empty text.
        BadLocation: `path` holds nothing that casket can import, `source` is unknown, or `to` is
            not a valid location.
        MissingDependency: the source needs a package that is not installed.
        StoreUnavailable: the store cannot be written. Records added before stay, and another call
            continues from there.
    """
    location = Path(path).expanduser().resolve()
    if not location.exists():
        raise NotFound(str(location), "give the file or folder that the other tracker has written")
    if source is not None and source not in {CASKET, *SOURCES}:
        raise BadLocation(f"source={source!r}: give one of {(CASKET, *SOURCES)}")
    kind, *others = _recognize(location, [source] if source else [*SOURCES, CASKET])
    report = Report(kind, str(location))
    for other in others:
        report.problem(location, f"also holds {other} files; import them with source={other!r}")
    own = to.id if isinstance(to, Experiment) and experiment is None else None
    names = Names(own or _checked(experiment, "experiment"), _checked(model, "model"))
    if kind == CASKET and names != Names():
        raise BadLocation(
            f"{location} is a casket file: its runs keep their experiments and models"
        )
    with _opened(to) as target:
        if kind == CASKET:
            _copy(location, target, report, artifacts, progress)
        else:
            _import(location, target, report, names, artifacts, progress)
    return report


def _recognize(path: Path, kinds: list[str]) -> list[str]:
    """Return the kinds of source that a path matches; a folder may match several."""
    matching = [
        kind
        for kind in kinds
        if kind in SOURCES and importlib.import_module(SOURCES[kind]).recognizes(path)
    ]
    # Checked last, because the whole file may have to be read.
    if not matching and CASKET in kinds and path.is_file() and _is_casket_file(path):
        matching = [CASKET]
    if not matching:
        raise BadLocation(
            f"{path} holds no runs of {' or '.join(kinds)}; it is {describe(path)}. "
            "Give the file or folder that the tracker itself has written"
        )
    return matching


def _is_casket_file(path: Path) -> bool:
    with (
        contextlib.closing(_reading(Location.of(path))) as store,
        contextlib.suppress(NotACasketFile),
    ):
        return next(iter(store.records()), None) is not None
    return False


def _reading(location: Location) -> Any:
    return location.open(StoreOptions(), writing=False)


def _checked(given: str | None, name: str) -> str | None:
    return None if given is None else checked_id(given, name)


@contextlib.contextmanager
def _opened(to: Target) -> Iterator[Backend]:
    if isinstance(to, Experiment):
        yield to.backend
        return
    backend = Backend(Location.of(to), StoreOptions())
    try:
        yield backend
    finally:
        backend.store.close()


def _copy(
    path: Path, target: Backend, report: Report, artifacts: bool, progress: Progress | None
) -> None:
    """Copy the records of a casket file."""
    location = Location.of(path)
    carrier = FileCarrier(location.artifacts(), target.files) if artifacts else None

    def records() -> Iterator[Record]:
        for _, record in store.records():
            yield record
            if record["kind"] == "session":
                report.runs += 1
                _show_progress(report, progress)

    with contextlib.closing(_reading(location)) as store:
        report.total = sum(1 for _ in store.records(kinds={"session"}))
        add_missing(target.store, records(), carry=carrier, counts=report.counts)
    for file, why in (carrier.problems if carrier else {}).items():
        report.problem(file, why)


def _import(
    path: Path,
    target: Backend,
    report: Report,
    names: Names,
    artifacts: bool,
    progress: Progress | None,
) -> None:
    importer = importlib.import_module(SOURCES[report.source])
    report.total = importer.count(path)
    heads = target.store.records(kinds={"experiment", "model", "session"})
    known = Known(record for _, record in heads)
    files = target.files if artifacts else None
    translator = Translator(report.source, names, files, known, report)

    def records() -> Iterator[Record]:
        for run in importer.runs(path, report):
            add_config(run, report)
            yield from translator.records(run)
            report.runs += 1
            _show_progress(report, progress)

    add_missing(target.store, records(), counts=report.counts)


def _show_progress(report: Report, progress: Progress | None) -> None:
    if progress is not None:
        progress(report)
