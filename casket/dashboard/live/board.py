"""The state of the server: the watched files, the rows of their sessions, and a log of changes.

Each file is read by its own thread, which also creates the rows; requests are answered by other
threads. Changes are numbered, and a page that sends the last number it has seen receives the
changes after it.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from casket.dashboard.answers import overview
from casket.dashboard.answers.encoding import json_of
from casket.dashboard.answers.requests import RequestError
from casket.dashboard.live.files import WatchedFile
from casket.reading.rows import Mode
from casket.reading.summary import as_json, facts
from casket.reading.sweeps import sweeps_of
from casket.reading.views import SessionView

Made = TypeVar("Made")

LOOK_INTERVAL = 0.25
REMOTE_LOOK_INTERVAL = 2.0
TRY_AGAIN_INTERVAL = 5.0
"""Seconds between two attempts to read an unreachable remote store."""

LIVENESS_INTERVAL = 3.0
PATIENCE = 3.0
"""Seconds to wait until a written change is read."""

LONGEST_VERSION = 15
"""Maximum digits of a version number."""

PUBLISHING_INTERVAL = 0.5
PUBLISHING_SHARE = 0.2
"""Maximum share of the time spent on creating rows."""


class Published(NamedTuple):
    """The row of a session, as JSON.

    Attributes:
        version: the number of its last change.
        status: the status of the session.
        text: the row as JSON.
        metrics: the flat names of its metrics.
    """

    version: int
    status: str
    text: bytes
    metrics: frozenset[str]


class Changes(NamedTuple):
    """The changes after a version number.

    Attributes:
        version: the number of the last change.
        rows: the changed rows as JSON.
        metrics: the flat names of new metrics.
        removed: the keys of removed sessions.
        files: the descriptions of the files; None if unchanged.
        experiments: the descriptions of the experiments; None if unchanged.
    """

    version: int
    rows: list[bytes]
    metrics: list[str]
    removed: list[str]
    files: list[dict[str, Any]] | None
    experiments: list[dict[str, Any]] | None


class Board:
    """The files of a dashboard.

    Args:
        urls: paths or URLs.
        say: called with messages for the terminal.

    Raises:
        BadLocation: a URL is not a valid location.

    Attributes:
        id: a unique id of this server.
        version: the number of the last change.
    """

    def __init__(self, urls: Sequence[str], say: Callable[[str], None] = print) -> None:
        self.id = secrets.token_hex(4)
        self.files = [WatchedFile(url, index) for index, url in enumerate(urls)]
        self.version = 0
        self._say = say
        self._said: dict[str, str] = {}
        self._rows: dict[str, Published] = {}
        self._removed: dict[str, int] = {}
        self._metrics: dict[str, int] = {}
        self._experiments: dict[int, list[dict[str, Any]]] = {}
        # As published: the description of a file is updated after the rows read from it.
        self._described = [file.described() for file in self.files]
        self._files_version = self._experiments_version = 0
        self._lock = threading.Lock()
        self._listeners: set[Callable[[], None]] = set()
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._watch, args=(file,), name=f"reads {file.name}", daemon=True
            )
            for file in self.files
        ]

    def start(self) -> None:
        """Start the reading threads."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop the reading threads and notify the listeners."""
        self._closing.set()
        for file in self.files:
            file.wake.set()
        self._tell()

    def join(self, seconds: float) -> None:
        """Wait for the reading threads to end."""
        for thread in self._threads:
            thread.join(seconds)

    @property
    def is_closing(self) -> bool:
        """Whether `close` was called."""
        return self._closing.is_set()

    @property
    def listeners(self) -> int:
        """The number of registered listeners."""
        return len(self._listeners)

    @contextlib.contextmanager
    def listening(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call a function after every change, from any thread."""
        self._listeners.add(listener)
        try:
            yield
        finally:
            self._listeners.discard(listener)

    def cursor(self, version: int) -> str:
        """Return the cursor with which a page requests the changes after a version number."""
        return f"{self.id}.{version}"

    def version_of(self, cursor: str) -> int | None:
        """Return the version in a cursor; None if it is of another server or too high."""
        name, _, number = cursor.partition(".")
        if name != self.id or not number.isdecimal() or len(number) > LONGEST_VERSION:
            return None
        return int(number) if int(number) <= self.version else None

    def changes(self, after: int) -> Changes:
        """Return the changes after a version number; -1 returns everything."""
        with self._lock:
            return Changes(
                self.version,
                [row.text for row in self._rows.values() if row.version > after],
                [name for name, version in self._metrics.items() if version > after],
                [key for key, version in self._removed.items() if version > after],
                list(self._described) if self._files_version > after else None,
                [one for file in self.files for one in self._experiments.get(file.index, [])]
                if self._experiments_version > after
                else None,
            )

    def row(self, key: str) -> bytes:
        """Return the current row of a session."""
        with self.session_of(key) as (file, session):
            return _as_json(session, key, file.index).text

    @contextlib.contextmanager
    def session_of(self, key: str) -> Iterator[tuple[WatchedFile, SessionView]]:
        """Yield a session and its file, locked against changes.

        Raises:
            RequestError: the session does not exist, or its file cannot be read.
        """
        index, _, session_id = key.partition(".")
        if not index.isdecimal() or len(index) > 6 or int(index) >= len(self.files):
            raise RequestError(f"session {key!r} is in none of the files", "session", 404)
        file = self.files[int(index)]
        with file.lock:
            session = file.sessions.get(session_id)
            if session is not None:
                yield file, session
                return
        if file.error is not None:
            raise RequestError(file.error, "session", 503)
        raise RequestError(f"session {key!r} is not there (any more)", "session", 404)

    def read_now(self, file: WatchedFile) -> None:
        """Wait, at most a few seconds, until a change just written to a file is read."""
        enough, patience = file.looks + 2, time.monotonic() + PATIENCE
        while file.looks < enough and time.monotonic() < patience:
            file.wake.set()
            time.sleep(0.01)

    # The reading threads.

    def _watch(self, file: WatchedFile) -> None:
        pace = _Pace()
        while not self.is_closing:
            pause = LOOK_INTERVAL if file.is_local else REMOTE_LOOK_INTERVAL
            try:
                self._look(file, pace)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one file, the others are shown
                file.fail(error)
                self._say_once(str(file.index), f"{file.name} cannot be read: {file.error}")
                pause = LOOK_INTERVAL if file.is_local else TRY_AGAIN_INTERVAL
            if file.has_news and (pace.is_due() or not self._is_described(file)):
                self._publish(file, pace)
            if not self._is_described(file):
                self._describe(file)
            is_soon = file.has_news and file.error is None
            file.wake.wait(min(pause, pace.wait()) if is_soon else pause)
            file.wake.clear()
        file.close()

    def _look(self, file: WatchedFile, pace: _Pace) -> None:
        for _ in file.read():
            if self.is_closing:
                return
            if pace.is_due():
                self._publish(file, pace)
        if pace.is_time_to_check() and (ended := self._no_longer_running(file)):
            file.note(ended)

    def _no_longer_running(self, file: WatchedFile) -> set[str]:
        """Return the ids of sessions that are shown as running but have ended."""
        with self._lock:
            shown = [key for key, row in self._rows.items() if row.status == "running"]
        ids = [key.partition(".")[2] for key in shown if key.startswith(f"{file.index}.")]
        sessions = ((name, file.sessions.get(name)) for name in ids)
        return {name for name, session in sessions if session and session.status != "running"}

    def _is_described(self, file: WatchedFile) -> bool:
        return self._described[file.index] == file.described()

    def _describe(self, file: WatchedFile) -> None:
        with self._lock:
            self.version += 1
            self._described[file.index] = file.described()
            self._files_version = self.version
        self._tell()

    def _publish(self, file: WatchedFile, pace: _Pace) -> None:
        """Publish the rows of changed sessions; only this thread changes the sessions."""
        with pace:
            changed, sessions = file.pop_changed(), file.sessions
            made = {name: self._made(file, name, _as_json) for name in sessions if name in changed}
            rows = {_key(file, name): row for name, row in made.items() if row is not None}
            experiments = [overview.experiment(view, file.index) for view in file.experiments]
            kept = {_key(file, name) for name in sessions}
            with self._lock:
                self._put(file, rows, kept, experiments)
        self._tell()

    def values(self) -> dict[str, Any]:
        """Return the last and best values of all displayable sessions by key."""
        return self._by_key(_values)

    def best(self, metric: str, mode: Mode) -> dict[str, Any]:
        """Return the lowest or highest value of a metric by the keys of sessions that have it."""
        return self._by_key(lambda session, *_: _best(session, metric, mode))

    def sweeps(self) -> list[dict[str, Any]]:
        """Return the state of all sweeps, with the index of their file."""
        answer: list[dict[str, Any]] = []
        for file in self.files:
            with file.lock:
                sweeps = sweeps_of(file.sessions.values())
                answer += [{"file": file.index, **sweep.facts()} for sweep in sweeps]
        return answer

    def _by_key(self, make: Callable[[SessionView, str, int], Made | None]) -> dict[str, Made]:
        """Return what `make` returns for each session, except None."""
        made_by_key: dict[str, Made] = {}
        for file in self.files:
            for session_id in list(file.sessions):
                with file.lock:
                    made = self._made(file, session_id, make)
                if made is not None:
                    made_by_key[_key(file, session_id)] = made
        return made_by_key

    def _made(
        self, file: WatchedFile, session_id: str, make: Callable[[SessionView, str, int], Made]
    ) -> Made | None:
        """Return the result of `make` for a session; on failure, print the reason, return None."""
        key = _key(file, session_id)
        try:
            return make(file.sessions[session_id], key, file.index)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one session, the others are shown
            reason = f"{type(error).__name__}: {error}"
            self._say_once(key, f"{file.name}: session {session_id} cannot be shown: {reason}")
            return None

    def _put(
        self,
        file: WatchedFile,
        rows: dict[str, Published],
        kept: set[str],
        experiments: list[dict[str, Any]],
    ) -> None:
        self.version += 1
        for key, row in rows.items():
            self._rows[key] = row._replace(version=self.version)
            self._removed.pop(key, None)
            for name in row.metrics - self._metrics.keys():
                self._metrics[name] = self.version
        start = f"{file.index}."
        for key in [key for key in self._rows if key.startswith(start) and key not in kept]:
            del self._rows[key]
            self._removed[key] = self.version
        if self._experiments.get(file.index) != experiments:
            self._experiments[file.index] = experiments
            self._experiments_version = self.version

    def _say_once(self, about: str, text: str) -> None:
        """Print a message about a file or session unless it repeats the previous message."""
        if self._said.get(about) != text:
            self._said[about] = text
            self._say(text)

    def _tell(self) -> None:
        for listener in list(self._listeners):
            listener()


class _Pace:
    """Schedules publishing, limited to a share of the time, and checks for ended sessions."""

    def __init__(self) -> None:
        self._next = 0.0
        self._began = 0.0
        self._checked = 0.0

    def is_due(self) -> bool:
        return time.monotonic() >= self._next

    def is_time_to_check(self) -> bool:
        now = time.monotonic()
        is_time = now >= self._checked + LIVENESS_INTERVAL
        if is_time:
            self._checked = now
        return is_time

    def wait(self) -> float:
        return max(self._next - time.monotonic(), 0.0)

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        now = time.monotonic()
        self._next = now + max(PUBLISHING_INTERVAL, (now - self._began) / PUBLISHING_SHARE)


def _key(file: WatchedFile, session_id: str) -> str:
    return f"{file.index}.{session_id}"


def _values(session: SessionView, _key: str, _file: int) -> dict[str, Any]:
    return overview.values(facts(session))


def _best(session: SessionView, metric: str, mode: Mode) -> Any:
    try:
        return as_json(session.best(metric, mode))
    except KeyError:
        return None  # the session does not have this metric


def _as_json(session: SessionView, key: str, file: int) -> Published:
    row = overview.row(session, key, file)
    return Published(0, row["status"], json_of(row), overview.metrics_of(row))
