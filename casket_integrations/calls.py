"""Wrap framework methods that have no on-error callback, such as Keras's `fit`.

A notebook holds the traceback, and with it every frame and all objects in them, so a finalizer
does not notice a failed call. An `except` clause does, at once, with the exception, and without a
thread.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from functools import wraps
from typing import Any, NamedTuple

from casket_integrations.recorder import Recorder

Arguments = Mapping[str, Any]
"""The arguments of a call by name."""


class _Call(NamedTuple):
    """A running call: whose method it is, its arguments, and what logs it."""

    owner: Any
    arguments: Mapping[str, Any]
    recorders: list[Recorder]


_running: ContextVar[tuple[_Call, ...]] = ContextVar("casket_calls", default=())


def ending_sessions(
    method: Callable[..., Any], expected: Callable[[Arguments], Iterable[Recorder]]
) -> Callable[..., Any]:
    """Return the method wrapped so that an exception ends the sessions of its recorders.

    Args:
        method: the method.
        expected: returns the recorders that a call's arguments hold, each expecting a training.
            Others may `join` the call.
    """
    signature = inspect.signature(method)

    @wraps(method)
    def call(owner: Any, *arguments: Any, **named: Any) -> Any:
        bound = _bound(signature, owner, *arguments, **named)
        recorders = list(expected(bound))
        token = _running.set((*_running.get(), _Call(owner, bound, recorders)))
        try:
            return method(owner, *arguments, **named)
        except BaseException as error:
            for recorder in recorders:
                recorder.end(error)
            raise
        finally:
            _running.reset(token)

    return call


def join(recorder: Recorder, owner: Any) -> Arguments | None:
    """Let the running call of a method of `owner`'s end the recorder's session if it fails.

    Returns:
        The arguments of the call; None if no method of `owner`'s is running.
    """
    for call in reversed(_running.get()):
        if call.owner is owner:
            if recorder not in call.recorders:
                call.recorders.append(recorder)
            arguments: Arguments = call.arguments
            return arguments
    return None


def callbacks_of(arguments: Arguments) -> list[Any]:
    """Return the callbacks among the arguments of a call, given as one, in lists or in a holder."""
    return _flat(arguments.get("callbacks"))


def _flat(callbacks: Any) -> list[Any]:
    callbacks = getattr(callbacks, "callbacks", callbacks)
    if isinstance(callbacks, (list, tuple)):
        return [each for callback in callbacks for each in _flat(callback)]
    return [] if callbacks is None else [callbacks]


def _bound(signature: inspect.Signature, *arguments: Any, **named: Any) -> Arguments:
    """Return arguments by name; none if the method does not take them, which it will say itself."""
    try:
        return dict(signature.bind(*arguments, **named).arguments)
    except TypeError:
        return {}
