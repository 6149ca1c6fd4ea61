"""The files of the page, as sent by the server and as embedded in a report.

The page consists of `web/index.html`, a folder of modules and stylesheets for each part, and the
libraries in `web/vendor/`. The import map, the preload links and the combined stylesheet are
generated from these files.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import orjson

from casket.errors import CasketError

WEB = Path(__file__).parent / "web"
VENDOR = "vendor"
PARTS = ("shell", "model", "where", "sessions", "curves", "compare", "explore", "session", "sweep")
"""The folders of the page; their stylesheets apply in this order."""

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}

INDEX = "index.html"
STYLE = "style.css"
"""The name of the combined stylesheet."""

ENTRY = "casket/shell/app"
"""The module that starts the page."""

IMPORTS = "<!-- imports -->"
STYLE_LINK = '<link rel="stylesheet" href="./static/style.css" />'
ENTRY_SCRIPT = '<script type="module" src="./static/shell/app.js"></script>'
"""The elements of the page that a report replaces by their content."""

_IMPORTED = re.compile(r'\bfrom ?"([^"]+)"')
_LOADED_AT_ONCE = re.compile(r'^const \w+ = import\("([^"]+)"\);$', re.MULTILINE)
"""Modules that a module starts to load when it is evaluated."""

Stamps = tuple[tuple[str, int], ...]
"""The files with their modification times."""


class Asset(NamedTuple):
    """A file of the page.

    Attributes:
        content: the content.
        compressed: the content compressed with gzip.
        media_type: the media type.
        tag: the entity tag.
    """

    content: bytes
    compressed: bytes
    media_type: str
    tag: str


def asset(name: str) -> Asset | None:
    """Return the current version of a file of the page; None if it does not exist."""
    if name in (INDEX, STYLE):
        return _made(name, _stamps())
    path = _scripts().get(name)
    if path is None:
        _scripts.cache_clear()  # in a checkout, files of the page are added and removed
        path = _scripts().get(name)
    if path is None or not path.is_file():
        return None
    return _read(path, path.stat().st_mtime_ns)


def check() -> None:
    """Check that the page is complete.

    Raises:
        CasketError: the libraries, which a build adds, are missing.
    """
    if not (WEB / VENDOR).is_dir():
        raise CasketError(
            f"{WEB / VENDOR} is missing, which a build makes: `pip install .` in the checkout, "
            "or `python hatch_build.py`"
        )


def modules() -> dict[str, str]:
    """Return the files of the page's modules by the names they are imported by."""
    return {_module_name(file): file for file in _scripts()}


def stylesheet() -> str:
    """Return the combined stylesheet of the libraries and all parts."""
    return "\n".join(
        path.read_text(encoding="utf-8")
        for part in (VENDOR, *PARTS)
        for path in sorted((WEB / part).glob("*.css"))
    )


def template() -> str:
    """Return the page without its import map."""
    return (WEB / INDEX).read_text(encoding="utf-8")


def import_map(addresses: dict[str, str]) -> str:
    """Return the text of an import map."""
    return orjson.dumps({"imports": addresses}).decode()


def import_map_script(text: str) -> str:
    """Return the element that holds an import map."""
    return f'<script type="importmap">{text}</script>'


def policy() -> str:
    """Return the content security policy of the page: no external and no inline resources.

    The import map, the only inline script, is allowed by its hash.
    """
    return (
        f"default-src 'none'; script-src 'self' {digest(_served_import_map())}; style-src 'self'; "
        "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def digest(script: str) -> str:
    """Return the source expression for an inline script or style in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _served_import_map() -> str:
    return import_map({name: f"./static/{file}" for name, file in modules().items()})


def _index() -> str:
    links = ['<link rel="preload" href="./api/overview" as="fetch" crossorigin="anonymous" />']
    links += [f'<link rel="modulepreload" href="./static/{file}" />' for file in _needed_first()]
    head = "\n    ".join([import_map_script(_served_import_map()), *links])
    return template().replace(IMPORTS, head)


def _needed_first() -> Iterable[str]:
    """Return the files of the modules that the first view needs.

    These are the direct and indirect imports of the entry module, and the modules that these load
    on evaluation. Without preloading, a browser discovers each module only after parsing its
    importer.
    """
    files = modules()
    needed: dict[str, None] = {}
    waiting = [ENTRY]
    while waiting:
        name = waiting.pop(0)
        if name in needed or name not in files:
            continue
        needed[name] = None
        text = (WEB / files[name]).read_text(encoding="utf-8")
        waiting = [*_IMPORTED.findall(text), *waiting, *_LOADED_AT_ONCE.findall(text)]
    return (files[name] for name in needed)


@lru_cache(maxsize=1)
def _scripts() -> dict[str, Path]:
    """Return the files of the modules by request name; other paths cannot be requested."""
    own = (path for part in PARTS for path in sorted((WEB / part).glob("*.js")))
    vendored = sorted((WEB / VENDOR).rglob("*.js"))
    return {path.relative_to(WEB).as_posix(): path for path in (*own, *vendored)}


def _module_name(file: str) -> str:
    stem = file.removesuffix(".js")
    return stem.removeprefix(f"{VENDOR}/") if stem.startswith(f"{VENDOR}/") else f"casket/{stem}"


def _stamps() -> Stamps:
    _scripts.cache_clear()
    files = [WEB / INDEX, *_scripts().values(), *(WEB / VENDOR).glob("*.css")]
    files += [path for part in PARTS for path in (WEB / part).glob("*.css")]
    return tuple((str(path), path.stat().st_mtime_ns) for path in files)


@lru_cache(maxsize=4)
def _made(name: str, _: Stamps) -> Asset:
    return _as_asset(name, (_index() if name == INDEX else stylesheet()).encode())


@lru_cache(maxsize=200)
def _read(path: Path, _changed: int) -> Asset:
    return _as_asset(path.name, path.read_bytes())


def _as_asset(name: str, content: bytes) -> Asset:
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    media_type = MEDIA_TYPES[Path(name).suffix]
    return Asset(content, gzip.compress(content, mtime=0), media_type, tag)
