"""An experiment file that is kept open to read, and looked at again and again."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from casket.dashboard.answers.contents import ShownFolder
from casket.errors import CasketError, NotFound
from casket.fold import Fold, in_chunks
from casket.locate import locate
from casket.records import Record
from casket.stores.base import Store, StoreOptions
from casket.views import SessionView

Looks = dict[str, tuple[int, int, int]]
"""Inode, size and time of a file, and of what a database has beside it."""

State = Literal["reading", "ready", "broken", "lost"]

CHECKED_AT_START = 512
CHECKED_AT_END = 48
"""Bytes that tell whether a file that grew is still the one that was read."""

WRITTEN_OVER = 16
"""Bytes at the end of a file that an append may change: it opens the document's braces."""


class WatchedFile:
    """A store that is read, and read on when something was added.

    It is opened to read: no lock is taken, nothing written. One thread calls `read`; others hold
    `lock` while they look at sessions.

    Args:
        url: a path or URL.
        index: its place among the files of the page.

    Raises:
        BadLocation: `url` names no place.

    Attributes:
        name: what it is called in short.
        place: where it is.
        state: `reading`, `ready`, `broken` (never read) or `lost` (read before).
        error: why it cannot be read, and what to do; None if it can.
        lock: held while records are added.
        looks: how many times it was looked at.
        wake: set to have it looked at now.
        has_news: whether anything changed since `pop_changed` was last called.
    """

    def __init__(self, url: str, index: int) -> None:
        self._url = url
        self.place = locate(url)
        self.index = index
        self.name = str(self.place) if self.place.url else self.place.path.name
        self.state: State = "reading"
        self.error: str | None = None
        self.lock = threading.Lock()
        self.looks = 0
        self.wake = threading.Event()
        self.has_news = False
        self._changed: set[str] = set()
        self._fold = self._new_fold()
        self._store: Store | None = None
        self._last = 0
        self._seen: Looks | None = None
        self._ends = b""

    def _new_fold(self) -> Fold:
        return Fold(ShownFolder(self.place.artifacts().path))

    @property
    def is_local(self) -> bool:
        """Whether it is a file of this machine, so that looking for changes costs nothing."""
        return not self.place.url

    @property
    def sessions(self) -> dict[str, SessionView]:
        """The sessions by id, in the order they began."""
        return self._fold.sessions

    @property
    def experiments(self) -> list[Any]:
        """The experiments, in the order they were created."""
        return list(self._fold.experiments.values())

    def described(self) -> dict[str, Any]:
        """Return what the page shows of it."""
        return {
            "name": self.name,
            "place": str(self.place),
            "state": self.state,
            "error": self.error,
        }

    def read(self) -> Iterator[None]:
        """Take what was added; pause after every so many records.

        A file that took the place of the one read before is read from its beginning.
        """
        seen = self._look()
        if seen is None or seen != self._seen:
            yield from self._read(seen)
        self.looks += 1

    def _read(self, seen: Looks | None) -> Iterator[None]:
        store = None if self._is_another(seen) else self._store
        # Before it is read: one that does not change is not tried again if that fails, and one
        # that is replaced meanwhile is found out.
        self._seen, self._ends = seen, self._ends_of(seen)
        if store is None:
            yield from self._read_anew()
        else:
            yield from self._read_on(store, self._fold)
        self.state, self.error = "ready", None

    def _is_another(self, now: Looks | None) -> bool:
        """Return whether another file took the place of the one read: one is only appended to."""
        if self._seen is None or now is None:
            return False
        (inode, size, _), (inode_now, size_now, _) = self._seen["file"], now["file"]
        return inode != inode_now or size_now < size or self._ends_of(self._seen) != self._ends

    def _ends_of(self, seen: Looks | None) -> bytes:
        """Return what appending to the file as it was seen leaves as it is; empty if unknown."""
        if seen is None or self.place.kind != "json":
            return b""
        stop = max(seen["file"][1] - WRITTEN_OVER, 0)
        try:
            with self.place.path.open("rb") as file:
                start = file.read(min(stop, CHECKED_AT_START))
                file.seek(max(stop - CHECKED_AT_END, 0))
                return start + file.read(min(stop, CHECKED_AT_END))
        except OSError:
            return b""  # the store says so, and what to do

    @property
    def obstacle(self) -> str | None:
        """Why nothing may be added to it now; None if it may."""
        try:
            self._look()
        except OSError as error:
            return _reason(error)
        return self.error

    def _look(self) -> Looks | None:
        """Return what tells that a file of this machine was written to; None for any other."""
        if not self.is_local:
            return None
        try:
            return dict(_looks(self.place.path))
        except FileNotFoundError:
            advice = "it is shown here as soon as it is there"
            raise NotFound(str(self.place), advice) from None

    def _read_anew(self) -> Iterator[None]:
        self.close()
        # Found again: what a file holds says which store it is.
        self.place = locate(self._url)
        store = self._store = self.place.open(StoreOptions(), writing=False)
        self._last = 0
        fold = self._new_fold()
        is_first = not self.sessions
        if is_first:
            self._fold = fold
        yield from self._read_on(store, fold)
        with self.lock:
            self._fold = fold
            self.note(fold.sessions.keys())

    def _read_on(self, store: Store, fold: Fold) -> Iterator[None]:
        last = self._last
        for chunk in in_chunks(store.records(after=last)):
            last = chunk[-1][0]
            with self.lock:
                for record in fold.take(record for _, record in chunk):
                    self.note(_about(record, fold))
            yield
        self._last = last

    def note(self, sessions: Iterable[str]) -> None:
        """Note the ids of sessions that changed."""
        self._changed.update(sessions)
        self.has_news = True

    def pop_changed(self) -> set[str]:
        """Return the ids of the sessions that changed since the last time."""
        changed, self._changed, self.has_news = self._changed, set(), False
        return changed

    def fail(self, error: Exception) -> None:
        """Take note that it cannot be read now; what was read before stays."""
        self.state = "lost" if self.state in {"ready", "lost"} else "broken"
        self.error = _reason(error)
        if isinstance(error, OSError):
            self._seen = None  # it may be read next time, without a change to it
        if self.is_local:
            self.close()

    def close(self) -> None:
        """Free what is open; what was read stays."""
        if self._store is not None:
            self._store.close()
            self._store = None


def _about(record: Record, fold: Fold) -> Iterable[str]:
    """Return whom a record is about; what is said of an experiment changes all its sessions."""
    if "session" in record:
        return (record["session"],)
    if record["kind"] in {"experiment", "tag"}:
        name = record["experiment"]
        return [session.id for session in fold.sessions.values() if session.experiment == name]
    return ()


def _looks(path: Path) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Yield inode, size and time of a file, and of what a database has beside it."""
    found = path.stat()
    yield "file", (found.st_ino, found.st_size, found.st_mtime_ns)
    # SQLite puts it beside the file that a symbolic link stands for.
    log = Path(f"{os.path.realpath(path)}-wal")
    if log.exists():
        found = log.stat()
        yield "log", (found.st_ino, found.st_size, found.st_mtime_ns)


def _reason(error: Exception) -> str:
    if isinstance(error, CasketError):
        return str(error)
    return f"{type(error).__name__}: {error}; `casket doctor` examines a file"
