"""The files of a store: its artifacts and large arrays.

A name begins with the hash of the content. Records refer to files by their names, so the same
content is stored once, and a file never changes. `casket.testing.FilesContract` tests every
sentence of the protocol below.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from casket.errors import NotFound
from casket.format.stored import open_stored
from casket.system import failures

CHUNK = 1 << 20
"""The largest number of bytes of a file that are in memory at once."""

NAME = re.compile(r"[0-9a-f]{64}(-[0-9a-f]{16})?(\.\w{1,16})?", re.ASCII)
"""The names of stored files: the hash, the owner of a file of its own, and the suffix."""

HASH = 64
"""The length of the hash at the beginning of a name."""


class StoredFile(NamedTuple):
    """A file of a store, or an unfinished upload.

    Attributes:
        name: the name; the name of an unfinished upload begins with a dot.
        size: the size in bytes.
        modified: when its writer stored or last reused it, by the clock of the writer.
    """

    name: str
    size: int
    modified: datetime


class Upload(NamedTuple):
    """A file to be stored.

    Attributes:
        name: the name.
        size: the size in bytes.
        modified: when its writer stored or last reused it.
        part: the name of the unfinished upload, the same in each attempt of a machine.
    """

    name: str
    size: int
    modified: datetime
    part: str


class Files(Protocol):
    """The files of a store, shared by threads, processes and hosts.

    All methods raise `StoreUnavailable` if the store cannot be reached. Reading creates nothing.
    """

    def renew(self, name: str, modified: datetime, /) -> bool:
        """Return whether a file is stored completely; if so, its time becomes `modified`."""

    def put(self, upload: Upload, content: BinaryIO, /) -> None:
        """Store a file, completely or not at all.

        An attempt that was interrupted is continued: what has arrived is not sent again. At most a
        few `CHUNK` are in memory. If the file exists already, its content stays.

        Args:
            upload: the description of the file.
            content: a seekable stream; it is read to its end before the file appears, and an
                exception that it raises prevents that.
        """

    def read(self, name: str, start: int = 0, /) -> Iterator[bytes]:
        """Yield the content of a file from a position on, in parts of at most `CHUNK` bytes.

        Raises:
            NotFound: the file does not exist.
        """

    def listed(self) -> Iterator[StoredFile]:
        """Yield all files, and unfinished uploads."""

    def delete(self, name: str, modified: datetime | None = None, /) -> bool:
        """Remove a file or an unfinished upload; return whether it was there and was removed.

        Args:
            name: the name.
            modified: the time at which it was listed; a file that was renewed since then stays.
        """


class FolderFiles:
    """The files in a folder of this machine.

    Args:
        path: the folder; created with the first file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def renew(self, name: str, modified: datetime, /) -> bool:
        """Return whether a file is stored completely; if so, its time becomes `modified`."""
        seconds = modified.timestamp()
        try:
            open_stored(self._path, name).close()
            os.utime(self._path / name, (seconds, seconds))
        except FileNotFoundError:
            return False
        return True

    def put(self, upload: Upload, content: BinaryIO, /) -> None:
        """Store a file, completely or not at all; see `Files.put`."""
        try:
            self._put(upload, content)
        except OSError as error:
            raise failures.unavailable(self._path, error.errno, "it was not stored") from error

    def _put(self, upload: Upload, content: BinaryIO) -> None:
        self._path.mkdir(parents=True, exist_ok=True)
        part = self._path / upload.part
        with part.open("ab") as file:
            content.seek(file.tell())
            shutil.copyfileobj(content, file, CHUNK)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path / upload.name)
        self.renew(upload.name, upload.modified)

    def read(self, name: str, start: int = 0, /) -> Iterator[bytes]:
        """Yield the content of a file from a position on."""
        with open_stored(self._path, name) as file:
            file.seek(start)
            while chunk := file.read(CHUNK):
                yield chunk

    def listed(self) -> Iterator[StoredFile]:
        """Yield all files, and unfinished copies."""
        for path in sorted(self._path.iterdir()) if self._path.is_dir() else ():
            is_part = path.name[0] == "." and path.suffix in {".tmp", ".part"}
            # A copy that was just completed is not there anymore.
            with contextlib.suppress(FileNotFoundError):
                if (NAME.fullmatch(path.name) or is_part) and path.is_file():
                    yield _described(path)

    def delete(self, name: str, modified: datetime | None = None, /) -> bool:
        """Remove a file, unless it was renewed; return whether it was removed."""
        path = self._path / Path(name).name
        aside = path.with_name(f".{path.name.strip('.')}.tmp")
        try:
            os.replace(path, aside)
        except FileNotFoundError:
            return False
        if modified is not None and _described(aside).modified > modified:
            os.replace(aside, path)
            return False
        aside.unlink(missing_ok=True)
        return True


def is_unfinished(name: str) -> bool:
    """Return whether a name is that of an unfinished upload or copy."""
    return name.startswith(".")


def missing_file(name: str, location: str) -> NotFound:
    """Return the error for a file that a far store lacks."""
    return NotFound(
        f"file {name} at {location}",
        "it has not arrived, or was removed; the machine that wrote it sends it when it uses the "
        "store again, or by: casket sync",
    )


def _described(path: Path) -> StoredFile:
    status = path.stat()
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    return StoredFile(path.name, status.st_size, modified)
