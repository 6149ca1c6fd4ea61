"""Checks of the arguments with which sessions and experiments are logged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

from casket.errors import UnstorableValue
from casket.format.records import Level
from casket.format.values import Encoder

LARGEST = 2**63 - 1


def checked_tags(tags: Iterable[str]) -> list[str]:
    """Return tags as a list; a string is a single tag.

    Raises:
        UnstorableValue: a tag is not text.
    """
    return [checked_text(tag, "tags") for tag in ((tags,) if isinstance(tags, str) else tags)]


def checked_text(value: Any, name: str) -> str:
    """Return a text.

    Raises:
        UnstorableValue: the argument `name` is not text.
    """
    if not isinstance(value, str):
        raise UnstorableValue(name, type(value).__name__, "give text")
    text: str = Encoder().encode(value, name)
    return text


def checked_level(level: Any) -> Level:
    """Return the level of an alert.

    Raises:
        UnstorableValue: there is no such level.
    """
    levels = get_args(Level)
    if level not in levels:
        raise UnstorableValue("level", repr(level), f"give one of {', '.join(levels)}")
    checked: Level = level
    return checked


def checked_id(value: object, name: str) -> str:
    """Return an id as text.

    Raises:
        UnstorableValue: the argument `name` is an empty text.
    """
    if value == "":
        raise UnstorableValue(name, "an empty text", "give an id, or None for the usual one")
    return str(value)


def checked_index(index_by: Any) -> Any:
    """Return an index as a JSON scalar.

    Raises:
        UnstorableValue: the index is not a scalar.
    """
    encoder = Encoder()
    index = encoder.encode(index_by, "index_by")
    if encoder.extended or isinstance(index, (list, dict)):
        raise UnstorableValue("index_by", type(index_by).__name__, "give text, a number or a bool")
    return index


def checked_number(value: Any, name: str) -> int:
    """Return a whole number of at most 64 bits.

    Raises:
        UnstorableValue: the argument `name` is another value.
    """
    if type(value) is int and -LARGEST <= value <= LARGEST:
        return value
    if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        raise UnstorableValue(name, "a whole number beyond 64 bits", "count from a smaller one")
    if hasattr(value, "__index__") or (isinstance(value, float) and value.is_integer()):
        return int(value)
    hint = "give a whole number; add_batch logs steps within an epoch"
    raise UnstorableValue(name, type(value).__name__, hint)
