"""Locations: the store to which a path or URL refers.

An existing file is recognized by its content, a new file by its name, a remote store by the scheme
of its URL. `register_store` and the entry points of the group `casket.stores` add schemes.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
import stat
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from casket.errors import BadLocation, MissingDependency
from casket.format.records import new_id
from casket.stores import base
from casket.system.secrets import redact

if TYPE_CHECKING:
    from collections.abc import Callable

    from casket.format.artifacts import ArtifactFolder
    from casket.stores.inspection import Inspection

ENTRY_POINTS = "casket.stores"
"""The group of entry points by which installed packages provide stores."""

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
    "sftp://host/~/runs.json, s3://bucket/prefix, postgresql://host/database, "
    "mongodb://host/database, blitz:folder or :memory:"
)
# On Windows, C:\runs.json is a path; without a user, host:runs.json is a path everywhere.
_ON_ANOTHER_MACHINE = re.compile(r"[^@/\\]+@(\[[^\]]+\]|[^@:/\\]+):")


class Registered(NamedTuple):
    """A class of stores, imported when it is needed.

    Attributes:
        path: `package.module:Class`.
        extra: the extra that installs the requirements of the class.
        distribution: the distribution with that extra.
    """

    path: str
    extra: str | None = None
    distribution: str = ""

    def load(self) -> Callable[[Any, base.StoreOptions], base.Store]:
        """Import the class.

        Raises:
            MissingDependency: a package is not installed.
            BadLocation: its module has no such class.
        """
        module, _, name = self.path.partition(":")
        try:
            store_class: Callable[[Any, base.StoreOptions], base.Store]
            store_class = getattr(importlib.import_module(module), name)
        except MissingDependency:
            raise
        except ModuleNotFoundError as error:
            extra = (self.extra, self.distribution) if self.extra else (None,)
            raise MissingDependency(error.name, *extra) from error
        except AttributeError as error:
            raise BadLocation(f"{self.path} cannot be imported: {error}") from error
        return store_class


def register_store(scheme: str, path: str, extra: str | None = None) -> None:
    """Register a class of stores for the URLs of a scheme.

    An installed package should use an entry point of the group `casket.stores` instead, which
    registers the store in every process, including the command line.

    Args:
        scheme: the part of the URLs before `://`.
        path: `package.module:Class`; the class is called with the URL and `StoreOptions`.
        extra: the extra of the class's package that installs its requirements, for the error if
            a requirement is missing.

    Raises:
        BadLocation: the scheme belongs to casket, or `scheme` or `path` is malformed.
    """
    if not _SCHEME.fullmatch(scheme) or not _CLASS.fullmatch(path):
        raise BadLocation(
            f"register_store({scheme!r}, {path!r}): give a scheme such as 'mystore' and a class as "
            "'package.module:Class'"
        )
    if scheme in _OWN:
        raise BadLocation(f"{scheme}:// is casket's own; choose another scheme")
    _stores[scheme] = Registered(path, extra, path.partition(".")[0].partition(":")[0])


_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+")
_CLASS = re.compile(r"[\w.]+:\w+")
_stores = {
    scheme: Registered(f"casket.stores.{path}")
    for scheme, path in (
        ("json", "jsonfile.store:JsonStore"),
        ("sqlite", "sqlite.store:SqliteStore"),
        ("postgresql", "postgres:PostgresStore"),
        ("postgres", "postgres:PostgresStore"),
        ("mongodb", "mongo:MongoStore"),
        ("mongodb+srv", "mongo:MongoStore"),
        ("s3", "s3.store:S3Store"),
        ("sftp", "sftp.store:SftpStore"),
        ("blitz", "blitz:BlitzStore"),
        ("memory", "memory:MemoryStore"),
    )
}
_OWN = frozenset(_stores)
_WITHOUT_URL = frozenset({"json", "sqlite", "memory"})


def _registered(scheme: str) -> Registered | None:
    """Return the class for a scheme, searching entry points if it is not registered."""
    if scheme not in _stores:
        from importlib import metadata  # takes time to load

        for point in metadata.entry_points(group=ENTRY_POINTS, name=scheme):
            extra = point.extras[0] if point.extras else None
            distribution = point.dist.name if point.dist else ""
            _stores[scheme] = Registered(f"{point.module}:{point.attr}", extra, distribution)
    return _stores.get(scheme)


class Location(NamedTuple):
    """The location of a store.

    Its text contains `***` in place of a password; a pickle contains no password.

    Attributes:
        kind: `json`, `sqlite`, `memory`, or the scheme of the URL.
        path: the file; for a remote store, the folder on this machine with the artifacts that
            have not arrived there; for a store in memory, the current folder.
        url: the URL of a remote store, with its password; else empty.
    """

    kind: str
    path: Path
    url: str = ""

    @classmethod
    def of(cls, url: str | os.PathLike[str]) -> Location:
        """Return the location to which a path or URL refers.

        Raises:
            BadLocation: the path or URL has none of the accepted forms.
        """
        text = os.fspath(url)
        if not isinstance(text, str) or not text.strip():
            raise BadLocation(f"{url!r} names no location: {_FORMS}")
        if "\0" in text:
            raise BadLocation(f"{url!r} contains a NUL character: {_FORMS}")
        if text == ":memory:":
            return cls("memory", Path())
        if text.startswith(_SQLITE_SCHEME):
            return cls("sqlite", _usable(text[len(_SQLITE_SCHEME) :]))
        if text.startswith(_BLITZ_SCHEME):
            folder = _usable(text[len(_BLITZ_SCHEME) :])
            return cls("blitz", folder.with_name(f"{folder.name}.files"), f"blitz:{folder}")
        scheme = text.partition("://")[0]
        if text.startswith("sftp://") or (isinstance(url, str) and _is_on_another_machine(url)):
            from casket.stores.sftp.address import SftpLocation

            return _elsewhere("sftp", str(SftpLocation.of(text)))
        if "://" in text:
            if scheme in _WITHOUT_URL or _registered(scheme) is None:
                raise BadLocation(_unknown(redact(text)))
            from casket.stores import urls

            return _elsewhere(scheme, urls.checked(text))
        path = _usable(text)
        return cls(_kind_of(path), path)

    def __str__(self) -> str:
        if self.url:
            from casket.stores import urls  # not needed for a file of this machine

            return urls.shown(self.url)
        return ":memory:" if self.kind == "memory" else str(self.path)

    def __repr__(self) -> str:
        url = str(self) if self.url else ""
        return f"Location(kind={self.kind!r}, path={self.path!r}, url={url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        from casket.stores import urls

        url = urls.without_password(self.url)
        return _received, (self.kind, self.path, url, _registered(self.kind))

    def __copy__(self) -> Location:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Location:
        return self

    def open(self, options: base.StoreOptions, *, writing: bool) -> base.Store:
        """Open the store; nothing is created before the first append.

        A store that drops copies is written through a journal.
        """
        if writing and self.kind == "json" and not self._has_parts:
            from casket.stores.parts import folder

            folder.begin_if_needed(self.path)
        store = self.direct(options, writing=writing)
        if writing and getattr(store, "drops_copies", False):
            from casket.stores.remote.spool import Spool

            return Spool(store, self.journal_url, options, self._outbox_of(store))
        return store

    def direct(self, options: base.StoreOptions, *, writing: bool) -> base.Store:
        """Open the store without a journal."""
        if self._has_parts:
            from casket.stores.parts.store import PartsStore

            return PartsStore(self.path, options._replace(writing=writing))
        return self._class()(self.url or self.path, options._replace(writing=writing))

    @property
    def journal_url(self) -> str:
        """The URL without a password by which journals name the store."""
        from casket.stores import urls

        return urls.without_password(self.url) if self.url else os.path.realpath(self.path)

    @property
    def _has_parts(self) -> bool:
        """Whether the records of a JSON file are in files beside it: it has no locks."""
        return self.kind == "json" and os.path.isdir(f"{os.path.realpath(self.path)}.parts")

    def _class(self) -> Callable[[Any, base.StoreOptions], base.Store]:
        registered = _registered(self.kind)
        if registered is None:
            raise BadLocation(_unknown(str(self)))
        return registered.load()

    def inspection(self) -> Inspection:
        """Return the inspection of the store's file, which may be damaged.

        Raises:
            BadLocation: the store is not a file of this machine.
        """
        if self.kind not in _INSPECTIONS:
            raise BadLocation(f"{self}: only files of this machine can be examined")
        if self._has_parts:
            from casket.stores.parts.store import PartsInspection

            return PartsInspection(self.path)
        kind = self.kind
        if kind == "json" and self._was_a_database():
            kind = "sqlite"
        module, name = _INSPECTIONS[kind]
        inspection: Inspection = getattr(importlib.import_module(module), name)(self.path)
        return inspection

    def _was_a_database(self) -> bool:
        """Return whether a file has a name of SQLite and does not begin like JSON."""
        if self.path.suffix.lower() not in _SQLITE_SUFFIXES or not self.path.is_file():
            return False
        with self.path.open("rb") as file:
            return file.read(_HEADER_LENGTH).lstrip()[:1] not in {b"", b"{"}

    def artifacts(self) -> ArtifactFolder:
        """Return the folder of the store's artifacts; for a store in memory, a temporary folder."""
        from casket.format.artifacts import ArtifactFolder

        if self.kind == "memory":
            import tempfile

            folder = ArtifactFolder(Path(tempfile.gettempdir(), f"casket-{new_id()}"), 0o700)
            weakref.finalize(folder, _remove, folder.path, os.getpid())
            return folder
        if self.url:
            return self._artifacts_of_url()
        # Beside the file itself, so that all symbolic links to it share them.
        return ArtifactFolder(Path(f"{os.path.realpath(self.path)}.files"))

    def _artifacts_of_url(self) -> ArtifactFolder:
        from casket.format.artifacts import ArtifactFolder

        outbox = self.outbox()
        if outbox is None:
            return ArtifactFolder(self._folder_of_url())
        from casket.stores import urls
        from casket.stores.remote.files import FarFolder

        return FarFolder(outbox, urls.without_password(self.url), self._open_files)

    def outbox(self) -> Path | None:
        """Return the folder of files on their way to the store; None if it keeps no artifacts."""
        if not (self.url and hasattr(self._class(), "files")):
            return None
        with contextlib.closing(self._open_files()) as store:
            return self._outbox_of(store)

    def _outbox_of(self, store: Any) -> Path | None:
        files = getattr(store, "files", None)
        return None if files is None or isinstance(files, (str, os.PathLike)) else self.path

    def _folder_of_url(self) -> Path:
        """Return the folder of this machine with the artifacts of a store that keeps none."""
        if not hasattr(self._class(), "files"):
            return self.path
        with contextlib.closing(self._open_files()) as store:
            return Path(store.files)

    def _open_files(self) -> Any:
        return self.direct(base.DEFAULTS, writing=True)


def _remove(folder: Path, process: int) -> None:
    """Remove a folder, unless this is a forked child of the process that uses it."""
    import shutil

    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _received(kind: str, path: Path, url: str, registered: Registered) -> Location:
    """Return a location that was pickled where its store may have been registered by a script."""
    _stores.setdefault(kind, registered)
    return Location(kind, path, url)


def _unknown(shown: str) -> str:
    """Return the message for a URL whose scheme is not registered."""
    from importlib import metadata

    others = {*_stores, *metadata.entry_points(group=ENTRY_POINTS).names} - _OWN
    registered = f"; also registered: {', '.join(sorted(others))}" if others else ""
    return f"{shown}: no such store is known; {_FORMS}{registered}"


def _is_on_another_machine(text: str) -> bool:
    return _ON_ANOTHER_MACHINE.match(text) is not None and not os.path.exists(_local(text))


def _elsewhere(kind: str, url: str) -> Location:
    """Return the location of a remote store, with a folder on this machine for its artifacts."""
    import hashlib  # loads OpenSSL: not for an import

    from casket.stores import urls

    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    name = hashlib.sha256(urls.without_password(url).encode()).hexdigest()[:32]
    return Location(kind, _local(data) / "casket" / "artifacts" / name, url)


def _local(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _usable(text: str) -> Path:
    """Return a path of this machine.

    Raises:
        BadLocation: its name, with the suffix of the artifacts, is too long, or its links are a
            circle.
    """
    path = _local(text)
    for name in (path, f"{path}.files"):
        try:
            os.stat(name)
        except OSError as error:
            if error.errno in {errno.ENAMETOOLONG, errno.ELOOP}:
                raise BadLocation(f"{path} cannot be used: {os.strerror(error.errno)}") from None
    return path


def _kind_of(path: Path) -> str:
    if _is_open_in_sqlite(path):
        return "sqlite"
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise BadLocation(f"{path} is a {_special(mode)}, not a regular file")
        with path.open("rb") as file:
            head = file.read(len(_SQLITE_MAGIC))
    except OSError:
        # Missing or unreadable: opening the store raises the error that names it.
        head = b""
    if head:
        return "sqlite" if head == _SQLITE_MAGIC else "json"
    return "sqlite" if path.suffix.lower() in _SQLITE_SUFFIXES else "json"


def _special(mode: int) -> str:
    kinds = {stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")


def _is_open_in_sqlite(path: Path) -> bool:
    """Return whether this process has the file open in SQLite; opening it would drop the locks."""
    # Another thread may still be importing it; then it writes nothing yet.
    is_open = getattr(sys.modules.get("casket.stores.sqlite.store"), "is_open_here", None)
    return is_open is not None and is_open(path)
