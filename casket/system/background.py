"""Work in a thread that does not keep the interpreter alive and is paused during forks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from threading import Event

from casket.system import forks

_LONGEST_PAUSE = 1.0
"""How many seconds a fork waits for the thread to end."""


class Background:
    """A thread that runs a function; interrupted by a fork, the function runs anew in the parent.

    Args:
        work: the function; it is passed an event, and returns soon after the event has been set.
        name: the name of the thread.

    Raises:
        RuntimeError: no thread can be started.
    """

    def __init__(self, work: Callable[[Event], object], name: str) -> None:
        self._work = work
        self._name = name
        self._is_over = False
        self._begin()
        forks.pause_during_forks(self)

    def _begin(self) -> None:
        stop = Event()
        thread = threading.Thread(target=self._run, args=(stop,), name=self._name, daemon=True)
        thread.start()
        # A thread that has not started cannot be joined.
        self._stop, self._thread = stop, thread
        if self._is_over:  # another thread has ended the work meanwhile
            stop.set()

    def _run(self, stop: Event) -> None:
        self._work(stop)
        if not stop.is_set():
            self._is_over = True

    def end(self, seconds: float = _LONGEST_PAUSE) -> None:
        """End the thread, waiting at most some seconds."""
        self._is_over = True
        self._interrupt(seconds)

    def _interrupt(self, seconds: float) -> None:
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def before_fork(self) -> None:
        """End the thread before a fork."""
        if not self._is_over:
            self._interrupt(_LONGEST_PAUSE)

    def after_fork_in_parent(self) -> None:
        """Start the thread again if it was interrupted."""
        if self._stop.is_set() and not self._is_over:
            self._begin()

    def after_fork(self) -> None:
        """Do not run in the child."""
        self._is_over = True
