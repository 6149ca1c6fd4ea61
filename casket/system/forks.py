"""Protection of state that a process must not share with its forked children.

A lock held by another thread stays locked forever in a child, a shared file descriptor shares
its file lock, and two processes must not number records as the same writer. Objects that hold
such state register here and renew it in the child. State that a child cannot renew, because a
library keeps it for the whole process, must be idle before the fork.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import ExitStack
from typing import Protocol


class Renewable(Protocol):
    """An object with state that a forked child has to renew."""

    def after_fork(self) -> None:
        """Drop, in the child, the state that belongs to the parent."""


class Closable(Protocol):
    """An object that reopens itself on its next use."""

    def close(self) -> None:
        """Release the resources it holds."""


class Pausable(Protocol):
    """An object with a thread that must not run during a fork."""

    def before_fork(self) -> None:
        """End the thread."""

    def after_fork_in_parent(self) -> None:
        """Start the thread again."""

    def after_fork(self) -> None:
        """Drop, in the child, the state that belongs to the parent."""


class RestingLock:
    """A lock that no thread holds during a fork and that is replaced in each child.

    It guards calls into a library with process-wide locks of its own: a child forked while
    another thread is inside such a library could never enter it.

    Attributes:
        lock: the lock to hold; look it up on every use, because a child has a different object.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        with _forking:
            _resting.add(self)

    def before_fork(self) -> None:
        """Acquire the lock, so that no thread holds it during the fork."""
        self.lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Release the lock in the parent."""
        self.lock.release()

    def after_fork(self) -> None:
        """Create a new lock in the child."""
        self.lock = threading.RLock()


_registered: weakref.WeakSet[Renewable] = weakref.WeakSet()
_closing: weakref.WeakSet[Closable] = weakref.WeakSet()
_resting: weakref.WeakSet[RestingLock] = weakref.WeakSet()
_pausing: weakref.WeakSet[Pausable] = weakref.WeakSet()
_at_rest: list[RestingLock] = []
_forking = threading.RLock()
_turn = threading.RLock()
"""Held by a thread that forks, from before threads are paused until they run again."""


def renew_in_children(thing: Renewable) -> None:
    """Call `thing.after_fork()` in every child forked while `thing` lives."""
    _registered.add(thing)


def close_before_forks(thing: Closable) -> None:
    """Call `thing.close()` before every fork, in the parent."""
    with _forking:
        _closing.add(thing)


def pause_during_forks(thing: Pausable) -> None:
    """Pause a thread during every fork: Python warns of forks beside other threads."""
    with _forking:
        _pausing.add(thing)


def held_off() -> threading.RLock:
    """Return a lock that prevents other threads from forking while it is held.

    Hold it around imports deferred to the first use: a child forked during such an import could
    never import the module.
    """
    return _forking


def _rest() -> None:
    with ExitStack() as steps:
        steps.callback(_hold)  # called last, whatever fails: Python ignores errors before a fork
        _turn.acquire()
        # Before other locks are held, because a thread may need them to end.
        for thread in _pausable():
            steps.callback(thread.before_fork)


def _pausable() -> list[Pausable]:
    with _forking:
        return list(_pausing)


def _hold() -> None:
    _forking.acquire()
    for lock in list(_resting):
        lock.before_fork()
        _at_rest.append(lock)
    for thing in list(_closing):
        thing.close()


def _go_on() -> None:
    while _at_rest:
        _at_rest.pop().after_fork_in_parent()
    with ExitStack() as steps:
        steps.callback(_turn.release)  # called last
        for thread in _pausable():
            steps.callback(thread.after_fork_in_parent)
        steps.callback(_forking.release)


def _renew_all() -> None:
    global _forking, _turn
    _forking = threading.RLock()
    _turn = threading.RLock()
    _at_rest.clear()
    for lock in list(_resting):
        lock.after_fork()
    for thread in list(_pausing):
        thread.after_fork()
    for thing in list(_registered):
        thing.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_rest, after_in_parent=_go_on, after_in_child=_renew_all)
