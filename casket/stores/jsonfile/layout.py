r"""Layout of records in the JSON document.

    {"_default": {
    "1":	{"kind":"experiment", ...},
    "2":	{"kind":"session", ...},
    "3": {"kind":"epoch", ...}
    }}

A tab before the document marks a head, a record other than an epoch, batch or result. The few
heads of a large file can thus be found by a search for a single byte, which does not occur in the
other lines written by casket.

The file is a valid JSON document and a TinyDB file with a single table. It consists of `HEAD`, a
line per record, joined with `,\n`, and `TAIL`. Additional tables of TinyDB are kept on the first
line. This module contains only functions of bytes; `casket.stores.jsonfile.document` does the
input and output.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from operator import lt
from typing import Any, NamedTuple

import orjson

from casket.format.records import Record, encoded
from casket.format.values import Encoder

HEAD = b'{"_default": {'
TAIL = b"\n}}\n"
MARK = b"\t"
"""Precedes the document of a head; white space in JSON."""

FIRST, NEXT = b"\n", b",\n"
"""The separators before the line of the first record and before every other line."""

_LINE = re.compile(rb'"(\d+)":[ \t](\{.*\}),*', re.DOTALL)
# The end of an earlier document may overwrite up to four bytes at the start of a line, and a disk
# may damage any of them.
_COVERED = re.compile(rb"[^{]{0,48}(\{.*\}),*", re.DOTALL)
_NUMBER = re.compile(rb'"\d+":[ \t](?=\{)')
"""Precedes a document; does not occur in documents, in which casket writes no white space."""

_JOINED_FIRST_LINE = re.compile(rb'"_default": \{(?=[^ \t\r\n]"\d+":[ \t]\{"kind":")')
_STRAY_BRACES = 4
"""Braces after a document that damage may leave there: the end of the file and a damaged byte."""

_SEPARATORS = b", \t\r\n"
_BRACES = frozenset({b"}", b"}}"})
_CLOSING = re.compile(rb"\n\}{1,2}\s*\Z")

_MANY = frozenset({"epoch", "batch", "result"})
_OF_A_RECORD = frozenset({"kind", "v", "writer", "n", "body"})

Document = tuple[int, dict[str, Any]]
"""A number and its document: a record, a nested document of the first casket, or a document
added with TinyDB."""


class NotOurs(Exception):
    """The bytes are not a casket document; the message gives the reason."""


class Damage(NamedTuple):
    """A range of bytes that contains no complete record."""

    start: int
    stop: int


def encode_batch(records: Sequence[Record], last: int) -> list[bytes]:
    """Return the lines of records to be appended atomically, numbered from `last` + 1.

    All lines but the last give the number of lines that follow in `more`, so that a reader can
    recognize an incomplete append.
    """
    count = len(records)
    encoded = [
        line(last + i, record)[:-1] + b',"more":%d}' % (count - i)
        for i, record in enumerate(records[:-1], 1)
    ]
    return [*encoded, *(line(last + count, record) for record in records[-1:])]


def more_after(document: dict[str, Any]) -> int:
    """Return the number of records of the same append that follow this record."""
    more = document.get("more", 0)
    return more if type(more) is int else 0


def line(number: int, document: Any) -> bytes:
    """Return the line of a document, without separators."""
    is_head = document.get("kind") not in _MANY or "claim" in document
    text = encoded(document) if is_record(document) else orjson.dumps(document)
    return b'"%d":%b%b' % (number, MARK if is_head else b" ", text)


def text_of(first_line: bytes, documents: Iterable[Document]) -> Iterator[bytes]:
    """Yield the parts of a file; numbers that do not ascend are replaced by larger ones."""
    yield first_line
    last, separator = 0, FIRST
    for number, document in documents:
        last = max(number, last + 1)
        yield separator + line(last, document)
        separator = NEXT
    yield TAIL


def parse_line(text: bytes) -> Document | None:
    """Parse a line, with or without its comma; return None if it is incomplete."""
    match = _LINE.fullmatch(text)
    if match is None:
        return None
    try:
        document = orjson.loads(match[2])
    except orjson.JSONDecodeError:
        return None
    return int(match[1]), document


def parse_covered(text: bytes) -> dict[str, Any] | None:
    r"""Return the record on a line whose number is damaged or overwritten.

    A copy of a file made during an append may contain the `\n}}\n` of an earlier state, followed
    by the bytes of a later state. The number is lost; it is the successor of the preceding number.
    """
    match = _COVERED.fullmatch(text)
    if match is None:
        return None
    try:
        document: dict[str, Any] = orjson.loads(match[1])
    except orjson.JSONDecodeError:
        return None
    return document if is_record(document) else None


class Part(NamedTuple):
    """A document on a line, and its range there."""

    document: Document
    start: int
    stop: int


def recovered(text: bytes) -> list[Part]:
    """Return the records on a line whose separators are damaged, which may join several lines."""
    starts = [match.start() for match in _NUMBER.finditer(text)]
    return [
        part
        for start, limit in pairwise([*starts, len(text)])
        if (part := _first_document(text, start, limit)) is not None
    ]


def _first_document(text: bytes, start: int, stop: int) -> Part | None:
    for _ in range(_STRAY_BRACES):
        stop = text.rfind(b"}", start, stop)
        document = parse_line(text[start : stop + 1])
        if document is not None:
            return Part(document, start, stop + 1)
    return None


def _between(parts: list[Part], text: bytes, start: int) -> list[Damage]:
    """Return the ranges of a line beside its parts that are more than separators."""
    starts = [*(part.start for part in parts), len(text)]
    stops = [0, *(part.stop for part in parts)]
    return [
        Damage(start + stop, start + begin)
        for stop, begin in zip(stops, starts, strict=True)
        if text[stop:begin].strip(_SEPARATORS)
    ]


def is_closing(line: bytes) -> bool:
    """Return whether a line contains only the end of a document."""
    return line.strip() in _BRACES


class Block(NamedTuple):
    """The content of a range of lines."""

    documents: list[Document]
    damages: list[Damage]
    """The ranges of lines that contain no document."""
    is_sound: bool
    """Whether the lines are complete, joined by commas and in order, as written by casket."""


def parse_block(block: bytes, start: int, last: int = 0) -> Block:
    """Parse complete lines.

    Args:
        block: lines with comma and newline, except for the last line of the document.
        start: the offset of the block in the file, for the ranges of damages.
        last: the number of the preceding record.
    """
    lines = block.removesuffix(NEXT)
    try:
        table = orjson.loads(b"{%b}" % lines)
        numbers = list(map(int, table))
    except ValueError:
        return _parse_lines(block, start, last)
    if len(table) != lines.count(b"\n") + 1 or set(map(type, table.values())) != {dict}:
        return _parse_lines(block, start, last)
    is_ascending = all(map(lt, numbers, islice(numbers, 1, None)))
    return Block(list(zip(numbers, table.values(), strict=True)), [], is_ascending)


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
        elif line.strip() and not is_closing(line):
            parts = recovered(line)
            documents += [part.document for part in parts]
            damages += _between(parts, text, start)
        last = documents[-1][0] if documents else last
        start += len(text)
    return Block(documents, damages, is_sound=False)


def lost_in(rest: bytes) -> Damage | None:
    """Return the range of stray bytes after the last complete line, or None.

    Separators and the closing of the document are not stray.

    Args:
        rest: the bytes after the last complete line.

    Returns:
        The range within `rest`.
    """
    start = len(rest) - len(rest.lstrip(b",\n"))
    closing = _CLOSING.search(rest)
    stop = closing.start() if closing else len(rest.rstrip(b"\n"))
    return Damage(start, stop) if rest[start:stop].strip() not in {b"", b"}", b"}}"} else None


def is_closed(rest: bytes) -> bool:
    """Return whether a document that ends in `rest` is closed, so that no append was truncated."""
    return b"".join(rest[-64:].split()).endswith(b"}}")


def is_first_line(text: bytes) -> bool:
    """Return whether the first line of a file matches casket's layout."""
    return text.startswith(b"{") and text.endswith(HEAD[1:])


def joined_first_line(text: bytes) -> bytes | None:
    """Return the first line of a file whose newline is damaged, from the bytes up to the next.

    It is None if the first line is damaged otherwise, or if another program wrote the file.
    """
    joined = _JOINED_FIRST_LINE.search(text) if text.startswith(b"{") else None
    return text[: joined.end()] if joined else None


def matching_lines(block: bytes, patterns: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and text of each line that contains any of `patterns`, without parsing."""
    starts = set()
    for pattern in patterns:
        at = block.find(pattern)
        while at >= 0:
            starts.add(block.rfind(b"\n", 0, at) + 1)
            at = block.find(pattern, at + len(pattern))
    for start in sorted(starts):
        stop = block.find(b"\n", start)
        yield start, block[start : stop if stop >= 0 else len(block)]


class OtherLayout(NamedTuple):
    """A document in a different layout: written by TinyDB, by hand or by the first casket."""

    documents: list[Document]
    tables: dict[str, Any]
    """The tables other than the default table, in the order of the document."""

    def first_line(self) -> bytes:
        """Return the first line of this document in casket's layout."""
        if not self.tables:
            return HEAD
        # Python's json, as used by TinyDB, accepts all values that other programs store.
        others = json.dumps(self.tables)[:-1]
        return others.encode() + b", " + HEAD[1:]

    def text(self) -> Iterator[bytes]:
        """Yield the parts of this document in casket's layout."""
        documents = ((n, _as_casket_writes(document)) for n, document in self.documents)
        return text_of(self.first_line(), documents)


def parse_other(text: bytes) -> OtherLayout:
    """Parse a complete document in a different layout.

    Documents of other origin among casket's are kept, because users may add them with TinyDB.

    Raises:
        NotOurs: the text is not JSON or not a TinyDB file, or its default table contains no
            document of casket.
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
    """Return a document with `kind` first and Python's NaN converted to strict JSON."""
    if is_record(document):
        document = {"kind": document["kind"], **document}
    if document.get("extended"):
        return document
    encoder = Encoder()
    encoded = encoder.mapping(document, "document")
    return {**encoded, "extended": True} if encoder.extended else document


def is_casket_document(document: dict[str, Any]) -> bool:
    """Return whether a document is a record or an experiment of the first casket."""
    return is_record(document) or is_nested(document)


def is_record(document: dict[str, Any]) -> bool:
    """Return whether a document is a record."""
    return document.keys() >= _OF_A_RECORD


def is_nested(document: dict[str, Any]) -> bool:
    """Return whether a document is an experiment in the nested format of the first casket."""
    return (
        "kind" not in document
        and "id" in document
        and isinstance(document.get("models"), list)
        and all(isinstance(model, dict) for model in document["models"])
    )
