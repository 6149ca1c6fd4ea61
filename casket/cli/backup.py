"""`casket backup`: copies a file that is being written."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from casket.cli import options
from casket.cli.wording import size
from casket.maintenance.backup import back_up
from casket.stores.location import Location


@click.command()
@options.file_argument
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The copy, a new file; default: FILE.backup-TIME, with the time in UTC.",
)
def backup(file: str | None, output: Path | None) -> None:
    """Copy a file with its artifacts while processes write to it.

    The copy is the file as it was at one moment. Writers of a JSON file wait meanwhile. The exit
    code is 1 if an artifact could not be copied.

    \b
    casket backup runs.json
    casket backup runs.sqlite -o /backups/runs.sqlite
    """
    location = Location.of(options.chosen_file(file))
    made = back_up(location, output or _dated(location.path))
    click.echo(f"{made.path} ({size(made.size)})")
    for name, reason in made.problems.items():
        click.echo(f"not copied: {name}: {reason}", err=True)
    if made.problems:
        click.get_current_context().exit(1)


def _dated(path: Path) -> Path:
    return path.with_name(f"{path.name}.backup-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
