"""Leaving the process: sessions that are still open are ended, told apart by how it is left.

A script that ends, and a notebook whose kernel is shut down in good order, complete their sessions.
An uncaught exception and `sys.exit` with an error fail them. A killed process runs nothing of this.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any, Literal, NamedTuple, NoReturn

from casket.stores.base import warn
from casket.writing.log import SessionLog
from casket.writing.outcome import describe

End = Callable[[Literal["completed", "failed"], str | None], None]
"""Ends a session with a status and an error, unless it belongs to a parent of this process."""


class _Open(NamedTuple):
    """A session that has no end yet."""

    log: SessionLog
    end: End


class _Exit(NamedTuple):
    """A call of `sys.exit`, which leaves the process unless its exception is caught."""

    error: SystemExit
    outermost: FrameType

    @property
    def is_caught(self) -> bool:
        """Whether the program went on to its end nevertheless."""
        import dis

        frame = self.outermost
        return dis.opname[frame.f_code.co_code[frame.f_lasti]].startswith("RETURN")


_open: dict[object, _Open] = {}
"""The sessions to end; a forked child does not end those of its parent."""

_exits: list[_Exit] = []
_children: set[int] = set()
_plain_exit = sys.exit
_is_noting = False
"""Whether `sys.exit`, or a wrapper that somebody put around it, calls `_noting_exit`."""
_earlier_error: BaseException | None = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open.clear)


def watch(session: object, log: SessionLog, end: End) -> None:
    """End a session when the process is left, even if nothing refers to it any more."""
    global _earlier_error
    if not _open:
        _earlier_error = _last_error()
        _exits.clear()
        _note_exits()
    _open[session] = _Open(log, end)
    # The functions registered last are called first: before a far store is closed.
    atexit.unregister(_end_all)
    atexit.register(_end_all)
    _watch_child()


def forget(session: object) -> None:
    """Do not end a session: it has ended, or an adapter ends it."""
    global _is_noting
    _open.pop(session, None)
    if not _open and sys.exit is _noting_exit:
        sys.exit = _plain_exit
        _is_noting = False


def _note_exits() -> None:
    """Note the argument of `sys.exit`, which Python does not reveal to what runs at exit."""
    global _plain_exit, _is_noting
    if not _is_noting or sys.exit is _plain_exit:
        _is_noting = True
        _plain_exit = sys.exit
        sys.exit = _noting_exit


@wraps(sys.exit)
def _noting_exit(status: Any = None, /) -> NoReturn:
    try:
        _plain_exit(status)
    finally:
        if threading.current_thread() is threading.main_thread():
            _exits[:] = [_Exit(SystemExit(status), _outermost(sys._getframe()))]


def _outermost(frame: FrameType) -> FrameType:
    while frame.f_back is not None:
        frame = frame.f_back
    return frame


def _watch_child() -> None:
    """End the sessions of a child of multiprocessing, which may be left without `atexit`."""
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None or os.getpid() in _children:
        return
    from multiprocessing import util

    _children.add(os.getpid())
    util.Finalize(None, _end_child, exitpriority=0)


def _end_child() -> None:
    """End the sessions of this child, and ship their records: nothing else runs in it."""
    stores = {session.log.backend.store for session in _open.values()}
    _end_all(sys.exc_info()[1])
    for store in stores:
        store.close()


def _end_all(error: BaseException | None = None) -> None:
    error = error or _reason()
    is_fine = error is None or (isinstance(error, SystemExit) and error.code in (None, 0))
    for session in list(_open.values()):
        try:
            if error is None or is_fine:
                session.end("completed", None)
            else:
                session.end("failed", describe(error))
        except Exception as failure:  # noqa: BLE001 - the others have to be ended, too
            warn(f"the end of session {session.log.id} was not written: {describe(failure)}")


def _reason() -> BaseException | None:
    """Return the exception that the process is left by, if any."""
    error = _last_error()
    if error is not None and error is not _earlier_error:
        return error
    return next((call.error for call in _exits if not call.is_caught), None)


def _last_error() -> BaseException | None:
    """Return the exception that ended the script; None in an interactive session."""
    return None if hasattr(sys, "ps1") else getattr(sys, "last_value", None)
