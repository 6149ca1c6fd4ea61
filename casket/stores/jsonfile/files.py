"""The local file under the JSON document: bytes, a lock, and what the path names.

The document needs little of a file (`FilePort`), so that it can live elsewhere too.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from casket.stores import base, waiting

_FIRST_PAUSE, _LONGEST_PAUSE = 0.0001, 0.005
"""Seconds between two tries to take a lock that others hold; most hold it for microseconds."""


class FilePort(Protocol):
    """What the JSON document needs of the file it stands in."""

    name: str

    def size(self) -> int:
        """Return the number of bytes."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`."""

    def write_at(self, offset: int, data: bytes) -> None:
        """Write all of `data` at `offset`, or raise `OSError`."""

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes."""

    def lock(self) -> None:
        """Wait for the file's exclusive lock, for writing."""

    def unlock(self) -> None:
        """Give the lock up."""

    def is_current(self) -> bool:
        """Tell whether the path still names this file."""

    def sync(self) -> None:
        """Make what was written safe against power loss."""

    def replace(self, parts: Iterable[bytes]) -> None:
        """Put a file made of `parts` in place of this one: the old or the new, never a part.

        If this one ends in a newline it loses it, which tells those who have it open.
        """

    def keep_aside(self, parts: Iterable[bytes]) -> str:
        """Append `parts` to the file `<name>.torn` beside this one; return its name."""

    def close(self) -> None:
        """Close the file, and give up its lock."""


class LocalFile:
    """A file of this machine.

    Args:
        path: the file; a symbolic link stands for what it points to.
        writing: open it to write.
        create: create it if it is missing and is opened to write.

    Raises:
        OSError: as the operating system says.
    """

    def __init__(self, path: Path | str, *, writing: bool, create: bool = True) -> None:
        self._fd = -1
        self.name = os.path.realpath(path)
        flags = os.O_RDWR if writing else os.O_RDONLY
        creating = os.O_CREAT if writing and create else 0
        self._fd = os.open(self.name, flags | creating | _BINARY, 0o666)
        self._created = writing and self.size() == 0

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        return _pread(self._fd, length, offset)

    def write_at(self, offset: int, data: bytes) -> None:
        written = _pwrite(self._fd, data, offset)
        while written < len(data):
            # The rest either fits or raises the error that cut the first write short.
            written += _pwrite(self._fd, data[written:], offset + written)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def lock(self) -> None:
        if not _try_lock(self._fd):
            self._wait_for_lock()

    def _wait_for_lock(self) -> None:
        """Wait for the lock, for ever; after a while, say whom for."""
        begun, pause = time.monotonic(), _FIRST_PAUSE
        while time.monotonic() - begun < waiting.NOTICE:
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            if _try_lock(self._fd):
                return
            pause = min(1.5 * pause, _LONGEST_PAUSE)
        waiting.warn_waiting(self.name, waiting.holder_of(self.name), waiting.NOTICE)
        _lock(self._fd)

    def try_lock(self) -> bool:
        """Take the lock if it is free; tell whether it was."""
        return _try_lock(self._fd)

    def unlock(self) -> None:
        _unlock(self._fd)

    def is_current(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.name), os.fstat(self._fd))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def sync(self) -> None:
        _fdatasync(self._fd)
        if self._created:
            _sync_folder(os.path.dirname(self.name))
            self._created = False

    def replace(self, parts: Iterable[bytes]) -> None:
        self._remove_leftovers()
        temporary = f"{self.name}.{os.getpid()}.tmp"
        try:
            with open(temporary, "wb") as file:
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
            _give(temporary, os.fstat(self._fd))
            self._mark_replaced()
            os.replace(temporary, self.name)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        try:
            _sync_folder(os.path.dirname(self.name))
        except OSError as error:
            base.warn_unsynced(self.name, error)

    def _remove_leftovers(self) -> None:
        """Remove what replacements left that were killed: who holds the lock is the only one."""
        for leftover in leftovers(Path(self.name)):
            leftover.unlink(missing_ok=True)

    def _mark_replaced(self) -> None:
        """Change the end of this file, so that all who have it open notice; it stays valid."""
        size = self.size()
        if size and self.read_at(size - 1, 1) == b"\n":
            self.truncate(size - 1)

    def keep_aside(self, parts: Iterable[bytes]) -> str:
        name = f"{self.name}.torn"
        with open(name, "ab") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        return name

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()


def leftovers(path: Path) -> list[Path]:
    """Return the new files of replacements of a file that are going on or were killed."""
    prefix, suffix = f"{path.name}.", ".tmp"
    return [
        other
        for other in sorted(path.parent.iterdir())
        if other.name.startswith(prefix)
        and other.name.endswith(suffix)
        and other.name[len(prefix) : -len(suffix)].isdecimal()
    ]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[LocalFile]:
    """Open a file to read, for a while."""
    file = LocalFile(path, writing=False)
    try:
        yield file
    finally:
        file.close()


def _give(path: str, to: os.stat_result) -> None:
    """Let a file have another's mode and owner, as far as this user may."""
    if hasattr(os, "chown"):
        with contextlib.suppress(PermissionError):
            os.chown(path, to.st_uid, to.st_gid)
    os.chmod(path, to.st_mode & 0o7777)


def _sync_folder(folder: str) -> None:
    """Make a new name in a folder safe against power loss, where the system can."""
    if sys.platform == "win32":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_BINARY: int = getattr(os, "O_BINARY", 0)
_fdatasync = getattr(os, "fdatasync", os.fsync)

if sys.platform == "win32":
    import msvcrt

    # Locks on Windows are mandatory: lock a byte that is never written.
    _LOCKED_BYTE = 2**62

    def _lock(fd: int) -> None:
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        while True:
            try:
                return msvcrt.locking(fd, msvcrt.LK_LOCK, 1)
            except OSError as error:
                # LK_LOCK gives up after ten seconds; a queue of writers may take longer.
                if error.errno != 36:
                    raise

    def _try_lock(fd: int) -> bool:
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(fd: int) -> None:
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

    def _pread(fd: int, length: int, offset: int) -> bytes:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, length)

    def _pwrite(fd: int, data: bytes, offset: int) -> int:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, data)

else:
    from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock

    _TRY = LOCK_EX | LOCK_NB

    def _lock(fd: int) -> None:
        flock(fd, LOCK_EX)

    def _try_lock(fd: int) -> bool:
        try:
            flock(fd, _TRY)
        except BlockingIOError:
            return False
        return True

    def _unlock(fd: int) -> None:
        flock(fd, LOCK_UN)

    _pread = os.pread
    _pwrite = os.pwrite
