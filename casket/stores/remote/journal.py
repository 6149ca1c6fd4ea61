"""Journals: local files of records that a remote store has not confirmed yet.

Each process that writes to a remote store has its own journal, so that processes do not wait for
each other. A journal is an experiment file in `$XDG_STATE_HOME/casket/journals/<store>/`. Beside
it are the number of the last confirmed record, and a lock that is held while the process lives. A
journal whose lock is free is an orphan: the next writer to the store, or `casket sync`, ships it.
On a file system without locks, the file of the lock names the process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson

from casket.errors import NotFound, StoreUnavailable
from casket.format.records import Record, new_id
from casket.stores import base
from casket.stores.jsonfile.files import NO_LOCKS, LocalFile, UnsharedFile
from casket.stores.jsonfile.store import JsonStore
from casket.system.processes import is_alive, this_process

SUFFIX = ".journal"
HEAVY = 4 << 20
"""Maximum number of bytes shipped at once; MongoDB accepts 16 MB."""

LARGE = 8 << 20
"""Size in bytes above which a fully confirmed journal is replaced by a new journal."""


def home() -> Path:
    """Return the folder of all of this user's journals."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "casket" / "journals"


def folder_of(url: str) -> Path:
    """Return the folder of a store's journals.

    Args:
        url: the URL of the store, without the password.
    """
    return home() / hashlib.sha256(url.encode()).hexdigest()[:16]


def url_of(folder: Path) -> str:
    """Return the URL, without the password, of the store to which a folder's journals belong."""
    url: str = orjson.loads((folder / "store.json").read_bytes())["url"]
    return url


class Journal:
    """The ordered records that a process has yet to ship to a store.

    Args:
        path: the file; its folder is created.
        url: the URL of the store, without the password.
        sync: when to sync the file against power loss.

    Attributes:
        waiting: the number of pending records.
    """

    def __init__(self, path: Path, url: str, sync: base.Sync = "session") -> None:
        self.path = path
        self._url = url
        self._lay_out()
        self._lock = LocalFile(_beside(path, "lock"), writing=True)
        self._store = JsonStore(path, base.StoreOptions(sync), UnsharedFile)
        self._shipped = _number(_beside(path, "shipped"))
        self._last = max(self._shipped, self._last_number())

    @classmethod
    def begin(cls, url: str, sync: base.Sync) -> Journal:
        """Create a journal for this process."""
        journal = cls(folder_of(url) / f"{new_id()}{SUFFIX}", url, sync)
        _hold(journal._lock)
        return journal

    @classmethod
    def orphan(cls, path: Path, url: str) -> Journal | None:
        """Take over a journal; None if its writer, or a process that took it over, is alive."""
        journal = cls(path, url)
        if _is_free(journal._lock) and path.exists():
            return journal
        journal.leave()
        return None

    @property
    def waiting(self) -> int:
        """The number of pending records."""
        return self._last - self._shipped

    @property
    def last(self) -> int:
        """The number of the last record."""
        return self._last

    @property
    def shipped(self) -> int:
        """The number of the last confirmed record."""
        return self._shipped

    def append(self, records: Sequence[Record]) -> int:
        """Append records and return the number of the last record.

        The records are safe when the call returns.

        Raises:
            StoreUnavailable: the records could not be written.
        """
        try:
            self._last = self._store.append(records)
        except StoreUnavailable:
            if self.path.parent.is_dir():
                raise
            self._lay_out()
            self._last = self._store.append(records)
        if not self._lock.is_current():
            self._lock_anew()
        return self._last

    def batch(self, size: int) -> list[base.Numbered]:
        """Return the first pending records: at most `size`, and as many as fit into `HEAVY`."""
        batch: list[base.Numbered] = []
        weight = 0
        for numbered in self._store.records(after=self._shipped):
            weight += len(orjson.dumps(numbered[1]))
            if batch and (weight > HEAVY or len(batch) >= size):
                break
            batch.append(numbered)
        return batch

    def all_waiting(self) -> Iterator[base.Numbered]:
        """Yield all pending records."""
        return self._store.records(after=self._shipped)

    def confirm(self, number: int) -> None:
        """Mark the records up to a number as confirmed."""
        self._shipped = number
        _write(_beside(self.path, "shipped"), b"%d" % number)

    def is_large(self) -> bool:
        """Return whether the journal is fully shipped and large enough to be replaced."""
        return not self.waiting and self.path.exists() and self.path.stat().st_size > LARGE

    def close(self) -> None:
        """Release the journal. Pending records stay for recovery; an empty journal is deleted."""
        self._store.close()
        if not self.waiting:
            for path in (self.path, _beside(self.path, "shipped"), _beside(self.path, "lock")):
                path.unlink(missing_ok=True)
        self._lock.close()

    def leave(self) -> None:
        """Close the files in a process that does not own the journal."""
        self._store.close()
        self._lock.close()

    def _lay_out(self) -> None:
        """Create the folder, with a note of the store to which it belongs."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        note = self.path.parent / "store.json"
        if not note.exists():
            _write(note, orjson.dumps({"url": self._url}))

    def _lock_anew(self) -> None:
        """Lock a new lock file after the old file was removed, so as not to become an orphan."""
        self._lock.close()
        self._lock = LocalFile(_beside(self.path, "lock"), writing=True)
        _hold(self._lock)

    def _last_number(self) -> int:
        last = 0
        if self.path.exists():
            for number, _ in self._store.records(after=self._shipped):
                last = number
        return last


class Status:
    """The status of a journal, as shown by `casket sync --status`.

    Attributes:
        url: the URL of the store, without the password.
        path: the path of the journal.
        waiting: the number of pending records.
        is_orphan: whether no process holds the journal.
    """

    def __init__(self, url: str, path: Path) -> None:
        self.url = url
        self.path = path
        shipped = _number(_beside(path, "shipped"))
        store = JsonStore(path, base.StoreOptions(writing=False))
        self.waiting = sum(1 for _ in store.records(after=shipped))
        store.close()
        lock = LocalFile(_beside(path, "lock"), writing=True)
        self.is_orphan = _is_free(lock)
        lock.close()


def statuses(url: str | None = None) -> Iterator[Status]:
    """Yield the status of each journal, or only of a store's journals if its URL is given."""
    for journal in journals(url):
        # The holder removes a journal once it is fully shipped, which may happen right now.
        with contextlib.suppress(NotFound):
            yield Status(*journal)


def known_urls() -> list[str]:
    """Return the URLs, without passwords, of the stores that this user has written to."""
    return [url_of(note.parent) for note in sorted(home().glob("*/store.json"))]


def journals(url: str | None = None) -> Iterator[tuple[str, Path]]:
    """Yield the store's URL and the path of each journal, optionally for a single store."""
    folders = [folder_of(url)] if url else sorted(home().glob("*"))
    for folder in folders:
        if (folder / "store.json").exists():
            for path in sorted(folder.glob(f"*{SUFFIX}")):
                yield url_of(folder), path


def _hold(lock: LocalFile) -> None:
    """Hold a lock; where there are no locks, write the identity of this process."""
    try:
        lock.lock()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        lock.write_at(0, orjson.dumps(this_process()))


def _is_free(lock: LocalFile) -> bool:
    """Return whether no process holds a lock, and hold it if so."""
    try:
        return lock.try_lock()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    holder = lock.read_at(0, lock.size())
    return bool(holder) and is_alive(orjson.loads(holder)) is False


def _beside(path: Path, suffix: str) -> Path:
    return path.with_suffix(f".{suffix}")


def _number(path: Path) -> int:
    """Return the number in a file; 0 if the file is missing or was truncated by a crash.

    Records shipped a second time are dropped by the store.
    """
    with contextlib.suppress(FileNotFoundError, ValueError):
        return int(path.read_bytes())
    return 0


def _write(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
