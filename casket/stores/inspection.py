"""What `casket doctor` asks of a store that is kept in a file: all of it, and what is wrong.

An inspection reads what the store itself refuses, skips or heals silently, and changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from casket.format.records import FORMAT_VERSION, KINDS
from casket.stores.base import Numbered


class Flaw(NamedTuple):
    """A range of bytes that is not as the store writes it.

    Attributes:
        start: where it begins in the file.
        stop: where it ends; 0 if it cannot be told.
        problem: what is wrong.
        after: the number of the last record before it.
        text: what stands there, if a record may be lost by it; empty if none is.
        number: the number of the record that is lost, if that is known.
    """

    start: int
    stop: int
    problem: str
    after: int = 0
    text: bytes = b""
    number: int = 0


class Part(NamedTuple):
    """What a part of a file holds.

    Attributes:
        records: the whole records, as the store gives them.
        flaws: what is wrong in it.
        size: how many bytes were looked at.
    """

    records: list[Numbered]
    flaws: list[Flaw]
    size: int


class Inspection(Protocol):
    """Looks at the file of a store, and writes it anew."""

    def parts(self) -> Iterator[Part]:
        """Yield what the file holds, part by part, in order.

        Raises:
            NotFound: it does not exist.
            NotACasketFile: nothing in it is casket's.
            StoreUnavailable: it cannot be read.
        """

    def repair(self, kept: Path) -> None:
        """Put a file in place of this one that holds every whole record, with its number.

        Args:
            kept: the path under which the old file is kept, byte for byte.

        Raises:
            StoreUnavailable: it cannot be written, or others have it open and cannot be told;
                nothing was changed.
        """


@contextlib.contextmanager
def copied(path: Path, kept: Path) -> Iterator[None]:
    """Copy a file, as its old version, while it is replaced; if that fails, the copy goes again."""
    with path.open("rb") as old, kept.open("xb") as copy:
        try:
            shutil.copyfileobj(old, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
            shutil.copymode(path, kept)
            yield
        except BaseException:
            kept.unlink()
            raise


_IN_BODY: dict[str, dict[str, type | tuple[type, ...]]] = {
    "experiment": {"tags": list, "facts": dict},
    "model": {"config": dict},
    "session": {"params": dict, "meta": dict},
    "epoch": {"epoch_num": int, "result": dict},
    "batch": {"batch_num": int, "epoch": (int, type(None)), "result": dict},
    "result": {"index": (str, int, float, type(None)), "result": dict},
    "artifact": {
        "name": str,
        "file": str,
        "sha256": str,
        "size": int,
        "media_type": str,
        "serializer": (str, type(None)),
    },
    "end": {"status": str, "of": str},
    "deleted": {"sessions": list, "models": list, "experiments": list},
}
_NAMES = ("experiment", "model", "session")


def fault_of(record: dict[str, Any]) -> str | None:
    """Say what is wrong with a record; None if nothing is, or if a newer casket wrote it."""
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
    return _fault_of_time(record["time"]) or _fault_of_body(kind, body)


def _needed(kind: str) -> tuple[str, ...]:
    if kind in {"deleted", "tag"}:
        return ()
    return {"experiment": _NAMES[:1], "model": _NAMES[:2]}.get(kind, _NAMES[2:])


def _fault_of_time(time: str) -> str | None:
    try:
        is_zoned = datetime.fromisoformat(time).tzinfo is not None
    except ValueError:
        is_zoned = False
    return None if is_zoned else f"its 'time' is {time!r}"


def _fault_of_body(kind: str, body: dict[str, Any]) -> str | None:
    for name, types in _IN_BODY.get(kind, {}).items():
        if name not in body:
            return f"its {name!r} is missing"
        if not isinstance(body[name], types):
            return f"its {name!r} is {body[name]!r}"
    return None
