"""Recovery of complete documents from the text of a damaged JSON file."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from casket.stores.jsonfile import layout

_START = re.compile(r'"(\d{1,18})":\s*(?=\{)|(?=\{"kind":")')
"""The start of a document, or of a record whose number is damaged."""
_PART = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],]|[^\s{}\[\],"]+|\s+', re.DOTALL)
_CLOSERS = {"{": "}", "[": "]"}

_decoder = json.JSONDecoder()


class Salvaged(NamedTuple):
    """The recoverable content of a damaged text.

    Attributes:
        documents: the complete documents of casket, and the complete parts of nested documents.
        lost: the ranges of other bytes between them.
    """

    documents: list[layout.Document]
    lost: list[layout.Damage]


def salvage(text: bytes, start: int = 0, last: int = 0) -> Salvaged:
    """Recover the complete documents in a text.

    Args:
        text: the text.
        start: its offset in the file.
        last: the number of the document before it.
    """
    # A character per byte, so that character positions equal byte positions.
    characters = text.decode("latin-1")
    documents: list[layout.Document] = []
    lost: list[layout.Damage] = []
    at = 0
    for match in _START.finditer(characters):
        if match.start() < at:
            continue
        recovered = _document(characters, match.end())
        if recovered is None:
            continue
        document, stop = recovered
        _note_lost(lost, text, start, at, match.start())
        last = int(match[1] or last + 1)
        documents.append((last, document))
        at = stop
    _note_lost(lost, text, start, at, len(text))
    return Salvaged(documents, lost)


def _note_lost(lost: list[layout.Damage], text: bytes, start: int, at: int, stop: int) -> None:
    if text[at:stop].strip(b' \r\n\t,{}"') not in {b"", b'_default": ', b'_default":'}:
        lost.append(layout.Damage(start + at, start + stop))


def _document(text: str, at: int) -> tuple[dict[str, Any], int] | None:
    """Return the casket document at a position and its end; None if there is none.

    A document in the nested format of the first casket may be incomplete.
    """
    try:
        _, stop = _decoder.raw_decode(text, at)
        document = _parsed(text[at:stop])
    except json.JSONDecodeError as error:
        closed, stop = _closed(text[at : error.pos])
        document, stop = _parsed(closed), at + stop
        if document is None or not layout.is_nested(document):
            return None
    if document is None or not layout.is_casket_document(document):
        return None
    return document, stop


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        document = json.loads(text.encode("latin-1"))
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _closed(text: str) -> tuple[str, int]:
    """Return the complete part of a truncated JSON text, closed, and the length of that part."""
    open_, best = "", ("", 0)
    for match in _PART.finditer(text):
        part = match[0]
        if part == "," and open_:
            best = (open_, match.start())
        elif part in _CLOSERS:
            open_ += part
        elif part in {"}", "]"}:
            open_ = open_[:-1]
            best = (open_, match.end())
    still_open, stop = best
    return text[:stop] + "".join(_CLOSERS[each] for each in reversed(still_open)), stop
