"""A reader of TensorBoard's event files that does not need TensorBoard.

The existing libraries depend on a server or a framework (`tensorboard` on 12 packages, `tbparse` on
TensorBoard and pandas); the small `tensorboardX` can only write. The required part of the format is
small and has not changed since 2016: the framing of records, which are checked by CRC-32C, and a
dozen fields of Protocol Buffers messages.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from casket.imports.protobuf import Damage, double, fields, signed, text

_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_DOUBLE, _FLOAT = struct.Struct("<d"), struct.Struct("<f")

# The format and the field of a single value, by the tensor types of scalars and texts.
_FLOATS = {1: (_FLOAT, 5), 2: (_DOUBLE, 6)}
_STRING, _STRING_FIELD = 7, 8
_SESSION_LOG, _SESSION_START = 7, 1
_CONTENT_FIELD = 4

CHECKED = 1 << 20
"""Maximum bytes of a record whose content is checked; longer records are images or graphs, which
are not imported."""


RESTART = "restart"
"""The kind of a value that marks the start of a writer which logs again from its step on."""


class Value(NamedTuple):
    """A value of a summary.

    Attributes:
        wall_time: the time in seconds since 1970.
        step: the step.
        tag: the name.
        kind: the name of its plugin or of its field: `scalars`, `text`, `hparams`, `images`...;
            empty if the file stores it with an earlier value of this tag.
        content: additional data of the plugin.
        value: a float or a string; None for any other type.
    """

    wall_time: float
    step: int
    tag: str
    kind: str
    content: bytes
    value: float | str | None


def values(path: Path) -> Iterator[Value]:
    """Yield the values of an event file.

    Raises:
        Damage: the rest of the file cannot be read.
    """
    with path.open("rb") as file:
        for record in _records(file):
            try:
                parsed = list(_values_of(record))
            except (TypeError, ValueError, struct.error) as error:
                raise Damage("an event has fields of the wrong type") from error
            yield from parsed


def first_time(path: Path) -> float | None:
    """Return the wall time of the first event; None if there is no complete event."""
    try:
        with path.open("rb") as file:
            return _wall_time(dict(fields(next(_records(file)))))
    except (StopIteration, Damage):
        return None


def _records(file: BinaryIO) -> Iterator[bytes]:
    while True:
        at = file.tell()
        header = file.read(_HEADER.size)
        if not header:
            return
        if len(header) < _HEADER.size:
            raise Damage(f"the record at byte {at} is truncated")
        length, checksum = _HEADER.unpack(header)
        if _masked_crc(header[:8]) != checksum:
            raise Damage(f"the record at byte {at} is damaged")
        record, footer = file.read(length), file.read(_CRC.size)
        if len(footer) < _CRC.size:
            raise Damage(f"the record at byte {at} is truncated")
        if length <= CHECKED and _masked_crc(record) != _CRC.unpack(footer)[0]:
            raise Damage(f"the record at byte {at} is damaged")
        yield record


def _masked_crc(data: bytes) -> int:
    """Return the CRC-32C of data, masked as in TensorFlow."""
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


def _wall_time(event: dict[int, Any]) -> float:
    return double(event[1]) if 1 in event else 0.0


def _values_of(record: bytes) -> Iterator[Value]:
    event = dict(fields(record))
    wall_time, step = _wall_time(event), signed(event.get(2, 0))
    if dict(fields(event.get(_SESSION_LOG, b""))).get(1) == _SESSION_START:
        yield Value(wall_time, step, "", RESTART, b"", None)
    for field, value in fields(event.get(5, b"")):
        if field == 1:
            yield _value(value, wall_time, step)


# The fields of a summary's value that determine its kind.
_OLD_KINDS = {2: "scalars", 3: "histograms", 4: "images", 5: "histograms", 6: "audio"}


def _value(message: bytes, wall_time: float, step: int) -> Value:
    parts = dict(fields(message))
    plugin = dict(fields(dict(fields(parts.get(9, b""))).get(1, b"")))
    kind = text(plugin.get(1, b""))
    kind = kind or next((_OLD_KINDS[part] for part in parts if part in _OLD_KINDS), "")
    value: float | str | None = None
    if 2 in parts:
        value = _shortest(_FLOAT.unpack(parts[2])[0])
    elif 8 in parts:
        value = _tensor(parts[8])
    tag = text(parts.get(1, b""))
    return Value(wall_time, step, tag, kind, plugin.get(2, b""), value)


def _tensor(message: bytes) -> float | str | None:
    """Return the single number or string in a tensor; None for any other content."""
    parts: dict[int, Any] = {}
    texts = []
    for part, value in fields(message):
        if part == _STRING_FIELD:
            texts.append(text(value))
        parts[part] = value
    kind = parts.get(1)
    if kind == _STRING:
        return "\n".join(texts) if texts else None
    if kind not in _FLOATS:
        return None
    form, field = _FLOATS[kind]
    data = parts.get(_CONTENT_FIELD, parts.get(field, b""))
    if len(data) != form.size:
        return None
    number: float = form.unpack(data)[0]
    return _shortest(number) if form is _FLOAT else number


def _shortest(value: float) -> float:
    """Return the shortest decimal with the same single-precision value, such as 0.1.

    Whole numbers, such as counts of tokens, are exact.
    """
    if value.is_integer():
        return value
    for digits in range(6, 9):
        shorter = float(f"{value:.{digits}g}")
        try:
            if _FLOAT.pack(shorter) == _FLOAT.pack(value):
                return shorter
        except OverflowError:
            continue
    return float(f"{value:.9g}")
