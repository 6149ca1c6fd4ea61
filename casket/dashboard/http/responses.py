"""HTTP responses: JSON, CSV, the page's files and errors, with their headers."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from casket.dashboard import page
from casket.dashboard.answers.encoding import json_of
from casket.dashboard.http import downloads
from casket.dashboard.http.access import NOTHING_RUNS
from casket.errors import NotFound

WORTH_COMPRESSING = 2_000
"""Minimum bytes of a response to compress."""

LARGE = 500_000
COMPRESSION, COMPRESSION_OF_LARGE = 6, 2
"""The gzip levels of a response that is sent once; a large one would take 60 ms more."""


def json_response(request: Request, plain: bytes, compressed: bytes | None = None) -> Response:
    """Return a JSON response, compressed if the client accepts it and the size warrants it."""
    if len(plain) < WORTH_COMPRESSING or not _accepts_gzip(request):
        return _json(plain)
    if compressed is None:
        level = COMPRESSION if len(plain) < LARGE else COMPRESSION_OF_LARGE
        compressed = gzip.compress(plain, level, mtime=0)
    return _json(compressed, {"Content-Encoding": "gzip"})


def _json(content: bytes, headers: dict[str, str] | None = None, status: int = 200) -> Response:
    return Response(
        content,
        status,
        {
            "Cache-Control": "no-store",
            "Content-Security-Policy": NOTHING_RUNS,
            "Vary": "Accept-Encoding",
            **(headers or {}),
        },
        media_type="application/json",
    )


def csv_response(parts: Iterator[str], name: str) -> Response:
    """Return a CSV download that is streamed as it is generated."""
    return StreamingResponse(
        (part.encode() for part in parts),
        media_type="text/csv; charset=utf-8",
        headers={
            "Cache-Control": "no-store",
            "Content-Security-Policy": NOTHING_RUNS,
            **downloads.headers(name),
        },
    )


def asset_response(request: Request, name: str) -> Response:
    """Return a file of the page, or 304 if the client's copy is current.

    Raises:
        HTTPException: the file does not exist.
    """
    asset = page.asset(name)
    if asset is None:
        raise HTTPException(404, "there is no such file")
    headers = {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": NOTHING_RUNS,
        "ETag": asset.tag,
        "Vary": "Accept-Encoding",
    }
    if request.headers.get("if-none-match") == asset.tag:
        return Response(status_code=304, headers=headers)
    if not _accepts_gzip(request):
        return Response(asset.content, headers=headers, media_type=asset.media_type)
    headers["Content-Encoding"] = "gzip"
    return Response(asset.compressed, headers=headers, media_type=asset.media_type)


def _accepts_gzip(request: Request) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "")


def refused(_request: Request, error: Any) -> Response:
    """Return the response for a `RequestError`."""
    return _error(str(error), error.status, error.parameter)


def failed(_request: Request, error: Exception) -> Response:
    """Return the response for a `CasketError`."""
    return _error(str(error), 404 if isinstance(error, NotFound) else 503, None)


def not_found(request: Request, error: Any) -> Response:
    """Return the response for an `HTTPException`, such as an unknown path."""
    return _error(f"{request.method} {request.url.path}: {error.detail}", error.status_code, None)


def _error(message: str, status: int, parameter: str | None) -> Response:
    return _json(json_of({"error": message, "parameter": parameter}), status=status)
