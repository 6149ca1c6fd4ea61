"""Journals: what waits on this machine until a remote store has confirmed it.

Each process that writes to a remote store has a journal of its own, so that none waits for
another: an experiment file in `$XDG_STATE_HOME/casket/journals/<store>/`, beside it the number of
the last record that was confirmed, and a lock that is held while the process lives. A journal
whose lock is free is an orphan: whoever writes to the store next, or `casket sync`, ships it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson

from casket.errors import NotFound, StoreUnavailable
from casket.records import Record, new_id
from casket.stores import base
from casket.stores.files import LocalFile
from casket.stores.jsonfile import JsonStore

SUFFIX = ".journal"
HEAVY = 4 << 20
"""Bytes that are shipped at once: MongoDB takes 16 MB."""

LARGE = 8 << 20
"""Bytes beyond which a journal all of which was confirmed is begun anew."""


def home() -> Path:
    """Return the folder of all journals of this user."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "casket" / "journals"


def folder_of(url: str) -> Path:
    """Return the folder of one store's journals.

    Args:
        url: its URL, without the password.
    """
    return home() / hashlib.sha256(url.encode()).hexdigest()[:16]


def url_of(folder: Path) -> str:
    """Return the URL, without the password, of the store that a folder's journals are for."""
    url: str = orjson.loads((folder / "store.json").read_bytes())["url"]
    return url


class Journal:
    """What one process has still to ship to one store, in order.

    Args:
        path: the file; its folder is made.
        url: the URL of the store, without the password.
        sync: when to sync against power loss.

    Attributes:
        waiting: how many records wait.
    """

    def __init__(self, path: Path, url: str, sync: base.Sync = "session") -> None:
        self.path = path
        self._url = url
        self._lay_out()
        self._lock = LocalFile(_beside(path, "lock"), writing=True)
        self._store = JsonStore(path, base.StoreOptions(sync))
        self._shipped = _number(_beside(path, "shipped"))
        self._last = max(self._shipped, self._last_number())

    @classmethod
    def begin(cls, url: str, sync: base.Sync) -> Journal:
        """Begin a journal of this process's own."""
        journal = cls(folder_of(url) / f"{new_id()}{SUFFIX}", url, sync)
        journal._lock.lock()
        return journal

    @classmethod
    def orphan(cls, path: Path, url: str) -> Journal | None:
        """Take over a journal; None if the process that wrote it, or another heir, lives."""
        journal = cls(path, url)
        if journal._lock.try_lock() and path.exists():
            return journal
        journal.leave()
        return None

    @property
    def waiting(self) -> int:
        """How many records wait."""
        return self._last - self._shipped

    @property
    def last(self) -> int:
        """The number of the last record."""
        return self._last

    @property
    def shipped(self) -> int:
        """The number of the last record that was confirmed."""
        return self._shipped

    def append(self, records: Sequence[Record]) -> int:
        """Append records; they are safe when the call returns. Return the number of the last.

        Raises:
            StoreUnavailable: they could not be written.
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
        """Return the first records that wait: at most `size`, or as many as fit into `HEAVY`."""
        batch: list[base.Numbered] = []
        weight = 0
        for numbered in self._store.records(after=self._shipped):
            weight += len(orjson.dumps(numbered[1]))
            if batch and (weight > HEAVY or len(batch) >= size):
                break
            batch.append(numbered)
        return batch

    def all_waiting(self) -> Iterator[base.Numbered]:
        """Yield all records that wait."""
        return self._store.records(after=self._shipped)

    def confirm(self, number: int) -> None:
        """Forget the records up to a number."""
        self._shipped = number
        _write(_beside(self.path, "shipped"), b"%d" % number)

    def is_large(self) -> bool:
        """Tell whether it is time to begin it anew, all of it having been shipped."""
        return not self.waiting and self.path.exists() and self.path.stat().st_size > LARGE

    def close(self) -> None:
        """Let it go; what waits stays for an heir, a journal without any is removed."""
        self._store.close()
        if not self.waiting:
            for path in (self.path, _beside(self.path, "shipped"), _beside(self.path, "lock")):
                path.unlink(missing_ok=True)
        self._lock.close()

    def leave(self) -> None:
        """Close the files, in a process whose journal it is not."""
        self._store.close()
        self._lock.close()

    def _lay_out(self) -> None:
        """Make the folder, with a note of the store it is for."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        note = self.path.parent / "store.json"
        if not note.exists():
            _write(note, orjson.dumps({"url": self._url}))

    def _lock_anew(self) -> None:
        """Take a lock where the old one was removed: without it, this would be an orphan."""
        self._lock.close()
        self._lock = LocalFile(_beside(self.path, "lock"), writing=True)
        self._lock.lock()

    def _last_number(self) -> int:
        last = 0
        if self.path.exists():
            for number, _ in self._store.records(after=self._shipped):
                last = number
        return last


class Status:
    """A journal as `casket sync --status` shows it.

    Attributes:
        url: the store, without the password.
        path: the journal.
        waiting: how many records wait.
        is_orphan: whether no process holds it.
    """

    def __init__(self, url: str, path: Path) -> None:
        self.url = url
        self.path = path
        shipped = _number(_beside(path, "shipped"))
        store = JsonStore(path, base.StoreOptions(writing=False))
        self.waiting = sum(1 for _ in store.records(after=shipped))
        store.close()
        lock = LocalFile(_beside(path, "lock"), writing=True)
        self.is_orphan = lock.try_lock()
        lock.close()


def statuses(url: str | None = None) -> Iterator[Status]:
    """Yield how each journal stands; of one store, if its URL is given."""
    for journal in journals(url):
        # Whoever holds it removes it once all of it is shipped, which may be now.
        with contextlib.suppress(NotFound):
            yield Status(*journal)


def journals(url: str | None = None) -> Iterator[tuple[str, Path]]:
    """Yield the store's URL and the path of each journal; of one store, if its URL is given."""
    folders = [folder_of(url)] if url else sorted(home().glob("*"))
    for folder in folders:
        if (folder / "store.json").exists():
            for path in sorted(folder.glob(f"*{SUFFIX}")):
                yield url_of(folder), path


def _beside(path: Path, suffix: str) -> Path:
    return path.with_suffix(f".{suffix}")


def _number(path: Path) -> int:
    """Return the number in a file; 0 if it is not there, or was cut short by a crash.

    What is shipped a second time is dropped by the store.
    """
    with contextlib.suppress(FileNotFoundError, ValueError):
        return int(path.read_bytes())
    return 0


def _write(path: Path, content: bytes) -> None:
    """Write a file; it is there whole or not at all."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
