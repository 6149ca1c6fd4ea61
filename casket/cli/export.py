"""`casket export`: writes sessions as tables and documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import get_args

import click
from tabulate import tabulate

from casket.cli import options, tables, terminal
from casket.cli.csv_text import chosen, sessions_csv
from casket.cli.listing import sorted_by
from casket.cli.wording import counted
from casket.errors import BadLocation, missing
from casket.reading.casket import Casket
from casket.reading.columns import flatten
from casket.reading.frames import Table
from casket.reading.grouping import groups
from casket.reading.nested import documents
from casket.reading.numbers import with_margin
from casket.reading.query import Names
from casket.reading.summary import as_json, details, varying
from casket.reading.views import SessionView
from casket.stores.base import StoreOptions
from casket.stores.location import Location
from casket.writing.provenance import PERSONAL

FORMATS = {
    "csv": ".csv",
    "parquet": ".parquet",
    "jsonl": ".jsonl",
    "json": ".json",
    "markdown": ".md",
    "latex": ".tex",
    "html": ".html",
}
"""The formats by file suffix."""


@click.command()
@options.file_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write; default: standard output.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    help="The format; default: by the suffix of the output.",
)
@click.option(
    "--table",
    type=click.Choice(get_args(Table)),
    default="sessions",
    show_default=True,
    help="The rows of csv and parquet.",
)
@click.option(
    "--columns",
    shell_complete=options.complete_names,
    metavar="NAMES",
    help="The columns, separated by commas, such as params.lr,acc.",
)
@click.option(
    "--group-by",
    shell_complete=options.complete_names,
    metavar="NAMES",
    help="markdown, latex: one row per group of equal values, with mean ± interval.",
)
@click.option(
    "--points",
    type=click.IntRange(4, 100_000),
    default=400,
    show_default=True,
    help="html: the number of points per curve; longer curves keep the extremes of each part.",
)
@click.option(
    "--anonymous",
    is_flag=True,
    help="Omit user, host, process, command line, captured code, packages and output, and the "
    "folders of artifacts and checkpoints. "
    "Params, notes, error messages and other meta are kept as logged.",
)
@click.option(
    "--sort",
    shell_complete=options.complete_names,
    metavar="NAME",
    help="Sort the sessions by a name, as `ls --sort` does.",
)
@options.where_option
@options.children_option
def export(
    file: str | None,
    output: Path | None,
    form: str | None,
    table: Table,
    columns: str | None,
    group_by: str | None,
    points: int,
    anonymous: bool,
    sort: str | None,
    where: str | None,
    children: bool,
) -> None:
    """Export tables, documents and reports.

    json is a nested document, as written by the first casket. markdown and latex are tables for
    papers. html is the web page with its data (about 2 MB); it needs no server and no network, and
    has the children of its sessions in any case.

    \b
    casket export runs.json -o epochs.csv --table epochs
    casket export -o table.tex --columns params.lr,val_acc --group-by params.lr
    casket export -o report.html --where "'paper' in tags"
    """
    form = form or _format_of(output)
    names = options.names(columns)
    with _opened(options.chosen_file(file), form) as runs:
        sessions = _selected(runs, form, where, children=children)
        if anonymous:
            sessions = [session.anonymous(PERSONAL) for session in sessions]
        known = runs.names()
        if sort:
            sessions = sorted_by(sessions, sort, known)
        if form == "parquet":
            _write_parquet(sessions, table, names, output)
        elif form in {"markdown", "latex"}:
            grouping = options.names(group_by)
            _write(_for_paper(sessions, names, grouping, form, known), output)
        elif form == "html":
            _write(_report(runs, sessions, points), output)
        elif form == "jsonl":
            _write(_jsonl(sessions, anonymous=anonymous), output)
        elif form == "json":
            _write(_nested(sessions), output)
        else:
            _write(sessions_csv(sessions, table, names, known), output)
    if output:
        click.echo(f"wrote {counted(len(sessions), 'session')} to {output}", err=True)


def _opened(url: str, form: str) -> Casket:
    """Open a file; a report shows only the range of arrays that are stored in their own files."""
    if form != "html":
        return options.open_file(url)
    from casket.dashboard.answers.contents import ShownFolder

    location = Location.of(url)
    files = ShownFolder(location.artifacts())
    return Casket(location.open(StoreOptions(), writing=False), files, str(location))


def _format_of(output: Path | None) -> str:
    if output is None:
        raise click.UsageError(f"give --format, one of {', '.join(FORMATS)}")
    for form, suffix in FORMATS.items():
        if output.suffix == suffix:
            return form
    raise click.UsageError(f"the suffix of {output} is not a known format: give --format")


def _write(content: str, output: Path | None) -> None:
    if output is None:
        terminal.write(content)
        return
    try:
        if output.exists() and not output.is_file():  # a device or a pipe
            output.write_bytes(terminal.encoded(content))
        else:
            _replace(output.resolve(), terminal.encoded(content))
    except OSError as error:
        raise click.UsageError(f"{output} cannot be written: {error.strerror}") from error


def _replace(path: Path, content: bytes) -> None:
    """Write a file completely or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _selected(runs: Casket, form: str, where: str | None, *, children: bool) -> list[SessionView]:
    sessions = runs.sessions(where=where, children=children)
    if not sessions:
        raise options.NothingFound(f"no session matches in {runs.location}")
    if form == "html" and not children:
        return list(_with_children(sessions))  # the page shows them on request
    return sessions


def _with_children(sessions: Iterable[SessionView]) -> Iterator[SessionView]:
    for session in sessions:
        yield session
        yield from _with_children(session.children)


def _report(runs: Casket, sessions: Sequence[SessionView], points: int) -> str:
    from casket.dashboard.report import report

    name = Path(runs.location).name
    with options.progress_bar("writing sessions", len(sessions)) as advance:
        return report(name, runs.experiments, sessions, points, advance).decode()


def _jsonl(sessions: Sequence[SessionView], *, anonymous: bool) -> str:
    lines = []
    with options.progress_bar("writing sessions", len(sessions)) as advance:
        for session in sessions:
            described = details(session)
            if anonymous:
                for last in described["artifacts"]:
                    for artifact in (last, *last["history"]):
                        artifact["path"] = Path(artifact["path"]).name
            lines.append(f"{options.json_line(described)}\n")
            advance(1)
    return "".join(lines)


def _nested(sessions: Sequence[SessionView]) -> str:
    numbered = {str(i): document for i, document in enumerate(documents(sessions), 1)}
    return options.json_line({"_default": numbered}) + "\n"


def _write_parquet(
    sessions: Sequence[SessionView], table: Table, names: Sequence[str], output: Path | None
) -> None:
    if output is None:
        raise click.UsageError("parquet is a binary format: give -o FILE")
    try:
        from casket.reading.frames import to_polars

        frame = to_polars(sessions, table)
    except ModuleNotFoundError as error:
        raise missing(error, "polars", "polars") from error
    try:
        frame.select(chosen(frame.columns, names)).write_parquet(output)
    except OSError as error:
        raise BadLocation(f"{output} cannot be written: {error}") from error


def _for_paper(
    sessions: Sequence[SessionView],
    names: Sequence[str],
    grouping: Sequence[str],
    form: str,
    known: Names,
) -> str:
    if grouping:
        rows = _grouped(sessions, names, grouping, known)
    else:
        rows = _listed(sessions, names, known)
    style = "latex_booktabs" if form == "latex" else "github"
    header = {name: name.removeprefix("params.") for name in rows[0]}
    cells = [[row.get(name, "") for name in header] for row in rows]
    text = tabulate(cells, headers=list(header.values()), tablefmt=style, disable_numparse=True)
    return (text.replace("±", r"$\pm$") if form == "latex" else text) + "\n"


def _listed(
    sessions: Sequence[SessionView], names: Sequence[str], known: Names
) -> list[dict[str, str]]:
    if not names:
        params = varying(flatten(session.params) for session in sessions)
        metrics = dict.fromkeys(name for session in sessions for name in session.last)
        names = [*(f"params.{name}" for name in params), *metrics]
    columns = {}
    for name in names:
        parts = known.parts(name)
        values = [known.given(session, parts) for session in sessions]
        columns[name] = tables.column([as_json(value) for value in values])
    return [{name: cells[i] for name, cells in columns.items()} for i in range(len(sessions))]


def _grouped(
    sessions: Sequence[SessionView], names: Sequence[str], grouping: Sequence[str], known: Names
) -> list[dict[str, str]]:
    for name in names:
        if name not in {*grouping, "n"}:
            known.parts(name)
    rows = []
    for group in groups(sessions, grouping, known):
        metrics = {
            name: with_margin(interval.mean, interval.margin)
            for name, interval in group.metrics().items()
        }
        values = {name: tables.text(value) for name, value in group.values.items()}
        counts = {name: str(count) for name, count in group.counts().items()}
        row = {**values, **counts, **metrics}
        shown = [*grouping, "n", *names] if names else list(row)
        rows.append({name: row.get(name, "") for name in dict.fromkeys(shown)})
    return rows
