"""`casket tag`, `untag` and `note`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

import casket
from casket.cli import options

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
    with _opened(file) as runs:
        runs.tag(what, *tags)


@click.command(cls=options.FileAnywhere)
@_WHAT
@click.argument("tags", metavar="TAG...", nargs=-1, required=True)
@options.file_option
def untag(what: str, tags: tuple[str, ...], file: str | None) -> None:
    """Remove tags from a session or an experiment."""
    with _opened(file) as runs:
        runs.untag(what, *tags)


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
    with _opened(file) as runs:
        runs.note(what, text)


@click.command(cls=options.FileAnywhere)
@click.argument("session", type=options.SessionType())
@click.argument("name")
@options.file_option
def rename(session: str, name: str, file: str | None) -> None:
    """Set the name of a session.

    NAME replaces the previous name; "" removes it. Names need not be unique.

    \b
    casket rename @last "warm start"
    casket rename patient-goat baseline -f runs.json
    """
    with _opened(file) as runs:
        runs.rename(session, name)


@contextmanager
def _opened(file: str | None) -> Iterator[casket.EditableCasket]:
    with casket.open(options.chosen_file(file), writing=True) as runs, options.reported():
        yield runs
