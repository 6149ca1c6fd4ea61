"""A JSON file on a file system without locks: its records are in files beside it.

Each append creates a file in the folder `<file>.parts`, by a hard link. Of several processes that
create the same name, one succeeds, on every file system and without a lock. The files are the
objects of `casket.stores.s3.log`. Records that were in the JSON file before come first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Unpack

from casket.errors import NotFound
from casket.format.records import Record, covering
from casket.stores import base
from casket.stores.inspection import Part
from casket.stores.jsonfile import layout
from casket.stores.jsonfile.check import JsonInspection
from casket.stores.jsonfile.files import UnsharedFile
from casket.stores.jsonfile.store import JsonStore
from casket.stores.parts.folder import Folder, folder_of, intact
from casket.stores.s3.batch import Batch
from casket.stores.s3.log import Log
from casket.stores.s3.store import ObjectStore
from casket.system import failures

AFTER_DOCUMENT = 10**12
"""Added to the numbers of the log, so that they follow those of the JSON file."""


class PartsStore(ObjectStore):
    """A JSON file, and the files beside it.

    Args:
        path: the JSON file.
        options: how to open it.
    """

    shipping_interval = 10.0
    """Each batch is a file: the journal gathers records for as many seconds."""

    def __init__(self, path: Path | str, options: base.StoreOptions = base.DEFAULTS) -> None:
        self._path = Path(path)
        self._document = JsonStore(path, file_class=UnsharedFile)
        super().__init__(partial(Folder, self._path), str(path), options)

    def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
        return AFTER_DOCUMENT + super().append(records, claim=claim)

    def records(self, **chosen: Unpack[base.Chosen]) -> Iterator[base.Numbered]:
        if not self._writing and not (self._path.exists() or folder_of(self._path).exists()):
            raise NotFound(str(self._path))
        with self._lock:
            log = self._opened()
            log.look()
            yet = self._stored(log)(**chosen)
        yield from yet

    def _stored(self, log: Log) -> base.Reading:
        return partial(self._combined, log)

    def _combined(self, log: Log, **chosen: Unpack[base.Chosen]) -> Iterator[base.Numbered]:
        after = chosen.get("after", 0)
        chosen["after"] = max(0, after - AFTER_DOCUMENT)
        later = log.records(**chosen)
        chosen["after"] = after
        return self._joined(self._before(log, chosen), later)

    def _before(self, log: Log, chosen: base.Chosen) -> Iterable[base.Numbered]:
        """Yield the records of the JSON file that no tombstone covers."""
        if chosen.get("after", 0) >= AFTER_DOCUMENT:
            return
        deleted = [record for _, record in log.records(kinds={"deleted"})]
        copies = {(one["writer"], one["n"]) for one in deleted}
        are_covered = [covering(one) for one in deleted]
        for number, record in self._document.records(**chosen):
            is_copy = (record["writer"], record["n"]) in copies
            if not (is_copy or any(is_covered(record) for is_covered in are_covered)):
                yield number, record

    @staticmethod
    def _joined(
        before: Iterable[base.Numbered], later: Iterable[base.Numbered]
    ) -> Iterator[base.Numbered]:
        yield from before
        for number, record in later:
            yield AFTER_DOCUMENT + number, record

    def prune(self, tombstone: Record, /) -> None:
        with self._lock:
            super().prune(tombstone)
            if next(self._document.records(), None) is not None:
                self._document.prune(tombstone)

    def close(self) -> None:
        super().close()
        self._document.close()

    def latest(self, count: int, offset: int = 0) -> None:
        """Return None: all records have to be read."""


class PartsInspection:
    """Inspection of a JSON file and of the files beside it.

    Args:
        path: the JSON file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = Folder(path)

    def parts(self) -> Iterator[Part]:
        """Yield the content, file by file; see `Inspection`."""
        if self._path.exists():
            yield from JsonInspection(self._path).parts()
        for first, file in self._folder.names():
            content = file.read_bytes()
            whole, damages = intact(first, content)
            batch = Batch.read(first, whole, str(file))
            records = [
                (AFTER_DOCUMENT + number, record)
                for number, record in map(batch.numbered, batch.lines())
            ]
            named = [
                damage._replace(
                    problem=f"{damage.problem}, in {file.name}", after=AFTER_DOCUMENT + damage.after
                )
                for damage in damages
            ]
            yield Part(records, named, len(content))

    def repair(self, kept: Path) -> None:
        """Replace each damaged file by its intact records; `kept` is a copy of the folder."""
        folder = folder_of(self._path)
        try:
            shutil.copytree(folder, kept)
            for first, file in self._folder.names():
                whole, damages = intact(first, file.read_bytes())
                if damages:
                    self._folder.replace(first, whole, file.name.partition("-")[2])
        except OSError as error:
            raise failures.unavailable(self._path, error.errno, "nothing was changed") from error

    def copy(self, target: Path) -> None:
        """Copy all records into one JSON file; see `Inspection`."""
        store = PartsStore(self._path, base.StoreOptions(writing=False))
        with closing(store), target.open("xb") as file:
            numbered = ((n, dict(record)) for n, (_, record) in enumerate(store.records(), 1))
            file.writelines(layout.text_of(layout.HEAD, numbered))
            file.flush()
            os.fsync(file.fileno())
