"""Saying, after a while, whom a writer waits for.

A process that was stopped (`kill -STOP`, Ctrl-Z, a debugger) keeps its locks. Who waits for it
goes on waiting, and says after `NOTICE` seconds whom for, as far as Linux tells.
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
"""Characters of a command line that are shown."""

_LOCKS = Path("/proc/locks")


def warn_waiting(place: object, holder: str, seconds: float) -> None:
    """Warn that this process waits for a lock.

    Args:
        place: the store's path or URL.
        holder: who holds the lock.
        seconds: for how long it has waited.
    """
    base.warn(
        f"{place}: waiting for its lock for {seconds:.0f} s, which is held by {holder}; nothing is "
        "logged until it is released"
    )


def holder_of(*locked: str) -> str:
    """Name the processes that hold an exclusive lock on one of some files."""
    return "; ".join(_holders(locked)) or "another process"


def _holders(locked: Iterable[str]) -> Iterator[str]:
    """Yield a description of each process that holds an exclusive lock on one of some files."""
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
        # Some file systems report another device number here than `stat` does.
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
