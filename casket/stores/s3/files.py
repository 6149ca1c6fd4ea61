"""The artifacts in a bucket: objects `prefix/files/<name>`.

A large file is sent in parts. The server keeps them until the upload is completed, and lists them.
An object cannot change, so its time is in its metadata, which a copy onto itself replaces.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, BinaryIO

from casket.errors import StoreUnavailable
from casket.format.files import StoredFile, Upload, is_unfinished, missing_file
from casket.stores.s3.bucket import Bucket

PART = 5 << 20
"""The size of a part of a large file; S3 accepts no smaller parts, apart from the last."""

MOST_PARTS = 10_000

_MODIFIED = "casket-modified"


class S3Files:
    """The files in a bucket; see `casket.format.files.Files`.

    Args:
        bucket: returns the bucket.
        location: the URL of the store.
    """

    def __init__(self, bucket: Callable[[], Bucket], location: str) -> None:
        self._bucket = bucket
        self._location = location

    def renew(self, name: str, modified: datetime, /) -> bool:
        head = self._ask("head_object", name)
        if head is None:
            return False
        if _modified(head) < modified:
            self._ask(
                "copy_object",
                name,
                CopySource=self._bucket().copied(name),
                Metadata=_metadata(modified),
                MetadataDirective="REPLACE",
            )
        return True

    def put(self, upload: Upload, content: BinaryIO, /) -> None:
        if upload.size <= PART:
            content.seek(0)
            body = content.read(PART + 1)
            content.read(1)  # at the end, the content is checked
            metadata = _metadata(upload.modified)
            if self._ask("put_object", upload.name, Body=body, Metadata=metadata) is None:
                raise self._interrupted()
            return
        upload_id = self._upload_id(upload)
        parts = self._parts(upload.name, upload_id)
        self._send(upload, upload_id, parts, content)
        done = self._ask(
            "complete_multipart_upload",
            upload.name,
            UploadId=upload_id,
            MultipartUpload={"Parts": [{"PartNumber": n, "ETag": parts[n]} for n in sorted(parts)]},
        )
        if done is None and self._ask("head_object", upload.name) is None:
            raise self._interrupted()

    def _upload_id(self, upload: Upload) -> str:
        """Return the id of an interrupted upload of the file, or of a new one."""
        for _, upload_id, _ in self._unfinished(upload.name):
            return upload_id
        metadata = _metadata(upload.modified)
        begun = self._ask("create_multipart_upload", upload.name, Metadata=metadata) or {}
        return str(begun["UploadId"])

    def _parts(self, name: str, upload_id: str) -> dict[int, str]:
        """Return the ETags of the parts that have arrived, up to the first that is missing."""
        parts: dict[int, str] = {}
        more: dict[str, Any] = {}
        while True:
            answer = self._ask("list_parts", name, UploadId=upload_id, **more)
            if answer is None:
                raise self._interrupted()
            parts.update((part["PartNumber"], part["ETag"]) for part in answer.get("Parts", ()))
            if not answer.get("IsTruncated"):
                break
            more = {"PartNumberMarker": answer["NextPartNumberMarker"]}
        first_missing = next(n for n in range(1, MOST_PARTS + 2) if n not in parts)
        return {n: etag for n, etag in parts.items() if n < first_missing}

    def _send(
        self, upload: Upload, upload_id: str, parts: dict[int, str], content: BinaryIO
    ) -> None:
        size = max(PART, math.ceil(upload.size / MOST_PARTS))
        content.seek(len(parts) * size)
        while body := content.read(size):
            n = len(parts) + 1
            sent = self._ask(
                "upload_part", upload.name, UploadId=upload_id, PartNumber=n, Body=body
            )
            if sent is None:
                raise self._interrupted()
            parts[n] = sent["ETag"]

    def read(self, name: str, start: int = 0, /) -> Iterator[bytes]:
        head = self._ask("head_object", name)
        if head is None:
            raise missing_file(name, self._location)
        if start < head["ContentLength"]:
            chunks = self._bucket().stream_file(name, start)
            if chunks is None:
                raise missing_file(name, self._location)
            yield from chunks

    def listed(self) -> Iterator[StoredFile]:
        for name, _, begun in self._unfinished(""):
            yield StoredFile(f".{name}.part", 0, begun)
        more: dict[str, str] = {}
        while True:
            answer = self._bucket().ask_files("list_objects_v2", **more)
            for one in answer.get("Contents", ()):
                name = one["Key"].rpartition("/")[2]
                head = self._ask("head_object", name)
                if head is not None:
                    yield StoredFile(name, one["Size"], _modified(head))
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def delete(self, name: str, modified: datetime | None = None, /) -> bool:
        if is_unfinished(name):
            return self._abort(name[1:].removesuffix(".part"))
        head = self._ask("head_object", name)
        if head is None or (modified is not None and _modified(head) > modified):
            return False
        self._ask("delete_object", name)
        return True

    def _abort(self, name: str) -> bool:
        ids = [upload_id for _, upload_id, _ in self._unfinished(name)]
        for upload_id in ids:
            self._ask("abort_multipart_upload", name, UploadId=upload_id)
        return bool(ids)

    def _unfinished(self, name: str) -> Iterator[tuple[str, str, datetime]]:
        """Yield the names, ids and beginnings of unfinished uploads of a file, or of all files."""
        more: dict[str, str] = {}
        while True:
            answer = self._bucket().ask_files("list_multipart_uploads", **more)
            for one in answer.get("Uploads", ()):
                of = one["Key"].rpartition("/")[2]
                if name in ("", of):
                    yield of, one["UploadId"], one["Initiated"]
            if not answer.get("IsTruncated"):
                return
            more = {
                "KeyMarker": answer["NextKeyMarker"],
                "UploadIdMarker": answer["NextUploadIdMarker"],
            }

    def _ask(self, operation: str, name: str, **arguments: Any) -> dict[str, Any] | None:
        return self._bucket().ask_file(operation, name, **arguments)

    def _interrupted(self) -> StoreUnavailable:
        advice = "the upload was removed meanwhile; it begins again"
        return StoreUnavailable(self._location, advice, errno.EAGAIN)


def _metadata(modified: datetime) -> dict[str, str]:
    return {_MODIFIED: modified.isoformat()}


def _modified(head: dict[str, Any]) -> datetime:
    text = head.get("Metadata", {}).get(_MODIFIED)
    modified: datetime = datetime.fromisoformat(text) if text else head["LastModified"]
    return modified
