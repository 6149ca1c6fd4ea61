"""`casket sync`: ships pending records and files to remote stores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from threading import Event
from typing import Any, NamedTuple

import click

from casket import CasketError
from casket.cli import options, tables
from casket.cli.wording import counted
from casket.stores.base import Store, StoreOptions
from casket.stores.location import Location
from casket.stores.remote.files import Uploads
from casket.stores.remote.journal import Journal, Status, known_urls, statuses
from casket.stores.remote.spool import ship


@click.command()
@click.argument("url", required=False)
@click.option(
    "--status", "is_asked", is_flag=True, help="List what is pending without shipping it."
)
@options.json_option
def sync(url: str | None, is_asked: bool, as_json: bool) -> None:
    """Ship pending records, and the files of artifacts, to remote stores.

    With URL, only those of that store are shipped. URL may contain a password that the driver
    does not find elsewhere (~/.pgpass, PGPASSWORD, keys, $CASKET_PASSWORD). The exit code is 1 if
    any are still pending.

    \b
    casket sync --status
    casket sync postgresql://me@host/runs
    """
    chosen = Location.of(url) if url else None
    locations = [chosen] if chosen else list(_known())
    if not is_asked:
        for location in locations:
            _ship_all(location)
    left = [row for location in locations for row in _waiting(location)]
    if as_json:
        options.write_json([row._asdict() for row in left])
    elif left:
        rows = list(map(_row, left))
        click.echo(tables.table(rows, list(rows[0])))
    else:
        click.echo("no pending records")
    if left and not is_asked:
        click.get_current_context().exit(1)


def _known() -> Iterator[Location]:
    for url in known_urls():
        try:
            yield Location.of(url)
        except CasketError as error:  # such as a store whose package was removed
            click.echo(f"{url}: {error}", err=True)


class _Waiting(NamedTuple):
    """What waits for a store; without a journal, only files do."""

    url: str
    journal: str | None
    waiting: int
    files: int
    is_held: bool


def _waiting(location: Location) -> list[_Waiting]:
    url = location.journal_url
    uploads = _uploads(location)
    files = len(uploads.waiting()) if uploads else 0
    rows = [
        _Waiting(url, str(status.path), status.waiting, files, not status.is_orphan)
        for status in statuses(url)
        if status.waiting
    ]
    return rows or [_Waiting(url, None, 0, files, is_held=False)][: bool(files)]


def _ship_all(location: Location) -> None:
    """Send the files and the records that wait for a store; print the reason on failure."""
    if not _waiting(location):
        return
    try:
        store = location.direct(StoreOptions(), writing=True)
        with closing(store):
            _ship(location, store)
    except CasketError as error:
        click.echo(f"{location.journal_url}: {error}", err=True)


def _ship(location: Location, store: Store) -> None:
    uploads = _uploads(location, store)
    if uploads is not None:
        with options.progress_bar(f"files for {location}", len(uploads.waiting())) as advance:
            uploads.run(Event(), lambda: advance(1))
        if uploads.finished:
            click.echo(f"sent {counted(uploads.finished, 'file')} to {location}", err=True)
    for status in statuses(location.journal_url):
        if status.waiting:
            _ship_journal(status, store, uploads)


def _uploads(location: Location, store: Any = None) -> Uploads | None:
    outbox = location.outbox()
    if outbox is None:
        return None
    return Uploads(outbox, location.journal_url, lambda: store.files)


def _ship_journal(status: Status, store: Store, uploads: Uploads | None) -> None:
    journal = Journal.orphan(status.path, status.url)
    if journal is None:
        return  # the process that holds the journal ships it
    try:
        with options.progress_bar(status.url, status.waiting) as advance:
            if uploads is None:
                ship(journal, store, advance)
            else:
                ship(journal, store, advance, uploads.may_end)
        click.echo(f"shipped {status.waiting} records to {status.url}", err=True)
    finally:
        journal.close()


def _row(row: _Waiting) -> dict[str, str]:
    return {
        "store": row.url,
        "pending": str(row.waiting),
        "files": str(row.files),
        "journal": row.journal or "",
        "held by": "a running process" if row.is_held else "no process (casket sync ships it)",
    }
