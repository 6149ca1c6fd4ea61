"""An experiment file that is kept open for reading and checked for changes."""

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
from casket.stores.location import Location

Looks = dict[str, tuple[int, int, int]]
"""Inode, size and modification time of a file and of a database's log beside it."""

State = Literal["reading", "ready", "broken", "lost"]


class WatchedFile:
    """A store that is read incrementally as records are added.

    It is opened for reading, without locking or writing. A single thread calls `read`; other
    threads hold `lock` while they access sessions.

    Args:
        url: the path or URL of the store.
        index: its index among the files of the page.

    Raises:
        BadLocation: `url` is not a valid location.

    Attributes:
        name: a short name.
        location: its location.
        state: `reading`, `ready`, `broken` (never read) or `lost` (read before).
        error: the reason it cannot be read, with advice; None if it can.
        lock: held while records are added.
        looks: the number of completed checks for changes.
        wake: set to check for changes immediately.
        has_news: whether anything changed since the last call of `pop_changed`.
    """

    def __init__(self, url: str, index: int) -> None:
        self._url = url
        self.location = Location.of(url)
        self.index = index
        self.name = str(self.location) if self.location.url else self.location.path.name
        self.state: State = "reading"
        self.error: str | None = None
        self.lock = threading.Lock()
        self.looks = 0
        self.wake = threading.Event()
        self.has_news = False
        self._changed: set[str] = set()
        self._fold = self._new_fold()
        self._store: Store | None = None
        self._reader: Reader[Fold] | None = None
        self._seen: Looks | None = None

    def _new_fold(self) -> Fold:
        return Fold(ShownFolder(self.location.artifacts()))

    @property
    def is_local(self) -> bool:
        """Whether it is a local file, so that checks for changes are cheap."""
        return not self.location.url

    @property
    def sessions(self) -> dict[str, SessionView]:
        """The sessions by id, in order of start."""
        return self._fold.sessions

    @property
    def experiments(self) -> list[Any]:
        """The experiments, in order of creation."""
        return list(self._fold.experiments.values())

    def described(self) -> dict[str, Any]:
        """Return the description of the file on the page."""
        return {
            "name": self.name,
            "place": str(self.location),
            "state": self.state,
            "error": self.error,
        }

    def read(self) -> Iterator[None]:
        """Read added records, yielding after each chunk."""
        seen = self._look()
        if seen is None or seen != self._seen or self._fold.find_gone():
            # Set before reading, so that an unchanged file is not read again after a failure.
            self._seen = seen
            yield from self._read()
            self.state, self.error = "ready", None
        self.looks += 1

    def _read(self) -> Iterator[None]:
        """Read to the end; the sessions of a replaced file stay visible until then."""
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

    def _opened(self) -> Reader[Fold]:
        # Located again, because the kind of store depends on the content of the file.
        self.location = Location.of(self._url)
        self._store = self.location.open(StoreOptions(), writing=False)
        reader = self._reader = Reader(self._store, self._new_fold, lock=self.lock)
        if not self.sessions:
            self._fold = reader.fold
        return reader

    @property
    def obstacle(self) -> str | None:
        """The reason the file cannot be written now; None if it can."""
        try:
            self._look()
        except OSError as error:
            return _reason(error)
        return self.error

    def _look(self) -> Looks | None:
        """Return the values that change when a local file is written; None for a remote store."""
        if not self.is_local:
            return None
        try:
            return dict(_looks(self.location.path))
        except FileNotFoundError:
            advice = "it is shown here as soon as it is there"
            raise NotFound(str(self.location), advice) from None

    def note(self, sessions: Iterable[str]) -> None:
        """Mark sessions as changed."""
        self._changed.update(sessions)
        self.has_news = True

    def pop_changed(self) -> set[str]:
        """Return the ids of the sessions that changed since the last call."""
        changed, self._changed, self.has_news = self._changed, set(), False
        return changed

    def fail(self, error: Exception) -> None:
        """Record a read error; sessions read before stay."""
        self.state = "lost" if self.state in {"ready", "lost"} else "broken"
        self.error = _reason(error)
        if isinstance(error, OSError):
            self._seen = None  # the next attempt may succeed without a change of the file
        if self.is_local:
            self.close()

    def close(self) -> None:
        """Close the store; sessions read before stay."""
        if self._store is not None:
            self._store.close()
            self._store = self._reader = None


def _about(record: Record, fold: Fold) -> Iterable[str]:
    """Return the ids of the sessions that a record changes; an experiment's tags change all."""
    if "session" in record:
        return (record["session"],)
    if record["kind"] in {"experiment", "tag"}:
        name = record["experiment"]
        return [session.id for session in fold.sessions.values() if session.experiment == name]
    return ()


def _looks(path: Path) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Yield inode, size and modification time of a file and of a database's log beside it."""
    stat = path.stat()
    yield "file", (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    # SQLite creates the log beside the target of a symbolic link; so are the files of a JSON file
    # on a file system without locks.
    for name in ("-wal", ".parts"):
        log = Path(f"{os.path.realpath(path)}{name}")
        if log.exists():
            stat = log.stat()
            yield name, (stat.st_ino, stat.st_size, stat.st_mtime_ns)


def _reason(error: Exception) -> str:
    if isinstance(error, CasketError):
        return str(error)
    return f"{type(error).__name__}: {error}; `casket doctor` examines a file"
