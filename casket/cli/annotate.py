"""`casket tag`, `untag` and `note`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from casket.cli import options
from casket.reading.casket import Casket
from casket.reading.views import ExperimentView, SessionView
from casket.stores.location import Location
from casket.writing.annotating import OPTIONS, annotate
from casket.writing.backend import Backend

_WHAT = click.argument("what", metavar="SESSION|EXPERIMENT", type=options.SessionType())


@click.command(cls=options.FileAnywhere)
@_WHAT
@click.argument("tags", metavar="TAG...", nargs=-1, required=True)
@options.file_option
def tag(what: str, tags: tuple[str, ...], file: str | None) -> None:
    """Add tags to a session or an experiment.

    \b
    casket tag @last baseline
    casket tag digits paper thesis -f runs.json
    """
    for each in tags:
        if Path(each).is_file():
            raise click.UsageError(f"{each} is a file, not a tag: give the file as `-f {each}`")
    _annotate(what, file, add=tags)


@click.command(cls=options.FileAnywhere)
@_WHAT
@click.argument("tags", metavar="TAG...", nargs=-1, required=True)
@options.file_option
def untag(what: str, tags: tuple[str, ...], file: str | None) -> None:
    """Remove tags from a session or an experiment."""
    _annotate(what, file, remove=tags)


@click.command(cls=options.FileAnywhere)
@_WHAT
@click.argument("text")
@options.file_option
def note(what: str, text: str, file: str | None) -> None:
    """Set the note of a session or an experiment.

    TEXT replaces the previous note; "" removes it.

    \b
    casket note @last "diverged: the schedule was wrong"
    """
    _annotate(what, file, note=text)


def _annotate(what: str, file: str | None, **change: Any) -> None:
    url = options.chosen_file(file)
    with options.open_file(url) as runs:
        view = _found(runs, what)
    backend = Backend(Location.of(url), OPTIONS)
    annotate(backend, view, **change)
    backend.store.close()


def _found(runs: Casket, what: str) -> SessionView | ExperimentView:
    """Return the experiment with this id, or else the session whose id starts with it."""
    for experiment in runs.experiments:
        if experiment.id == what:
            return experiment
    return options.found_session(runs, what)
