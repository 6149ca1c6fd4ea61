"""The artifacts of a far store: on their way to it, and fetched from it.

A file is written into the *outbox* of its store, a folder of this machine, before the record that
refers to it. From there it is uploaded in the background, once for all processes of this machine,
and moved to the cache. So the outbox contains exactly the files that the store may lack.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from casket.errors import CasketError, NotFound, StoreUnavailable
from casket.format.artifacts import ArtifactFolder
from casket.format.files import CHUNK, HASH, NAME, Files, Upload
from casket.format.records import Record
from casket.format.references import files_of
from casket.format.stored import open_stored
from casket.stores import base
from casket.stores.jsonfile.files import LocalFile
from casket.stores.remote.cache import Cache
from casket.system import failures, forks

REMOVED = ".removed"
"""The suffix of a note in the outbox that a file is to be removed from the store."""

CHANGED = ".changed"
"""The suffix of a file in the outbox whose content differs from its hash."""

LOOK_INTERVAL = 0.2
"""Seconds between two looks at a file that another process uploads."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds between a failure and the next attempt; doubled each time, up to the longest."""

log = logging.getLogger("casket")


class Stopped(Exception):
    """An upload was interrupted because its process ends; another attempt goes on."""


class FarFolder(ArtifactFolder):
    """The artifacts of a far store, as this machine sees them.

    Args:
        outbox: the folder of files that the store may lack.
        location: the URL of the store, without the password.
        open_store: opens the store, with its `files`.
    """

    def __init__(self, outbox: Path, location: str, open_store: Callable[[], base.Store]) -> None:
        super().__init__(outbox)
        self._location = location
        self._open_store = open_store
        self._cache = Cache(outbox.name, location)
        self._store: Any = None
        self.after_fork()
        forks.renew_in_children(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return FarFolder, (self.path, self._location, self._open_store)

    def __copy__(self) -> FarFolder:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> FarFolder:
        return self

    def after_fork(self) -> None:
        """Create a new lock, because the parent's may be held."""
        self._opening = threading.Lock()

    def place(self, file: str) -> Path:
        """Return the path of a file in the outbox, or otherwise in the cache."""
        name = Path(file).name
        return self.path / name if (self.path / name).exists() else self._cache.path / name

    def find(self, file: str) -> Path:
        """Return the path of a file in the cache, into which it is fetched."""
        self.stream(file).close()
        name = Path(file).name
        if not self._cache.has(name):
            # It stays there when it has been uploaded, so that the path stays valid.
            with contextlib.suppress(OSError):
                self._cache.path.mkdir(0o700, parents=True, exist_ok=True)
                os.link(self.path / name, self._cache.path / name)
        return self._cache.path / name if self._cache.has(name) else self.path / name

    def is_near(self, file: str) -> bool:
        """Return whether a file is in the outbox or in the cache."""
        return self.place(file).exists()

    def has(self, file: str) -> bool:
        """Return whether a file waits in the outbox or is in the store."""
        name = Path(file).name
        return (self.path / name).exists() or self.stored.renew(name, datetime.now(UTC))

    def stream(self, file: str) -> BinaryIO:
        """Open a file in the outbox or in the cache, into which it is fetched if need be."""
        name = Path(file).name
        for folder in (self.path, self._cache.path):
            with contextlib.suppress(NotFound):
                opened = open_stored(folder, name)
                self._cache.has(name)
                return opened
        self._cache.fetch(name, lambda start: self.stored.read(name, start))
        return open_stored(self._cache.path, name)

    def open(self, file: str, sha256: str) -> BinaryIO:
        """Open a file as it was stored; one that was damaged in the cache is fetched again."""
        try:
            return super().open(file, sha256)
        except StoreUnavailable:
            if not (self._cache.path / Path(file).name).exists():
                raise
            self._cache.remove(Path(file).name)
            return super().open(file, sha256)

    @property
    def shown(self) -> str:
        """The URL of the store."""
        return self._location

    @property
    def stored(self) -> Files:
        """The files in the store itself."""
        with self._opening:
            if self._store is None:
                self._store = self._open_store()
            files: Files = self._store.files
            return files

    def remove(self, file: str) -> None:
        """Remove a file that no record refers to, from the store in the background."""
        name = Path(file).name
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / f".{name}{REMOVED}").touch()
            (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise failures.unavailable(self.path, error.errno, "a file stays in it") from error
        self._cache.remove(name)

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        with self._opening:
            store, self._store = self._store, None
        if store is not None:
            store.close()


class Uploads:
    """Moves the files of an outbox to their store.

    Args:
        outbox: the folder.
        location: the URL of the store, without the password.
        files: returns the files of the store.

    Attributes:
        sent: the number of bytes that were sent, or were on their way when a connection was lost.
        finished: the number of files that were uploaded.
    """

    def __init__(self, outbox: Path, location: str, files: Callable[[], Files]) -> None:
        self._outbox = outbox
        self._files = files
        self._cache = Cache(outbox.name, location)
        machine = f"{socket.gethostname()}:{outbox}"
        self.sent = self.finished = 0
        self._machine = hashlib.sha256(machine.encode()).hexdigest()[:16]

    def waiting(self, before: float | None = None) -> list[Path]:
        """Return the files that the store may lack, in the order in which they were written.

        Args:
            before: a time; files that were written later are left out.
        """
        timed = sorted(
            (_modified(path), path) for path in self._outbox.glob("*") if NAME.fullmatch(path.name)
        )
        return [path for modified, path in timed if before is None or modified <= before]

    def may_end(self, record: Record) -> bool:
        """Return whether all files that were written before an end have been uploaded."""
        return not self.waiting(datetime.fromisoformat(record["time"]).timestamp())

    def is_waiting(self, name: str) -> bool:
        """Return whether the store may lack a file."""
        return (self._outbox / name).exists()

    def has_work(self) -> bool:
        """Return whether a file is to be uploaded or removed."""
        return bool(self.waiting() or self._to_remove())

    def run(self, stopping: threading.Event, progress: Callable[[], object] = lambda: None) -> None:
        """Upload the files that no other process is uploading.

        Args:
            stopping: interrupts an upload, which another attempt continues.
            progress: called when a file has been uploaded.

        Raises:
            StoreUnavailable: the store cannot be reached, or has no room.
            Stopped: it was interrupted.
        """
        for note in self._to_remove():
            self._remove(note)
        for path in self.waiting():
            if stopping.is_set():
                raise Stopped
            with contextlib.suppress(FileNotFoundError), _locked(path) as is_ours:
                if is_ours:
                    self._upload(path, stopping)
                    self.finished += 1
                    progress()

    def _to_remove(self) -> list[Path]:
        return list(self._outbox.glob(f".*{REMOVED}"))

    def _remove(self, note: Path) -> None:
        name = note.name[1:].removesuffix(REMOVED)
        if not self.is_waiting(name):  # otherwise, it was stored again meanwhile
            self._files().delete(name)
        note.unlink(missing_ok=True)

    def _upload(self, path: Path, stopping: threading.Event) -> None:
        files, status = self._files(), path.stat()
        modified = datetime.fromtimestamp(status.st_mtime, UTC)
        if not files.renew(path.name, modified):
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != path.name[:HASH]:
                    self._set_aside(path)
                    return
                part = f".{path.name}.{self._machine}.part"
                content: Any = _Content(file, status, stopping, self._count)
                try:
                    files.put(Upload(path.name, status.st_size, modified, part), content)
                except _Changed:
                    files.delete(part)
                    self._set_aside(path)
                    return
        self._cache.adopt(path)

    def _count(self, sent: int) -> None:
        self.sent += sent

    def _set_aside(self, path: Path) -> None:
        aside = path.with_name(f"{path.name}{CHANGED}")
        path.replace(aside)
        base.warn(
            f"{path}: its content was changed after it had been stored, and it was not sent; it is "
            f"now {aside}. Store the artifact again"
        )


class _Changed(Exception):
    """A file was changed while it was uploaded."""


class _Content(io.RawIOBase):
    """The content of a file that must not change while it is read."""

    def __init__(
        self,
        file: BinaryIO,
        status: os.stat_result,
        stopping: threading.Event,
        count: Callable[[int], None],
    ) -> None:
        super().__init__()
        self._count = count
        self._file = file
        self._status = status
        self._stopping = stopping

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        if self._stopping.is_set():
            raise Stopped
        content = self._file.read(size)
        now, before = os.fstat(self._file.fileno()), self._status
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            self._check(now)
        self._count(len(content))
        return content

    def _check(self, now: os.stat_result) -> None:
        """Check the content, because the file may only have been stored again."""
        at = self._file.tell()
        self._file.seek(0)
        digest = hashlib.file_digest(self._file, "sha256").hexdigest()  # type: ignore[arg-type]
        if digest != Path(self._file.name).name[:HASH]:
            raise _Changed
        self._file.seek(at)
        self._status = now


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Lock a file while it is uploaded; yield whether no other process has locked it."""
    lock = LocalFile(path, writing=True, create=False)
    try:
        yield lock.try_lock() and lock.is_current()
    finally:
        lock.close()


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


class FileSender:
    """Uploads the files of an outbox in the background.

    Args:
        uploads: the outbox.
        progress: called when a file has been uploaded, or an attempt has failed.

    Attributes:
        failure: why the last attempt failed, if it did.
    """

    def __init__(self, uploads: Uploads, progress: Callable[[], None]) -> None:
        self.uploads = uploads
        self.failure: Exception | None = None
        self._progress = progress
        self.after_fork()

    def after_fork(self) -> None:
        """Start afresh in a child: the thread and the sessions belong to its parent."""
        # By session; arrays in the configuration of a model belong to none.
        self._names: defaultdict[str | None, set[str]] = defaultdict(set)
        # Reentrant, because a signal handler may log.
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._awake, self._hurry = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def expect(self, records: Sequence[Record]) -> None:
        """Upload the files that records refer to."""
        names = [(record.get("session"), name) for record in records for name in files_of(record)]
        with self._lock:
            for session, name in names:
                self._names[session].add(name)
        if names:
            self.start()

    def start(self) -> None:
        """Start the thread if there is anything to upload."""
        with self._lock:
            self._awake.set()
            if self._thread is None and self.uploads.has_work():
                self._stopping = threading.Event()
                self._thread = threading.Thread(
                    target=self._run, args=(self._stopping,), name="casket-files", daemon=True
                )
                # Since Python 3.12 no thread can start while the interpreter exits.
                try:
                    self._thread.start()
                except RuntimeError:
                    self._thread = None

    def hurry(self) -> None:
        """Try again immediately after a failure."""
        self._hurry.set()

    def waiting(self, session: str | None = None) -> list[str]:
        """Return the names of files that wait, of a session or of all sessions of this process."""
        with self._lock:
            for each in {session, None} if session is not None else list(self._names):
                waiting = set(filter(self.uploads.is_waiting, self._names.pop(each, ())))
                if waiting:
                    self._names[each] = waiting
            sessions = (session, None) if session is not None else tuple(self._names)
            return sorted({name for each in sessions for name in self._names.get(each, ())})

    def may_end(self, record: Record) -> bool:
        """Return whether all files of the session that a record ends have been uploaded."""
        return not self.waiting(record.get("session"))

    def finish(self, seconds: float) -> bool:
        """Stop the thread; return whether it stopped in time."""
        with self._lock:
            for event in (self._stopping, self._awake, self._hurry):
                event.set()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(seconds)
        return thread is None or not thread.is_alive()

    def start_or_send(self, seconds: float) -> None:
        """Start the thread; if that is not possible, because the interpreter exits, upload here."""
        self.start()
        if self._thread is None and self.waiting():
            self._send(seconds)

    def _send(self, seconds: float) -> None:
        stopping = _Deadline(seconds)
        with contextlib.suppress(Stopped):
            try:
                self.uploads.run(stopping)
            except CasketError as error:
                self.failure = error

    def _run(self, stopping: threading.Event) -> None:
        tries = 0
        while not stopping.is_set():
            sent = self.uploads.sent
            self._awake.clear()
            self._hurry.clear()
            try:
                self.uploads.run(stopping, self._progress)
                tries, self.failure = 0, None
            except Stopped:
                return
            except Exception as error:  # noqa: BLE001 - drivers raise anything; it continues
                # The last part that was read has probably not arrived.
                has_advanced = self.uploads.sent - sent > CHUNK
                tries, self.failure = 1 if has_advanced else tries + 1, error
                log.warning("files could not be sent, retrying: %s", error)
            self._progress()
            if self._is_done(stopping):
                return
            if tries:
                self._hurry.wait(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (tries - 1)))
            else:
                self._awake.wait(LOOK_INTERVAL)

    def _is_done(self, stopping: threading.Event) -> bool:
        """Leave the thread if nothing is to be done anymore; return whether it is so."""
        with self._lock:
            if self.uploads.has_work() or self._stopping is not stopping:
                return False
            self._thread = None
            return True


class _Deadline(threading.Event):
    """An event that is set after some time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._end = time.monotonic() + seconds

    def is_set(self) -> bool:
        return super().is_set() or time.monotonic() > self._end
