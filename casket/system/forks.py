"""What must not be shared between a process and its forked children.

A lock held by another thread stays locked for ever in a child, a shared file descriptor shares
its file lock, and two processes must not number records as one writer. Whoever holds such a
thing registers here and renews it in the child. What a child could not even renew, because a
library keeps it for the whole process, must come to rest before the fork.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Renewable(Protocol):
    """Something a forked child needs afresh."""

    def after_fork(self) -> None:
        """Drop, in the child, what belongs to the parent."""


class Closable(Protocol):
    """Something that opens again by itself when it is used."""

    def close(self) -> None:
        """Free what it holds."""


class RestingLock:
    """A lock that no thread holds while the process forks, and that children get anew.

    For calls into a library that has process-wide locks of its own: a child forked while another
    thread is in there could never enter it.

    Attributes:
        lock: what to hold; look it up each time, a child has another one.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        with _forking:
            _resting.add(self)

    def before_fork(self) -> None:
        """Wait until no thread holds it, and let none take it."""
        self.lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Let threads take it again."""
        self.lock.release()

    def after_fork(self) -> None:
        """Take a new lock, in the child."""
        self.lock = threading.RLock()


_registered: weakref.WeakSet[Renewable] = weakref.WeakSet()
_closing: weakref.WeakSet[Closable] = weakref.WeakSet()
_resting: weakref.WeakSet[RestingLock] = weakref.WeakSet()
_at_rest: list[RestingLock] = []
_forking = threading.RLock()


def renew_in_children(thing: Renewable) -> None:
    """Call `thing.after_fork()` in every child forked while `thing` lives."""
    _registered.add(thing)


def close_before_forks(thing: Closable) -> None:
    """Call `thing.close()` before every fork, in the parent."""
    with _forking:
        _closing.add(thing)


def held_off() -> threading.RLock:
    """Return a lock: no other thread forks while one holds it.

    For what imports modules when it is first used: a child forked meanwhile could never import
    them.
    """
    return _forking


def _rest() -> None:
    _forking.acquire()
    for lock in list(_resting):
        lock.before_fork()
        _at_rest.append(lock)
    for thing in list(_closing):
        thing.close()


def _go_on() -> None:
    while _at_rest:
        _at_rest.pop().after_fork_in_parent()
    _forking.release()


def _renew_all() -> None:
    global _forking
    _forking = threading.RLock()
    _at_rest.clear()
    for lock in list(_resting):
        lock.after_fork()
    for thing in list(_registered):
        thing.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_rest, after_in_parent=_go_on, after_in_child=_renew_all)
