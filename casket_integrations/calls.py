"""Methods of a framework that tell nobody when an exception leaves them, as Keras's `fit`.

A traceback that is held, as a notebook does, keeps every frame and all that is in them, so nothing
that is merely dropped tells either. The `except` clause does, at once, with the exception, and
without a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, NamedTuple

from casket_integrations.recorder import Recorder


class _Call(NamedTuple):
    """A running call: whose method it is, and what logs it."""

    owner: Any
    recorders: list[Recorder]


_running: ContextVar[tuple[_Call, ...]] = ContextVar("casket_calls", default=())


def ending_sessions(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method such that an exception which leaves it ends the sessions that joined it."""

    @wraps(method)
    def call(owner: Any, *arguments: Any, **named: Any) -> Any:
        recorders: list[Recorder] = []
        token = _running.set((*_running.get(), _Call(owner, recorders)))
        try:
            return method(owner, *arguments, **named)
        except BaseException as error:
            for recorder in recorders:
                recorder.end(error)
            raise
        finally:
            _running.reset(token)

    return call


def join(recorder: Recorder, owner: Any) -> bool:
    """Let the running call of a method of `owner`'s end the recorder's session if it fails.

    Returns:
        Whether there is such a call.
    """
    for call in reversed(_running.get()):
        if call.owner is owner:
            call.recorders.append(recorder)
            return True
    return False
