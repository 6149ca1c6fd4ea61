"""The store of a JSON file on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Unpack

from casket.format.records import Record
from casket.stores import base
from casket.stores.jsonfile.document import JsonDocument
from casket.stores.jsonfile.files import FilePort, LocalFile
from casket.system import forks


class JsonStore:
    """A JSON document on this machine.

    Args:
        path: the path of the file.
        options: the options of the store.
        file_class: opens the file.

    Attributes:
        append_json: appends a record that is no head, given as JSON without checksum and brace.
        documents: yields numbers and documents as TinyDB reads them.
        start_texts: returns the numbers and texts of starts without parsing them.
        latest: returns the latest sessions, without parsing the records of the others.
    """

    def __init__(
        self,
        path: Path | str,
        options: base.StoreOptions = base.DEFAULTS,
        file_class: type[LocalFile] = LocalFile,
    ) -> None:
        open_file = partial(file_class, path, create=options.create)
        self._document = document = JsonDocument(open_file, path, options)
        self.append_json = document.append_json
        self.documents = document.reader.documents
        self.start_texts = document.reader.start_texts
        self.latest = document.reader.latest
        forks.renew_in_children(document)

    def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
        if claim is None:
            return self._document.append(records)
        return self._document.append(records, partial(self._unless_held, claim, records))

    def _unless_held(
        self, claim: str, records: Sequence[Record], _file: FilePort
    ) -> Sequence[Record]:
        base.refuse_held(claim, self.records, records)
        return records

    def records(self, **chosen: Unpack[base.Chosen]) -> Iterator[base.Numbered]:
        return self._document.reader.records(**chosen)

    def prune(self, tombstone: Record, /) -> None:
        self._document.prune(tombstone)

    def close(self) -> None:
        self._document.close()
