"""Params of frameworks, in which values that cannot be stored are described by text."""

from __future__ import annotations

from typing import Any

from casket.errors import UnstorableValue
from casket.format import configs
from casket.format.values import Encoder, restore


def described(params: Any) -> dict[str, Any]:
    """Return params that can be stored, with the same nesting.

    Args:
        params: a dict, another config object or None; any other value becomes the only param,
            `hyperparameters`.
    """
    if params is None:
        return {}
    encoder = _Describer(lambda array: array, names=True)
    try:
        encoded = encoder.mapping(params, "params")
    except UnstorableValue:
        encoded = encoder.mapping({"hyperparameters": params}, "params")
    restored: dict[str, Any] = restore(encoded, lambda array: array)
    return restored


class _Describer(Encoder):
    """Encoder that replaces a value that cannot be stored by a text."""

    max_depth = 20
    """A value that contains itself several times is written out to this depth."""

    def encode(self, value: Any, path: str) -> Any:
        try:
            return super().encode(value, path)
        except Exception:  # noqa: BLE001 - any code of the user's
            return configs.describe(value)

    def _key(self, key: Any, path: str) -> str:
        try:
            return super()._key(key, path)
        except UnstorableValue:
            return configs.describe(key)

    def _item(self, value: Any, key: Any, path: str) -> Any:
        try:
            return super()._item(value, key, path)
        except UnstorableValue as error:  # such as a value that is missing in OmegaConf
            return f"<{type(error.__cause__).__name__}>"
