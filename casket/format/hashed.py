"""Writing of files that are hashed while they are written."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from casket.errors import CasketError

COPIED = 1 << 20
"""Bytes copied and hashed at a time."""

Write = Callable[["HashedFile"], object]
"""Writes content to a file."""


class NotWritten(Exception):
    """The code that writes an object to a file failed."""


class HashedFile(io.RawIOBase):
    """A file to write to whose content is hashed in the same pass.

    Content that is written at an earlier position, or by way of `path`, is read once more.

    Attributes:
        path: the path of the file, for libraries that write to a path only.
        error: the last error of the file system, which a library may have replaced by its own.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        import hashlib  # loads OpenSSL, which readers do not need

        super().__init__()
        self.path = path
        self.error: OSError | None = None
        self._file = file
        self._digest = hashlib.sha256()
        self._hashed = 0
        self._is_rewritten = False

    def writable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Change the position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def write(self, data: Any) -> int:
        """Write bytes at the position, and hash them."""
        view = memoryview(data)
        if not view.nbytes:
            return 0
        self._is_rewritten = self._is_rewritten or self._file.tell() != self._hashed
        try:
            self._file.write(view)
        except OSError as error:
            self.error = error
            raise
        self._digest.update(view)
        self._hashed += view.nbytes
        return view.nbytes

    def digest(self) -> tuple[str, int]:
        """Return the hash and the size in bytes of the file."""
        # Through the path, because a library may have replaced the file.
        with self.path.open("rb") as written:
            size = written.seek(0, os.SEEK_END)
            if self._is_rewritten or size != self._hashed:
                import hashlib

                written.seek(0)
                return hashlib.file_digest(written, "sha256").hexdigest(), size
        return self._digest.hexdigest(), size


def write_hashed(write: Write, path: Path) -> tuple[str, int]:
    """Write a file and return its hash and its size in bytes.

    Raises:
        OSError: the file cannot be written.
        NotWritten: `write` failed.
    """
    with path.open("wb", COPIED) as file:
        target = HashedFile(path, file)
        try:
            write(target)
            file.flush()
        except (CasketError, ImportError, MemoryError):
            raise
        except Exception as error:
            if target.error is not None:
                raise target.error from error
            raise NotWritten(str(error)) from error
        return target.digest()


def sync(path: Path) -> None:
    """Write a file to disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def copy(source: BinaryIO) -> Write:
    """Return a function that copies a stream."""

    def write(target: HashedFile) -> None:
        while chunk := source.read(COPIED):
            target.write(chunk)

    return write
