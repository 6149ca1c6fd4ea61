"""Reading of a JSON document, without a lock.

A line that is not complete yet is not there yet.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any, Protocol, Unpack

from casket.errors import CasketError, CasketWarning, DamagedFile, NotACasketFile, NotFound
from casket.format import legacy, values
from casket.format.records import Record
from casket.stores import base
from casket.stores.jsonfile import layout, places, scan
from casket.stores.jsonfile.files import FilePort
from casket.stores.jsonfile.latest import latest_of
from casket.stores.jsonfile.salvage import salvage
from casket.stores.latest import Latest, Unclear
from casket.system import failures

Appended = tuple[int, bytes, int]
"""The lines of an append: their offset, their text, the number of the last."""

EVERYTHING = base.Filters()

PAUSE = 0.1
"""Seconds after which an append in progress is expected to have finished."""


class OpenFile(Protocol):
    """Opens the file of a document, wherever it is."""

    def __call__(self, *, writing: bool) -> FilePort:
        """Open the file.

        Raises:
            FileNotFoundError: it does not exist.
            OSError: it cannot be opened.
        """


class DocumentReader:
    """Reader of a JSON document.

    Args:
        open_file: opens the document's file.
        location: the path or URL, for messages.
        is_required: whether reading a missing file is an error.

    Attributes:
        last_line: the last line seen by the first reading; None if there was none.
    """

    def __init__(self, open_file: OpenFile, location: object, *, is_required: bool) -> None:
        self._open_file = open_file
        self._location = str(location)
        self._is_required = is_required
        self._is_ours = False
        self._mark: scan.Mark | None = None
        self._warned: set[layout.Damage] = set()
        self.last_line: Appended | None = None
        self.after_fork()

    def after_fork(self) -> None:
        """Create an index of heads whose lock no thread of the parent holds."""
        self._places = places.Places()

    def records(self, **chosen: Unpack[base.Chosen]) -> Iterator[base.Numbered]:
        """Yield the records that match the filters; see `Store.records`."""
        filters = base.Filters(**chosen)
        selects = filters._replace(after=0) != EVERYTHING
        for number, document in self.documents(filters):
            record: Any = document
            if not layout.is_record(document):
                yield from ((number, each) for each in unfolded(document) if filters.fits(each))
            elif not selects or filters.fits(record):
                record.pop("more", None)
                yield number, record

    def documents(self, filters: base.Filters = EVERYTHING) -> Iterator[layout.Document]:
        """Yield numbers and documents as TinyDB reads them, with nested documents unchanged."""
        try:
            with contextlib.closing(self._open_file(writing=False)) as file:
                yield from self.documents_in(file, filters)
        except FileNotFoundError:
            if self._is_required:
                raise NotFound(self._location) from None
        except CasketError:
            raise
        except OSError as error:
            raise failures.unreadable(self._location, error.errno) from error

    def start_texts(self, latest: int | None) -> list[tuple[int, bytes]] | None:
        """Return the numbers and texts of the latest starts, or of all.

        Parsing a start costs ten times as much as finding it.

        Returns:
            None if lines have to be parsed to find them.
        """
        try:
            with contextlib.closing(self._open_file(writing=False)) as file:
                extent = scan.find_extent(file)
                if extent is None or extent.is_cut:
                    return None
                at = self._places.of(file, extent, base.Filters(kinds={"session"}))
                if at is None or self._places.has_others:
                    return None
                texts = places.numbered(file, at[-(latest or 0) :])
                return [(int(number), text) for number, text in texts]
        except OSError:
            return None

    def latest(self, count: int, offset: int = 0) -> Latest | None:
        """Return the latest sessions; see `HasLatest`."""
        try:
            with contextlib.closing(self._open_file(writing=False)) as file:
                extent = scan.find_extent(file)
                return latest_of(file, extent, count, offset) if extent else None
        except (OSError, Unclear):
            return None

    def documents_in(
        self, file: FilePort, filters: base.Filters = EVERYTHING
    ) -> Iterator[layout.Document]:
        """Yield the documents in an open file that may match the filters.

        Raises:
            NotACasketFile: the file belongs to another program.
        """
        extent = scan.find_extent(file)
        if extent is None:
            text = file.read_at(0, file.size())
            if layout.is_first_line(text.partition(b"\n")[0]):
                return self.documents_in(file, filters)  # the first append came in between
            is_empty = layout.HEAD.startswith(text)
            documents = iter(() if is_empty else self.parse_other(text).documents)
        else:
            if not self._is_ours:
                self.require_ours(file, extent)
            self.last_line = self.last_line or _last_line(file, extent)
            documents = self._candidates(file, extent, filters)
        if not filters.after:
            return documents
        return (document for document in documents if document[0] > filters.after)

    def require_ours(self, file: FilePort, extent: scan.Extent) -> None:
        """Raise `NotACasketFile` if no document in the file was written by casket."""
        documents = scan.documents(file, extent)
        if extent.last and not any(layout.is_casket_document(one) for _, one in documents):
            raise NotACasketFile(self._location, "its documents are not experiment records")
        self._is_ours = True

    def parse_other(self, text: bytes) -> layout.OtherLayout:
        """Parse a document in a different layout.

        Raises:
            DamagedFile: it is damaged, but holds records.
            NotACasketFile: it is not a document of casket.
        """
        try:
            return layout.parse_other(text)
        except layout.NotOurs as reason:
            if any(layout.is_casket_document(one) for _, one in salvage(text).documents):
                raise DamagedFile(self._location, f"it holds records, but {reason}") from None
            raise NotACasketFile(self._location, str(reason)) from None

    def _candidates(
        self, file: FilePort, extent: scan.Extent, filters: base.Filters
    ) -> Iterator[layout.Document]:
        """Yield the documents that may match, found in the fastest way available."""
        patterns = scan.patterns(filters)
        if patterns is None:
            return self._lines(file, extent, filters.after)
        heads = None
        if not extent.is_cut and (filters.claim is not None or filters.are_for_heads):
            heads = self._places.of(file, extent, filters)
        if heads is None:
            return self._matching_lines(file, extent, scan.found(file, extent, patterns))
        return self._matching_lines(file, extent, places.documents(file, heads))

    def _lines(
        self, file: FilePort, extent: scan.Extent, after: int, *, is_settled: bool = False
    ) -> Iterator[layout.Document]:
        """Yield the documents; damage is read again after a pause, as a writer may be at work."""
        last, count = after, 0
        mark = self._mark if self._mark and self._mark.number <= after + 1 else None
        start = scan.since(file, extent, mark).start + 1
        for block in chain(scan.parsed(file, start, extent.stop), [extent.end()]):
            other = self._other_layout(block.damages, file, extent)
            if other:
                yield from (document for document in other.documents if document[0] > last)
                return
            if not (is_settled or self._warned.issuperset(block.damages)):
                time.sleep(PAUSE)
                current = scan.find_extent(file) or extent
                settled = self._lines(file, current, after, is_settled=True)
                yield from islice(settled, count, None)
                return
            self._warn_damaged(block.damages)
            shown = block.documents
            if extent.is_cut:
                shown = list(filter(extent.shows, shown))
            yield from shown
            last, count = shown[-1][0] if shown else last, count + len(shown)
        self._mark = extent.mark

    def _matching_lines(
        self,
        file: FilePort,
        extent: scan.Extent,
        matching: Iterator[layout.Document | layout.Damage],
    ) -> Iterator[layout.Document]:
        last = 0
        for match in chain(matching, extent.end().damages):
            if isinstance(match, layout.Damage):
                # The line is damaged or was laid out by another program: read all lines.
                yield from (one for one in self._lines(file, extent, last) if one[0] > last)
                return
            last = match[0]
            if extent.shows(match):
                yield match

    def _other_layout(
        self, damages: Sequence[layout.Damage], file: FilePort, extent: scan.Extent
    ) -> layout.OtherLayout | None:
        """Return the document if it is valid although its lines are not as casket writes them."""
        if self._warned.issuperset(damages) or not layout.is_closed(extent.rest):
            return None
        return scan.other_layout(file)

    def _warn_damaged(self, damages: Sequence[layout.Damage]) -> None:
        for damage in damages:
            if damage not in self._warned:
                self._warned.add(damage)
                warnings.warn(
                    f"{self._location}: bytes {damage.start}-{damage.stop} hold no whole record; "
                    "they were skipped (`casket doctor` tells more)",
                    CasketWarning,
                    stacklevel=2,
                )


def unfolded(document: dict[str, Any]) -> list[Record]:
    """Return the records of a nested document; none if it was added by another program."""
    if not layout.is_nested(document):
        return []
    if document.pop("extended", False):
        document = values.restore(document, lambda kept: kept)
    return legacy.unfold(document)


def _last_line(file: FilePort, extent: scan.Extent) -> Appended | None:
    line = file.read_at(extent.at, extent.stop - extent.at)
    return (extent.at, line, extent.last) if extent.last else None
