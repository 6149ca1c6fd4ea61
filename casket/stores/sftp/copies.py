"""Detection of records that a remote JSON document already contains.

An append whose answer was lost may have been written or not. It raises and is repeated; records
that are stored already are then dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Unpack, cast

import orjson

from casket.format.records import Record
from casket.stores import base
from casket.stores.jsonfile import layout, scan
from casket.stores.jsonfile.files import FilePort
from casket.stores.jsonfile.reader import Appended
from casket.stores.remote import repeats


class Copies:
    """The stored copies of the records that are about to be appended.

    There may be some if this handle does not know their writer, if an append of the writer has
    failed, or if the records are those of the last append.

    Attributes:
        stored: the identities of the copies seen so far, with their numbers.
        is_first_look: whether the whole file has to be read.
    """

    def __init__(self) -> None:
        self.stored: dict[repeats.Identity, int] = {}
        self.is_first_look = False
        self._appended: set[repeats.Identity] = set()
        self._writers: set[str] = set()
        self._known: set[str] = set()
        self._doubted: set[str] = set()
        self._expected: set[str] = set()
        self._since: scan.Mark | None = None
        self._certain: scan.Mark | None = None

    def expect(self, records: Sequence[Record]) -> None:
        """Begin to look for copies of records, unless they are known to be new."""
        writers = {record["writer"] for record in records}
        is_again = not self._appended.isdisjoint(map(repeats.identity, records))
        self.stored = {}
        self.is_first_look = is_again or not writers <= self._known
        self._writers = writers if self.is_first_look else writers & self._doubted
        self._since = None if self.is_first_look else self._certain
        # In doubt until `confirm` or `withdraw` is called.
        self._expected = writers - self._doubted
        self._doubted |= writers

    def withdraw(self) -> None:
        """Note that nothing was written."""
        self._doubted -= self._expected

    def look(self, file: FilePort) -> None:
        """Search the part of the file that was not searched yet."""
        extent = scan.find_extent(file) if self._writers else None
        if extent is None:
            return
        wanted = scan.Patterns([orjson.dumps(writer) for writer in self._writers], [], [])
        rest = scan.since(file, extent, self._since)
        for match in scan.found(file, rest, wanted):
            if isinstance(match, layout.Damage) or not rest.shows(match):
                continue
            number, document = match
            if layout.is_record(document):
                identity = repeats.column(document["writer"]), document["n"]
                self.stored.setdefault(identity, number)
        self._since = extent.mark

    def lacking(self, records: Sequence[Record]) -> list[Record]:
        """Return the records of which no copy is stored."""
        unique = repeats.once_each(records)
        return [record for record in unique if repeats.identity(record) not in self.stored]

    def confirm(self, records: Sequence[Record], appended: Appended | None) -> int:
        """Note that all records are stored; return the number of the last.

        Args:
            records: the records.
            appended: the last append of this handle, if any.
        """
        writers = {record["writer"] for record in records}
        self._known |= writers
        self._doubted -= writers
        self._appended = set(map(repeats.identity, records))
        if appended is None:
            return self.stored[repeats.identity(records[-1])]
        at, text, last = appended
        if not self._doubted:
            first = last + 1 - text.removesuffix(layout.TAIL).count(b"\n")
            self._certain = scan.Mark(at + len(layout.NEXT), first)
        return self.stored.get(repeats.identity(records[-1]), last)


class Claims:
    """The heads that decide about claims, kept so that a check reads only later lines.

    Reading a long file while its lock is held would keep all other writers waiting.
    """

    def __init__(self) -> None:
        self._heads: list[base.Numbered] = []
        self._since: scan.Mark | None = None

    def look(self, file: FilePort) -> bool:
        """Read the later lines.

        Returns:
            Whether the heads are complete: there is no nested document and no damaged line.
        """
        extent = scan.find_extent(file)
        if extent is None:
            return False
        rest = scan.since(file, extent, self._since)
        if rest is extent:
            self._heads.clear()
        for match in scan.found(file, rest, _CLAIMING):
            if isinstance(match, layout.Damage) or not layout.is_record(match[1]):
                self._since = None
                return False
            if not rest.shows(match):
                continue
            number, head = match[0], cast(Record, match[1])
            if not self._heads or number > self._heads[-1][0]:
                self._heads.append((number, head))
        self._since = extent.mark
        return True

    def records(self, **chosen: Unpack[base.Chosen]) -> Iterator[base.Numbered]:
        """Yield the heads that match the filters; see `Store.records`."""
        filters = base.Filters(**chosen)
        return (numbered for numbered in self._heads if filters.fits(numbered[1]))


_CLAIMING = scan.Patterns(
    [b'"claim":', b'"kind":"session"', b'"kind":"end"'],
    [b'"claim" :', b'"kind": "session"', b'"kind": "end"', b'"models":'],
    [],
)
