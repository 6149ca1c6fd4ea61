"""A reader of W&B's `.wandb` files that does not need W&B.

A file is a log in LevelDB's format: blocks of 32 KiB that hold chunks with a CRC-32, where a
message longer than the rest of its block is split into several chunks. The reader of `wandb` itself
is a part of its service and not of its Python API.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

MAGIC = b":W&B\xe1\xbe\x00"
_BLOCK = 1 << 15
_HEADER = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def messages(path: Path, on_damage: Callable[[str], None]) -> Iterator[bytes]:
    """Yield the complete messages of a file.

    Args:
        path: the file.
        on_damage: called with a description of each damaged place. Reading continues with the next
            block.
    """
    parts: list[bytes] = []
    for at, kind, data in _chunks(path.read_bytes(), on_damage):
        if kind in {_FULL, _FIRST}:
            parts = []
        elif not parts:
            on_damage(f"the beginning of the record at byte {at} is missing")
            continue
        parts.append(data)
        if kind in {_FULL, _LAST}:
            yield b"".join(parts)
            parts = []
    if parts:
        on_damage("the last record is truncated")


def _chunks(log: bytes, on_damage: Callable[[str], None]) -> Iterator[tuple[int, int, bytes]]:
    """Yield the position, the kind and the content of each chunk."""
    at = len(MAGIC)
    while at < len(log):
        block_end = at - at % _BLOCK + _BLOCK
        if block_end - at < _HEADER.size:
            at = block_end
            continue
        end, damage = _checked(log, at, block_end)
        if damage:
            on_damage(f"the record at byte {at} is {damage}")
            at = block_end
            continue
        yield at, log[at + 6], log[at + _HEADER.size : end]
        at = end


def _checked(log: bytes, at: int, block_end: int) -> tuple[int, str]:
    """Return the end of a chunk and its damage, if any."""
    if at + _HEADER.size > len(log):
        return at, "truncated"
    checksum, length, kind = _HEADER.unpack_from(log, at)
    end = at + _HEADER.size + length
    if end > len(log) and end <= block_end:
        return at, "truncated"
    data = log[at + _HEADER.size : end]
    is_whole = end <= block_end and kind in {_FULL, _FIRST, _MIDDLE, _LAST}
    if not is_whole or zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
        return at, "damaged"
    return end, ""
