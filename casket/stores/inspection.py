"""Inspection of file-based stores for `casket doctor`.

An inspection reads data that the store itself refuses, skips or silently repairs. It changes
nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from casket.format.intact import FIELDS
from casket.format.records import FORMAT_VERSION, KINDS
from casket.stores.base import Numbered
from casket.system import access


class Damage(NamedTuple):
    """A range of bytes that differs from the form written by the store.

    Attributes:
        start: the offset of its first byte in the file.
        stop: the offset of its end; 0 if unknown.
        problem: a description of the problem.
        after: the number of the last record before the range.
        text: the bytes of the range if a record may be lost in it, else empty.
        number: the number of the lost record, if known.
    """

    start: int
    stop: int
    problem: str
    after: int = 0
    text: bytes = b""
    number: int = 0


class Part(NamedTuple):
    """The content of a part of a file.

    Attributes:
        records: the intact records, as returned by the store.
        damages: the damages of the part.
        size: the number of bytes examined.
    """

    records: list[Numbered]
    damages: list[Damage]
    size: int


class Inspection(Protocol):
    """Inspection, repair and copies of a store's file."""

    def parts(self) -> Iterator[Part]:
        """Yield the content of the file, part by part, in order.

        Raises:
            NotFound: the file does not exist.
            NotACasketFile: the file contains no record of casket.
            StoreUnavailable: the file cannot be read.
        """

    def repair(self, kept: Path) -> None:
        """Replace the file by a new file with every intact record under its number.

        Args:
            kept: the path at which the old file is kept, byte for byte.

        Raises:
            StoreUnavailable: the file cannot be written, or is open in other processes that
                cannot be notified; nothing was changed.
        """

    def copy(self, target: Path) -> None:
        """Copy a snapshot of the file, damaged or not, into a new file.

        Raises:
            StoreUnavailable: the file cannot be read.
            OSError: the target cannot be written.
        """


@contextlib.contextmanager
def copied(path: Path, kept: Path) -> Iterator[None]:
    """Copy a file to `kept` while it is replaced; remove the copy if the replacement fails."""
    with path.open("rb") as old, access.open_private(kept, "xb") as copy:
        try:
            shutil.copyfileobj(old, copy, 1 << 20)
            access.copy_access(copy, os.fstat(old.fileno()))
            copy.flush()
            os.fsync(copy.fileno())
            yield
        except BaseException:
            kept.unlink()
            raise


_STRICTER: dict[str, dict[str, type | tuple[type, ...]]] = {
    "epoch": {"epoch_num": int},
    "batch": {"batch_num": int, "epoch": (int, type(None))},
    "result": {"index": (str, int, float, type(None))},
    "artifact": {"serializer": (str, type(None))},
}
"""Fields that every store writes, although readers do without them."""

_NAMES = ("experiment", "model", "session")


def problem_of(record: dict[str, Any]) -> str | None:
    """Return the problem of a record; None if it is valid or written by a newer casket."""
    for name, kind in (("kind", str), ("v", int), ("writer", str), ("n", int), ("time", str)):
        if type(record.get(name)) is not kind:
            return f"its {name!r} is {record.get(name)!r}"
    body, kind = record.get("body"), record["kind"]
    if type(body) is not dict:
        return f"its 'body' is {body!r}"
    if record["v"] > FORMAT_VERSION or kind not in KINDS:
        return None
    for name in _NAMES:
        if type(record.get(name, "")) is not str:
            return f"its {name!r} is {record[name]!r}"
    missing = [name for name in _needed(kind) if name not in record]
    if missing:
        return f"its {missing[0]!r} is missing"
    return _problem_of_time(record["time"]) or _problem_of_body(kind, body)


def _needed(kind: str) -> tuple[str, ...]:
    if kind in {"deleted", "tag"}:
        return ()
    return {"experiment": _NAMES[:1], "model": _NAMES[:2]}.get(kind, _NAMES[2:])


def _problem_of_time(time: str) -> str | None:
    try:
        is_zoned = datetime.fromisoformat(time).tzinfo is not None
    except ValueError:
        is_zoned = False
    return None if is_zoned else f"its 'time' is {time!r}"


def _problem_of_body(kind: str, body: dict[str, Any]) -> str | None:
    for name, types in {**FIELDS.get(kind, {}), **_STRICTER.get(kind, {})}.items():
        if name not in body:
            return f"its {name!r} is missing"
        if not isinstance(body[name], types):
            return f"its {name!r} is {body[name]!r}"
    return None
