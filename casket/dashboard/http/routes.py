"""The dashboard's routes, and the stream of changes."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from casket import __version__
from casket.dashboard import page
from casket.dashboard.answers import curves, details, heatmap
from casket.dashboard.answers.encoding import json_of
from casket.dashboard.answers.overview import KINDS
from casket.dashboard.answers.requests import (
    MAX_BODY,
    MAX_POINTS,
    Annotation,
    BestRequest,
    CurvesRequest,
    RequestError,
    RowsRequest,
    choice,
)
from casket.dashboard.http import downloads
from casket.dashboard.http.responses import asset_response, csv_response, json_response
from casket.dashboard.live.board import PUBLISHING_INTERVAL, Board, Changes
from casket.errors import NotFound
from casket.format.artifacts import Artifact
from casket.reading.metrics import facts_of
from casket.reading.rows import Kind
from casket.reading.views import SessionView
from casket.writing.annotating import OPTIONS, annotate
from casket.writing.backend import Backend

COMPRESSION_OF_OVERVIEW = 6
"""The gzip level of a response that is cached."""


class Routes:
    """Handlers of the page's requests.

    Args:
        board: the board with the files.
        editing: whether notes and tags may be changed.
    """

    def __init__(self, board: Board, *, editing: bool = False) -> None:
        self._board = board
        self._editing = editing
        self._overview: tuple[int, bytes, bytes] = (-1, b"", b"")

    def all(self) -> list[Route]:
        """Return the routes."""
        session = "/api/session/{key}"
        return [
            Route("/", self.page),
            Route("/static/{name:path}", self.static),
            Route("/api/overview", self.overview),
            Route("/api/values", self.values),
            Route("/api/sweeps", self.sweeps),
            Route("/api/best", self.best),
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
        response = asset_response(request, page.INDEX)
        response.headers["Content-Security-Policy"] = page.policy()
        return response

    def static(self, request: Request) -> Response:
        """Send a file of the page."""
        return asset_response(request, request.path_params["name"])

    def overview(self, request: Request) -> Response:
        """Send the data of the table."""
        version, plain, compressed = self._overview
        if version != self._board.version:
            changes = self._board.changes(after=-1)
            plain = json_of(self._overview_of(changes))
            compressed = gzip.compress(plain, COMPRESSION_OF_OVERVIEW, mtime=0)
            self._overview = (changes.version, plain, compressed)
        return json_response(request, plain, compressed)

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
        """Send the last and best values of all sessions with full precision."""
        return json_response(request, json_of(self._board.values()))

    def sweeps(self, request: Request) -> Response:
        """Send the state of all sweeps."""
        return json_response(request, json_of(self._board.sweeps()))

    def best(self, request: Request) -> Response:
        """Send the lowest or highest value of a metric of each session."""
        asked = BestRequest.read(request.query_params)
        return json_response(request, json_of(self._board.best(asked.metric, asked.mode)))

    async def curves(self, request: Request) -> Response:
        """Send the requested curves."""
        asked = CurvesRequest.read(await _body(request))

        def respond() -> Response:
            return json_response(request, json_of(curves.answer(asked, self._find)))

        return await run_in_threadpool(respond)

    async def curves_csv(self, request: Request) -> Response:
        """Send all values of the requested curves as CSV."""
        asked = CurvesRequest.read(await _body(request))
        return csv_response(curves.as_csv(asked, self._find), "curves.csv")

    def session(self, request: Request) -> Response:
        """Send everything about a session except its epochs and batches."""
        key = request.path_params["key"]
        with self._board.session_of(key) as (file, session):
            return json_response(request, json_of(details.details(session, key, file.index)))

    def rows(self, request: Request) -> Response:
        """Send a range of a session's rows."""
        asked = RowsRequest.read(request.query_params)
        with self._board.session_of(request.path_params["key"]) as (_, session):
            return json_response(request, json_of(details.rows(session, asked)))

    def rows_csv(self, request: Request) -> Response:
        """Send all rows of a session as CSV."""
        kind: Kind = choice("kind", request.query_params.get("kind", "epoch"), KINDS)
        with self._board.session_of(request.path_params["key"]) as (_, session):
            return csv_response(details.csv_lines(session, kind), f"{session.id} {kind}.csv")

    def heatmap(self, request: Request) -> Response:
        """Send the scores of a grid search."""
        key = request.query_params.get("session", "")
        with self._board.session_of(key) as (_, session):
            return json_response(request, json_of(heatmap.heatmap(session)))

    def artifact(self, request: Request) -> Response:
        """Send an artifact as a download."""
        return downloads.download(self._artifact(request))

    def image(self, request: Request) -> Response:
        """Send an image artifact for display."""
        return downloads.image(self._artifact(request))

    def _artifact(self, request: Request) -> Artifact:
        with self._board.session_of(request.path_params["key"]) as (_, session):
            return details.artifact(session, request.path_params["position"])

    async def annotate(self, request: Request) -> Response:
        """Change the note or tags of a session."""
        if not self._editing:
            raise RequestError(
                "start `casket dashboard --edit` to write notes and tags", "edit", 403
            )
        change = Annotation.read(await _body(request))
        key = request.path_params["key"]

        def respond() -> Response:
            with self._board.session_of(key) as (file, session):
                pass  # release the lock, so that the reader can continue during the write
            if (obstacle := file.obstacle) is not None:
                raise RequestError(obstacle, "session", 503)
            backend = Backend(file.location, OPTIONS)
            try:
                annotate(backend, session, **change._asdict())
            except NotFound as error:
                raise RequestError(str(error), "session", 503) from error
            finally:
                backend.store.close()
            self._board.read_now(file)
            return json_response(request, self._board.row(key))

        return await run_in_threadpool(respond)

    async def events(self, request: Request) -> Response:
        """Stream changes as server-sent events."""
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

        def notify() -> None:
            loop.call_soon_threadsafe(changed.set)

        with board.listening(notify):
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
    def _find(self, key: str) -> Iterator[SessionView | None]:
        """Yield a session by its key; None if it was removed meanwhile."""
        with contextlib.ExitStack() as stack:
            try:
                _, session = stack.enter_context(self._board.session_of(key))
            except RequestError:
                yield None
                return
            yield session


def _events_of(changes: Changes, before: str, board: Board) -> list[bytes]:
    """Return the events for changes; only the last event carries the new cursor."""
    events: list[tuple[str, Any]] = []
    if changes.files is not None:
        events.append(("files", changes.files))
    if changes.experiments is not None:
        events.append(("experiments", changes.experiments))
    if changes.rows or changes.removed:
        rows = [orjson.Fragment(row) for row in changes.rows]
        metrics = {name: facts_of(name) for name in changes.metrics}
        events.append(
            ("sessions", {"sessions": rows, "removed": changes.removed, "metrics": metrics})
        )
    after = board.cursor(changes.version)
    last = len(events) - 1
    return [
        _event(name, data, after if i == last else before) for i, (name, data) in enumerate(events)
    ]


def _event(name: str, data: Any, cursor: str) -> bytes:
    return b"event: %b\nid: %b\ndata: %b\n\n" % (name.encode(), cursor.encode(), json_of(data))


async def _body(request: Request) -> Any:
    """Parse the body of a request as JSON.

    Raises:
        RequestError: the body is too long or not JSON.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise RequestError(f"the request is longer than {MAX_BODY} bytes", "body", 413)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the request is not JSON: {error}", "body") from error
