"""The space of a sweep: the sets of params in it, and its id."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import product
from typing import Any, NamedTuple

import orjson

from casket.errors import BadSpace
from casket.format.values import Encoder

Params = Mapping[str, Any]


class Space(NamedTuple):
    """The sets of params of a sweep.

    Attributes:
        sets: the sets, in order.
        size: the number of sets, None if it is not known.
        id: identifies the space in all processes that sweep it.
    """

    sets: Iterable[Params]
    size: int | None
    id: str


def space_of(given: Mapping[str, Any] | Iterable[Params], shuffle: bool | int = False) -> Space:
    """Return the space that an argument of `Model.sweep` describes.

    Args:
        given: a dict of the values of each param, which stands for all combinations; or an
            iterable of dicts, which may be infinite.
        shuffle: whether to shuffle the sets; a number is the seed.

    Raises:
        BadSpace: `given` is neither, or its order cannot be shuffled because it has no length.
    """
    if isinstance(given, Mapping):
        values = {name: _values_of(name, each) for name, each in given.items()}
        sets: Iterable[Params] = _Grid(values)
        identity: Any = values
    elif isinstance(given, Iterable) and not isinstance(given, str | bytes):
        sets = given
        identity = list(given) if isinstance(given, Sized) else _name_of(given)
    else:
        raise BadSpace(f"{type(given).__name__} is no space: {_FORMS}")
    size = len(sets) if isinstance(sets, Sized) else None
    return Space(_shuffled(sets, shuffle), size, _digest(identity))


_FORMS = (
    'give a dict such as {"lr": [0.1, 0.01], "seed": range(3)}, a list of dicts, or another '
    "iterable of dicts"
)


class _Grid:
    """All combinations of values; the last name changes fastest."""

    def __init__(self, values: dict[str, list[Any]]) -> None:
        self._values = values

    def __iter__(self) -> Iterator[Params]:
        for combination in product(*self._values.values()):
            yield dict(zip(self._values, combination, strict=True))

    def __len__(self) -> int:
        size = 1
        for values in self._values.values():
            size *= len(values)
        return size


def _values_of(name: str, values: Any) -> list[Any]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        return [values]
    # The order of a set differs between processes.
    listed = sorted(values, key=str) if isinstance(values, set | frozenset) else list(values)
    if not listed:
        raise BadSpace(f"{name!r} has no values, so that the sweep would be empty: give one")
    return listed


def _shuffled(sets: Iterable[Params], shuffle: bool | int) -> Iterable[Params]:
    if shuffle is False:
        return sets
    if not isinstance(sets, Sized):
        raise BadSpace(
            "sets without a number of them cannot be shuffled: give a list, or shuffle=False"
        )
    listed = list(sets)
    random.Random(None if shuffle is True else shuffle).shuffle(listed)  # noqa: S311 - no secret
    return listed


def _digest(identity: Any) -> str:
    encoded = Encoder(names=True).encode(identity, "space")
    return hashlib.sha256(orjson.dumps(encoded, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _name_of(given: Iterable[Params]) -> str:
    kind = type(given)
    return str(getattr(given, "__qualname__", f"{kind.__module__}.{kind.__qualname__}"))
