"""Inspection and repair of JSON files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from casket.errors import NotACasketFile, NotFound
from casket.stores.inspection import Damage, Part, copied, problem_of
from casket.stores.jsonfile import layout, scan
from casket.stores.jsonfile.files import FilePort, LocalFile, opened
from casket.stores.jsonfile.reader import PAUSE, unfolded
from casket.stores.jsonfile.salvage import salvage
from casket.system import failures

_LIKE_A_RECORD = frozenset({"writer", "n", "v"})


class _Piece(NamedTuple):
    """The content of a range of lines: unchanged documents, and damages."""

    documents: list[layout.Document]
    damages: list[Damage]
    size: int


class JsonInspection:
    """Inspection of a JSON file.

    Args:
        path: the path of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def parts(self) -> Iterator[Part]:
        """Yield the content of the file; see `Inspection`."""
        try:
            with opened(self._path) as file:
                for piece in self._pieces(file):
                    records = [
                        (number, record)
                        for number, document in piece.documents
                        for record in _records(document)
                    ]
                    yield Part(records, piece.damages, piece.size)
        except FileNotFoundError:
            raise NotFound(str(self._path)) from None
        except OSError as error:
            raise failures.unreadable(self._path, error.errno) from error

    def repair(self, kept: Path) -> None:
        """Write every intact document to a new file; see `Inspection`.

        Other processes may keep writing: they wait and then continue in the new file.
        """
        file = self._locked()
        try:
            documents = (one for piece in self._pieces(file) for one in piece.documents)
            with copied(Path(file.name), kept):
                file.replace(layout.text_of(self._head(file), documents))
        except OSError as error:
            raise failures.unavailable(self._path, error.errno, "nothing was changed") from error
        finally:
            file.close()

    def copy(self, target: Path) -> None:
        """Copy the file while no process writes to it; see `Inspection`."""
        file = self._locked(writing=os.access(self._path, os.W_OK))
        with closing(file), copied(Path(file.name), target):
            pass

    def _locked(self, *, writing: bool = True) -> LocalFile:
        while True:
            try:
                file = LocalFile(self._path, writing=writing, create=False)
                file.lock()
            except OSError as error:
                raise failures.unavailable(
                    self._path, error.errno, "nothing was changed"
                ) from error
            if file.is_current():
                return file
            file.close()

    def _head(self, file: FilePort) -> bytes:
        """Return the first line, including other programs' tables if they are readable."""
        first = scan.first_line(file)
        if layout.is_first_line(first):
            return first
        other = scan.other_layout(file)
        return other.first_line() if other else layout.HEAD

    def _pieces(self, file: FilePort) -> Iterator[_Piece]:
        # Looked at first, because the first append may come at any time.
        begun = file.read_at(0, len(layout.HEAD))
        if len(begun) < len(layout.HEAD) and layout.HEAD.startswith(begun):
            return
        extent = _extent(file)
        pieces = self._lines(file, extent) if extent else self._without_head(file)
        has_documents = has_damages = has_records = False
        for piece in pieces:
            has_documents = has_documents or bool(piece.documents)
            has_damages = has_damages or bool(piece.damages)
            has_records = has_records or any(
                layout.is_casket_document(one) for _, one in piece.documents
            )
            yield piece
        if has_documents or (has_damages and extent is None):
            self._require(has_records)

    def _require(self, has_records: bool) -> None:
        if not has_records:
            raise NotACasketFile(str(self._path), "nothing in it is an experiment record")

    def _without_head(self, file: FilePort) -> Iterator[_Piece]:
        """Yield the content of a file in a different layout or with a damaged first line."""
        size = file.size()
        other = scan.other_layout(file) if size <= scan.EDITED else None
        first = scan.first_line(file)
        extent = scan.extent_after(file, len(first))
        if other is None and extent.last:
            piece = _salvaged(file, Damage(0, len(first), "the first line is damaged"))
            yield piece
            last = piece.documents[-1][0] if piece.documents else 0
            yield from self._lines(file, extent, last)
            return
        other = other or scan.other_layout(file)
        if other is not None:
            yield _checked(other.documents, size)
            return
        yield _salvaged(file, Damage(0, size, "it is no valid JSON"))

    def _lines(self, file: FilePort, extent: scan.Extent, last: int = 0) -> Iterator[_Piece]:
        """Yield the content of a file with a record per line."""
        other = _laid_out_by_hand(file, extent)
        if other is not None:
            yield _checked(other.documents, file.size())
            return
        whole = scan.without_cut(file, extent)
        if scan.is_joined(file, extent):
            at = extent.start
            yield _Piece([], [Damage(at, at + 1, "the newline after the first line is damaged")], 1)
        for at, block in scan.blocks(file, whole.start + 1, whole.stop):
            is_end = at + len(block) == whole.stop
            piece = _fast(block, at, last, is_end) or _slow(file, block, at, last, is_end)
            yield piece
            last = max([last, *(number for number, _ in piece.documents[-1:])])
        yield _end(file, extent, whole, last)


def _extent(file: FilePort) -> scan.Extent | None:
    """Return the extent of the records, after waiting for an append in progress."""
    extent = scan.find_extent(file)
    if extent is None or (layout.is_closed(extent.rest) and not extent.is_cut):
        return extent
    time.sleep(PAUSE)
    return scan.find_extent(file)


def _fast(block: bytes, at: int, last: int, is_end: bool) -> _Piece | None:
    """Return the content of complete lines if they are valid, else None."""
    parsed = layout.parse_block(block, at)
    if not (parsed.is_sound and (is_end or block.endswith(layout.NEXT))):
        return None
    if parsed.documents[0][0] <= last or any(map(_problem_of_document, parsed.documents)):
        return None
    return _Piece(parsed.documents, [], len(block))


def _slow(file: FilePort, block: bytes, at: int, last: int, is_end: bool) -> _Piece:
    """Return the content of lines, examined individually."""
    documents: list[layout.Document] = []
    damages: list[Damage] = []
    lines = block.splitlines(keepends=True)
    start = at
    for i, line in enumerate(lines, 1):
        stop = start + len(line)
        document = layout.parse_line(line.rstrip(b"\n"))
        covered = None if document else layout.parse_covered(line.rstrip(b"\n"))
        document = (last + 1, covered) if covered else document
        problem = _problem_of_line(document, line, last, is_end and i == len(lines))
        if covered:
            problem = "its number is damaged, or covered by the end of an earlier document: the "
            problem += "file was copied while it was written"
        if document is not None and not _problem_of_document(document):
            documents.append(document)
            if problem:
                damages.append(Damage(start, stop, problem, last))
            last = document[0]
        elif layout.is_closing(line):
            damages.append(Damage(start, stop, "the end of the document stands before it", last))
        elif line.strip():
            _add(damages, Damage(start, stop, problem, last, line))
        start = stop
    return _all_salvaged(file, documents, damages, len(block))


def _problem_of_line(
    document: layout.Document | None, line: bytes, last: int, is_last: bool
) -> str:
    """Return the problem of a line, or an empty text."""
    if document is None:
        return "it holds no whole record"
    problem = _problem_of_document(document)
    if problem:
        return f"it is no record: {problem}"
    if document[0] <= last:
        return f"record {document[0]} comes after record {last}"
    if not is_last and not line.endswith(b"}" + layout.NEXT):
        return "the comma after it is missing or repeated"
    return ""


def _add(damages: list[Damage], damage: Damage) -> None:
    """Add a damage, merging it with the preceding damage if they are adjacent and alike."""
    before = damages[-1] if damages else None
    if before and before.text and before.stop == damage.start and before.problem == damage.problem:
        damages[-1] = before._replace(stop=damage.stop, text=before.text + damage.text)
    else:
        damages.append(damage)


def _end(file: FilePort, extent: scan.Extent, whole: scan.Extent, last: int) -> _Piece:
    """Return the damages after the last complete record."""
    size = file.size()
    damage = extent.damage_at_end()
    if extent.is_cut:
        text = file.read_at(whole.stop, size - whole.stop)
        problem = "an append of several records was interrupted; readers see none of them"
        return _Piece([], [Damage(whole.stop, size, problem, last, text)], size - whole.stop)
    if damage is not None:
        is_closed = layout.is_closed(extent.rest)
        problem = "it holds no whole record" if is_closed else "an append was interrupted"
        text = file.read_at(damage.start, damage.stop - damage.start)
        return _all_salvaged(file, [], [Damage(*damage, problem, last, text)], size - extent.stop)
    if layout.is_closed(extent.rest):
        return _Piece([], [], size - extent.stop)
    problem = "the closing braces are missing, so it is no valid JSON: an append was interrupted"
    return _Piece([], [Damage(extent.stop, size, problem, last)], size - extent.stop)


def _salvaged(file: FilePort, damage: Damage) -> _Piece:
    """Return the recoverable documents in a range of bytes, and the damages."""
    text = file.read_at(damage.start, damage.stop - damage.start)
    piece = _all_salvaged(file, [], [damage._replace(text=text)], len(text))
    if not piece.damages:  # all that is lost is punctuation
        return piece._replace(damages=[damage])
    return piece


def _all_salvaged(
    file: FilePort, documents: list[layout.Document], damages: list[Damage], size: int
) -> _Piece:
    """Add the documents recovered from damaged ranges to `documents`, and update the damages."""
    remaining = []
    for damage in damages:
        salvaged = salvage(damage.text, damage.start, damage.after) if damage.text else None
        whole = (
            [one for one in salvaged.documents if not _problem_of_document(one)] if salvaged else []
        )
        if not salvaged or not whole:
            remaining.append(damage)
            continue
        documents += whole
        remaining += [
            damage._replace(start=start, stop=stop, text=file.read_at(start, stop - start))
            for start, stop in salvaged.lost
        ] or [damage._replace(problem="the separators of its records are damaged", text=b"")]
    documents.sort(key=lambda one: one[0])
    return _Piece(documents, remaining, size)


def _checked(documents: Sequence[layout.Document], size: int) -> _Piece:
    """Check the documents of a valid file in a different layout."""
    whole, damages = [], []
    for one in documents:
        problem = _problem_of_document(one)
        if problem:
            damages.append(
                Damage(0, size, f"document {one[0]} is no record: {problem}", one[0] - 1)
            )
        else:
            whole.append(one)
    return _Piece(whole, damages, size)


def _problem_of_document(numbered: layout.Document) -> str | None:
    """Return the problem of a document; None if it is valid or not a document of casket."""
    document = numbered[1]
    if layout.is_record(document):
        return problem_of(document)
    if layout.is_nested(document):
        try:
            unfolded(dict(document))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return f"it cannot be read ({type(error).__name__}: {error})"
        return None
    return problem_of(document) if document.keys() & _LIKE_A_RECORD else None


def _records(document: dict[str, Any]) -> list[Any]:
    if layout.is_record(document):
        document.pop("more", None)
        return [document]
    return unfolded(document)


def _laid_out_by_hand(file: FilePort, extent: scan.Extent) -> layout.OtherLayout | None:
    """Return the content of a valid file in which only the first line has casket's layout."""
    is_suspect = file.size() <= scan.EDITED and scan.damages(file, extent)
    return scan.other_layout(file) if is_suspect else None
