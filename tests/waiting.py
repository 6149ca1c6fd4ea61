"""How long the tests wait for other processes and threads.

The limits only end a test that hangs. They are so long that none is reached because the machine is
busy: nothing that a test shows may depend on how quick the machine is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 600.0
"""Seconds after which a process, a thread or a condition is taken to hang."""

IN_TIME = 60.0
"""Seconds within which a call returns that gives up after a few seconds."""


def eventually(value: Callable[[], T], expected: str = "the condition did not become true") -> T:
    """Wait until a function returns a true value and return that value.

    Args:
        value: called every few milliseconds.
        expected: the message if it stays false for `PATIENCE` seconds.
    """
    deadline = time.monotonic() + PATIENCE
    while not (result := value()):
        assert time.monotonic() < deadline, expected
        time.sleep(0.005)
    return result
