"""The JSON file: one valid document, appended in place, shared by many processes.

An append takes the file's lock, learns what others added since, and makes one write over the
closing braces. Readers take no lock: a line that is not whole yet is simply not there yet.
`layout` says what the bytes look like, `files` moves them.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import orjson

from casket.errors import (
    CasketError,
    CasketWarning,
    NotACasketFile,
    NotFound,
    StoreUnavailable,
)
from casket.format import legacy, values
from casket.format.records import Record, covering, names_nothing
from casket.stores import base, replaced
from casket.stores.base import LOOK_INTERVAL
from casket.stores.jsonfile import layout, places, scan
from casket.stores.jsonfile.files import FilePort, LocalFile
from casket.system import failures, forks

TAIL_LENGTH = len(layout.TAIL)

CHECKED = 48
"""Bytes before the end that tell whether the file is still as this handle left it."""

_Left = tuple[int, bytes, int]
"""What a handle has left in the file, or found there first: where it begins, the text up to the
end of the document, the last number."""


PROBED = 1024
"""Bytes of what a handle has left that tell whether they still stand at the same place."""

_ADRIFT = "the file was moved or deleted meanwhile, and the path has none that can be written"


class _Mark(NamedTuple):
    """The last line a handle has read, so that following a file reads only what is new."""

    at: int
    number: int


class JsonStore:
    """A JSON document on this machine.

    Args:
        path: the file.
        options: how to open it.
    """

    def __init__(self, path: Path | str, options: base.StoreOptions = base.DEFAULTS) -> None:
        self._path = path
        self._writing = options.writing
        self._create = options.create
        self._always_looks = not options.create
        self._heads = options.heads
        self._always_sync = options.sync == "always"
        self._synced = 0.0
        self._mark: _Mark | None = None
        self._is_ours = False
        self._left: _Left | None = None
        self._has_appended = self._has_warned_of_sync = False
        self._warned: set[layout.Damage] = set()
        self._file: FilePort | None = None
        self.after_fork()
        forks.renew_in_children(self)

    def after_fork(self) -> None:
        """Close the file: a shared descriptor shares its lock, with a killed parent too."""
        self._mutex = threading.RLock()
        self._is_busy = False
        self._reopen()
        self._looked = 0.0
        self._places = places.Places()
        # Whether the file is known to lack what this handle left, and is still to be given it.
        self._is_other = self._is_adrift = False
        # What was appended since the path was last seen to name the file.
        self._doubtful: list[_Left] = []
        # How the file ends, as this handle left it or found it; empty: not looked at, or empty.
        self._end = b""
        self._start = self._stop = self._last = 0

    def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
        with self._mutex:
            self._begin()
            try:
                now = time.monotonic()
                is_end = records[-1]["kind"] == "end"
                is_due = now - self._looked >= LOOK_INTERVAL or is_end
                if is_due or claim is not None or self._always_looks:
                    file, last = self._append_looking(records, claim, now)
                else:
                    file = self._catch_up(self._lock())
                    last = self._write(file, records)
                self._unlock(file)
                if now - self._synced >= base.SYNC_INTERVAL or self._always_sync or is_end:
                    self._synced = now
                    self._sync(file)
                return last
            except BaseException as error:  # noqa: BLE001 - raised again, without the lock
                consequence = _ADRIFT if self._is_adrift else "nothing was written"
                failure = self._released(error, consequence)
                raise failure from failure.__cause__
            finally:
                self._is_busy = False

    def append_json(self, text: bytes, /) -> int:
        """Append a record that is no head, given as JSON: `append` without its rarer steps."""
        with self._mutex:
            file, now = self._file, time.monotonic()
            is_due = now - self._looked >= LOOK_INTERVAL or now - self._synced >= base.SYNC_INTERVAL
            is_rare = self._is_busy or self._is_other or self._always_looks or self._always_sync
            if file is None or is_due or is_rare:
                return self.append([orjson.loads(text)])
            self._is_busy = True
            try:
                file.lock()
                is_last = self._stop > self._start and self._is_at_end(file)
                if is_last:
                    lines = layout.NEXT, self._last + 1, text, layout.TAIL
                    self._put(file, self._stop, b'%b"%d": %b%b' % lines, self._last + 1)
                self._unlock(file)
            except BaseException as error:  # noqa: BLE001 - raised again, without the lock
                failure = self._released(error, "nothing was written")
                raise failure from failure.__cause__
            finally:
                self._is_busy = False
            return self._last if is_last else self.append([orjson.loads(text)])

    def records(self, **chosen: Unpack[base.Chosen]) -> Iterator[base.Numbered]:
        filters = base.Filters(**chosen)
        for number, document in self._read(lambda file: self._documents(file, filters)):
            is_record = layout.is_record(document)
            records: Any = (document,) if is_record else unfolded(document)
            for record in records:
                if filters.fits(record):
                    record.pop("more", None)
                    yield number, record

    def documents(self) -> Iterator[layout.Document]:
        """Yield what a TinyDB sees: numbers and documents, nested ones as they stand."""
        yield from self._read(lambda file: self._documents(file, base.Filters()))

    def start_texts(self, latest: int | None = None) -> list[tuple[int, bytes]] | None:
        """Return the numbers and the texts of the latest starts, or of all.

        None if they cannot be had without parsing the lines.

        Parsing a start in whole costs ten times as much as finding it.
        """
        try:
            with contextlib.closing(self._open(writing=False)) as file:
                extent = scan.find_extent(file)
                if extent is None or extent.is_cut:
                    return None
                at = self._places.of(file, extent, base.Filters(kinds={"session"}))
                if at is None or self._places.has_others:
                    return None
                return [
                    (int(number), text)
                    for number, text in places.numbered(file, at[-(latest or 0) :])
                ]
        except OSError:
            return None

    def prune(self, tombstone: Record, /) -> None:
        with self._mutex:
            self._begin()
            try:
                file = self._lock(look=True)
                # What is damaged must not be lost on the way to the new file.
                self._end = b""
                file = self._catch_up(file, verified=math.inf)
                if self._is_other:
                    self._write_all(file, [])
                self._doubtful.clear()
                file.replace(chain(self._pruned(file, tombstone), [layout.TAIL]))
                self._reopen()
            except BaseException as error:  # noqa: BLE001 - raised again, without the lock
                failure = self._released(error, "nothing was removed")
                raise failure from failure.__cause__
            finally:
                self._is_busy = False

    def close(self) -> None:
        with self._mutex:
            self._reopen()

    def _open(self, *, writing: bool) -> FilePort:
        """Open the file; where it is, only this knows."""
        return LocalFile(self._path, writing=writing, create=self._create)

    # Writing: everything below is called with the mutex and the file's lock held.

    def _append_looking(
        self, records: Sequence[Record], claim: str | None, now: float
    ) -> tuple[FilePort, int]:
        """Append, and look before and afterwards whether the path names the file."""
        while True:
            file = self._caught_up_unclaimed(self._lock(look=True), records, claim)
            doubtful = list(self._doubtful)
            last = self._write(file, records)
            if not self._create or self._is_in_place(file, now):
                self._has_appended, self._is_adrift = True, False
                return file, last
            # It was replaced at this very moment.
            self._is_adrift, self._doubtful = True, doubtful
            self._reopen()

    def _is_in_place(self, file: FilePort, now: float) -> bool:
        """Look whether the path names the file that was written to; True if that cannot be told."""
        try:
            is_current = file.is_current()
        except StoreUnavailable:
            raise  # from a remote lock: what was written may not count
        except OSError:
            return True
        if is_current:
            self._looked = now
            self._doubtful.clear()
        return is_current

    def _unlock(self, file: FilePort) -> None:
        """Unlock a file that was written to, or close it: then it surely has no lock."""
        try:
            file.unlock()
        except StoreUnavailable:
            raise  # from a remote lock: what was written may not count
        except OSError:
            self._sync(file)
            self._reopen()

    def _sync(self, file: FilePort) -> None:
        """Sync what was written; if that fails, it is there all the same."""
        if self._file is None:
            return
        try:
            file.sync()
        except OSError as error:
            self._reopen()
            if not self._has_warned_of_sync:
                self._has_warned_of_sync = True
                base.warn_unsynced(self._path, error)

    def _lock(self, *, look: bool = False) -> FilePort:
        """Open the file if need be, and lock it.

        Args:
            look: whether to make sure that the path names it.
        """
        while True:
            if self._file is None:
                self._file = self._open(writing=True)
                self._end, self._looked = b"", 0.0
            file = self._file
            file.lock()
            if not look or file.is_current():
                return file
            file.unlock()
            self._reopen()

    def _caught_up_unclaimed(
        self, file: FilePort, records: Sequence[Record], claim: str | None
    ) -> FilePort:
        """Catch up, unless the claim is held: a refusal changes nothing, not even a layout."""
        if claim is None:
            return self._catch_up(file)
        self._refuse_held(claim, records)
        current = self._catch_up(file)
        if current is not file:
            self._refuse_held(claim, records)
        return current

    def _refuse_held(self, claim: str, records: Sequence[Record]) -> None:
        try:
            base.refuse_held(claim, self.records, records)
        except base.Claimed:
            self._repeat_doubtful()
            raise

    def _repeat_doubtful(self) -> None:
        """Repeat what was acknowledged, if it is in another file, though nothing is appended."""
        if self._doubtful and self._file is not None:
            file = self._catch_up(self._file)
            if self._is_other:
                self._write_all(file, [])

    def _write_all(self, file: FilePort, records: Sequence[Record]) -> int:
        """Write records, and before them what this handle has to repeat in another file."""
        doubtful, self._doubtful = self._doubtful, []
        self._is_other = False
        try:
            if self._left is not None:  # numbers are never used again
                self._last = max(self._last, self._left[2])
            known = _records_of(self._left) if self._left and self._has_appended else []
            repeated = replaced.completed(
                records,
                doubtful=[record for left in doubtful for record in _records_of(left)],
                last=known[-1] if known else None,
                heads=self._heads,
                read=self.records,
                location=self._path,
            )
            if repeated:
                self._write(file, repeated)
        except BaseException:
            self._doubtful, self._is_other = doubtful, True
            raise
        return self._last

    def _begin(self) -> None:
        """Refuse what a signal handler asks for in the middle of a write."""
        if self._is_busy:
            raise CasketError(
                f"{self._path}: a signal handler cannot log while a record is being written; "
                "let it set a flag, or raise, and log after it"
            )
        self._is_busy = True

    def _released(self, error: BaseException, consequence: str) -> BaseException:
        """Give up the lock, whatever the error interrupted; return the error to raise."""
        if isinstance(error, base.Claimed) and self._file is not None:
            with contextlib.suppress(OSError):  # closing it releases the lock as well
                self._file.unlock()
                return error
        # An interrupt may have come anywhere; a closed file surely holds no lock.
        self._reopen()
        if isinstance(error, CasketError) or not isinstance(error, OSError):
            return error
        failure: CasketError = failures.unavailable(self._path, error.errno, consequence)
        if isinstance(error, FileNotFoundError) and not self._create:
            failure = NotFound(str(self._path), base.GONE)
        failure.__cause__ = error
        return failure

    def _reopen(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _catch_up(self, file: FilePort, verified: float = scan.EDITED) -> FilePort:
        """Learn what others have appended, healing what they left torn.

        Args:
            file: the open file.
            verified: up to which size the whole file is checked, if this is the first look.

        Returns:
            The file to append to: another one, locked, if this one had to be replaced.
        """
        if self._is_at_end(file):
            return file
        if not file.is_current():
            file.unlock()
            self._reopen()
            return self._catch_up(self._lock(look=True), verified)
        file = self._learned(file, verified)
        self._is_other = self._is_other or not self._has_what_was_left(file)
        return file

    def _is_at_end(self, file: FilePort) -> bool:
        """Return whether the file ends as this handle left it."""
        end = self._end
        at = self._stop + TAIL_LENGTH - len(end)
        return bool(end) and file.read_at(at, len(end) + 1) == end

    def _has_what_was_left(self, file: FilePort) -> bool:
        """Tell whether the last record this handle knows is there, with its number."""
        if self._left is None:
            return True
        at, data, _ = self._left
        text = data.removesuffix(layout.TAIL)
        probed = text[-PROBED:]
        if file.read_at(at + len(text) - len(probed), len(probed)) == probed:
            return True
        line = text.rpartition(b"\n")[2]
        blocks = scan.blocks(file, 0, file.size(), scan.SEARCHED)
        return any(line in block for _, block in blocks)

    def _learned(self, file: FilePort, verified: float) -> FilePort:
        """Look at a file that is not as this handle left it."""
        end = self._end
        extent = scan.find_extent(file)
        if extent is None:
            return self._adopt(file)
        if not end:
            self._refuse_foreign(file, extent)
        is_checked = not end and extent.stop <= verified
        is_torn = extent.rest != layout.TAIL or extent.is_covered
        if is_torn or (is_checked and not scan.is_sound(file, extent)):
            return self._heal(file, extent)
        self._remember(file, extent)
        return file

    def _remember(self, file: FilePort, extent: scan.Extent) -> None:
        self._start, self._stop, self._last = extent.start, extent.stop, extent.last
        checked = min(CHECKED, extent.stop)
        self._end = file.read_at(extent.stop - checked, checked) + layout.TAIL

    def _refuse_foreign(self, file: FilePort, extent: scan.Extent) -> None:
        documents = scan.documents(file, extent)
        if extent.last and not any(layout.is_casket_document(one) for _, one in documents):
            raise NotACasketFile(str(self._path), "its documents are not experiment records")
        self._is_ours = True

    def _write(self, file: FilePort, records: Sequence[Record]) -> int:
        """Append records; return the number of the last."""
        if self._is_other:
            return self._write_all(file, records)
        last = self._last
        if len(records) == 1:
            lines = layout.line(last + 1, records[0])
        else:
            lines = layout.NEXT.join(layout.encode_batch(records, last))
        if self._end:
            at = self._stop
            is_first = at == self._start
            data = b"%b%b%b" % (layout.FIRST if is_first else layout.NEXT, lines, layout.TAIL)
        else:
            at = 0
            data = layout.HEAD + layout.FIRST + lines + layout.TAIL
        return self._put(file, at, data, last + len(records))

    def _put(self, file: FilePort, at: int, data: bytes, last: int) -> int:
        """Write lines and the end of the document; return the number of the last line."""
        try:
            file.write_at(at, data)
        except OSError:
            self._take_back(file)
            raise
        if not self._end:
            self._start = len(layout.HEAD)
        self._stop = at + len(data) - TAIL_LENGTH
        self._last = last
        self._end = data[-CHECKED - TAIL_LENGTH :]
        self._left = left = at, data, last
        self._doubtful.append(left)
        return last

    def _take_back(self, file: FilePort) -> None:
        """Put the closing braces back where they were: their bytes are allocated already."""
        existed, self._end = bool(self._end), b""
        with contextlib.suppress(OSError):  # the first error is raised; the next append heals
            if existed:
                file.write_at(self._stop, layout.TAIL)
                file.truncate(self._stop + TAIL_LENGTH)
            else:
                file.truncate(0)

    def _adopt(self, file: FilePort) -> FilePort:
        """Take over a file in another layout: empty, half-created, written by TinyDB, old."""
        text = file.read_at(0, file.size())
        if layout.HEAD.startswith(text):
            self._start = self._stop = self._last = 0
            self._end = b""
            file.truncate(0)
            return file
        return self._rewrite(file, self._parse_other(text))

    def _rewrite(self, file: FilePort, other: layout.OtherLayout) -> FilePort:
        return self._replace(file, chain([other.first_line()], joined(other.lines())))

    def _replace(self, file: FilePort, parts: Iterator[bytes]) -> FilePort:
        """Put a new file in place of this one and go on in it, locked."""
        file.replace(chain(parts, [layout.TAIL]))
        file.unlock()
        self._reopen()
        return self._learned(self._lock(look=True), scan.EDITED)

    def _heal(self, file: FilePort, extent: scan.Extent) -> FilePort:
        """Keep every whole record, move the rest aside, and say so."""
        whole = scan.without_cut(file, extent)
        inside, at_end = scan.damages(file, whole), whole.damage_at_end()
        lost = [*inside, at_end] if at_end else inside
        other = self._laid_out_by_hand(file) if lost and layout.is_closed(extent.rest) else None
        if other:
            return self._rewrite(file, other)
        texts = [file.read_at(start, stop - start) for start, stop in lost]
        aside = file.keep_aside(text + b"\n" for text in texts) if lost else ""
        if inside or not scan.is_sound(file, whole):
            file = self._replace(file, self._whole_lines(file, whole))
        else:
            file = self._close_at(file, whole.stop)
        if at_end and layout.is_closed(extent.rest):
            # Records stood there once: their numbers are not for others.
            self._last += texts[-1].count(b"\n") + 1
        if lost:
            self._has_appended = False  # if it is lost, this warning tells of it
            self._warn_healed(lost, aside)
        return file

    def _laid_out_by_hand(self, file: FilePort) -> layout.OtherLayout | None:
        """Return what the file holds if it is valid JSON all the same, though not in our layout."""
        try:
            return layout.parse_other(file.read_at(0, file.size()))
        except layout.NotOurs:
            return None

    def _close_at(self, file: FilePort, stop: int) -> FilePort:
        file.write_at(stop, layout.TAIL)
        file.truncate(stop + TAIL_LENGTH)
        self._end = b""
        return self._catch_up(file)

    def _whole_lines(self, file: FilePort, extent: scan.Extent) -> Iterator[bytes]:
        yield file.read_at(0, extent.start)
        yield from joined(
            layout.line(*document) for document in ascending(scan.documents(file, extent))
        )

    def _pruned(self, file: FilePort, tombstone: Record) -> Iterator[bytes]:
        yield file.read_at(0, self._start) if self._end else layout.HEAD
        is_covered = covering(tombstone)
        remains = ((n, _less(doc, is_covered)) for n, doc in self._documents(file, base.Filters()))
        kept = (layout.line(number, rest) for number, rest in remains if rest is not None)
        own = [] if names_nothing(tombstone) else [layout.line(self._last + 1, tombstone)]
        yield from joined(chain(kept, own))

    def _warn_healed(self, lost: Sequence[layout.Damage], aside: str) -> None:
        ranges = ", ".join(f"{start}-{stop}" for start, stop in lost)
        warnings.warn(
            f"{self._path}: bytes {ranges} hold no whole record (an interrupted write?); "
            f"they were moved to {aside}, every whole record is kept",
            CasketWarning,
            stacklevel=2,
        )

    # Reading.

    def _read(
        self, documents: Callable[[FilePort], Iterator[layout.Document]]
    ) -> Iterator[layout.Document]:
        try:
            with contextlib.closing(self._open(writing=False)) as file:
                yield from documents(file)
        except FileNotFoundError:
            if not self._writing:
                raise NotFound(str(self._path)) from None
        except CasketError:
            raise
        except OSError as error:
            raise failures.unreadable(self._path, error.errno) from error

    def _documents(self, file: FilePort, filters: base.Filters) -> Iterator[layout.Document]:
        extent = scan.find_extent(file)
        if extent is not None and not self._is_ours:
            self._refuse_foreign(file, extent)
        if extent is not None and self._left is None:
            self._left = _last_line(file, extent)
        if extent is None:
            documents = iter(self._other_documents(file))
        else:
            documents = self._chosen_lines(file, extent, filters)
        return (document for document in documents if document[0] > filters.after)

    def _chosen_lines(
        self, file: FilePort, extent: scan.Extent, filters: base.Filters
    ) -> Iterator[layout.Document]:
        """Yield the documents that may fit, by the quickest way there is to them."""
        patterns = scan.patterns(filters)
        if patterns is None:
            return self._lines(file, extent, filters.after)
        found = None
        if not extent.is_cut and (filters.claim is not None or filters.are_for_heads):
            found = self._places.of(file, extent, filters)
        if found is None:
            return self._matching_lines(file, extent, scan.found(file, extent, patterns))
        return self._matching_lines(file, extent, places.documents(file, found))

    def _other_documents(self, file: FilePort) -> list[layout.Document]:
        text = file.read_at(0, file.size())
        return [] if layout.HEAD.startswith(text) else self._parse_other(text).documents

    def _parse_other(self, text: bytes) -> layout.OtherLayout:
        try:
            return layout.parse_other(text)
        except layout.NotOurs as reason:
            raise NotACasketFile(str(self._path), str(reason)) from None

    def _lines(self, file: FilePort, extent: scan.Extent, after: int) -> Iterator[layout.Document]:
        start, last = self._resume_at(file, extent, after), after
        for block in chain(scan.parsed(file, start, extent.stop), [extent.end()]):
            other = self._instead_of(block.damages, file, extent)
            if other:
                yield from (document for document in other.documents if document[0] > last)
                return
            self._warn_damaged(block.damages)
            shown = filter(extent.shows, block.documents) if extent.is_cut else block.documents
            for document in shown:
                yield document
                last = document[0]
        self._mark = None if extent.is_cut else _Mark(extent.at, extent.last)

    def _resume_at(self, file: FilePort, extent: scan.Extent, after: int) -> int:
        """Return where to read from: the last line this handle read, if it still stands there."""
        mark = self._mark
        if mark is None or not 0 < mark.number <= after + 1 or mark.at > extent.at:
            return extent.start + 1
        line = b'\n"%d":' % mark.number
        is_there = file.read_at(mark.at - 1, len(line)) == line
        return mark.at if is_there else extent.start + 1

    def _matching_lines(
        self,
        file: FilePort,
        extent: scan.Extent,
        matching: Iterator[layout.Document | layout.Damage],
    ) -> Iterator[layout.Document]:
        last = 0
        for found in chain(matching, extent.end().damages):
            if isinstance(found, layout.Damage):
                # It is damaged, or somebody laid it out anew: look at all lines.
                yield from (one for one in self._lines(file, extent, last) if one[0] > last)
                return
            last = found[0]
            if extent.shows(found):
                yield found

    def _instead_of(
        self, damages: Sequence[layout.Damage], file: FilePort, extent: scan.Extent
    ) -> layout.OtherLayout | None:
        """Return what the document says if only its lines are not casket's, but it is valid."""
        if self._warned.issuperset(damages) or not layout.is_closed(extent.rest):
            return None
        return self._laid_out_by_hand(file)

    def _warn_damaged(self, damages: Sequence[layout.Damage]) -> None:
        for damage in damages:
            if damage not in self._warned:
                self._warned.add(damage)
                warnings.warn(
                    f"{self._path}: bytes {damage.start}-{damage.stop} hold no whole record; "
                    "they were skipped (`casket doctor` tells more)",
                    CasketWarning,
                    stacklevel=2,
                )


def unfolded(document: dict[str, Any]) -> list[Record]:
    """Return the records a nested document stands for; none, if somebody else put it there."""
    if not layout.is_nested(document):
        return []
    if document.pop("extended", False):
        document = values.restore(document, lambda kept: kept)
    return legacy.unfold(document)


def _last_line(file: FilePort, extent: scan.Extent) -> _Left | None:
    line = file.read_at(extent.at, extent.stop - extent.at)
    return (extent.at, line, extent.last) if extent.last else None


def _records_of(left: _Left) -> list[Record]:
    """Return the records in what an append has written, or in a line that was read."""
    text = left[1].removesuffix(layout.TAIL)
    first, _, rest = text.partition(b"\n")
    lines = rest if first in {b"", b",", layout.HEAD} else text
    found: list[Any] = [document for _, document in layout.parse_block(lines, 0).documents]
    for record in found:
        record.pop("more", None)
    return found


def _less(document: dict[str, Any], is_covered: Callable[[Record], bool]) -> dict[str, Any] | None:
    """Return what is left of a document after a deletion."""
    if layout.is_nested(document):
        return legacy.without(document, is_covered)
    is_gone = layout.is_record(document) and is_covered(document)  # type: ignore[arg-type]
    return None if is_gone else document


def ascending(documents: Iterable[layout.Document]) -> Iterator[layout.Document]:
    """Yield documents with their numbers, or larger ones where they do not ascend."""
    last = 0
    for number, document in documents:
        last = max(number, last + 1)
        yield last, document


def joined(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield lines with what joins them."""
    separator = layout.FIRST
    for text in lines:
        yield separator
        yield text
        separator = layout.NEXT
