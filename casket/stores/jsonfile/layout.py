r"""How records stand in the JSON document.

    {"_default": {
    "1":	{"kind":"experiment", ...},
    "2":	{"kind":"session", ...},
    "3": {"kind":"epoch", ...}
    }}

A tab before the document marks a head, a record that is no epoch, batch or result: finding the
few heads of a large file is then a search for one byte, which no other line of casket's holds.

One valid JSON document, a TinyDB file with one table, one record a line: `HEAD`, then the lines
joined with `,\n`, then `TAIL`. Tables of TinyDB other than the default one are kept on the first
line. Everything here is a function of bytes; `casket.stores.jsonfile.store` moves them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import orjson

from casket.format.records import Record
from casket.format.values import Encoder

HEAD = b'{"_default": {'
TAIL = b"\n}}\n"
MARK = b"\t"
"""Stands before the document of a head; JSON takes it for white space."""

FIRST, NEXT = b"\n", b",\n"
"""What stands before the first record's line and before every other."""

_LINE = re.compile(rb'"(\d+)":[ \t](\{.*\}),*', re.DOTALL)
# Up to four bytes of what begins a line may be covered by the end of an earlier document.
_COVERED = re.compile(rb'\}{0,2}"?\d*"?:[ \t](\{.*\}),*', re.DOTALL)
_BRACES = frozenset({b"}", b"}}"})
_CLOSING = re.compile(rb"\n\}{1,2}\s*\Z")

_MANY = frozenset({"epoch", "batch", "result"})
_OF_A_RECORD = frozenset({"kind", "v", "writer", "n", "body"})

Document = tuple[int, dict[str, Any]]
"""A number and the document under it: a record, a nested document of the first casket, or one
that somebody added with TinyDB."""


class NotOurs(Exception):
    """The bytes are not a casket document; the text says why."""


class Damage(NamedTuple):
    """A range of bytes that holds no whole record."""

    start: int
    stop: int


def encode_batch(records: Sequence[Record], last: int) -> list[bytes]:
    """Return the lines of several records that are appended as one, numbered after `last`.

    All but the last say in `more` how many follow, so that a reader who sees only the first of
    them knows that they are not whole yet.
    """
    count = len(records)
    encoded = [
        line(last + i, record)[:-1] + b',"more":%d}' % (count - i)
        for i, record in enumerate(records[:-1], 1)
    ]
    return [*encoded, *(line(last + count, record) for record in records[-1:])]


def more_after(document: dict[str, Any]) -> int:
    """Return how many records of the same append follow this one."""
    more = document.get("more", 0)
    return more if type(more) is int else 0


def line(number: int, document: Any) -> bytes:
    """Return the line of one document, without what joins it to others."""
    is_head = document.get("kind") not in _MANY or "claim" in document
    return b'"%d":%b%b' % (number, MARK if is_head else b" ", orjson.dumps(document))


def parse_line(text: bytes) -> Document | None:
    """Parse one line, with or without its comma; None if it is not whole."""
    match = _LINE.fullmatch(text)
    if match is None:
        return None
    try:
        document = orjson.loads(match[2])
    except orjson.JSONDecodeError:
        return None
    return int(match[1]), document


def parse_covered(text: bytes) -> dict[str, Any] | None:
    r"""Return the record on a line whose beginning the end of an earlier document covers.

    A copy of a file that is appended to meanwhile may hold the `\n}}\n` of one moment and, behind
    it, the bytes of a later one. The number is lost; it follows the one before.
    """
    match = _COVERED.fullmatch(text)
    if match is None:
        return None
    try:
        document: dict[str, Any] = orjson.loads(match[1])
    except orjson.JSONDecodeError:
        return None
    return document if is_record(document) else None


def is_closing(line: bytes) -> bool:
    """Tell whether a line holds nothing but the end of a document."""
    return line.strip() in _BRACES


class Block(NamedTuple):
    """What some lines hold."""

    documents: list[Document]
    damages: list[Damage]
    """The ranges of lines that hold no document."""
    is_sound: bool
    """Whether the lines are as casket writes them: whole, joined by commas, in order."""


def parse_block(block: bytes, start: int, last: int = 0) -> Block:
    """Parse whole lines.

    Args:
        block: lines, each with its comma and newline but the last line of the document.
        start: where the block begins in the file, to name what is damaged.
        last: the number of the record before.
    """
    lines = block.removesuffix(NEXT)
    try:
        table = orjson.loads(b"{%b}" % lines)
        documents = [(int(number), document) for number, document in table.items()]
    except ValueError:
        return _parse_lines(block, start, last)
    if len(table) != lines.count(b"\n") + 1 or not all(type(d) is dict for _, d in documents):
        return _parse_lines(block, start, last)
    return Block(documents, [], _is_ascending(documents))


def _parse_lines(block: bytes, start: int, last: int) -> Block:
    documents, damages = [], []
    for text in block.splitlines(keepends=True):
        line = text.rstrip(b"\n")
        document = parse_line(line)
        covered = None if document else parse_covered(line)
        if covered is not None:
            document = last + 1, covered
        if document is not None:
            documents.append(document)
            last = document[0]
        elif line.strip() and not is_closing(line):
            damages.append(Damage(start, start + len(text)))
        start += len(text)
    return Block(documents, damages, is_sound=False)


def _is_ascending(documents: Sequence[Document]) -> bool:
    return all(one < next_one for (one, _), (next_one, _) in pairwise(documents))


def lost_in(rest: bytes) -> Damage | None:
    """Return what of the bytes after the last whole line is neither separator nor closing."""
    start = len(rest) - len(rest.lstrip(b",\n"))
    closing = _CLOSING.search(rest)
    stop = closing.start() if closing else len(rest.rstrip(b"\n"))
    return Damage(start, stop) if rest[start:stop].strip() not in {b"", b"}", b"}}"} else None


def is_closed(rest: bytes) -> bool:
    """Tell whether a document that ends in `rest` is closed: no append of it was cut."""
    return b"".join(rest[-64:].split()).endswith(b"}}")


def is_first_line(text: bytes) -> bool:
    """Tell whether a file's first line is that of our layout."""
    return text.startswith(b"{") and text.endswith(HEAD[1:])


def matching_lines(block: bytes, needles: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield where each line begins that holds one of `needles`, and the line; parse none."""
    starts = set()
    for needle in needles:
        at = block.find(needle)
        while at >= 0:
            starts.add(block.rfind(b"\n", 0, at) + 1)
            at = block.find(needle, at + len(needle))
    for start in sorted(starts):
        stop = block.find(b"\n", start)
        yield start, block[start : stop if stop >= 0 else len(block)]


class OtherLayout(NamedTuple):
    """A document in another layout than ours: written by TinyDB, by hand, by the first casket."""

    documents: list[Document]
    tables: dict[str, Any]
    """The tables beside the default one, with the document's own key order."""

    def first_line(self) -> bytes:
        """Return the first line of this document in our layout."""
        if not self.tables:
            return HEAD
        # Python's own, as TinyDB does: it takes whatever other programs keep.
        others = json.dumps(self.tables)[:-1]
        return others.encode() + b", " + HEAD[1:]

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the documents in our layout."""
        for number, document in self.documents:
            yield line(number, _as_casket_writes(document))


def parse_other(text: bytes) -> OtherLayout:
    """Parse a whole document that is not in our layout.

    Documents that are not casket's are kept among those that are: people have TinyDB.

    Raises:
        NotOurs: it is not JSON, not a TinyDB file, or its default table holds nothing of casket's.
    """
    if not text.strip():
        return OtherLayout([], {})
    try:
        tables = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotOurs(f"it is not JSON ({error})") from None
    if not isinstance(tables, dict) or not isinstance(tables.get("_default", {}), dict):
        raise NotOurs("it has no table of records")
    default = tables.pop("_default", {})
    if not default and tables:
        raise NotOurs("its default table is empty, its other tables belong to another program")
    documents = [(_number(key), document) for key, document in default.items()]
    are_dicts = all(isinstance(document, dict) for _, document in documents)
    if not are_dicts or (documents and not any(is_casket_document(d) for _, d in documents)):
        raise NotOurs("its documents are not experiment records")
    return OtherLayout(sorted(documents, key=lambda item: item[0]), tables)


def _number(key: str) -> int:
    if not key.isdecimal():
        raise NotOurs(f"its documents are not numbered ({key!r})")
    return int(key)


def _as_casket_writes(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document with `kind` first, and strict JSON where Python wrote NaN."""
    if is_record(document):
        document = {"kind": document["kind"], **document}
    if document.get("extended"):
        return document
    encoder = Encoder()
    encoded = encoder.mapping(document, "document")
    return {**encoded, "extended": True} if encoder.extended else document


def is_casket_document(document: dict[str, Any]) -> bool:
    """Tell whether a document is a record, or an experiment of the first casket."""
    return is_record(document) or is_nested(document)


def is_record(document: dict[str, Any]) -> bool:
    """Tell whether a document is a record."""
    return document.keys() >= _OF_A_RECORD


def is_nested(document: dict[str, Any]) -> bool:
    """Tell whether a document is an experiment in the first casket's nested shape."""
    return (
        "kind" not in document
        and "id" in document
        and isinstance(document.get("models"), list)
        and all(isinstance(model, dict) for model in document["models"])
    )
