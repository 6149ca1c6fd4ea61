"""Wrap functions of frameworks that have no callback for errors, such as Keras's `fit`.

A notebook keeps the traceback, and thereby all frames and their objects, so a finalizer does not
run after a failed call. An `except` clause runs immediately, has access to the exception and needs
no thread.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import wraps
from typing import Any, NamedTuple, Protocol

from casket_integrations.recorder import Recorder, Recording

Arguments = Mapping[str, Any]
"""The arguments of a call by name."""


class _Call(NamedTuple):
    """A running call: the owner of the method, its arguments and its recorders."""

    owner: Any
    arguments: Mapping[str, Any]
    recorders: list[Recorder]


_running: ContextVar[tuple[_Call, ...]] = ContextVar("casket_calls", default=())


def ending_sessions(
    function: Callable[..., Any],
    expected: Callable[[Arguments], Iterable[Recorder]],
    returned: Callable[[Recorder, Any], None] | None = None,
) -> Callable[..., Any]:
    """Wrap a function or method so that an exception ends the sessions of its recorders.

    Args:
        function: the function to wrap.
        expected: returns the recorders in a call's arguments, each expecting a training. Other
            recorders may `join` the call of a method.
        returned: called with each recorder and the return value; for a framework that has no event
            at the end of a training.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        bound = bound_arguments(signature, *arguments, **named)
        recorders = list(expected(bound))
        owner = arguments[0] if arguments else None
        token = _running.set((*_running.get(), _Call(owner, bound, recorders)))
        try:
            value = function(*arguments, **named)
            if returned is not None:
                for recorder in recorders:
                    returned(recorder, value)
            return value
        except BaseException as error:
            for recorder in recorders:
                recorder.end(error)
            raise
        finally:
            _running.reset(token)

    return call


def wrap_boosting(
    modules: Mapping[str, Iterable[Any]],
    kind: type[Recording],
    continued: str,
    returned: Callable[[Recorder, Any], None] | None = None,
) -> None:
    """Wrap the functions of a boosting library as in `ending_sessions`.

    The params of a call stand under those given to the callback.

    Args:
        modules: the modules that hold each function, by its name.
        kind: the class of the callbacks.
        continued: the name of the argument with the model that a training continues.
        returned: as in `ending_sessions`.
    """

    def expected(arguments: Arguments) -> Iterator[Recorder]:
        for callback in callbacks_of(arguments):
            if isinstance(callback, kind):
                recorder = callback.recorder
                rounds = {"num_boost_round": arguments["num_boost_round"]}
                recorder.expect(resumes=arguments.get(continued) is not None)
                recorder.describe({**dict(arguments["params"]), **rounds})
                yield recorder

    for name, holders in modules.items():
        first, *others = holders
        wrapped = ending_sessions(getattr(first, name), expected, returned)
        for module in (first, *others):
            setattr(module, name, wrapped)


class Wrapping(Protocol):
    """A callback that wraps a function of the user's, which the framework calls several times."""

    def logged(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return a function that also logs its calls."""

    def end(self, error: BaseException) -> None:
        """End the open sessions."""


def wrapping(method: Callable[..., Any], argument: str, kind: type[Wrapping]) -> Callable[..., Any]:
    """Wrap a method so that its callbacks wrap a function among its arguments.

    Args:
        method: the method to wrap.
        argument: the name of the argument with the function.
        kind: the class of the callbacks.
    """
    signature = inspect.signature(method)

    @wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        bound = dict(bound_arguments(signature, *arguments, **named))
        ours = [each for each in callbacks_of(bound) if isinstance(each, kind)]
        if not ours:
            return method(*arguments, **named)
        for callback in ours:
            bound[argument] = callback.logged(bound[argument])
        try:
            return method(**bound)
        except BaseException as error:
            for callback in ours:
                callback.end(error)
            raise

    return call


def is_wrapped(recorder: Recorder) -> bool:
    """Return whether a wrapped call is running that will end the session of a recorder."""
    return any(recorder in call.recorders for call in _running.get())


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


def bound_arguments(signature: inspect.Signature, *arguments: Any, **named: Any) -> Arguments:
    """Return arguments by name; empty if they are invalid, which the method itself will report."""
    try:
        bound = signature.bind(*arguments, **named)
    except TypeError:
        return {}
    bound.apply_defaults()
    return dict(bound.arguments)
