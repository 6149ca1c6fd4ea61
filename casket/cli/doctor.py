"""`casket doctor`: checks a file and reports damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from casket.cli import options, terminal
from casket.cli.wording import counted, size
from casket.maintenance import doctor as examining
from casket.maintenance.doctor import Finding, Report
from casket.stores.location import Location

DAMAGED = 1
"""The exit code for a damaged file."""


@click.command()
@click.option(
    "--repair",
    is_flag=True,
    help="Replace the file by one with all intact records, and keep the old one.",
)
@click.option(
    "--accept",
    is_flag=True,
    help="Accept the damage that is left: it is listed in FILE.accepted, and later runs note it.",
)
@options.file_argument
@options.yes_options
@options.json_option
def doctor(
    file: str | None, repair: bool, accept: bool, yes: bool, dry_run: bool, as_json: bool
) -> None:
    """Check the records, the artifacts and the structure of a file.

    Each damaged range of bytes is reported with the records lost in it. The file is changed only
    with --repair, which keeps the old file as FILE.damaged-TIME. The exit code is 1 if the file is
    damaged.

    \b
    casket doctor runs.json
    casket doctor runs.json --repair
    casket doctor runs.json --accept
    """
    location = Location.of(options.chosen_file(file))
    report = _examined(location)
    if as_json:
        options.write_json(_as_json(report))
    else:
        _show(report)
    if repair and report.is_repairable:
        kept = _repaired(location, yes=yes, dry_run=dry_run, quiet=as_json)
        if kept is not None:
            report = _examined(location)
            for finding in report.damages:
                click.echo(f"remaining {_line(finding)}", err=as_json)
    elif repair:
        click.echo("nothing to repair", err=as_json)
    if accept and not dry_run:
        report = _accepted(location, report, quiet=as_json)
    if report.damages:
        click.get_current_context().exit(DAMAGED)


def _examined(location: Location) -> Report:
    length, done = _length(location), 0
    with options.progress_bar(f"checking {location.path.name}", length) as advance:

        def progress(more: int) -> None:
            nonlocal done
            done += more
            advance(more)

        report = examining.examine(location, progress)
        advance(max(length - done, 0))
    return report


def _length(location: Location) -> int:
    """Return the approximate number of bytes to check."""
    if not location.path.is_file():
        return 0
    folder = location.artifacts().path
    files = [location.path, *(folder.iterdir() if folder.is_dir() else ())]
    return sum(file.stat().st_size for file in files)


def _repaired(location: Location, *, yes: bool, dry_run: bool, quiet: bool) -> Path | None:
    """Repair a file after confirmation.

    Returns:
        The path of the old file; None if it was not repaired.
    """
    click.echo(
        f"{location} will be replaced by a file with all intact records; the old file is kept "
        f"as {location.path.name}.damaged-TIME",
        err=quiet,
    )
    if not options.is_confirmed(f"Repair {location}?", yes=yes, dry_run=dry_run):
        return None
    kept = examining.repair(location)
    click.echo(f"repaired {location}; the old file is {kept}", err=quiet)
    return kept


def _accepted(location: Location, report: Report, *, quiet: bool) -> Report:
    count = len(report.damages)
    if count:
        kept = examining.accept(location, report)
        click.echo(f"accepted {counted(count, 'damage')}, listed in {kept}", err=quiet)
    return _examined(location)


def _show(report: Report) -> None:
    kinds = [counted(count, kind) for kind, count in report.records.items()]
    click.echo(
        f"{report.location}: {size(report.size)}, {counted(report.records.total(), 'record')} "
        f"({', '.join(kinds)}) of {counted(report.sessions, 'session')}, "
        f"{counted(report.artifacts, 'artifact')}"
    )
    for finding in report.findings:
        click.echo(_line(finding))
    damages = len(report.damages)
    click.echo("no damage" if not damages else counted(damages, "damage"))


def _line(finding: Finding) -> str:
    kind = terminal.styled("damage", fg="red") if finding.is_damage else "note"
    cost = f"; lost: {finding.cost}" if finding.cost else ""
    return terminal.one_line(f"{kind}: {finding.where}: {finding.problem}{cost}")


def _as_json(report: Report) -> dict[str, Any]:
    return {
        **report._asdict(),
        "is_sound": not report.damages,
        "findings": [finding._asdict() for finding in report.findings],
    }
