"""An experiment file that is kept open to read, and looked at again and again."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from casket.dashboard.answers.contents import ShownFolder
from casket.errors import CasketError, NotFound
from casket.format.records import Record
from casket.reading.fold import Fold
from casket.reading.reader import Reader
from casket.reading.views import SessionView
from casket.stores.base import Store, StoreOptions
from casket.stores.location import locate

Looks = dict[str, tuple[int, int, int]]
"""Inode, size and time of a file, and of what a database has beside it."""

State = Literal["reading", "ready", "broken", "lost"]


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
        self._reader: Reader | None = None
        self._seen: Looks | None = None

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
        """Read what was added; pause after every so many records."""
        seen = self._look()
        if seen is None or seen != self._seen or self._fold.find_gone():
            # Before it is read: one that does not change is not tried again if that fails.
            self._seen = seen
            yield from self._read()
            self.state, self.error = "ready", None
        self.looks += 1

    def _read(self) -> Iterator[None]:
        """Read to the end; what was shown of another file at this place stays until then."""
        reader = self._reader or self._opened()
        for new in reader.chunks():
            with self.lock:
                for record in new:
                    self.note(_about(record, reader.fold))
            yield
        with self.lock:
            if self._fold is not reader.fold:
                self._fold = reader.fold
                self.note(self._fold.sessions.keys())

    def _opened(self) -> Reader:
        # Located again: the content of a file says which store it is.
        self.place = locate(self._url)
        self._store = self.place.open(StoreOptions(), writing=False)
        reader = self._reader = Reader(self._store, self._new_fold, lock=self.lock)
        if not self.sessions:
            self._fold = reader.fold
        return reader

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
            self._store = self._reader = None


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
    stat = path.stat()
    yield "file", (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    # SQLite puts it beside the file that a symbolic link stands for.
    log = Path(f"{os.path.realpath(path)}-wal")
    if log.exists():
        stat = log.stat()
        yield "log", (stat.st_ino, stat.st_size, stat.st_mtime_ns)


def _reason(error: Exception) -> str:
    if isinstance(error, CasketError):
        return str(error)
    return f"{type(error).__name__}: {error}; `casket doctor` examines a file"
