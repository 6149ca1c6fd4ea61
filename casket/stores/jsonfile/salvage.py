"""Finding whole documents in the text of a JSON file that is damaged."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from casket.stores.jsonfile import layout

_START = re.compile(r'"(\d{1,18})":\s*(?=\{)')
_PART = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],]|[^\s{}\[\],"]+|\s+', re.DOTALL)
_CLOSERS = {"{": "}", "[": "]"}

_decoder = json.JSONDecoder()


class Salvaged(NamedTuple):
    """What a damaged text still holds.

    Attributes:
        documents: casket's documents that are whole, and the whole parts of nested ones.
        lost: the ranges of bytes between them that hold something else.
    """

    documents: list[layout.Document]
    lost: list[layout.Damage]


def salvage(text: bytes, start: int = 0) -> Salvaged:
    """Find what is whole in a text that begins at `start` in its file."""
    # A character a byte, so that positions are those of the bytes.
    characters = text.decode("latin-1")
    documents: list[layout.Document] = []
    lost: list[layout.Damage] = []
    at = 0
    for match in _START.finditer(characters):
        if match.start() < at:
            continue
        found = _document(characters, match.end())
        if found is None:
            continue
        document, stop = found
        _note_lost(lost, text, start, at, match.start())
        documents.append((int(match[1]), document))
        at = stop
    _note_lost(lost, text, start, at, len(text))
    return Salvaged(documents, lost)


def _note_lost(lost: list[layout.Damage], text: bytes, start: int, at: int, stop: int) -> None:
    if text[at:stop].strip(b' \r\n\t,{}"') not in {b"", b'_default": ', b'_default":'}:
        lost.append(layout.Damage(start + at, start + stop))


def _document(text: str, at: int) -> tuple[dict[str, Any], int] | None:
    """Return the casket document that begins somewhere, and where it ends; None if there is none.

    Of one in the first casket's nested shape, what is whole will do.
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
    """Return what of a cut JSON text is whole, closed, and how long that part was."""
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
