"""From what the user typed to the store that is meant.

An existing file is recognised by what it holds, a new one by its name. To add a store, add its
scheme or its suffixes here, beside the module and the extra that bring it.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from casket.errors import BadLocation
from casket.stores import base
from casket.system.secrets import redact

if TYPE_CHECKING:
    from casket.format.artifacts import ArtifactFolder
    from casket.stores.inspection import Inspection

_STORES = {
    "json": ("casket.stores.jsonfile.store", "JsonStore"),
    "sqlite": ("casket.stores.sqlite.store", "SqliteStore"),
    "postgres": ("casket.stores.postgres", "PostgresStore"),
    "mongo": ("casket.stores.mongo", "MongoStore"),
    "sftp": ("casket.stores.sftp.store", "SftpStore"),
    "blitz": ("casket.stores.blitz", "BlitzStore"),
}
_SCHEMES = {
    "postgresql": "postgres",
    "postgres": "postgres",
    "mongodb": "mongo",
    "mongodb+srv": "mongo",
}
_INSPECTIONS = {
    "json": ("casket.stores.jsonfile.check", "JsonInspection"),
    "sqlite": ("casket.stores.sqlite.check", "SqliteInspection"),
}
_SQLITE_SUFFIXES = frozenset({".sqlite", ".sqlite3", ".db"})
_SQLITE_MAGIC = b"SQLite format 3\0"
_HEADER_LENGTH = 100
_SQLITE_SCHEME = "sqlite:///"
_BLITZ_SCHEME = "blitz:"

_FORMS = (
    "give a path (runs.json, runs.sqlite, runs.db), sqlite:///runs.db, user@host:runs.json, "
    "sftp://host/~/runs.json, postgresql://host/database, mongodb://host/database, blitz:folder "
    "or :memory:"
)
# On Windows, C:\runs.json is a path; without a user, host:runs.json is one everywhere.
_ON_ANOTHER_MACHINE = re.compile(r"[^@/\\]+@(\[[^\]]+\]|[^@:/\\]+):")


class Place(NamedTuple):
    """Where a store is.

    Shown, the URL has `***` for its password; pickled, it has none.

    Attributes:
        kind: `json`, `sqlite`, `sftp`, `postgres`, `mongo`, `blitz` or `memory`.
        path: the file; the folder of the process for a store in memory; for a store elsewhere, the
            folder of this machine where its artifacts are.
        url: of a store elsewhere, with its password; else empty.
    """

    kind: str
    path: Path
    url: str = ""

    def __str__(self) -> str:
        if self.url:
            from casket.stores import urls  # of which a file of this machine has no need

            return urls.shown(self.url)
        return ":memory:" if self.kind == "memory" else str(self.path)

    def __repr__(self) -> str:
        return (
            f"Place(kind={self.kind!r}, path={self.path!r}, url={str(self) if self.url else ''!r})"
        )

    def __reduce__(self) -> tuple[type[Place], tuple[str, Path, str]]:
        from casket.stores import urls

        return Place, (self.kind, self.path, urls.without_password(self.url))

    def __copy__(self) -> Place:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Place:
        return self

    def open(self, options: base.StoreOptions, *, writing: bool) -> base.Store:
        """Open the store; nothing is created before the first append.

        One elsewhere gets a journal before it, if it is opened to write.
        """
        store = self.direct(options, writing=writing)
        if self.url and writing:
            from casket.stores import urls
            from casket.stores.remote.spool import Spool

            return Spool(store, urls.without_password(self.url), options)
        return store

    def direct(self, options: base.StoreOptions, *, writing: bool) -> base.Store:
        """Open the store without a journal before it."""
        if self.kind == "memory":
            from casket.stores.memory import MemoryStore

            return MemoryStore()
        module, name = _STORES[self.kind]
        make = getattr(importlib.import_module(module), name)
        local = {} if self.url else {"create": options.create}
        store: base.Store = make(
            self.url or self.path,
            writing=writing,
            sync=options.sync,
            heads=options.heads,
            **local,
        )
        return store

    def inspection(self) -> Inspection:
        """Return what looks at all of the store's file, damaged or not.

        Raises:
            BadLocation: there is none for such a store.
        """
        if self.kind not in _INSPECTIONS:
            raise BadLocation(f"{self}: only files of this machine can be examined")
        kind = self.kind
        if kind == "json" and self._was_a_database():
            kind = "sqlite"
        module, name = _INSPECTIONS[kind]
        inspection: Inspection = getattr(importlib.import_module(module), name)(self.path)
        return inspection

    def _was_a_database(self) -> bool:
        """Tell whether a file is one of SQLite's by its name, and none of JSON by its beginning."""
        if self.path.suffix.lower() not in _SQLITE_SUFFIXES or not self.path.is_file():
            return False
        with self.path.open("rb") as file:
            return file.read(_HEADER_LENGTH).lstrip()[:1] not in {b"", b"{"}

    def artifacts(self) -> ArtifactFolder:
        """Return the folder of the store's artifacts; that of a store in memory goes with it."""
        from casket.format.artifacts import ArtifactFolder

        if self.kind == "memory":
            import shutil
            import tempfile

            folder = ArtifactFolder(Path(tempfile.mkdtemp(prefix="casket-")))
            weakref.finalize(folder, shutil.rmtree, folder.path, ignore_errors=True)
            return folder
        if self.url:
            return ArtifactFolder(self.path)
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
    if text.startswith(_BLITZ_SCHEME):
        folder = _local(text[len(_BLITZ_SCHEME) :])
        return Place("blitz", folder.with_name(f"{folder.name}.files"), f"blitz:{folder}")
    scheme = text.partition("://")[0]
    if "://" in text and scheme in _SCHEMES:
        from casket.stores import urls

        return _elsewhere(_SCHEMES[scheme], urls.checked(text))
    if text.startswith("sftp://") or (isinstance(url, str) and _is_on_another_machine(url)):
        from casket.stores.sftp.address import Address

        return _elsewhere("sftp", str(Address.read(text)))
    if "://" in text:
        raise BadLocation(f"{redact(text)}: this casket has no such store; {_FORMS}")
    path = _local(text)
    return Place(_kind_of(path), path)


def _is_on_another_machine(text: str) -> bool:
    return _ON_ANOTHER_MACHINE.match(text) is not None and not _local(text).exists()


def _elsewhere(kind: str, url: str) -> Place:
    """Return the place of a store elsewhere, with a folder of this machine for its artifacts."""
    import hashlib  # loads OpenSSL: not for an import

    from casket.stores import urls

    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    name = hashlib.sha256(urls.without_password(url).encode()).hexdigest()[:32]
    return Place(kind, _local(data) / "casket" / "artifacts" / name, url)


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
    # Another thread may be importing it at this moment; then it writes nothing yet.
    is_open = getattr(sys.modules.get("casket.stores.sqlite.store"), "is_open_here", None)
    return is_open is not None and is_open(path)
