"""The artifacts in a MongoDB database, as GridFS keeps files: `casket_files.files` and `.chunks`.

The document of a file appears when all of its chunks are stored. Its `_id` is the name of the
upload to which the chunks belong; its `filename`, the name of the file, is unique.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, BinaryIO, TypeVar

from pymongo import ASCENDING
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError
from pymongo.write_concern import WriteConcern

from casket.errors import StoreUnavailable
from casket.format.files import CHUNK, StoredFile, Upload, is_unfinished, missing_file

_Document = dict[str, Any]
_FILES, _CHUNKS = "casket_files.files", "casket_files.chunks"
_WRITTEN = WriteConcern("majority", j=True)

T = TypeVar("T")


class MongoFiles:
    """The files in a database; see `casket.format.files.Files`.

    Args:
        on_database: calls a function with the database.
        location: the URL of the store, without the password.
    """

    def __init__(
        self, on_database: Callable[[Callable[[Database[_Document]], Any]], Any], location: str
    ) -> None:
        self._on_database = on_database
        self._location = location

    def renew(self, name: str, modified: datetime, /) -> bool:
        change = {"$set": {"uploadDate": modified}}
        answer = self._do(_FILES, lambda files: files.update_one({"filename": name}, change))
        return bool(answer.matched_count)

    def put(self, upload: Upload, content: BinaryIO, /) -> None:
        self._on_database(_make_indexes)
        n = self._arrived(upload.part)
        content.seek(n * CHUNK)
        while chunk := content.read(CHUNK):
            self._add({"files_id": upload.part, "n": n, "data": chunk})
            n += 1
        if self._arrived(upload.part) < -(-upload.size // CHUNK):
            advice = "parts of the upload were removed meanwhile; it begins again"
            raise StoreUnavailable(self._location, advice)
        self._finish(upload)

    def _arrived(self, part: str) -> int:
        chunks = {"files_id": part}
        return int(self._do(_CHUNKS, lambda collection: collection.count_documents(chunks)))

    def _add(self, chunk: _Document) -> None:
        added = {**chunk, "added": datetime.now(UTC)}
        # It is there already if the answer to an earlier attempt was lost.
        self._do(_CHUNKS, lambda collection: _inserted(collection, added))

    def _finish(self, upload: Upload) -> None:
        file = {
            "_id": upload.part,
            "filename": upload.name,
            "length": upload.size,
            "chunkSize": CHUNK,
            "uploadDate": upload.modified,
        }
        if not self._do(_FILES, lambda collection: _inserted(collection, file)):
            there = self._file(upload.name)
            if there is not None and there["_id"] != upload.part:
                self._remove_chunks(upload.part)

    def read(self, name: str, start: int = 0, /) -> Iterator[bytes]:
        file = self._file(name)
        if file is None:
            raise missing_file(name, self._location)
        n, skipped = divmod(start, file["chunkSize"])
        while chunk := self._chunk(file["_id"], n):
            yield bytes(chunk["data"][skipped:])
            n, skipped = n + 1, 0

    def _file(self, name: str) -> _Document | None:
        file: _Document | None
        file = self._do(_FILES, lambda collection: collection.find_one({"filename": name}))
        return file

    def _chunk(self, upload: str, n: int) -> _Document | None:
        wanted = {"files_id": upload, "n": n}
        chunk: _Document | None = self._do(_CHUNKS, lambda chunks: chunks.find_one(wanted))
        return chunk

    def listed(self) -> Iterator[StoredFile]:
        files = self._do(_FILES, lambda collection: list(collection.find({})))
        for file in files:
            yield StoredFile(file["filename"], file["length"], _aware(file["uploadDate"]))
        complete = {file["_id"] for file in files}
        for part in self._do(_CHUNKS, lambda collection: collection.distinct("files_id")):
            last = self._chunk(part, self._arrived(part) - 1)
            if part not in complete and last is not None:
                size = last["n"] * CHUNK + len(last["data"])
                yield StoredFile(part, size, _aware(last["added"]))

    def delete(self, name: str, modified: datetime | None = None, /) -> bool:
        if is_unfinished(name):
            is_complete = self._do(_FILES, lambda files: files.find_one({"_id": name}))
            return not is_complete and self._remove_chunks(name) > 0
        wanted: _Document = {"filename": name}
        if modified is not None:
            wanted["uploadDate"] = {"$lte": modified}
        file = self._do(_FILES, lambda collection: collection.find_one_and_delete(wanted))
        if file is not None:
            self._remove_chunks(file["_id"])
        return file is not None

    def _remove_chunks(self, upload: str) -> int:
        chunks = {"files_id": upload}
        return int(self._do(_CHUNKS, lambda each: each.delete_many(chunks)).deleted_count)

    def _do(self, collection: str, work: Callable[[Any], T]) -> T:
        def on_collection(database: Database[_Document]) -> T:
            return work(database.get_collection(collection, write_concern=_WRITTEN))

        answer: T = self._on_database(on_collection)
        return answer


def _inserted(collection: Any, document: _Document) -> bool:
    """Insert a document; return whether none of its name was there."""
    try:
        collection.insert_one(document)
    except DuplicateKeyError:
        return False
    return True


def _make_indexes(database: Database[_Document]) -> None:
    database[_FILES].create_index([("filename", ASCENDING)], unique=True)
    in_order = [("files_id", ASCENDING), ("n", ASCENDING)]
    database[_CHUNKS].create_index(in_order, unique=True)


def _aware(timestamp: datetime) -> datetime:
    return timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)
