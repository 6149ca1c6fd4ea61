"""The space of a sweep: the sets of params in it, and its id."""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from casket.errors import BadSpace
from casket.format.values import Encoder

if TYPE_CHECKING:
    from casket.writing.session import Session
    from casket.writing.starting import SessionsModel

Params = Mapping[str, Any]


@dataclass
class Suggestion:
    """A set of params to run.

    Attributes:
        params: the params.
        meta: values to add to the meta of its sessions.
    """

    params: Params
    meta: Mapping[str, Any] = field(default_factory=dict)

    def start(self, session: Session) -> None:
        """Note that a session with the params has started; called for each try."""

    def should_prune(self, session: Session) -> bool:  # noqa: ARG002 - searches need it
        """Return whether a session with the params should end early; see `Session`."""
        return False


class Search(ABC):
    """A space whose sets are chosen by what has been run, such as by Optuna.

    Attributes:
        trials: the number of sets to run, by all processes together.
        identity: identifies the search in all processes, as JSON values.
    """

    trials: int
    identity: Any

    @abstractmethod
    def suggestions(self, model: SessionsModel, sweep: str) -> Iterator[Suggestion]:
        """Return an iterator that chooses the next set when it is asked for it.

        Args:
            model: the model whose sessions are searched.
            sweep: the id of the space, as in `meta["sweep"]`.
        """


class Space(NamedTuple):
    """The sets of params of a sweep.

    Attributes:
        sets: the sets, in order.
        size: the number of sets, None if it is not known.
        id: identifies the space in all processes that sweep it.
        search: chooses the sets instead, if there is one.
    """

    sets: Iterable[Params]
    size: int | None
    id: str
    search: Search | None = None


AnySpace = Mapping[str, Any] | Iterable[Params] | Search
"""The forms in which a space can be given; see `space_of`."""


def space_of(given: AnySpace, shuffle: bool | int = False) -> Space:
    """Return the space that an argument of `Model.sweep` describes.

    Args:
        given: a dict of the values of each param, which stands for all combinations; an iterable
            of dicts, which may be infinite; or a search.
        shuffle: whether to shuffle the sets; a number is the seed.

    Raises:
        BadSpace: `given` is neither, or its order cannot be shuffled because it has no length.
    """
    if isinstance(given, Search):
        if shuffle is not False:
            raise BadSpace("the sets of a search cannot be shuffled: leave out shuffle")
        return Space((), given.trials, _digest(given.identity), given)
    if isinstance(given, Mapping):
        values = {name: values_of(name, each) for name, each in given.items()}
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


def values_of(name: str, values: Any) -> list[Any]:
    """Return the values of a param of a grid as a list.

    Raises:
        BadSpace: there are none.
    """
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
