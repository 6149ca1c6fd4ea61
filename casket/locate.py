"""From what the user typed to the store that is meant.

An existing file is recognised by what it holds, a new one by its name. To add a store, add its
scheme or its suffixes here, beside the module and the extra that bring it.
"""

from __future__ import annotations

import importlib
import os
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from casket import provenance
from casket.errors import BadLocation
from casket.stores import base

if TYPE_CHECKING:
    from casket.artifacts import ArtifactFolder

_STORES = {
    "json": ("casket.stores.jsonfile", "JsonStore"),
    "sqlite": ("casket.stores.sqlite", "SqliteStore"),
}
_SQLITE_SUFFIXES = frozenset({".sqlite", ".sqlite3", ".db"})
_SQLITE_MAGIC = b"SQLite format 3\0"
_SQLITE_SCHEME = "sqlite:///"

_FORMS = "give a path (runs.json, runs.sqlite, runs.db), sqlite:///runs.db or :memory:"


class Place(NamedTuple):
    """Where a store is.

    Attributes:
        kind: `json`, `sqlite` or `memory`.
        path: the file; the folder of the process for a store in memory.
    """

    kind: str
    path: Path

    def __str__(self) -> str:
        return ":memory:" if self.kind == "memory" else str(self.path)

    def open(self, options: base.StoreOptions, *, writing: bool) -> base.Store:
        """Open the store; nothing is created before the first append."""
        if self.kind == "memory":
            from casket.stores.memory import MemoryStore

            return MemoryStore()
        module, name = _STORES[self.kind]
        store: base.Store = getattr(importlib.import_module(module), name)(
            self.path, writing=writing, sync=options.sync
        )
        return store

    def artifacts(self) -> ArtifactFolder:
        """Return the folder of the store's artifacts; that of a store in memory goes with it."""
        from casket.artifacts import ArtifactFolder

        if self.kind == "memory":
            import shutil
            import tempfile

            folder = ArtifactFolder(Path(tempfile.mkdtemp(prefix="casket-")))
            weakref.finalize(folder, shutil.rmtree, folder.path, ignore_errors=True)
            return folder
        return ArtifactFolder(self.path.with_name(f"{self.path.name}.files"))


def locate(url: str | os.PathLike[str]) -> Place:
    """Find out which store a path or URL means.

    Raises:
        BadLocation: it means none.
    """
    text = os.fspath(url)
    if not isinstance(text, str) or not text.strip():
        raise BadLocation(f"{url!r} names no place: {_FORMS}")
    if text == ":memory:":
        return Place("memory", Path())
    if text.startswith(_SQLITE_SCHEME):
        return Place("sqlite", _local(text[len(_SQLITE_SCHEME) :]))
    if "://" in text:
        raise BadLocation(f"{provenance.redact(text)}: this casket has no such store; {_FORMS}")
    path = _local(text)
    return Place(_kind_of(path), path)


def _local(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _kind_of(path: Path) -> str:
    if _is_open_in_sqlite(path):
        return "sqlite"
    try:
        with path.open("rb") as file:
            head = file.read(len(_SQLITE_MAGIC))
    except OSError:
        # Missing or unreadable: the store that is opened says which, naming it.
        head = b""
    if head:
        return "sqlite" if head == _SQLITE_MAGIC else "json"
    return "sqlite" if path.suffix.lower() in _SQLITE_SUFFIXES else "json"


def _is_open_in_sqlite(path: Path) -> bool:
    """Tell whether this process writes the file as a database: opening it would drop its locks."""
    sqlite = sys.modules.get("casket.stores.sqlite")
    return sqlite is not None and sqlite.is_open_here(path)
