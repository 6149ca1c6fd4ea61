"""The server: the application on uvicorn, and its listening socket."""

from __future__ import annotations

import errno
import logging
import os
import socket
from types import FrameType
from urllib.parse import urlencode

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from casket.dashboard.answers.requests import RequestError
from casket.dashboard.http import responses
from casket.dashboard.http.access import Access
from casket.dashboard.http.connections import TimedConnection
from casket.dashboard.http.middleware import AccessMiddleware
from casket.dashboard.http.routes import Routes
from casket.dashboard.live.board import Board
from casket.errors import BadLocation, CasketError

PORTS_TRIED = 20
BACKLOG = 128
PATIENCE_AT_THE_END = 2
"""Seconds that a download may continue after Ctrl-C."""


def application(board: Board, access: Access, *, editing: bool = False) -> ASGIApp:
    """Return the application that serves a board.

    Args:
        board: the board with the files.
        access: the rules for requests.
        editing: whether notes and tags may be changed.
    """
    app = Starlette(
        routes=Routes(board, editing=editing).all(),
        exception_handlers={
            RequestError: responses.refused,
            CasketError: responses.failed,
            HTTPException: responses.not_found,
        },
    )
    return AccessMiddleware(app, access)


class Server(uvicorn.Server):
    """A server that stops immediately, even while pages are connected to the stream of changes.

    Args:
        board: the board with the files.
        access: the rules for requests.
        editing: whether notes and tags may be changed.
    """

    def __init__(self, board: Board, access: Access, *, editing: bool = False) -> None:
        self._board = board
        super().__init__(
            uvicorn.Config(
                application(board, access, editing=editing),
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                timeout_graceful_shutdown=PATIENCE_AT_THE_END,
                http=TimedConnection,
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End the streams, then the server."""
        # Interrupted streams are not an error at shutdown.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._board.close()
        super().handle_exit(sig, frame)

    def end(self) -> None:
        """Stop the server from another thread."""
        self._board.close()
        self.should_exit = True


class PortTaken(BadLocation):
    """Another program listens on the port."""


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address.

    Raises:
        PortTaken: another program listens on the port.
        BadLocation: listening on the address fails for another reason.
    """
    try:
        return _listener(host, port)
    except OSError as error:
        refusal = PortTaken if error.errno == errno.EADDRINUSE else BadLocation
        reason = error.strerror or error
        raise refusal(f"--host {host} --port {port}: {reason}") from error


def free_port(host: str, taken: int) -> int:
    """Return a port that is free now, one of the next if possible."""
    for port in (*range(taken + 1, min(taken + PORTS_TRIED, 65535)), 0):
        try:
            with listen(host, port) as listener:
                return int(listener.getsockname()[1])
        except PortTaken:
            continue
    return 0


def _listener(host: str, port: int) -> socket.socket:
    # The protocol is given explicitly; otherwise, asyncio keeps Nagle's algorithm enabled, which
    # delays each response by 40 ms.
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    family, kind, protocol, _, place = addresses[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def address(host: str, port: int, token: str | None) -> str:
    """Return the URL to open in a browser on this machine."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host)  # noqa: S104 - named, not bound
    name = name or (f"[{host}]" if ":" in host else host)
    query = f"?{urlencode({'token': token})}" if token else ""
    return f"http://{name}:{port}/{query}"
