"""The wire format of Protocol Buffers, as far as the importers need it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

_DOUBLE = struct.Struct("<d")

Field = tuple[int, Any]
"""The number and the value of a field; the value is an int or bytes."""


class Damage(Exception):
    """A file or message is truncated or damaged; the message states the position."""


def fields(message: bytes) -> Iterator[Field]:
    """Yield the fields of a message.

    Raises:
        Damage: it is not a valid message.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value: Any
            value, at = _varint(message, at)
            yield number, value
            continue
        length = {1: 8, 5: 4}.get(wire_type)
        if wire_type == 2:
            length, at = _varint(message, at)
        if length is None or at + length > len(message):
            raise Damage("a message is not valid")
        yield number, message[at : at + length]
        at += length


def text(data: bytes) -> str:
    """Decode a string; invalid UTF-8 is replaced."""
    return data.decode("utf-8", "replace")


def double(data: bytes) -> float:
    """Decode a 64-bit float."""
    value: float = _DOUBLE.unpack(data)[0]
    return value


def signed(value: int) -> int:
    """Return a 64-bit integer with its sign."""
    return value - 2**64 if value >= 2**63 else value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise Damage("a message is not valid")
