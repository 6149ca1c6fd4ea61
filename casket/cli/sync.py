"""`casket sync`: ships what waits in the journals of remote stores."""

from __future__ import annotations

import click

from casket.cli import options


@click.command()
@click.argument("url", required=False)
@click.option("--status", is_flag=True, help="List the journals and what waits in them, only.")
@options.json_option
def sync(url: str | None, status: bool, as_json: bool) -> None:  # noqa: ARG001 - settled names
    """Ship what waits in journals of remote stores.

    This version writes to local files only.
    """
    if as_json:
        options.write_json([])
    else:
        click.echo("there is nothing to ship: every record is in its file already")
