"""`casket dashboard`: serves a web page of experiment files."""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
import webbrowser
from collections.abc import Mapping, Sequence
from typing import Any

import click

from casket.cli import options
from casket.errors import BadLocation, CasketError, NotFound, missing
from casket.stores.base import StoreOptions
from casket.stores.location import Location

HOST = "127.0.0.1"
PORT = 7117


@click.command()
@click.argument("files", nargs=-1, type=options.FileType())
@click.option("--host", default=HOST, show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="The port; 0 for any free port.",
)
@click.option("--no-open", is_flag=True, help="Do not open a browser.")
@click.option("--edit", is_flag=True, help="Allow editing notes and tags on the page.")
@click.option("--token", help="The access token; default: random.")
@click.option("--no-token", is_flag=True, help="Give every user of this machine access.")
@click.pass_context
def dashboard(
    context: click.Context,
    files: tuple[str, ...],
    host: str,
    port: int,
    no_open: bool,
    edit: bool,
    token: str | None,
    no_token: bool,
) -> None:
    """Serve experiment files on a live web page.

    FILES are paths and URLs, opened read-only. Ctrl-C stops the server. The printed address
    contains an access token, which the browser keeps in a cookie. To view the page from another
    machine, run `ssh -L 7117:127.0.0.1:7117 HOST` there.

    \b
    casket dashboard runs.json
    casket dashboard node1.json node2.json --no-open --port 0
    """
    urls = files or (options.chosen_file(None),)
    try:
        from casket.dashboard import page
        from casket.dashboard.http import access, server
        from casket.dashboard.live.board import Board
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    page.check()
    _check(urls)
    allowed = access.Access.to(host, token, is_open=no_token)
    board = Board(urls, say=lambda text: click.echo(text, err=True))
    try:
        listener = server.listen(host, port)
    except server.PortTaken as error:
        again = _command(context.params, server.free_port(host, port))
        raise BadLocation(f"{error}; run: {again}") from error
    bound = listener.getsockname()[1]
    address = server.address(host, bound, allowed.token)
    try:
        board.start()
        click.echo(f"{address}  (Ctrl-C stops the server)")
        if access.is_any(host):
            elsewhere = server.address(access.own_name(), bound, allowed.token)
            click.echo(f"{elsewhere}  (from other machines)")
        if not no_open:
            _open(address)
        server.Server(board, allowed, editing=edit).run(sockets=[listener])
    except KeyboardInterrupt:
        click.echo()
    finally:
        board.close()


def _command(params: Mapping[str, Any], port: int) -> str:
    """Return the same command line with another port."""
    flags = [
        f"--{name.replace('_', '-')}" for name in ("no_open", "edit", "no_token") if params[name]
    ]
    host = ["--host", params["host"]] if params["host"] != HOST else []
    token = ["--token", params["token"]] if params["token"] else []
    parts = ["casket", "dashboard", *params["files"], *host, "--port", str(port), *flags, *token]
    return shlex.join(map(str, parts))


def _check(urls: Sequence[str]) -> None:
    """Check that at least one file can be shown now or later.

    An invalid file among valid ones is reported on the page.

    Raises:
        CasketError: none of the files is a casket file.
    """
    refusals = [_refusal(Location.of(url)) for url in urls]
    if all(refusals):
        raise CasketError("\n".join(map(str, refusals)))


def _refusal(location: Location) -> CasketError | None:
    """Return why a local file cannot be shown; a missing file is accepted."""
    if location.url:
        return None  # connecting may take long, and the page reports the error, too
    try:
        with contextlib.closing(location.open(StoreOptions(), writing=False)) as store:
            next(store.records(), None)
    except NotFound:
        return None
    except CasketError as error:
        return error
    return None


def _missing(error: ModuleNotFoundError) -> ImportError:
    """Return an error that names the extra which installs the missing package."""
    package = "starlette" if error.name == "starlette" else "uvicorn"
    return missing(error, package, "dashboard")


def _open(address: str) -> None:
    """Open a graphical browser or `$BROWSER`; a text browser would occupy the terminal."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return  # no browser is available; the address is printed
    if "BROWSER" in os.environ or type(browser) is not webbrowser.GenericBrowser:
        threading.Thread(target=browser.open, args=(address,), daemon=True).start()
