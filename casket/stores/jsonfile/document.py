"""A JSON document that many processes append to in place.

An append locks the file, reads the records of others, and makes a single write over the
closing braces. `layout` defines the bytes, `FilePort` moves them, `DocumentReader` reads them.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any
from zlib import crc32

import orjson

from casket.errors import CasketError, CasketWarning, NotFound, StoreUnavailable
from casket.format import legacy
from casket.format.records import Record, covering, names_nothing
from casket.stores import base, replaced
from casket.stores.base import LOOK_INTERVAL
from casket.stores.jsonfile import layout, scan
from casket.stores.jsonfile.files import IRREPLACEABLE, FilePort
from casket.stores.jsonfile.reader import Appended, DocumentReader, OpenFile
from casket.system import failures

TAIL_LENGTH = len(layout.TAIL)

CHECKED = 48
"""Bytes before the end that show whether the file is unchanged since the last use."""

Choose = Callable[[FilePort], Sequence[Record]]
"""Returns the records to append to a locked file."""

PROBED = 1024
"""Bytes of the last append that show whether it is still in the file."""

_ADRIFT = "the file was moved or deleted meanwhile, and the path has none that can be written"


class JsonDocument:
    """A handle on a JSON document.

    Args:
        open_file: opens the document's file.
        location: the path or URL, for messages.
        options: the options of the store.
        always_looks: whether every append checks that the path refers to the open file.

    Attributes:
        reader: reads the document.
    """

    def __init__(
        self,
        open_file: OpenFile,
        location: object,
        options: base.StoreOptions,
        *,
        always_looks: bool = False,
    ) -> None:
        self._open_file = open_file
        self._location = str(location)
        self._create = options.create
        self._always_looks = always_looks or not options.create
        self._heads = options.heads
        self._always_sync = options.sync == "always"
        self._synced = 0.0
        self._appended: Appended | None = None
        self._has_appended = self._has_warned_of_sync = False
        self._file: FilePort | None = None
        self.reader = DocumentReader(open_file, location, is_required=not options.writing)
        self.after_fork()

    @property
    def left(self) -> Appended | None:
        """The last append of this handle; before its first, the last line it has read, if any."""
        return self._appended or self.reader.last_line

    def after_fork(self) -> None:
        """Close the file: a descriptor shared with the parent shares the lock."""
        self._mutex = threading.RLock()
        self._is_busy = False
        self._reopen()
        self._looked = 0.0
        self.reader.after_fork()
        # Whether the file lacks the last append of this handle, which is to be repeated.
        self._is_other = self._is_adrift = False
        # The appends since the path was last known to refer to the file.
        self._doubtful: list[Appended] = []
        # The end of the file at the last use; empty if the file is empty or was not read yet.
        self._end = b""
        self._start = self._stop = self._last = 0

    def append(self, records: Sequence[Record], choose: Choose | None = None) -> int:
        """Append records; see `Store.append`.

        Args:
            records: the records.
            choose: called with the file locked and unchanged; returns the records to append.

        Returns:
            The number of the last record of the document.
        """
        with self._mutex:
            self._begin()
            try:
                now = time.monotonic()
                is_end = records[-1]["kind"] == "end"
                is_due = now - self._looked >= LOOK_INTERVAL or is_end
                if is_due or choose is not None or self._always_looks:
                    file = self._append_looking(records, choose, now)
                else:
                    file = self._catch_up(self._lock())
                    self._write(file, records)
                last = self._last
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
        """Append a record: `append` without its rarer steps.

        Args:
            text: the JSON of a record that is no head, without its checksum and closing brace.
        """
        with self._mutex:
            file, now = self._file, time.monotonic()
            is_due = now - self._looked >= LOOK_INTERVAL or now - self._synced >= base.SYNC_INTERVAL
            is_rare = self._is_busy or self._is_other or self._always_looks or self._always_sync
            if file is None or is_due or is_rare:
                return self.append([orjson.loads(text + b"}")])
            self._is_busy = True
            try:
                file.lock()
                is_last = self._stop > self._start and self._is_at_end(file)
                if is_last:
                    lines = layout.NEXT, self._last + 1, text, crc32(text), layout.TAIL
                    data = b'%b"%d": %b,"crc":%d}%b' % lines
                    self._put(file, self._stop, data, self._last + 1)
                self._unlock(file)
            except BaseException as error:  # noqa: BLE001 - raised again, without the lock
                failure = self._released(error, "nothing was written")
                raise failure from failure.__cause__
            finally:
                self._is_busy = False
            return self._last if is_last else self.append([orjson.loads(text + b"}")])

    def prune(self, tombstone: Record, /) -> None:
        with self._mutex:
            self._begin()
            try:
                file = self._lock(look=True)
                # Damaged lines must be set aside before the file is replaced.
                self._end = b""
                file = self._catch_up(file, verified=math.inf)
                if self._is_other:
                    self._write_all(file, [])
                self._doubtful.clear()
                file.replace(self._pruned(file, tombstone))
                self._reopen()
            except BaseException as error:  # noqa: BLE001 - raised again, without the lock
                failure = self._released(error, "nothing was removed")
                raise failure from failure.__cause__
            finally:
                self._is_busy = False

    def close(self) -> None:
        with self._mutex:
            self._reopen()

    # The methods below are called with the mutex and the file's lock held.

    def _append_looking(
        self, records: Sequence[Record], choose: Choose | None, now: float
    ) -> FilePort:
        """Append, and check before and afterwards that the path refers to the file."""
        while True:
            file, chosen = self._caught_up(self._lock(look=True), records, choose)
            doubtful = list(self._doubtful)
            if chosen:
                self._write(file, chosen)
            if not self._create or self._is_in_place(file, now):
                self._has_appended, self._is_adrift = True, False
                return file
            # The file was replaced during the append.
            self._is_adrift, self._doubtful = True, doubtful
            self._reopen()

    def _is_in_place(self, file: FilePort, now: float) -> bool:
        """Return whether the path refers to the file; True if this cannot be determined."""
        try:
            is_current = file.is_current()
        except StoreUnavailable:
            raise  # the remote lock is lost, so that the write may be invalid
        except OSError:
            return True
        if is_current:
            self._looked = now
            self._doubtful.clear()
        return is_current

    def _unlock(self, file: FilePort) -> None:
        """Release the lock of a file, by closing the file if necessary."""
        try:
            file.unlock()
        except StoreUnavailable:
            raise  # the remote lock is lost, so that the write may be invalid
        except OSError:
            self._sync(file)
            self._reopen()

    def _sync(self, file: FilePort) -> None:
        """Sync written data; warn if that fails, because the records are written all the same."""
        if self._file is None:
            return
        try:
            file.sync()
        except OSError as error:
            self._reopen()
            if not self._has_warned_of_sync:
                self._has_warned_of_sync = True
                base.warn_unsynced(self._location, error)

    def _lock(self, *, look: bool = False) -> FilePort:
        """Lock the file, opening it if necessary.

        Args:
            look: whether to check that the path refers to the file.
        """
        while True:
            if self._file is None:
                self._file = self._open_file(writing=True)
                self._end, self._looked = b"", 0.0
            file = self._file
            file.lock()
            if not look or file.is_current():
                return file
            file.unlock()
            self._reopen()

    def _caught_up(
        self, file: FilePort, records: Sequence[Record], choose: Choose | None
    ) -> tuple[FilePort, Sequence[Record]]:
        """Choose the records, then catch up: a refused append does not even repair the file."""
        chosen = self._chosen(file, choose) if choose else records
        current = self._catch_up(file)
        if choose and current is not file:
            chosen = self._chosen(current, choose)
        return current, chosen

    def _chosen(self, file: FilePort, choose: Choose) -> Sequence[Record]:
        try:
            return choose(file)
        except base.Claimed:
            self._repeat_doubtful()
            raise

    def _repeat_doubtful(self) -> None:
        """Repeat acknowledged records that another file lacks, although nothing is appended."""
        if self._doubtful and self._file is not None:
            file = self._catch_up(self._file)
            if self._is_other:
                self._write_all(file, [])

    def _write_all(self, file: FilePort, records: Sequence[Record]) -> int:
        """Write records, preceded by the records to repeat in another file."""
        doubtful, self._doubtful = self._doubtful, []
        self._is_other = False
        try:
            left = self.left
            if left is not None:  # numbers are never used again
                self._last = max(self._last, left[2])
            known = _records_of(left) if left and self._has_appended else []
            repeated = replaced.completed(
                records,
                doubtful=[record for left in doubtful for record in _records_of(left)],
                last=known[-1] if known else None,
                heads=self._heads,
                read=self.reader.records,
                location=self._location,
            )
            if repeated:
                self._write(file, repeated)
        except BaseException:
            self._doubtful, self._is_other = doubtful, True
            raise
        return self._last

    def _begin(self) -> None:
        """Raise an error if a signal handler interrupted a write."""
        base.refuse_within(self._is_busy, self._location)
        self._is_busy = True

    def _released(self, error: BaseException, consequence: str) -> BaseException:
        """Release the lock after an error; return the error to raise."""
        if isinstance(error, base.Claimed) and self._file is not None:
            with contextlib.suppress(OSError):  # closing it releases the lock as well
                self._file.unlock()
                return error
        # The error may have interrupted any step; closing the file releases the lock.
        self._reopen()
        if isinstance(error, CasketError) or not isinstance(error, OSError):
            return error
        failure: CasketError = failures.unavailable(self._location, error.errno, consequence)
        if isinstance(error, FileNotFoundError) and not self._create:
            failure = NotFound(self._location, base.GONE)
        failure.__cause__ = error
        return failure

    def _reopen(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _catch_up(self, file: FilePort, verified: float = scan.EDITED) -> FilePort:
        """Read the records of others, repairing interrupted appends.

        Args:
            file: the locked file.
            verified: the size up to which the whole file is checked when it is first read.

        Returns:
            The locked file to append to, which differs from `file` if that was replaced.
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
        """Return whether the last record known to this handle is in the file, with its number."""
        if self.left is None:
            return True
        at, data, _ = self.left
        text = data.removesuffix(layout.TAIL)
        probed = text[-PROBED:]
        if file.read_at(at + len(text) - len(probed), len(probed)) == probed:
            return True
        line = text.rpartition(b"\n")[2]
        blocks = scan.blocks(file, 0, file.size(), scan.SEARCHED)
        return any(line in block for _, block in blocks)

    def _learned(self, file: FilePort, verified: float) -> FilePort:
        """Read a file that has changed since the last use."""
        end = self._end
        extent = scan.find_extent(file)
        if extent is None:
            return self._adopt(file)
        if not end:
            self.reader.require_ours(file, extent)
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
        self._appended = left = at, data, last
        self._doubtful.append(left)
        return last

    def _take_back(self, file: FilePort) -> None:
        """Restore the closing braces, whose bytes are already allocated."""
        existed, self._end = bool(self._end), b""
        # The first error is raised; the next append repairs the file.
        with contextlib.suppress(OSError):
            if existed:
                file.write_at(self._stop, layout.TAIL)
                file.truncate(self._stop + TAIL_LENGTH)
            else:
                file.truncate(0)

    def _adopt(self, file: FilePort) -> FilePort:
        """Convert a file in a different layout: empty, incomplete, or by another program."""
        text = file.read_at(0, file.size())
        if layout.HEAD.startswith(text):
            self._start = self._stop = self._last = 0
            self._end = b""
            file.truncate(0)
            return file
        return self._replace(file, self.reader.parse_other(text).text())

    def _replace(self, file: FilePort, parts: Iterator[bytes]) -> FilePort:
        """Replace the file; return the new file, locked."""
        file.replace(parts)
        file.unlock()
        self._reopen()
        return self._learned(self._lock(look=True), scan.EDITED)

    def _heal(self, file: FilePort, extent: scan.Extent) -> FilePort:
        """Keep every complete record, set other bytes aside, and warn."""
        whole = scan.without_cut(file, extent)
        inside, at_end = scan.damages(file, whole), whole.damage_at_end()
        lost = [*inside, at_end] if at_end else inside
        other = scan.other_layout(file) if lost and layout.is_closed(extent.rest) else None
        if other:
            return self._replace(file, other.text())
        texts = [file.read_at(start, stop - start) for start, stop in lost]
        aside = file.keep_aside(b"".join(text + b"\n" for text in texts)) if lost else ""
        is_kept = False
        if inside or not scan.is_sound(file, whole):
            locked, file = file, self._rewrite(file, whole)
            is_kept = file is locked
        else:
            self._close_at(file, whole.stop)
            file = self._catch_up(file)
        if at_end and layout.is_closed(extent.rest):
            # The damaged bytes may be records; their numbers are not used again.
            self._last += texts[-1].count(b"\n") + 1
        if lost:
            self._has_appended = False  # this warning covers a lost record
            self._warn_healed(lost, f"{'copied' if is_kept else 'moved'} to {aside}")
        return file

    def _rewrite(self, file: FilePort, whole: scan.Extent) -> FilePort:
        """Replace the file by its complete lines; if that is impossible, keep the damaged lines."""
        first_line = file.read_at(0, whole.start)
        text = layout.text_of(first_line, scan.documents(file, whole))
        try:
            return self._replace(file, text)
        except StoreUnavailable as error:
            if error.errno not in IRREPLACEABLE:
                raise
            base.warn(f"{error}; records are appended all the same")
        self._close_at(file, whole.stop)
        self._remember(file, whole)
        return file

    def _close_at(self, file: FilePort, stop: int) -> None:
        file.write_at(stop, layout.TAIL)
        file.truncate(stop + TAIL_LENGTH)
        self._end = b""

    def _pruned(self, file: FilePort, tombstone: Record) -> Iterator[bytes]:
        first_line = file.read_at(0, self._start) if self._end else layout.HEAD
        is_covered = covering(tombstone)
        remains = ((n, _less(doc, is_covered)) for n, doc in self.reader.documents_in(file))
        kept = ((number, rest) for number, rest in remains if rest is not None)
        own: Any = [] if names_nothing(tombstone) else [(self._last + 1, tombstone)]
        return layout.text_of(first_line, chain(kept, own))

    def _warn_healed(self, lost: Sequence[layout.Damage], consequence: str) -> None:
        ranges = ", ".join(f"{start}-{stop}" for start, stop in lost)
        warnings.warn(
            f"{self._location}: bytes {ranges} hold no whole record (an interrupted write?); "
            f"they were {consequence}, every whole record is kept",
            CasketWarning,
            stacklevel=2,
        )


def _records_of(left: Appended) -> list[Record]:
    """Return the records of an append, or of a line that was read."""
    text = left[1].removesuffix(layout.TAIL)
    first, _, rest = text.partition(b"\n")
    lines = rest if first in {b"", b",", layout.HEAD} else text
    records: list[Any] = [document for _, document in layout.parse_block(lines, 0).documents]
    for record in records:
        record.pop("more", None)
    return records


def _less(document: dict[str, Any], is_covered: Callable[[Record], bool]) -> dict[str, Any] | None:
    """Return the rest of a document after a deletion; None if nothing remains."""
    if layout.is_nested(document):
        return legacy.without(document, is_covered)
    is_gone = layout.is_record(document) and is_covered(document)  # type: ignore[arg-type]
    return None if is_gone else document
