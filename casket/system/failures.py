"""Translation of operating system errors into casket errors that name the file and the remedy."""

from __future__ import annotations

import errno
from pathlib import Path

from casket.errors import StoreFull, StoreUnavailable


def unavailable(path: Path | str, number: int | None, consequence: str) -> StoreUnavailable:
    """Return the error for a path, an `errno` and its consequence."""
    number = number or errno.EIO
    if number in {errno.ENOSPC, errno.EDQUOT}:
        advice = "no record was lost; make room and continue"
        return StoreFull(str(path), advice, number)
    return StoreUnavailable(str(path), _ADVICE.get(number, consequence), number)


def unreadable(path: Path | str, number: int | None) -> StoreUnavailable:
    """Return the error for a path that cannot be read."""
    if number in {errno.EACCES, errno.EPERM}:
        return StoreUnavailable(str(path), "ask its owner for permission to read it", errno.EACCES)
    return unavailable(path, number, "it cannot be read")


_READ_ONLY = "choose a path that can be written, or read it with casket.open"
_NO_LOCKS = "its file system does not support locks; choose a path on a local disk"
_ADVICE = {
    errno.ENOENT: "create its folder first, or correct the path",
    errno.ENOTDIR: "a part of the path is a file; correct the path",
    errno.EISDIR: "give the path of a file in it",
    errno.EACCES: _READ_ONLY,
    errno.EPERM: _READ_ONLY,
    errno.EROFS: _READ_ONLY,
    errno.EBUSY: "another process keeps its lock; check for a stopped process",
    errno.ENOLCK: _NO_LOCKS,
    errno.EOPNOTSUPP: _NO_LOCKS,
    errno.ENOSYS: _NO_LOCKS,
}
