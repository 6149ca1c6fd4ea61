"""`casket sync`: ships pending records from the journals of remote stores."""

from __future__ import annotations

import click

from casket import CasketError
from casket.cli import options, tables
from casket.stores import urls
from casket.stores.base import StoreOptions
from casket.stores.location import Location
from casket.stores.remote.journal import Journal, Status, statuses
from casket.stores.remote.spool import ship


@click.command()
@click.argument("url", required=False)
@click.option(
    "--status", "is_asked", is_flag=True, help="List the pending records without shipping them."
)
@options.json_option
def sync(url: str | None, is_asked: bool, as_json: bool) -> None:
    """Ship pending records from the journals of remote stores.

    With URL, only the records of that store are shipped. URL may contain a password that the driver
    does not find elsewhere (~/.pgpass, PGPASSWORD, keys, $CASKET_PASSWORD). The exit code is 1 if
    records are still pending.

    \b
    casket sync --status
    casket sync postgresql://me@host/runs
    """
    location = Location.of(url) if url else None
    wanted = urls.without_password(location.url) if location else None
    if not is_asked:
        for status in _waiting(wanted):
            _ship(status, location)
    left = _waiting(wanted)
    if as_json:
        options.write_json([_as_json(status) for status in left])
    elif left:
        click.echo(tables.table([_row(status) for status in left], list(_row(left[0]))))
    else:
        click.echo("no pending records")
    if left and not is_asked:
        click.get_current_context().exit(1)


def _waiting(url: str | None) -> list[Status]:
    return [status for status in statuses(url) if status.waiting]


def _ship(status: Status, location: Location | None) -> None:
    """Ship a journal that no process holds; print the reason on failure."""
    journal = Journal.orphan(status.path, status.url)
    if journal is None:
        return  # the process that holds the journal ships it
    try:
        store = (location or Location.of(status.url)).direct(StoreOptions(), writing=True)
        with options.progress_bar(status.url, status.waiting) as advance:
            ship(journal, store, advance)
        store.close()
        click.echo(f"shipped {status.waiting} records to {status.url}", err=True)
    except CasketError as error:
        click.echo(f"{status.url}: {error}", err=True)
    finally:
        journal.close()


def _as_json(status: Status) -> dict[str, object]:
    return {
        "url": status.url,
        "journal": str(status.path),
        "waiting": status.waiting,
        "is_held": not status.is_orphan,
    }


def _row(status: Status) -> dict[str, str]:
    return {
        "store": status.url,
        "pending": str(status.waiting),
        "journal": str(status.path),
        "held by": "no process (casket sync ships it)" if status.is_orphan else "a running process",
    }
