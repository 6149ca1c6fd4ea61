"""Convert hyperparameters of frameworks and users into storable values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from inspect import signature
from typing import Any

from casket import UnstorableValue
from casket.format.configs import parts_of
from casket.format.described import described
from casket.format.records import claim_key
from casket.format.values import Encoder


def as_dict(params: Any) -> dict[str, Any]:
    """Return hyperparameters by name.

    Args:
        params: a dict, another config object such as a Namespace or a dataclass, or None.

    Raises:
        TypeError: the params have no names.
    """
    parts = {} if params is None else parts_of(params)
    if not isinstance(parts, Mapping):
        kind = type(params).__name__
        raise TypeError(f"params is a {kind}: give a dict, a Namespace or a dataclass")
    return dict(parts)


def trial_params(callbacks: Iterable[Any]) -> dict[str, Any]:
    """Return the hyperparameters of the trial that a training belongs to.

    Args:
        callbacks: the callbacks of the training, which include the callback added by KerasTuner.
    """
    trials = (getattr(callback, "trial", None) for callback in callbacks)
    values = (getattr(getattr(each, "hyperparameters", None), "values", None) for each in trials)
    return next((dict(each) for each in values if isinstance(each, Mapping)), {})


def changed(config: Any, without: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields of a dataclass that differ from their defaults, in storable form.

    Args:
        config: the dataclass; a default of None may have become another empty value.
        without: the ends of the names of ignored fields.
    """
    values = {}
    for field in fields(config):
        make = field.default_factory
        default = field.default if make is MISSING else make()
        value = getattr(config, field.name)
        if (value or None) != (default or None) and not field.name.endswith(without):
            values[field.name] = value
    return described(values)


def changed_arguments(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of a class that differ from the defaults of its `__init__`, storable.

    Args:
        kind: the class, whose `__init__` may pass arguments on to that of its bases.
        values: the arguments by name.
    """
    defaults = _defaults(kind)
    known = described({name: defaults[name] for name in values if name in defaults})
    return differing(described(values), known)


@cache
def _defaults(kind: type) -> dict[str, Any]:
    parameters = [signature(base).parameters for base in reversed(kind.__mro__[:-1])]
    return {each.name: each.default for known in parameters for each in known.values()}


def differing(params: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the params that are missing from `known` or have a different value there."""
    return {
        name: value
        for name, value in params.items()
        if name not in known or not is_same(value, known[name])
    }


def params_key(params: Mapping[str, Any]) -> str:
    """Return a key that is equal for params of the same session and different for all others.

    Raises:
        UnstorableValue: a param cannot be stored.
    """
    return claim_key("", "", Encoder(names=True).mapping(params, "params"))


def is_same(one: Any, other: Any) -> bool:
    """Return whether two values have the same stored form."""
    return bool(_encoded(one) == _encoded(other))


def _encoded(value: Any) -> Any:
    return Encoder(names=True).encode(value, "")


def can_be_stored(value: Any) -> bool:
    """Return whether a value can be stored unchanged."""
    try:
        Encoder().encode(value, "")
    except UnstorableValue:
        return False
    return True
