"""Convert hyperparameters of frameworks and users into storable values."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from types import SimpleNamespace
from typing import Any

from casket import UnstorableValue
from casket.format.records import claim_key
from casket.format.values import Encoder

_MAX_DEPTH = 20
"""Maximum nesting depth; deeper or recursive values are converted to strings."""


def storable(params: Any) -> dict[str, Any]:
    """Return hyperparameters with the same nesting; values that cannot be stored become strings.

    Args:
        params: a dict, a Namespace, a dataclass, a mapping such as OmegaConf's, or None.
    """
    shown = {} if params is None else _shown(params, 0)
    return shown if isinstance(shown, dict) else {"hyperparameters": shown}


def as_dict(params: Any) -> dict[str, Any]:
    """Return hyperparameters by name.

    Args:
        params: as in `storable`.

    Raises:
        TypeError: the params have no names.
    """
    parts = {} if params is None else _parts(params)
    if parts is None:
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
    return storable(values)


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
    return claim_key("", "", Encoder().mapping(params, "params"))


def is_same(one: Any, other: Any) -> bool:
    """Return whether two storable values have the same stored form."""
    return bool(Encoder().encode(one, "") == Encoder().encode(other, ""))


def _shown(value: Any, depth: int) -> Any:
    try:
        if depth < _MAX_DEPTH and (parts := _parts(value)) is not None:
            return {str(name): _part(parts, name, depth + 1) for name in parts}
        if can_be_stored(value):
            return value
        if depth < _MAX_DEPTH and _is_list(value):
            return [_shown(item, depth + 1) for item in value]
    except Exception:  # noqa: BLE001 - any code of the user's
        return _text(value)
    return _text(value)


def _part(parts: Mapping[Any, Any], name: Any, depth: int) -> Any:
    try:
        return _shown(parts[name], depth)
    except Exception as error:  # noqa: BLE001 - such as OmegaConf's for a missing value
        return f"<{type(error).__name__}>"


def _parts(value: Any) -> Mapping[Any, Any] | None:
    if isinstance(value, (Namespace, SimpleNamespace)):
        return vars(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return value if isinstance(value, Mapping) else None


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def can_be_stored(value: Any) -> bool:
    """Return whether a value can be stored unchanged."""
    try:
        Encoder().encode(value, "")
    except UnstorableValue:
        return False
    return True


def _text(value: Any) -> str:
    """Return a string without memory addresses, so that it is the same in every run."""
    try:
        text = str(value)
    except Exception:  # noqa: BLE001 - any code of the user's
        text = f"<{type(value).__name__}>"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text).encode(errors="replace").decode()
