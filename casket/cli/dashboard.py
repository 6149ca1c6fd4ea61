"""`casket dashboard`: experiment files as a page."""

from __future__ import annotations

import os
import threading
import webbrowser

import click

from casket.cli import options
from casket.errors import missing

PORT = 7117


@click.command()
@click.argument("files", nargs=-1, type=options.FileType())
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"Else {PORT}, or the next one that is free; 0: any that is free.",
)
@click.option("--no-open", is_flag=True, help="Open no browser.")
@click.option("--edit", is_flag=True, help="Notes and tags may be written on the page.")
@click.option("--token", help="What a browser has to know; else made where others can reach it.")
def dashboard(
    files: tuple[str, ...],
    host: str,
    port: int | None,
    no_open: bool,
    edit: bool,
    token: str | None,
) -> None:
    """Show experiment files as a page in the browser, live.

    Any number of files and URLs, opened to read only; Ctrl-C ends it. From another machine:
    ssh -L 7117:127.0.0.1:7117 that-machine.

    \b
    casket dashboard runs.json
    casket dashboard node1.json node2.json --no-open --port 0
    """
    urls = files or (options.chosen_file(None),)
    try:
        from casket.dashboard import page, server
        from casket.dashboard.board import Board
        from casket.dashboard.security import Access
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    page.check()
    access = Access.to(host, token)
    board = Board(urls, say=lambda text: click.echo(text, err=True))
    listener = server.listen(host, PORT if port is None else port, is_chosen=port is not None)
    address = server.address(host, listener.getsockname()[1], access.token)
    board.start()
    click.echo(f"{address}  (Ctrl-C ends it)")
    if not no_open:
        _open(address)
    try:
        server.Server(board, access, editing=edit).run(sockets=[listener])
    except KeyboardInterrupt:
        click.echo()
    finally:
        board.close()


def _missing(error: ModuleNotFoundError) -> ImportError:
    """Return the error that names the extra, for each of the packages it brings."""
    package = "starlette" if error.name == "starlette" else "uvicorn"
    return missing(error, package, "dashboard")


def _open(address: str) -> None:
    """Open a browser with a window of its own, or `$BROWSER`; one in the terminal would take it."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return  # there is none, and the address is printed
    if "BROWSER" in os.environ or type(browser) is not webbrowser.GenericBrowser:
        threading.Thread(target=browser.open, args=(address,), daemon=True).start()
