"""The page's files, as they are sent and as a report holds them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from casket.errors import CasketError

WEB = Path(__file__).parent / "web"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""The kinds of files there are, and their media types; nothing else is sent."""

INDEX = "index.html"

_IMPORT_MAP = re.compile(r'<script type="importmap">(.*?)</script>', re.DOTALL)


class Asset(NamedTuple):
    """A file of the page.

    Attributes:
        content: what it holds.
        compressed: the same by gzip.
        media_type: its media type.
        tag: tells one content from another.
    """

    content: bytes
    compressed: bytes
    media_type: str
    tag: str


def asset(name: str) -> Asset | None:
    """Return a file of the page, as it is now; None if there is none of that name."""
    path = _files().get(name)
    if path is None:
        _files.cache_clear()  # in a checkout the page's files come and go
        path = _files().get(name)
    if path is None or not path.is_file():
        return None
    return _asset(path, path.stat().st_mtime_ns)


def check() -> None:
    """Make sure that the page is whole.

    Raises:
        CasketError: the libraries that a build puts beside it are missing.
    """
    if not (WEB / "vendor").is_dir():
        raise CasketError(
            f"{WEB / 'vendor'} is missing, which a build makes: `pip install .` in the checkout, "
            "or `python hatch_build.py`"
        )


def import_map(html: str) -> str:
    """Return the text of the import map, the one script that stands in the page itself."""
    match = _IMPORT_MAP.search(html)
    return match[1] if match else ""


def policy(html: str) -> str:
    """Return the content security policy of the page: nothing from elsewhere, nothing inline.

    The import map, the one script in the page itself, is named by its hash.
    """
    return (
        f"default-src 'none'; script-src 'self' {digest(import_map(html))}; style-src 'self'; "
        "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def digest(script: str) -> str:
    """Return how a content security policy names a script or style by what it says."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@lru_cache(maxsize=1)
def _files() -> dict[str, Path]:
    """Return the files by the name they are asked for: no other path can be reached."""
    return {
        path.relative_to(WEB).as_posix(): path
        for path in WEB.rglob("*")
        if path.suffix in TYPES and "node_modules" not in path.parts
    }


@lru_cache(maxsize=200)
def _asset(path: Path, _changed: int) -> Asset:
    content = path.read_bytes()
    compressed = gzip.compress(content, mtime=0)
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return Asset(content, compressed, TYPES[path.suffix], tag)
