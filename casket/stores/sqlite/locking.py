"""Waiting for the lock of a SQLite database."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from casket.stores import waiting

WAIT_FOR_LOCK = 120.0
"""Seconds a writer waits for others, each of which holds the lock for microseconds."""

PAUSE = 0.0005
"""Seconds between two attempts of a writer to get the lock."""

T = TypeVar("T")


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether another connection holds the lock that was needed."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def when_free(path: Path, action: Callable[[], T]) -> T:
    """Call `action` as soon as no other connection holds the lock that it needs.

    SQLite itself increases the pause between two attempts up to 100 ms, so that among many writers
    those that wait would hardly ever get the lock.
    """
    begun, has_warned = time.monotonic(), False
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            waited = time.monotonic() - begun
            if not is_busy(error) or waited > WAIT_FOR_LOCK:
                raise
        if waited >= waiting.NOTICE and not has_warned:
            has_warned = True
            name = os.path.realpath(path)
            waiting.warn_waiting(path, waiting.holder_of(f"{name}-shm", name), waited)
        time.sleep(PAUSE)
