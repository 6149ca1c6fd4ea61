"""`casket import` and `casket merge`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from casket.cli import options, terminal
from casket.format.records import Record
from casket.imports import SOURCES, load
from casket.imports.report import Report
from casket.maintenance.merging import Counts, FileCarrier, add_missing
from casket.stores.base import StoreOptions
from casket.stores.location import Location
from casket.writing.backend import Backend


@click.command("import")
@click.argument("source", type=click.Path(exists=True))
@options.file_argument
@click.option("--experiment", help="Import all runs into this experiment.")
@click.option("--model", help="Import all runs into this model.")
@click.option(
    "--source",
    "kind",
    type=click.Choice([*SOURCES, "casket"]),
    help="The tracker; default: recognized by its files.",
)
@click.option("--artifacts/--no-artifacts", default=True, help="Whether to copy artifacts.")
def import_(
    source: str,
    file: str | None,
    experiment: str | None,
    model: str | None,
    kind: str | None,
    artifacts: bool,
) -> None:
    """Import the runs of another tracker; importing again adds only new runs.

    SOURCE is a file or folder written by one of the trackers that --source lists.

    \b
    casket import mlruns runs.json
    casket import lightning_logs runs.json --experiment digits
    """
    with _bar() as show:
        report = load(
            source, options.chosen_file(file), experiment=experiment, model=model,
            source=kind, artifacts=artifacts, progress=show,
        )  # fmt: skip
    for line in report.lines():
        click.echo(terminal.one_line(line))


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=options.FileType())
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    required=True,
    type=options.FileType(),
    help="The target, a path or URL.",
)
def merge(files: tuple[str, ...], output: str) -> None:
    """Merge files into another; merging again adds only new records.

    \b
    casket merge node1.json node2.json -o all.json
    casket merge runs.json -o runs.sqlite
    """
    sources = {location: _count(location) for location in map(Location.of, files)}
    target = Backend(Location.of(output), StoreOptions())
    counts = Counts()
    for location, total in sources.items():
        problems = _merge(location, total, target, counts)
        for name, why in problems.items():
            click.echo(f"warning: file {name} was not copied: {why}", err=True)
    target.store.close()
    added = ", ".join(f"{count} {kind}" for kind, count in counts.added.items()) or "nothing"
    click.echo(f"added to {output}: {added}; already present: {counts.held} records")
    if counts.removed:
        click.echo(f"skipped, because they were removed from the target: {counts.removed} records")


def _count(location: Location) -> int:
    """Count the records of a source, before the target is created."""
    with contextlib.closing(location.open(StoreOptions(), writing=False)) as store:
        return sum(1 for _ in store.records())


def _merge(location: Location, total: int, target: Backend, counts: Counts) -> dict[str, str]:
    """Merge a store into another; return the reasons of failed file copies by file name."""
    carrier = FileCarrier(location.artifacts(), target.files)
    with (
        contextlib.closing(location.open(StoreOptions(), writing=False)) as store,
        options.progress_bar(Path(str(location)).name, total) as advance,
    ):

        def records() -> Iterator[Record]:
            for _, record in store.records():
                yield record
                advance(1)

        add_missing(target.store, records(), carry=carrier, counts=counts)
    return carrier.problems


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[Report], None]]:
    """Show the number of runs read, starting with the first run, when the total is known."""
    with contextlib.ExitStack() as shown:
        advance: Callable[[int], None] | None = None

        def show(report: Report) -> None:
            nonlocal advance
            if advance is None:
                bar = options.progress_bar(f"reading runs of {report.source}", report.total)
                advance = shown.enter_context(bar)
            advance(1)

        yield show
