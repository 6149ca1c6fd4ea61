"""Headers for logged files, so that browsers save them and never execute them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import quote

from casket.dashboard.answers import contents
from casket.dashboard.answers.requests import RequestError
from casket.format.artifacts import Artifact

_UNSAFE = re.compile(r"[^A-Za-z0-9._ ()\[\]+=,@-]|^\.+")

_RESERVED = re.compile(
    r'[<>:"|?*\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|^\.+'
)
"""Characters that are invalid in file names on some system or that disguise the suffix."""

LONGEST_NAME = 150
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


def image_type(artifact: Artifact) -> str:
    """Return the media type of an image artifact by its first bytes.

    Raises:
        RequestError: it is not a supported image.
    """
    media_type = contents.image_type_of(artifact.path)
    if media_type is None:
        kinds = ", ".join(contents.IMAGES)
        raise RequestError(f"{artifact.name!r} is no image that is shown ({kinds})", "image", 404)
    return media_type
