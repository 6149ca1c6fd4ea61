"""Headers for logged files, so that browsers save them and never execute them."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import quote

from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from casket.dashboard.answers import contents
from casket.dashboard.answers.requests import RequestError
from casket.dashboard.http.access import NOTHING_RUNS
from casket.format.artifacts import Artifact

_UNSAFE = re.compile(r"[^A-Za-z0-9._ ()\[\]+=,@-]|^\.+")

_RESERVED = re.compile(
    r'[<>:"|?*\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|^\.+'
)
"""Characters that are invalid in file names on some system or that disguise the suffix."""

LONGEST_NAME = 150
OPEN_FILES = Path("/dev/fd")
LONGEST_SUFFIX = 20
"""Maximum bytes of a suffix that is preserved."""


def headers(name: str) -> dict[str, str]:
    """Return headers that make a browser save a file under a sanitized name."""
    # A part before a slash is a folder, and control characters could terminate the header.
    last = _cut(re.split(r"[/\\]", name)[-1] or "artifact")
    plain = _UNSAFE.sub("_", last)
    exact = quote(_RESERVED.sub("_", last), safe="")
    return {"Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}"}


def _cut(name: str) -> str:
    """Truncate a name to the limit of all file systems, preserving its suffix."""
    suffix = PurePosixPath(name).suffix.encode()
    if len(suffix) > LONGEST_SUFFIX:
        suffix = b""
    stem = name.encode().removesuffix(suffix)[: LONGEST_NAME - len(suffix)]
    return (stem + suffix).decode(errors="ignore")


def download(artifact: Artifact) -> Response:
    """Return a response that makes a browser save an artifact.

    Raises:
        NotFound: its file does not exist.
    """
    file = artifact.folder.stream(artifact.file)
    return _response(file, "application/octet-stream", headers(artifact.name))


def image(artifact: Artifact) -> Response:
    """Return a response that shows an image artifact.

    Raises:
        NotFound: its file does not exist.
        RequestError: by its first bytes it is not a supported image.
    """
    file = artifact.folder.stream(artifact.file)
    media_type = contents.image_type(file.read(12))
    if media_type is None:
        file.close()
        kinds = ", ".join(contents.IMAGES)
        raise RequestError(f"{artifact.name!r} is no image that is shown ({kinds})", "image", 404)
    file.seek(0)
    return _response(file, media_type, {})


def _response(file: BinaryIO, media_type: str, extra: dict[str, str]) -> Response:
    # The open file is sent: meanwhile, its path might be replaced by a link.
    path = f"/dev/fd/{file.fileno()}" if OPEN_FILES.is_dir() else file.name
    return FileResponse(
        path,
        media_type=media_type,
        headers={"Content-Security-Policy": NOTHING_RUNS, **extra},
        stat_result=os.fstat(file.fileno()),
        background=BackgroundTask(file.close),
    )
