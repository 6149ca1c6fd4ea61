"""The local file of a JSON document: bytes, a lock, and the identity of the path.

The document uses a small interface (`FilePort`), so that it can also be stored elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Protocol

from casket.errors import StoreUnavailable
from casket.stores import base, waiting
from casket.system import access, durability

_FIRST_PAUSE, _LONGEST_PAUSE = 0.0001, 0.005
"""Seconds between attempts to acquire a lock held by others, usually for microseconds."""


_FOLDER = "replacing the file needs write permission for its folder"
IRREPLACEABLE = {
    errno.EBUSY: "it is mounted alone (a bind mount) and cannot be replaced; mount its folder",
    errno.EACCES: _FOLDER,
    errno.EPERM: _FOLDER,
    errno.EROFS: _FOLDER,
}
"""Reasons for which a file that can be written cannot be replaced, by `errno`."""


NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})
"""The errors of a file system that does not support locks."""

_NOT_ASIDE = {
    errno.ELOOP: "casket does not follow a link here; remove it",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "damaged bytes of the file have to be set aside there, which needs write permission for "
        "the folder",
    ),
}


class FilePort(Protocol):
    """The interface of a file that contains a JSON document."""

    name: str

    def size(self) -> int:
        """Return the size of the file in bytes."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`."""

    def write_at(self, offset: int, data: bytes) -> None:
        """Write all of `data` at `offset` or raise `OSError`."""

    def truncate(self, size: int) -> None:
        """Truncate the file to `size` bytes."""

    def lock(self) -> None:
        """Acquire the file's exclusive lock for writing, waiting if necessary."""

    def unlock(self) -> None:
        """Release the lock."""

    def is_current(self) -> bool:
        """Return whether the path still refers to this file."""

    def sync(self) -> None:
        """Sync written data, so that it survives a power loss."""

    def replace(self, parts: Iterable[bytes]) -> None:
        """Replace this file atomically by a new file composed of `parts`.

        A trailing newline is removed from the old file, by which others who have it open notice
        the replacement.
        """

    def keep_aside(self, data: bytes) -> str:
        """Append `data` to the file `<name>.torn` beside this file, unless it ends with it.

        Returns:
            The name of that file.
        """

    def close(self) -> None:
        """Close the file and release its lock."""


class LocalFile:
    """A local file.

    Args:
        path: the path of the file; symbolic links are followed.
        writing: open the file for writing.
        create: create the file if it is missing and opened for writing.

    Raises:
        OSError: the operating system cannot open the file.
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
        """Wait for the lock without limit; after `waiting.NOTICE` seconds, warn with its holder."""
        begun, pause = time.monotonic(), _FIRST_PAUSE
        while time.monotonic() - begun < waiting.NOTICE:
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            if _try_lock(self._fd):
                return
            pause = min(1.5 * pause, _LONGEST_PAUSE)
        waiting.warn_waiting(self.name, waiting.holder_of(self.name), waiting.NOTICE)
        _lock(self._fd)

    def try_lock(self) -> bool:
        """Acquire the lock if it is free; return whether it was."""
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
            durability.sync_folder(os.path.dirname(self.name))
            self._created = False

    def replace(self, parts: Iterable[bytes]) -> None:
        self._remove_leftovers()
        temporary = f"{self.name}.{os.getpid()}.tmp"
        is_marked = False
        try:
            with access.open_private(temporary, "xb") as file:
                file.writelines(parts)
                access.copy_access(file, os.fstat(self._fd))
                file.flush()
                os.fsync(file.fileno())
            is_marked = self._mark_replaced()
            os.replace(temporary, self.name)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            if is_marked:
                self.write_at(self.size(), b"\n")
            number = error.errno if isinstance(error, OSError) else None
            if number in IRREPLACEABLE:
                raise StoreUnavailable(self.name, IRREPLACEABLE[number], number) from error
            raise
        try:
            durability.sync_folder(os.path.dirname(self.name))
        except OSError as error:
            base.warn_unsynced(self.name, error)

    def _remove_leftovers(self) -> None:
        """Remove files of killed replacements; only the holder of the lock may do this."""
        for leftover in leftovers(Path(self.name)):
            leftover.unlink(missing_ok=True)

    def _mark_replaced(self) -> bool:
        """Change the end of this file, so that all readers notice; the file stays valid."""
        size = self.size()
        has_newline = size > 0 and self.read_at(size - 1, 1) == b"\n"
        if has_newline:
            self.truncate(size - 1)
        return has_newline

    def keep_aside(self, data: bytes) -> str:
        name = f"{self.name}.torn"
        try:
            file = access.open_private(name, "a+b")
        except OSError as error:
            if error.errno not in _NOT_ASIDE:
                raise
            raise StoreUnavailable(name, _NOT_ASIDE[error.errno], error.errno) from None
        with file:
            access.copy_access(file, os.fstat(self._fd))
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - len(data)))
            if file.read() != data:
                self._append_aside(file, data, size)
        return name

    def _append_aside(self, file: IO[bytes], data: bytes, size: int) -> None:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), size)  # a full disk: every try would add a part
            raise

    def close(self) -> None:
        # Forgotten before it is closed: an interrupt between the two must not close the number
        # again, which may belong to another file by then.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # An extension may keep this object until the modules have lost their names.
        if self._fd >= 0:
            close(self._fd)


class UnsharedFile(LocalFile):
    """A local file that no other process writes to, so that a refused lock does not matter."""

    def lock(self) -> None:
        with _without_locks():
            super().lock()

    def unlock(self) -> None:
        with _without_locks():
            super().unlock()


@contextlib.contextmanager
def _without_locks() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def refusal_of_lock(fd: int) -> int | None:
    """Return the `errno` with which a file system refuses to lock; None if it supports locks."""
    try:
        _try_lock(fd)
    except OSError as error:
        return error.errno if error.errno in NO_LOCKS else None
    return None


def leftovers(path: Path) -> list[Path]:
    """Return the temporary files of replacements that are in progress or were killed."""
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
    """Open a file for reading within a `with` block."""
    file = LocalFile(path, writing=False)
    try:
        yield file
    finally:
        file.close()


_BINARY: int = getattr(os, "O_BINARY", 0)
_fdatasync = getattr(os, "fdatasync", os.fsync)

if sys.platform == "win32":
    import msvcrt

    # Locks on Windows are mandatory, so a byte that is never written is locked.
    _LOCKED_BYTE = 2**62

    def _lock(fd: int) -> None:
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        while True:
            try:
                return msvcrt.locking(fd, msvcrt.LK_LOCK, 1)
            except OSError as error:
                # LK_LOCK fails after ten seconds; a queue of writers may take longer.
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
