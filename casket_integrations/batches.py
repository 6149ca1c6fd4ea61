"""Batches in quick succession: written in groups, or averaged over their epoch."""

from __future__ import annotations

import threading
import time
import weakref
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from casket.writing.session import Batch

GATHER = 0.5
"""Seconds in which quick batches are collected; writing each batch separately would cost more than
1 % of a training with a millisecond per batch."""


class PendingBatches:
    """Collects batches and writes them twice a second.

    Args:
        write: writes batches; its second argument is whether to suppress errors in any case.
    """

    def __init__(self, write: Callable[[Sequence[Batch], bool], None]) -> None:
        self._write = write
        self._pending: list[Batch] = []
        self._lock = threading.RLock()
        self._written = 0.0
        self._writer: tuple[threading.Thread, threading.Event] | None = None

    def add(self, batch: Batch) -> None:
        """Add a batch, whose last value is the current time."""
        now = batch[-1]
        with self._lock:
            self._pending.append(batch)
            if not 0.0 <= now - self._written < GATHER:  # a clock may be set back
                self.flush()
            elif self._writer is None:
                self._writer = _start_writer(self)

    def flush(self, always: bool = False) -> None:
        """Write the pending batches.

        Args:
            always: whether to suppress errors in any case.
        """
        with self._lock:  # locked even if none is pending, to wait for a write of the other thread
            if self._pending:
                pending, self._pending = self._pending, []
                self._write(pending, always)
                self._written = time.time()

    def flush_if_idle(self) -> None:
        """Write the pending batches, unless another thread is adding or writing batches.

        The writer must not wait for the lock, whose holder may be waiting for the writer to end.
        """
        if self._lock.acquire(blocking=False):
            try:
                self.flush(always=True)
            finally:
                self._lock.release()

    def stop(self) -> None:
        """End the thread that writes, if it runs; batches may be added afterwards."""
        if self._writer is not None:
            (thread, over), self._writer = self._writer, None
            over.set()
            if thread is not threading.current_thread():
                thread.join()


def _start_writer(batches: PendingBatches) -> tuple[threading.Thread, threading.Event]:
    over = threading.Event()
    arguments = (weakref.ref(batches), over)
    thread = threading.Thread(target=_write_now_and_then, args=arguments, daemon=True)
    thread.start()
    return thread, over


def _write_now_and_then(ref: weakref.ref[PendingBatches], over: threading.Event) -> None:
    """Write pending batches regularly, because no further batch may follow to trigger it."""
    while not over.wait(GATHER):
        batches = ref()
        if batches is None:
            return
        batches.flush_if_idle()
        del batches


class BatchMeans:
    """The means of the batches of an epoch, and the latest values that have no mean."""

    def __init__(self) -> None:
        self._numbers: dict[str, array[float]] = {}
        self._others: dict[str, Any] = {}

    def add(self, name: str, value: Any) -> None:
        """Add a value of a metric; thread-safe."""
        numbers = self._numbers.setdefault(name, array("d"))
        try:
            numbers.append(value)
        except (TypeError, ValueError, RuntimeError):  # by frameworks: a text, a list, a vector
            self._others[name] = value

    def values(self) -> dict[str, Any]:
        """Return the values of the epoch."""
        numbers = {name: sum(each) / len(each) for name, each in self._numbers.items() if each}
        return {**self._others, **numbers}
