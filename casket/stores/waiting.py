"""Warnings about long waits for a lock.

A stopped process (`kill -STOP`, Ctrl-Z, a debugger) keeps its locks. A process that waits for a
lock continues to wait, and after `NOTICE` seconds warns with the holder of the lock, where Linux
provides it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from casket.stores import base
from casket.system.secrets import redact

NOTICE = 10.0
"""Seconds of waiting for a lock after which its holder is named."""

_LONGEST = 200
"""Maximum number of characters shown of a command line."""

_LOCKS = Path("/proc/locks")


def warn_waiting(location: object, holder: str, seconds: float) -> None:
    """Warn that this process is waiting for a lock.

    Args:
        location: the path or URL of the store.
        holder: a description of the lock's holder.
        seconds: the duration of the wait so far.
    """
    base.warn(
        f"{location}: waiting for its lock for {seconds:.0f} s, which is held by {holder}; nothing "
        "is logged until it is released"
    )


def holder_of(*locked: str) -> str:
    """Return a description of the processes that hold an exclusive lock on any of the files."""
    return "; ".join(_holders(locked)) or "another process"


def _holders(locked: Iterable[str]) -> Iterator[str]:
    """Yield a description of each process that holds an exclusive lock on any of the files."""
    try:
        lines = _LOCKS.read_text("ascii").splitlines()
        pids = [pid for name in locked for pid in _pids(lines, os.stat(name))]
    except (OSError, ValueError):
        return
    for pid in dict.fromkeys(pids):
        yield _described(pid)


def _pids(lines: Iterable[str], file: os.stat_result) -> Iterator[int]:
    device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    locks = [line.split() for line in lines]
    for number, _, _, mode, pid, where, *_ in (one for one in locks if one[1:2] != ["->"]):
        # Some file systems report a different device number here than in `stat`.
        is_same = where == device or where.endswith(f":{file.st_ino}")
        if number.endswith(":") and mode == "WRITE" and is_same and int(pid) > 0:
            yield int(pid)


def _described(pid: int) -> str:
    if pid == os.getpid():
        return f"another handle of this process ({pid})"
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError, IndexError):
        return f"process {pid}"
    shown = redact(command)
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
    stopped = ", which is stopped (continue it with `kill -CONT`, or end it)"
    return f"process {pid} ({shown}){stopped if state in 'Tt' else ''}"
