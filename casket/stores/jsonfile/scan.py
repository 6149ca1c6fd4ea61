"""Search for records in a JSON document, block by block and without a lock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from casket.stores import base
from casket.stores.jsonfile import layout
from casket.stores.jsonfile.files import FilePort

EDITED = 8 << 20
"""Size in bytes up to which a file may have been edited by hand or rewritten by TinyDB and is
checked line by line when opened for writing; in larger files, all lines are assumed to be written
by casket."""

PARSED = 1 << 15
"""Bytes parsed at a time; more objects at once would slow down Python's garbage collector."""

SEARCHED = 1 << 18
"""Bytes searched at a time, chosen to fit into a processor's cache."""


class Mark(NamedTuple):
    """The start of a line and its number, from which a reader continues."""

    at: int
    number: int


class Extent(NamedTuple):
    """The position of the records in a document."""

    start: int
    """The end of the first line, before its newline."""
    at: int
    """The start of the last complete line."""
    stop: int
    """The end of the last complete line, before its comma; `start` if there is none."""
    last: int
    """The number of the last complete record, 0 if there is none."""
    more: int
    """The number of records of the last append that follow it."""
    rest: bytes
    """The bytes after `stop`."""
    is_covered: bool = False
    """Whether the end of an earlier document overwrites the start of the last line."""

    @property
    def is_cut(self) -> bool:
        """Whether the last append is incomplete: it is in progress or was interrupted."""
        return self.more > 0 and not layout.is_closed(self.rest)

    @property
    def mark(self) -> Mark | None:
        """The last line; None if the last append is incomplete."""
        return None if self.is_cut else Mark(self.at, self.last)

    def shows(self, document: layout.Document) -> bool:
        """Return whether a document belongs to a complete append."""
        number, fields = document
        more = layout.more_after(fields)
        return not more or number + more <= self.last or not self.is_cut

    def damage_at_end(self) -> layout.Damage | None:
        """Return the range of stray bytes after the last complete line, or None."""
        lost = layout.lost_in(self.rest)
        return layout.Damage(self.stop + lost.start, self.stop + lost.stop) if lost else None

    def end(self) -> layout.Block:
        """Return the end as a block, damaged unless an append is still in progress."""
        damage = self.damage_at_end() if layout.is_closed(self.rest) else None
        return layout.Block([], [damage] if damage else [], is_sound=damage is None)


def find_extent(file: FilePort) -> Extent | None:
    """Return the extent of the records; None if the document is in a different layout."""
    first: bytes | None = first_line(file)
    if first is not None and not layout.is_first_line(first):
        first = layout.joined_first_line(first)
    return None if first is None else extent_after(file, len(first))


def since(file: FilePort, extent: Extent, mark: Mark | None) -> Extent:
    """Return the extent from a marked line on; all of it if the line is no longer there."""
    if mark is None or not (mark.number and extent.start < mark.at <= extent.at):
        return extent
    line = b'\n"%d":' % mark.number
    is_there = file.read_at(mark.at - 1, len(line)) == line
    return extent._replace(start=mark.at - 1) if is_there else extent


def other_layout(file: FilePort) -> layout.OtherLayout | None:
    """Return the content of a valid file in a different layout; None if damaged or not casket's."""
    try:
        return layout.parse_other(file.read_at(0, file.size()))
    except layout.NotOurs:
        return None


def extent_after(file: FilePort, start: int) -> Extent:
    """Return the extent of the records after a first line that ends at `start`."""
    size, window = file.size(), 1 << 16
    while True:
        low = max(start + 1, size - window)
        text = file.read_at(low, max(size - low, 0))
        line = _last_whole_line(text, low == start + 1)
        if line is not None:
            (number, document), at, stop = line
            more = layout.more_after(document)
            is_covered = layout.parse_line(text[at:stop]) is None
            return Extent(start, low + at, low + stop, number, more, text[stop:], is_covered)
        if low == start + 1:
            return Extent(start, start, start, 0, 0, file.read_at(start, 1) + text)
        window *= 4


def first_line(file: FilePort) -> bytes:
    """Return the first line, without its newline."""
    size, length = file.size(), 256
    while True:
        text = file.read_at(0, length)
        if b"\n" in text or length >= size:
            return text.partition(b"\n")[0]
        length *= 16


def _last_whole_line(text: bytes, starts_line: bool) -> tuple[layout.Document, int, int] | None:
    """Find the last complete line in `text`; its first line is used only if it `starts_line`.

    Returns:
        The document, and the start and end of its line, without its comma.
    """
    covered: list[tuple[dict[str, Any], int, int]] = []
    for at, line in _lines_backwards(text, starts_line):
        whole = _last_document(line)
        if whole is not None and not covered:
            return whole.document, at + whole.start, at + whole.stop
        if whole is not None:
            # The records that follow are numbered consecutively.
            return (whole.document[0] + len(covered), covered[0][0]), *covered[0][1:]
        # The first byte of an append may overwrite the end of the document: `},}}`.
        for hiding in (line, line.removesuffix(b",}}")):
            hidden = layout.parse_covered(hiding)
            if hidden is not None:
                covered.append((hidden, at, at + len(hiding.rstrip(b","))))
                break
    if covered and starts_line:
        return (len(covered), covered[0][0]), *covered[0][1:]
    return None


def _last_document(line: bytes) -> layout.Part | None:
    document = layout.parse_line(line)
    if document is not None:
        return layout.Part(document, 0, len(line.rstrip(b",")))
    if layout.parse_covered(line) is not None:
        return None
    return next(reversed(layout.recovered(line)), None)


def _lines_backwards(text: bytes, starts_line: bool) -> Iterator[tuple[int, bytes]]:
    """Yield lines and their offsets, starting with the last line."""
    stop = len(text)
    while stop > 0:
        newline = text.rfind(b"\n", 0, stop)
        if newline < 0 and not starts_line:
            return
        yield newline + 1, text[newline + 1 : stop]
        stop = newline


def blocks(
    file: FilePort, start: int, stop: int, size: int = PARSED
) -> Iterator[tuple[int, bytes]]:
    """Yield the bytes from `start` to `stop` in blocks of complete lines, with their offsets."""
    for at, data, cut in spans(file, start, stop, size):
        yield at, data if cut == len(data) else data[:cut]


def spans(
    file: FilePort, start: int, stop: int, size: int = PARSED
) -> Iterator[tuple[int, bytes, int]]:
    """Yield the same without copying: the offset of a block, its bytes, the length of its lines."""
    at, length = start, size
    while at < stop:
        data = file.read_at(at, min(length, stop - at))
        if not data:
            return
        cut = len(data)
        if at + cut < stop:
            cut = data.rfind(b"\n") + 1
            if cut == 0:  # a line longer than the block
                length *= 4
                continue
        yield at, data, cut
        at, length = at + cut, size


def parsed(file: FilePort, start: int, stop: int) -> Iterator[layout.Block]:
    """Yield the parsed lines from `start` to `stop`, block by block."""
    last = 0
    for at, text in blocks(file, start, stop):
        block = layout.parse_block(text, at, last)
        yield block
        last = block.documents[-1][0] if block.documents else last


def documents(file: FilePort, extent: Extent) -> Iterator[layout.Document]:
    """Yield every document on a complete line."""
    for block in parsed(file, extent.start + 1, extent.stop):
        yield from block.documents


def damages(file: FilePort, extent: Extent) -> list[layout.Damage]:
    """Return the ranges of lines between complete lines that contain no document."""
    parsed_blocks = parsed(file, extent.start + 1, extent.stop)
    return [damage for block in parsed_blocks for damage in block.damages]


def is_sound(file: FilePort, extent: Extent) -> bool:
    """Return whether every line is as written by casket, with ascending numbers."""
    if is_joined(file, extent):
        return False
    last = 0
    for at, text in blocks(file, extent.start + 1, extent.stop):
        block = layout.parse_block(text, at)
        is_followed = text.endswith(layout.NEXT) or at + len(text) == extent.stop
        if not (block.is_sound and is_followed and block.documents[0][0] > last):
            return False
        last = block.documents[-1][0]
    return True


def is_joined(file: FilePort, extent: Extent) -> bool:
    """Return whether the newline after the first line is damaged."""
    return extent.stop > extent.start and file.read_at(extent.start, 1) != layout.FIRST


def without_cut(file: FilePort, extent: Extent) -> Extent:
    """Return the extent without the records of an interrupted append."""
    if not extent.is_cut:
        return extent
    at = stop = extent.start
    last = 0
    for line_at, document, line_stop in _whole_lines(file, extent):
        if extent.shows(document):
            at, stop, last = line_at, line_stop, document[0]
    return Extent(extent.start, at, stop, last, 0, file.read_at(stop, file.size() - stop))


def _whole_lines(file: FilePort, extent: Extent) -> Iterator[tuple[int, layout.Document, int]]:
    last = 0
    for at, block in blocks(file, extent.start + 1, extent.stop):
        for text in block.splitlines(keepends=True):
            line = text.rstrip(b"\n")
            for document in layout.parse_block(line, at, last).documents:
                last = document[0]
                yield at, document, at + len(line.rstrip(b","))
            at += len(text)


class Patterns(NamedTuple):
    """Search patterns for lines: a line matches any of `own` or `foreign`, and all of `all_of`.

    The `foreign` patterns match lines that casket did not write. Only the first block of a file
    is searched for them if the file is too large to be edited by hand or written by TinyDB.
    """

    own: list[bytes]
    foreign: list[bytes]
    all_of: list[bytes]


def patterns(filters: base.Filters) -> Patterns | None:
    """Return the search patterns for filters, or None if every line has to be parsed.

    Lines edited by hand may have spaces after colons, or a different order of keys.
    """
    _, session, claim, kinds, _ = filters
    of_session = [orjson.dumps(session)] if session is not None else []
    if claim is not None:
        return Patterns([orjson.dumps(claim)], [_NESTED], of_session)
    if kinds is not None and filters.are_for_heads:
        own = [b'"kind":"%b"' % kind.encode() for kind in kinds]
        spaced = [b'"kind": "%b"' % kind.encode() for kind in kinds]
        return Patterns(own, [*spaced, _NESTED], of_session)
    return Patterns(of_session, [_NESTED], []) if of_session else None


_NESTED = b'"models":['
"""Occurs in every document of the first casket, in the form of its line."""


def found(
    file: FilePort, extent: Extent, patterns: Patterns
) -> Iterator[layout.Document | layout.Damage]:
    """Yield the documents on matching lines, and a damage for each incomplete matching line."""
    for at, block in blocks(file, extent.start + 1, extent.stop, SEARCHED):
        may_be_foreign = extent.stop <= EDITED or at == extent.start + 1
        any_of = patterns.own + patterns.foreign if may_be_foreign else patterns.own
        for start, text in layout.matching_lines(block, any_of):
            is_candidate = _NESTED in text or all(pattern in text for pattern in patterns.all_of)
            if is_candidate or not text.endswith((b"}", b"},")):
                stop = at + start + len(text)
                yield layout.parse_line(text) or layout.Damage(at + start, stop)
