"""`casket sync`: ships what waits in the journals of remote stores."""

from __future__ import annotations

import click

from casket import CasketError
from casket.cli import options, tables
from casket.stores import urls
from casket.stores.base import StoreOptions
from casket.stores.location import Place, locate
from casket.stores.remote.journal import Journal, Status, statuses
from casket.stores.remote.spool import ship


@click.command()
@click.argument("url", required=False)
@click.option("--status", "is_asked", is_flag=True, help="List what waits, and ship nothing.")
@options.json_option
def sync(url: str | None, is_asked: bool, as_json: bool) -> None:
    """Ship what waits in journals of remote stores.

    Give URL to ship to that store only; with its password, if the driver finds none elsewhere
    (~/.pgpass, PGPASSWORD, keys, $CASKET_PASSWORD). Exit code 1 if something waits still.

    \b
    casket sync --status
    casket sync postgresql://me@host/runs
    """
    place = locate(url) if url else None
    wanted = urls.without_password(place.url) if place else None
    if not is_asked:
        for found in _waiting(wanted):
            _ship(found, place)
    left = _waiting(wanted)
    if as_json:
        options.write_json([_as_json(found) for found in left])
    elif left:
        click.echo(tables.table([_row(found) for found in left], list(_row(left[0]))))
    else:
        click.echo("nothing waits: every record is in its store")
    if left and not is_asked:
        click.get_current_context().exit(1)


def _waiting(url: str | None) -> list[Status]:
    return [found for found in statuses(url) if found.waiting]


def _ship(found: Status, place: Place | None) -> None:
    """Ship a journal that nobody holds; say why if it cannot be."""
    journal = Journal.orphan(found.path, found.url)
    if journal is None:
        return  # whoever holds it ships it
    try:
        store = (place or locate(found.url)).direct(StoreOptions(), writing=True)
        with options.progress_bar(found.url, found.waiting) as advance:
            ship(journal, store, advance)
        store.close()
        click.echo(f"{found.waiting} records shipped to {found.url}", err=True)
    except CasketError as error:
        click.echo(f"{found.url}: {error}", err=True)
    finally:
        journal.close()


def _as_json(found: Status) -> dict[str, object]:
    return {
        "url": found.url,
        "journal": str(found.path),
        "waiting": found.waiting,
        "is_held": not found.is_orphan,
    }


def _row(found: Status) -> dict[str, str]:
    return {
        "store": found.url,
        "waiting": str(found.waiting),
        "journal": str(found.path),
        "held by": "nobody: casket sync ships it" if found.is_orphan else "a process that runs",
    }
