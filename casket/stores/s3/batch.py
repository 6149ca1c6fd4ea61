"""The content of an object of the log: a line about the batch, and a line per record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import orjson

from casket.errors import DamagedFile, StoreRefused
from casket.format.records import Record, encoded
from casket.stores import base

VERSION = 1


class Batch(NamedTuple):
    """The records of an append, or of several after they were packed.

    Attributes:
        first: the number by which the object is named.
        next: the number after those that the object stands for: that of the next object.
        id: the identity of the append.
        content: the content of the object.
    """

    first: int
    next: int
    id: str
    content: bytes

    @classmethod
    def of(cls, first: int, records: Sequence[Record], batch_id: str) -> Batch:
        """Return the batch of an append."""
        lines = [b"[%d,%b]" % (n, encoded(one)) for n, one in enumerate(records, first)]
        return cls._made(first, first + len(records), batch_id, lines)

    @classmethod
    def packed(cls, batches: Sequence[Batch], dropped: Callable[[base.Numbered], bool]) -> Batch:
        """Return batches as one, without the dropped records."""
        first, last = batches[0], batches[-1]
        lines = [
            line for each in batches for line in each.lines() if not dropped(each.numbered(line))
        ]
        return cls._made(first.first, last.next, first.id, lines)

    @classmethod
    def _made(cls, first: int, following: int, batch_id: str, lines: Sequence[bytes]) -> Batch:
        head = orjson.dumps({"casket": VERSION, "batch": batch_id, "next": following})
        return cls(first, following, batch_id, b"\n".join((head, *lines, b"")))

    @classmethod
    def read(cls, first: int, content: bytes, name: str) -> Batch:
        """Return the batch in an object.

        Raises:
            DamagedFile: the object does not have this form.
            StoreRefused: it was written by a newer casket.
        """
        try:
            head = orjson.loads(content.partition(b"\n")[0])
            version, batch_id, following = head["casket"], head["batch"], int(head["next"])
        except (KeyError, TypeError, ValueError):
            raise DamagedFile(name, "it does not begin with the line of a batch") from None
        if version > VERSION:
            raise StoreRefused(
                name, f"it is of version {version}, made by a newer casket: upgrade casket"
            )
        return cls(first, following, batch_id, content)

    def lines(self, text: bytes = b"") -> Iterator[bytes]:
        """Yield the lines of the records that contain a text."""
        if text in self.content:
            for line in self.content.split(b"\n")[1:-1]:
                if text in line:
                    yield line

    def numbered(self, line: bytes) -> base.Numbered:
        """Return the number and the record of a line.

        Raises:
            DamagedFile: the line does not have this form.
        """
        try:
            number, record = orjson.loads(line)
        except ValueError:
            raise DamagedFile(f"log/{self.first:016d}", "a line of it is no record") from None
        return number, record
