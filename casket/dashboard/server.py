"""The dashboard's server: routes, who may ask, and the stream of what changes.

What is answered is made by the modules beside it, from the sessions of `casket.dashboard.board`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator
from types import FrameType
from typing import Any
from urllib.parse import urlencode

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from casket import __version__
from casket.annotating import OPTIONS, annotate
from casket.backend import Backend
from casket.dashboard import (
    curves,
    details,
    downloads,
    heatmap,
    page,
    refusal,
    security,
)
from casket.dashboard.board import PUBLISHING_INTERVAL, Board, Changes
from casket.dashboard.encoding import json_of
from casket.dashboard.overview import KINDS
from casket.dashboard.questions import (
    MAX_BODY,
    MAX_POINTS,
    Annotation,
    CurvesQuestion,
    NotAnswered,
    RowsQuestion,
    choice,
)
from casket.dashboard.security import Access
from casket.errors import BadLocation, CasketError, NotFound
from casket.metrics import facts_of
from casket.rows import Kind
from casket.views import SessionView

WORTH_COMPRESSING = 2_000
"""Bytes."""

COMPRESSION = 2
"""Level of gzip for what is asked once."""

COMPRESSION_OF_OVERVIEW = 6

PAGE = "index.html"
PORTS_TRIED = 20
BACKLOG = 128
PATIENCE_AT_THE_END = 2
"""Seconds that a download may go on after Ctrl-C."""


class Dashboard:
    """Answers the page's questions.

    Args:
        board: the files.
        editing: whether notes and tags may be written.
    """

    def __init__(self, board: Board, *, editing: bool = False) -> None:
        self._board = board
        self._editing = editing
        self._overview: tuple[int, bytes, bytes] = (-1, b"", b"")

    def routes(self) -> list[Route]:
        """Return what is asked where."""
        session = "/api/session/{key}"
        return [
            Route("/", self.page),
            Route("/static/{name:path}", self.static),
            Route("/api/overview", self.overview),
            Route("/api/values", self.values),
            Route("/api/events", self.events),
            Route("/api/heatmap", self.heatmap),
            Route("/api/curves", self.curves, methods=["POST"]),
            Route("/api/curves.csv", self.curves_csv, methods=["POST"]),
            Route(session, self.session),
            Route(f"{session}/rows", self.rows),
            Route(f"{session}/rows.csv", self.rows_csv),
            Route(f"{session}/artifact/{{position}}", self.artifact),
            Route(f"{session}/image/{{position}}", self.image),
            Route(f"{session}/annotate", self.annotate, methods=["POST"]),
        ]

    def page(self, request: Request) -> Response:
        """Send the page."""
        answer = _asset(request, PAGE)
        found = page.asset(PAGE)
        if found is not None:
            answer.headers["Content-Security-Policy"] = page.policy(found.content.decode())
        return answer

    def static(self, request: Request) -> Response:
        """Send a file of the page."""
        return _asset(request, request.path_params["name"])

    def overview(self, request: Request) -> Response:
        """Send all that the table needs."""
        version, plain, compressed = self._overview
        if version != self._board.version:
            changes = self._board.changes(after=-1)
            plain = json_of(self._overview_of(changes))
            compressed = gzip.compress(plain, COMPRESSION_OF_OVERVIEW, mtime=0)
            self._overview = (changes.version, plain, compressed)
        return _answer(request, plain, compressed)

    def _overview_of(self, changes: Changes) -> dict[str, Any]:
        return {
            "version": __version__,
            "edit": self._editing,
            "cursor": self._board.cursor(changes.version),
            "max_points": MAX_POINTS,
            "files": changes.files,
            "experiments": changes.experiments,
            "sessions": [orjson.Fragment(row) for row in changes.rows],
            "metrics": {name: facts_of(name) for name in changes.metrics},
        }

    def values(self, request: Request) -> Response:
        """Send the last and best values of all sessions, with all their digits."""
        return _answer(request, json_of(self._board.values()))

    async def curves(self, request: Request) -> Response:
        """Send curves."""
        question = CurvesQuestion.read(await _body(request))

        def answer() -> Response:
            return _answer(request, json_of(curves.answer(question, self._look)))

        return await run_in_threadpool(answer)

    async def curves_csv(self, request: Request) -> Response:
        """Send every value of curves, as CSV."""
        question = CurvesQuestion.read(await _body(request))
        return _csv(curves.as_csv(question, self._look), "curves.csv")

    def session(self, request: Request) -> Response:
        """Send all that is known of a session but its epochs and batches."""
        key = request.path_params["key"]
        with self._board.looking_at(key) as (file, session):
            return _answer(request, json_of(details.details(session, key, file.index)))

    def rows(self, request: Request) -> Response:
        """Send some rows of a session."""
        question = RowsQuestion.read(request.query_params)
        with self._board.looking_at(request.path_params["key"]) as (_, session):
            return _answer(request, json_of(details.rows(session, question)))

    def rows_csv(self, request: Request) -> Response:
        """Send all rows of a session, as CSV."""
        kind: Kind = choice("kind", request.query_params.get("kind", "epoch"), KINDS)
        with self._board.looking_at(request.path_params["key"]) as (_, session):
            return _csv(details.csv_lines(session, kind), f"{session.id} {kind}.csv")

    def heatmap(self, request: Request) -> Response:
        """Send the scores of a grid search."""
        key = request.query_params.get("session", "")
        with self._board.looking_at(key) as (_, session):
            return _answer(request, json_of(heatmap.heatmap(session)))

    def artifact(self, request: Request) -> Response:
        """Send an artifact, to be kept."""
        found = self._artifact(request)
        headers = {
            **downloads.headers(found.name),
            "Content-Security-Policy": security.NOTHING_RUNS,
        }
        return FileResponse(found.path, media_type="application/octet-stream", headers=headers)

    def image(self, request: Request) -> Response:
        """Send an artifact that is an image, to be shown."""
        found = self._artifact(request)
        headers = {"Content-Security-Policy": security.NOTHING_RUNS}
        return FileResponse(found.path, media_type=downloads.image_type(found), headers=headers)

    def _artifact(self, request: Request) -> Any:
        with self._board.looking_at(request.path_params["key"]) as (_, session):
            return details.artifact(session, request.path_params["position"])

    async def annotate(self, request: Request) -> Response:
        """Write a note or tags."""
        if not self._editing:
            raise NotAnswered(
                "start `casket dashboard --edit` to write notes and tags", "edit", 403
            )
        change = Annotation.read(await _body(request))
        key = request.path_params["key"]

        def answer() -> Response:
            with self._board.looking_at(key) as (file, session):
                pass  # written without holding the reader off
            if (obstacle := file.obstacle) is not None:
                raise NotAnswered(obstacle, "session", 503)
            backend = Backend(file.place, OPTIONS)
            try:
                annotate(backend, session, **change._asdict())
            except NotFound as error:
                raise NotAnswered(str(error), "session", 503) from error
            finally:
                backend.store.close()
            self._board.read_now(file)
            return _answer(request, self._board.row(key))

        return await run_in_threadpool(answer)

    async def events(self, request: Request) -> Response:
        """Stream what changes."""
        cursor = request.headers.get("last-event-id") or request.query_params.get("cursor", "")
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            self._events(cursor), media_type="text/event-stream", headers=headers
        )

    async def _events(self, cursor: str) -> AsyncIterator[bytes]:
        board = self._board
        sent = board.version_of(cursor)
        yield b"retry: 1000\n\n"
        if sent is None:
            sent = board.version
            yield _event("reload", {}, board.cursor(sent))
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            loop.call_soon_threadsafe(changed.set)

        with board.listening(tell):
            while not board.is_closing:
                changed.clear()
                if board.version > sent:
                    changes = await run_in_threadpool(board.changes, sent)
                    for event in _events_of(changes, board.cursor(sent), board):
                        yield event
                    sent = changes.version
                    await asyncio.sleep(PUBLISHING_INTERVAL)
                elif not board.is_closing:
                    await changed.wait()

    @contextlib.contextmanager
    def _look(self, key: str) -> Iterator[SessionView | None]:
        """Find a session of a curve; one that is gone meanwhile has none."""
        with contextlib.ExitStack() as stack:
            try:
                _, session = stack.enter_context(self._board.looking_at(key))
            except NotAnswered:
                yield None
                return
            yield session


def _events_of(changes: Changes, before: str, board: Board) -> list[bytes]:
    """Return the events that tell of changes; only the last one counts as having told all."""
    told: list[tuple[str, Any]] = []
    if changes.files is not None:
        told.append(("files", changes.files))
    if changes.experiments is not None:
        told.append(("experiments", changes.experiments))
    if changes.rows or changes.removed:
        rows = [orjson.Fragment(row) for row in changes.rows]
        metrics = {name: facts_of(name) for name in changes.metrics}
        told.append(
            ("sessions", {"sessions": rows, "removed": changes.removed, "metrics": metrics})
        )
    after = board.cursor(changes.version)
    last = len(told) - 1
    return [
        _event(name, data, after if i == last else before) for i, (name, data) in enumerate(told)
    ]


def _event(name: str, data: Any, cursor: str) -> bytes:
    return b"event: %b\nid: %b\ndata: %b\n\n" % (name.encode(), cursor.encode(), json_of(data))


class Guard:
    """Lets through what `Access` lets through, and says in every answer what a browser may do.

    Args:
        app: what answers.
        access: who may ask.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a question."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in security.HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._app
        request = Request(scope)
        try:
            if self._shows_token(request):
                answer = self._remember(request)
            else:
                self._access.check(request.method, Headers(scope=scope))
        except NotAnswered as reason:
            answer = _turned_away(request, reason)
        await answer(scope, receive, send_guarded)

    def _shows_token(self, request: Request) -> bool:
        given = request.query_params.get("token")
        if request.url.path != "/" or given is None or not self._access.is_token(given):
            return False
        self._access.check_name(request.headers.get("host", ""))
        return True

    def _remember(self, request: Request) -> Response:
        """Keep in the browser that it showed the token, and take that out of the address."""
        query = [pair for pair in request.query_params.multi_items() if pair[0] != "token"]
        answer = RedirectResponse(f"/?{urlencode(query)}" if query else "/", status_code=303)
        answer.set_cookie(
            self._access.cookie_name,
            self._access.cookie,
            httponly=True,
            samesite="strict",
            path="/",
        )
        return answer


def application(board: Board, access: Access, *, editing: bool = False) -> ASGIApp:
    """Return what answers for a board.

    Args:
        board: the files.
        access: who may ask.
        editing: whether notes and tags may be written.
    """
    app = Starlette(
        routes=Dashboard(board, editing=editing).routes(),
        exception_handlers={
            NotAnswered: _refused,
            CasketError: _failed,
            HTTPException: _unknown,
        },
    )
    return Guard(app, access)


class Server(uvicorn.Server):
    """Ends at once when it is told to, also with pages that listen.

    Args:
        board: the files.
        access: who may ask.
        editing: whether notes and tags may be written.
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
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End the streams, then the server."""
        # What it cuts off at the end is no error.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._board.close()
        super().handle_exit(sig, frame)

    def end(self) -> None:
        """End from another thread."""
        self._board.close()
        self.should_exit = True


def listen(host: str, port: int, *, is_chosen: bool) -> socket.socket:
    """Listen at an address; without a port that was chosen, at the next one that is free.

    Raises:
        BadLocation: it cannot be listened at.
    """
    last = port if is_chosen or port == 0 else port + PORTS_TRIED
    for tried in range(port, last + 1):
        try:
            return _listener(host, tried)
        except OSError as error:
            if tried == last:
                reason = error.strerror or error
                raise BadLocation(f"--host {host} --port {port}: {reason}") from error
    raise AssertionError("a range of at least one port")


def _listener(host: str, port: int) -> socket.socket:
    # With its protocol named: without, asyncio leaves Nagle's delay on, 40 ms for each answer.
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    family, kind, protocol, _, place = found[0]
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
    """Return what to open in a browser of this machine."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host)  # noqa: S104 - named, not bound
    name = name or (f"[{host}]" if ":" in host else host)
    query = f"?{urlencode({'token': token})}" if token else ""
    return f"http://{name}:{port}/{query}"


def _turned_away(request: Request, reason: NotAnswered) -> Response:
    if "text/html" not in request.headers.get("accept", ""):
        return _refused(request, reason)  # a program asks
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": refusal.POLICY}
    return HTMLResponse(
        refusal.as_page(reason, request.query_params.multi_items()), reason.status, headers
    )


def _refused(_request: Request, error: Any) -> Response:
    return _problem(str(error), error.status, error.parameter)


def _failed(_request: Request, error: Exception) -> Response:
    return _problem(str(error), 404 if isinstance(error, NotFound) else 503, None)


def _unknown(request: Request, error: Any) -> Response:
    return _problem(f"{request.method} {request.url.path}: {error.detail}", error.status_code, None)


def _problem(message: str, status: int, parameter: str | None) -> Response:
    return _api(json_of({"error": message, "parameter": parameter}), status=status)


async def _body(request: Request) -> Any:
    """Return the question in a body.

    Raises:
        NotAnswered: it is too long, or no JSON.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise NotAnswered(f"the question is longer than {MAX_BODY} bytes", "body", 413)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotAnswered(f"the question is no JSON: {error}", "body") from error


def _answer(request: Request, plain: bytes, compressed: bytes | None = None) -> Response:
    """Send JSON, compressed if that is understood and worth it."""
    if len(plain) < WORTH_COMPRESSING or not _takes_gzip(request):
        return _api(plain)
    return _api(
        compressed or gzip.compress(plain, COMPRESSION, mtime=0), {"Content-Encoding": "gzip"}
    )


def _api(content: bytes, headers: dict[str, str] | None = None, status: int = 200) -> Response:
    return Response(
        content,
        status,
        {
            "Cache-Control": "no-store",
            "Content-Security-Policy": security.NOTHING_RUNS,
            "Vary": "Accept-Encoding",
            **(headers or {}),
        },
        media_type="application/json",
    )


def _csv(parts: Iterator[str], name: str) -> Response:
    return StreamingResponse(
        (part.encode() for part in parts),
        media_type="text/csv; charset=utf-8",
        headers={
            "Cache-Control": "no-store",
            "Content-Security-Policy": security.NOTHING_RUNS,
            **downloads.headers(name),
        },
    )


def _asset(request: Request, name: str) -> Response:
    found = page.asset(name)
    if found is None:
        raise HTTPException(404, "there is no such file")
    headers = {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": security.NOTHING_RUNS,
        "ETag": found.tag,
        "Vary": "Accept-Encoding",
    }
    if request.headers.get("if-none-match") == found.tag:
        return Response(status_code=304, headers=headers)
    if not _takes_gzip(request):
        return Response(found.content, headers=headers, media_type=found.media_type)
    headers["Content-Encoding"] = "gzip"
    return Response(found.compressed, headers=headers, media_type=found.media_type)


def _takes_gzip(request: Request) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "")
