"""The latest sessions of a large JSON document; see `casket.stores.latest`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from casket.stores.jsonfile import layout, scan
from casket.stores.jsonfile.files import FilePort
from casket.stores.latest import Latest, Starts, Unclear

_SESSION = re.compile(rb'","session":"([^"\\]+)","writer":"')
_OF_A_SESSION = frozenset({b"end", b"meta", b"artifact", b"alert", b"system"})
_KIND = re.compile(rb'\{"kind":"([a-z]+)",')


class _Block(NamedTuple):
    """A range of complete lines, and the sessions to which they belong."""

    at: int
    stop: int
    sessions: frozenset[bytes]
    is_overall: bool


def latest_of(file: FilePort, extent: scan.Extent, count: int, offset: int) -> Latest:
    """Return the latest sessions of a document.

    Raises:
        Unclear: the document is small, was not written by casket alone, or is damaged.
    """
    if extent.is_cut or extent.stop <= scan.EDITED or extent.end().damages:
        raise Unclear
    starts = Starts()
    index = list(_indexed(file, extent, starts))
    for block in index:
        if not starts.has_all(block.sessions):
            raise Unclear
    chosen = starts.latest(count, offset)
    sessions = [session.decode() for session in chosen]
    wanted = [block for block in index if block.is_overall or not block.sessions.isdisjoint(chosen)]
    kept = set(sessions)
    records = [
        (number, document)
        for number, document in _documents(file, wanted)
        if (document["session"] in kept if "session" in document else True)
    ]
    return Latest(records, sessions, len(starts))  # type: ignore[arg-type]


def _indexed(file: FilePort, extent: scan.Extent, starts: Starts) -> Iterator[_Block]:
    """Yield the blocks of a document, adding the starts in them."""
    for at, text in scan.blocks(file, extent.start + 1, extent.stop, scan.SEARCHED):
        is_overall = False
        for kind, head in _heads(text):
            starts.add(head)
            # A tag may be that of a session or of an experiment.
            is_overall = is_overall or (kind != b"session" and not _SESSION.search(head))
        yield _Block(at, at + len(text), frozenset(_SESSION.findall(text)), is_overall)


def _heads(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the line of heads that concern all sessions, and of starts."""
    at = block.find(layout.MARK) + 1
    while at:
        kind = _KIND.match(block, at)
        if kind is None:
            raise Unclear
        if kind[1] not in _OF_A_SESSION:
            stop = block.find(b"\n", at)
            yield kind[1], block[at : stop if stop >= 0 else len(block)]
        at = block.find(layout.MARK, at) + 1


def _documents(file: FilePort, blocks: list[_Block]) -> Iterator[layout.Document]:
    for block in blocks:
        parsed = layout.parse_block(file.read_at(block.at, block.stop - block.at), block.at)
        if parsed.damages or not all(layout.is_record(one) for _, one in parsed.documents):
            raise Unclear
        yield from parsed.documents
