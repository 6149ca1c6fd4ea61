"""The conditions of a sweep: which sets to run, and when the sweep is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from casket.errors import BadExpression
from casket.reading.fold import Fold
from casket.reading.query import Names, inside
from casket.reading.reader import Reader
from casket.reading.where import MISSING, Lookup, compile_where
from casket.writing.spaces import Space
from casket.writing.starting import SessionsModel

Params = Mapping[str, Any]


def params_condition(
    where: str | Callable[[Params], bool] | None, space: Space
) -> Callable[[Params], bool]:
    """Return whether a set of params meets a condition, as a function.

    Args:
        where: the condition, such as `"lr > 0.5"` or `"params.lr > 0.5"`; a function is returned
            as it is, and None is met by all sets.
        space: the space; if it has a size, its sets are searched for the names in the condition.

    Raises:
        BadExpression: the condition cannot be parsed, or no set has one of its names.
    """
    if not isinstance(where, str):
        return where or (lambda _: True)
    condition = compile_where(where)
    sets = list(space.sets) if space.size is not None else []
    for name in condition.names:
        if sets and not any(_lookup(params)(name.parts) is not MISSING for params in sets):
            raise BadExpression(where, name.start, "no set of the sweep has this param")
    return lambda params: condition(_lookup(params))


def _lookup(params: Params) -> Lookup:
    def lookup(name: tuple[str, ...]) -> Any:
        path = name[1:] if name[0] == "params" and len(name) > 1 else name
        return inside(params, path)

    return lookup


def until_condition(condition: str | None, model: SessionsModel) -> Callable[[], bool]:
    """Return whether a session of a model meets a condition, as a function; None is never met.

    Raises:
        BadExpression: the condition cannot be parsed.
    """
    return (lambda: False) if condition is None else Until(model, condition)


class Until:
    """Whether a session of the model meets a `where` condition, reading on at each call.

    Args:
        model: the model.
        condition: the condition, such as `"best(val_loss) < 0.1"`.
    """

    def __init__(self, model: SessionsModel, condition: str) -> None:
        backend = model.backend
        self._model = model
        self._condition = compile_where(condition)
        self._reader = Reader(
            backend.store, lambda: Fold(backend.files), experiment=model.experiment_id
        )
        self._is_met = False

    def __call__(self) -> bool:
        """Return whether a session meets the condition, or did so at an earlier call."""
        if not self._is_met:
            grown = {record.get("session") for record in self._reader.read_on()}
            sessions = self._reader.fold.sessions
            names = Names(sessions.values())
            self._is_met = any(
                self._condition(lambda name, view=view: names.value(view, name))  # type: ignore[misc]
                for key, view in sessions.items()
                if key in grown and view.model == self._model.id
            )
        return self._is_met
