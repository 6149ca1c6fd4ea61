"""Wrap framework methods that have no on-error callback, such as Keras's `fit`.

A notebook keeps the traceback, and thereby all frames and their objects, so a finalizer does not
run after a failed call. An `except` clause runs immediately, has access to the exception and needs
no thread.
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
    """A running call: the owner of the method, its arguments and its recorders."""

    owner: Any
    arguments: Mapping[str, Any]
    recorders: list[Recorder]


_running: ContextVar[tuple[_Call, ...]] = ContextVar("casket_calls", default=())


def ending_sessions(
    method: Callable[..., Any], expected: Callable[[Arguments], Iterable[Recorder]]
) -> Callable[..., Any]:
    """Wrap a method so that an exception ends the sessions of its recorders.

    Args:
        method: the method to wrap.
        expected: returns the recorders in a call's arguments, each expecting a training. Other
            recorders may `join` the call.
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
    """Register a recorder whose session ends if the running method of `owner` fails.

    Returns:
        The arguments of the call; None if no wrapped method of `owner` is running.
    """
    for call in reversed(_running.get()):
        if call.owner is owner:
            if recorder not in call.recorders:
                call.recorders.append(recorder)
            arguments: Arguments = call.arguments
            return arguments
    return None


def callbacks_of(arguments: Arguments) -> list[Any]:
    """Return the callbacks among the arguments of a call, flattened from lists and containers."""
    return _flat(arguments.get("callbacks"))


def _flat(callbacks: Any) -> list[Any]:
    callbacks = getattr(callbacks, "callbacks", callbacks)
    if isinstance(callbacks, (list, tuple)):
        return [each for callback in callbacks for each in _flat(callback)]
    return [] if callbacks is None else [callbacks]


def _bound(signature: inspect.Signature, *arguments: Any, **named: Any) -> Arguments:
    """Return arguments by name; empty if they are invalid, which the method itself will report."""
    try:
        return dict(signature.bind(*arguments, **named).arguments)
    except TypeError:
        return {}
