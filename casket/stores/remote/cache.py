"""The cache of files that were fetched from far stores, common to all of them.

The time of a file is that of its last use. When the cache is larger than its limit, the files that
were not used for the longest time are removed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from casket.errors import BadLocation, StoreFull, StoreRefused, StoreUnavailable
from casket.format.files import HASH
from casket.format.records import new_id
from casket.system import failures

LIMIT = "10GB"
"""The limit of the size, unless `$CASKET_CACHE_SIZE` is set."""

LEFT_BEHIND = 3600.0
"""Seconds after which an unfinished file is one that a killed process left."""

PAUSES = (0.05, 0.2, 0.8, 1.6, 3.2)
"""Seconds between attempts to go on after a connection was lost before anything else arrived."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", re.IGNORECASE)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

Read = Callable[[int], Iterator[bytes]]
"""Yields the content of a file from a position on."""


def home() -> Path:
    """Return the folder of the cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "casket" / "artifacts"


def limit() -> float:
    """Return the largest size of the cache in bytes.

    Raises:
        BadLocation: `$CASKET_CACHE_SIZE` is not a size.
    """
    text = os.environ.get("CASKET_CACHE_SIZE") or LIMIT
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise BadLocation(f"CASKET_CACHE_SIZE={text!r}: give a size such as 500MB or 10GB")
    return float(match[1]) * _UNITS[match[2].upper()]


class Cache:
    """The cached files of a store.

    Args:
        name: the name of the store's folder in the cache.
        location: the URL of the store, for messages.
    """

    def __init__(self, name: str, location: str) -> None:
        self.path = home() / name
        self._location = location

    def has(self, name: str) -> bool:
        """Return whether a file is cached, which makes it the last to be removed."""
        try:
            os.utime(self.path / name)
        except OSError:
            return False
        return True

    def fetch(self, name: str, read: Read) -> None:
        """Fetch a file; after a lost connection, go on where it was lost.

        Raises:
            NotFound: the store lacks the file.
            StoreFull: the disk of the cache is full.
            StoreUnavailable: the store cannot be reached, or the content is damaged.
        """
        self.path.mkdir(0o700, parents=True, exist_ok=True)
        part = self.path / f".{name}.{new_id()}.part"
        try:
            digest = self._receive(part, read)
            if digest != name[:HASH]:
                advice = f"the content of {name} differs from its hash; restore it from a copy"
                raise StoreUnavailable(self._location, advice)
            part.replace(self.path / name)
        except OSError as error:
            raise self._not_cached(error) from None
        finally:
            part.unlink(missing_ok=True)
        trim(keep=self.path / name)

    def adopt(self, path: Path) -> None:
        """Move a file of this machine into the cache, or remove it if that is not possible."""
        with contextlib.suppress(OSError):  # such as another file system, or a full disk
            self.path.mkdir(0o700, parents=True, exist_ok=True)
            path.replace(self.path / path.name)
        path.unlink(missing_ok=True)  # also if both are links to the same file
        trim(keep=self.path / path.name)

    def remove(self, name: str) -> None:
        """Remove a file that the store does not have anymore."""
        (self.path / name).unlink(missing_ok=True)

    def _receive(self, part: Path, read: Read) -> str:
        digest, tries = hashlib.sha256(), 0
        with part.open("wb") as file:
            while True:
                before = file.tell()
                try:
                    for chunk in read(file.tell()):
                        file.write(chunk)
                        digest.update(chunk)
                    break
                except StoreRefused:
                    raise
                except StoreUnavailable:
                    tries = 0 if file.tell() > before else tries + 1
                    if tries > len(PAUSES):
                        raise
                    time.sleep(PAUSES[tries - 1] if tries else PAUSES[0])
            file.flush()
            os.fsync(file.fileno())
        return digest.hexdigest()

    def _not_cached(self, error: OSError) -> OSError:
        if isinstance(error, (StoreUnavailable, FileNotFoundError)):
            return error
        failure = failures.unavailable(self.path, error.errno, "nothing can be cached there")
        if not isinstance(failure, StoreFull):
            return failure
        advice = (
            "the cache of files from far stores has no room; free some, or set XDG_CACHE_HOME to a "
            "folder on another disk"
        )
        return StoreFull(str(self.path), advice, errno.ENOSPC)


def trim(most: float | None = None, keep: Path | None = None) -> int:
    """Remove files until the cache is as small as its limit; return the number of bytes removed.

    Args:
        most: the limit in bytes; by default that of `limit`.
        keep: a file that stays.
    """
    most = limit() if most is None else most
    used = sorted(_used(keep))
    excess = sum(size for _, size, _ in used) + _size_of(keep) - most
    freed = 0
    for modified, size, path in used:
        is_left_behind = path.name[0] == "." and time.time() - modified > LEFT_BEHIND
        if (freed < excess and path.name[0] != ".") or is_left_behind:
            path.unlink(missing_ok=True)
            freed += size
    return freed


def _used(keep: Path | None) -> Iterator[tuple[float, int, Path]]:
    """Yield the time, the size and the path of each cached file."""
    for path in home().glob("*/*"):
        with contextlib.suppress(OSError):  # another process has just removed it
            status = path.stat()
            if path != keep and path.is_file():
                yield status.st_mtime, status.st_size, path


def _size_of(path: Path | None) -> int:
    try:
        return path.stat().st_size if path else 0
    except OSError:
        return 0
