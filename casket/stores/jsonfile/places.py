"""Index of the heads of a JSON document, the few records that writers look up.

A handle with a large file open queries starts, ends and configs repeatedly. It keeps the offsets
of their lines and continues reading at the end of the last line seen. The lines themselves are
read again for every query, so that results are never stale.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence

import orjson

from casket.stores import base
from casket.stores.jsonfile import layout, scan
from casket.stores.jsonfile.files import FilePort

_REMEMBERED = 512
"""Bytes of the last line used to check that the file is unchanged up to there."""

_LINE_ROOM = 2048
"""Bytes of a line read at once; most starts are shorter."""

_KIND = b'{"kind":"'
_CLAIM = b'"claim":"'
_CLAIM_LENGTH = 32
_LAST_CLAIM, _CRC = b',"claim":"', b'","crc":'
_CLAIM_ROOM = len(_LAST_CLAIM) + _CLAIM_LENGTH
_CRC_ROOM = len(_CRC) + len("4294967295},")
"""Maximum number of bytes of the checksum that follows the claim, the brace and the comma."""
_COMMA = ord(",")
_SESSION = b'"session":"'
_MANY = 50
"""Number of places above which the file is read in blocks instead of line by line."""

_SPACED, _MARKED = b'": ', b'":\t'
"""Follow a name or a number, within a document only if others wrote it, or if lines are joined."""

_LONGEST_NUMBER = 48
"""Maximum number of bytes before the document of a line."""

_PATTERNS = [
    *(
        pattern % kind.encode()
        for kind in base.HEADS
        for pattern in (b'"kind":"%b"', b'"kind": "%b"')
    ),
    b'"claim":',
    b'"models":[',
]
_THIRD, _FIFTH = len(_KIND) + 2, len(_KIND) + 4
"""The fifth letter identifies the kind of a head; the third, a kind of three letters."""
_HEAD_ROOM = _FIFTH + 1

_END = ord("d")
_OF_SESSIONS = frozenset({"session", "end", "tag"})
_OF_SESSIONS_LETTERS = b"idg"
"""The letters that identify the kinds in `_OF_SESSIONS`."""


class Places:
    """The places of a document's heads: the offsets of the JSON documents on their lines."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        # The letter that identifies the kind of each head, and the offset of its document.
        self._letters = bytearray()
        self._places = array("q")
        self._by_claim: dict[bytes, int] = {}
        self._again: dict[bytes, list[int]] = {}
        self._by_session: dict[bytes, list[int]] = {}
        self._sorted = 0
        self._others: list[int] = []
        self._last, self._line, self._stop = 0, b"", 0
        self._is_marked = False

    def of(self, file: FilePort, extent: scan.Extent, filters: base.Filters) -> list[int] | None:
        """Return the places of heads that may match the filters, in order.

        Args:
            file: the document.
            extent: the extent of its records.
            filters: filters with a claim, or for heads only.

        Returns:
            The places; None if another thread, or code interrupted by this call, is using the
            index.
        """
        if not self._lock.acquire(blocking=False):
            return None
        try:
            self._read_on(file, extent)
            return sorted({*self._chosen(file, filters), *self._others})
        except BaseException:
            # An interrupt may have left the index inconsistent.
            self._forget()
            raise
        finally:
            self._lock.release()

    @property
    def has_others(self) -> bool:
        """Whether some heads differ from the form written by casket."""
        return bool(self._others)

    def _chosen(self, file: FilePort, filters: base.Filters) -> Collection[int]:
        _, session, claim, kinds, _ = filters
        if claim is not None:
            key = _as_written(claim)
            first = [self._by_claim[key]] if key in self._by_claim else []
            return [*first, *self._again.get(key, ())]
        if session is not None and kinds is not None and _OF_SESSIONS.issuperset(kinds):
            self._sort_by_session(file)
            return self._by_session.get(_as_written(session), [])
        begin = self._first_after(file, filters.after)
        return [place for kind in kinds or () for place in self._of_kind(kind, begin)]

    def _first_after(self, file: FilePort, after: int) -> int:
        """Return the index of the first head numbered above `after`, searched from the end."""
        if after <= 0:
            return 0
        count, step = len(self._places), 1
        try:
            while step < count and _number_at(file, self._places[count - step]) > after:
                step *= 2
            low = max(count - step, 0)
            return bisect_right(self._places, after, low, key=lambda at: _number_at(file, at))
        except ValueError:
            return 0  # a damaged line

    def _read_on(self, file: FilePort, extent: scan.Extent) -> None:
        """Index the heads appended since the last call."""
        is_same = self._line and file.read_at(self._last, len(self._line)) == self._line
        if not is_same or self._stop > extent.stop:
            self._forget()
            self._stop = extent.start + 1
            self._is_marked = extent.stop > scan.EDITED and _begins_marked(file, self._stop)
        for start, block, cut in scan.spans(file, self._stop, extent.stop, scan.SEARCHED):
            if self._is_marked:
                self._note_marked(block, cut, start)
            else:
                self._note_matching(block[:cut], start)
        self._last, self._stop = extent.at, extent.stop
        self._line = file.read_at(extent.at, min(extent.stop - extent.at, _REMEMBERED))

    def _note_marked(self, block: bytes, cut: int, start: int) -> None:
        """Index the lines up to `cut` that have the mark of heads, which no other line has.

        Inlined for speed: this loop dominates the cost of the first start in a large file.
        """
        find, rfind, claim_at = block.find, block.rfind, self._by_claim.setdefault
        add_letter, add_place = self._letters.append, self._places.append
        limit = cut - _HEAD_ROOM  # a damaged line may have a mark near its end
        at = find(layout.MARK, 0, limit) + 1
        while at:
            place, letter = start + at, block[at + _FIFTH]
            if letter == _COMMA:
                letter = block[at + _THIRD]
            add_letter(letter)
            add_place(place)
            stop = at
            if letter != _END:
                stop = find(b"\n", at, cut)
                stop = stop if stop >= 0 else cut
                if find(layout.MARK, at, stop) >= 0:  # the newline between two lines is damaged
                    self._others.append(place)
                crc_at = rfind(_CRC, stop - _CRC_ROOM, stop)
                begin = crc_at - _CLAIM_LENGTH
                if crc_at < 0 or block[crc_at - _CLAIM_ROOM : begin] != _LAST_CLAIM:
                    self._note_claims(block, at, stop, place)
                elif claim_at(block[begin:crc_at], place) != place:
                    self._note_claim(block[begin:crc_at], place)
            at = find(layout.MARK, stop, limit) + 1

    def _note_matching(self, block: bytes, start: int) -> None:
        """Index the lines that may contain a head, marked or not, whoever wrote them."""
        for begin, line in layout.matching_lines(block, _PATTERNS):
            at = line.find(_KIND, 0, _LONGEST_NUMBER)
            if at < 0 or _SPACED in line[at:] or _MARKED in line[at:]:
                self._others.append(start + begin)
            else:
                self._note(block, begin + at, begin + len(line), start + begin + at)

    def _note(self, block: bytes, at: int, stop: int, place: int) -> None:
        """Index the document from `at` to `stop` in a block under its place in the file."""
        letter = block[at + _FIFTH]
        self._letters.append(block[at + _THIRD] if letter == _COMMA else letter)
        self._places.append(place)
        self._note_claims(block, at, stop, place)

    def _note_claims(self, block: bytes, at: int, stop: int, place: int) -> None:
        """Index all candidates for a document's claim; its body may contain the same key."""
        claim_at = block.find(_CLAIM, at, stop)
        while claim_at >= 0:
            claim_at += len(_CLAIM)
            self._note_claim(block[claim_at : block.find(b'"', claim_at)], place)
            claim_at = block.find(_CLAIM, claim_at, stop)

    def _note_claim(self, claim: bytes, place: int) -> None:
        if self._by_claim.setdefault(claim, place) != place:
            self._again.setdefault(claim, []).append(place)

    def _sort_by_session(self, file: FilePort) -> None:
        """Index newly read starts, ends and tags by session."""
        places = [
            self._places[i]
            for i in range(self._sorted, len(self._places))
            if self._letters[i] in _OF_SESSIONS_LETTERS
        ]
        for place, (_, text) in zip(places, numbered(file, places), strict=True):
            session_at = text.find(_SESSION) + len(_SESSION)
            session = text[session_at : text.find(b'"', session_at)]
            self._by_session.setdefault(session, []).append(place)
        self._sorted = len(self._places)

    def _of_kind(self, kind: str, begin: int) -> Iterator[int]:
        """Yield the places of the heads of a kind, from an index on."""
        letter = (kind[4:5] or kind[2]).encode()
        at = self._letters.find(letter, begin)
        while at >= 0:
            yield self._places[at]
            at = self._letters.find(letter, at + 1)


def documents(file: FilePort, places: Sequence[int]) -> Iterator[layout.Document | layout.Damage]:
    """Yield the documents at the given places, and a damage for each incomplete line."""
    for place, (number, text) in zip(places, numbered(file, places), strict=True):
        try:
            yield int(number), orjson.loads(text)
        except ValueError:
            yield layout.Damage(place, place + len(text))


def numbered(file: FilePort, places: Sequence[int]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the number and text of each document at the given places, in order."""
    room = scan.SEARCHED if len(places) > _MANY else _LINE_ROOM
    text, start = b"", 0
    for place in places:
        at = place - start
        stop = text.find(b"\n", at) if at < len(text) else -1
        if stop < 0:
            start = max(place - _LONGEST_NUMBER, 0)
            text, at = file.read_at(start, room), place - start
            stop = text.find(b"\n", at)
        if stop < 0:
            text = text[:at] + document_at(file, place)
            stop = len(text)
        number = text[text.rfind(b'"', 0, at - 3) + 1 : at - 3]
        yield number, text[at:stop].rstrip(b",")


def _number_at(file: FilePort, place: int) -> int:
    ((number, _),) = numbered(file, [place])
    return int(number)


def document_at(file: FilePort, place: int) -> bytes:
    """Return the line from a place to its end, without the newline."""
    length = _LINE_ROOM
    while True:
        text = file.read_at(place, length)
        stop = text.find(b"\n")
        if stop >= 0 or len(text) < length:
            return text[:stop] if stop >= 0 else text
        length *= 4


def _begins_marked(file: FilePort, at: int) -> bool:
    """Return whether the first record, always a head, has the mark."""
    return layout.MARK in document_at(file, at)[:_LONGEST_NUMBER]


def _as_written(text: str) -> bytes:
    """Return a text as encoded between quotes in JSON."""
    return orjson.dumps(text)[1:-1]
