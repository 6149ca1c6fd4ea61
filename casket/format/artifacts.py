"""Artifacts: files stored beside a store, named by the hash of their content.

A file is written under a temporary name, synced and renamed, so that it appears whole or not at
all; a file that already exists is not written again.
"""

from __future__ import annotations

import contextlib
import errno
import io
import mimetypes
import os
import stat
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from casket.errors import StoreUnavailable, UnstorableValue, UntrustedArtifact, missing
from casket.format.records import new_id
from casket.format.serializers import npy, serialize
from casket.format.stored import open_stored
from casket.format.values import Encoder
from casket.system import durability, failures, origin

COPIED = 1 << 20
"""Bytes copied and hashed at a time."""

LISTED = 10_000
"""The number of files in a folder beyond which stored content is not looked for."""


class ArtifactFolder:
    """The folder of a store's artifacts, created with the first artifact.

    Args:
        path: the folder, such as `runs.json.files`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, name: str, source: Any) -> dict[str, Any]:
        """Store an artifact.

        Args:
            name: the artifact's name; its suffix determines the media type.
            source: the path of a file; bytes; a matplotlib or plotly figure or a PIL image, in the
                format given by the suffix (else as `.html` or `.png`); a numpy array, if the name
                ends in `.npy`; or any other object, serialized with joblib if that is installed,
                else with pickle.

        Returns:
            The artifact's description: name, file, sha256, size in bytes, media type, serializer;
            of a pickle, also a signature that shows that this machine wrote it.

        Raises:
            UnstorableValue: the object cannot be serialized.
            StoreUnavailable: the file cannot be read, or its copy cannot be written.
        """
        serialized = serialize(_checked_name(name), source)
        with serialized.open() as stream:
            kept = self.keep(stream, serialized.suffix)
        signature = origin.sign(kept["sha256"]) if serialized.serializer else None
        media_type = mimetypes.guess_type(f"artifact{serialized.suffix}")[0]
        return {
            "name": name,
            **kept,
            "media_type": media_type or "application/octet-stream",
            "serializer": serialized.serializer,
            **({"signature": signature} if signature else {}),
        }

    def put_array(self, array: Any) -> dict[str, Any]:
        """Store a numpy array as an `.npy` file and return its description."""
        kept = self.keep(io.BytesIO(npy(array)), ".npy")
        return {**kept, "shape": list(array.shape), "dtype": str(array.dtype)}

    def load_array(self, kept: dict[str, Any]) -> Any:
        """Load an array stored by `put_array`.

        Raises:
            NotFound: its file does not exist.
            StoreUnavailable: its content has changed.
            MissingDependency: numpy is not installed.
        """
        return _array(self.read(kept["file"], kept["sha256"]))

    def find(self, file: str) -> Path:
        """Return the path of a stored file.

        Raises:
            NotFound: the file does not exist, or is a link or no regular file.
        """
        open_stored(self.path, file).close()
        return self.path / Path(file).name

    def read(self, file: str, sha256: str) -> bytes:
        """Return the content of a stored file.

        Raises:
            NotFound: the file does not exist, or is a link or no regular file.
            StoreUnavailable: the content has another hash.
        """
        import hashlib  # loads OpenSSL, which most readers do not need

        with open_stored(self.path, file) as stream:
            content = stream.read()
        if hashlib.sha256(content).hexdigest() != sha256:
            advice = "its content has changed since it was stored; restore it from a copy"
            raise StoreUnavailable(str(self.path / Path(file).name), advice)
        return content

    def keep(self, stream: BinaryIO, suffix: str) -> dict[str, Any]:
        """Store content and return the name of its file, its hash and its size in bytes.

        Raises:
            StoreUnavailable: the content cannot be read, or its copy cannot be written.
        """
        try:
            if not self.path.is_dir():
                self.path.mkdir(parents=True, exist_ok=True)
                durability.sync_folder(self.path.parent)
            digest, size = self._known(stream)
            file = f"{digest}{suffix}"
            if digest is None or not _is_renewed(self.path / file):
                with self._temporary() as temporary:
                    digest, size = _copy(stream, temporary)
                    file = f"{digest}{suffix}"
                    if not _is_renewed(self.path / file):
                        os.replace(temporary, self.path / file)
                        durability.sync_folder(self.path)
        except OSError as error:
            raise failures.unavailable(
                self.path, error.errno or errno.EIO, "it was not kept"
            ) from error
        return {"file": file, "sha256": digest, "size": size}

    def _known(self, stream: BinaryIO) -> tuple[str | None, int]:
        """Return the hash and size of content that may be stored already; the hash may be None.

        Hashing takes a fraction of the time of a copy. A large file is hashed only if a stored
        file has the same size.
        """
        import hashlib

        if not stream.seekable():
            return None, 0
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        if size > COPIED and size not in self._sizes():
            return None, size
        digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        stream.seek(0)
        return digest, size

    def _sizes(self) -> set[int]:
        """Return the sizes of the stored files, as far as listing them is fast."""
        with os.scandir(self.path) as entries:
            listed = list(islice(entries, LISTED))
        return set(_existing_sizes(listed))

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[Path]:
        path = self.path / f".{new_id()}.tmp"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


class Artifact(NamedTuple):
    """A stored file.

    Attributes:
        name: the artifact's name.
        size: the size in bytes.
        sha256: the hexadecimal hash of the content.
        media_type: the media type, such as `image/png`.
        serializer: `joblib` or `pickle` for a serialized object, None otherwise.
    """

    name: str
    size: int
    sha256: str
    media_type: str
    serializer: str | None
    file: str
    folder: ArtifactFolder
    signature: str | None = None

    @classmethod
    def of(cls, body: dict[str, Any], folder: ArtifactFolder) -> Artifact:
        """Create an artifact from the description returned by `ArtifactFolder.put`."""
        known = {field: body[field] for field in cls._fields[:5]}
        return cls(**known, file=body["file"], folder=folder, signature=body.get("signature"))

    @property
    def path(self) -> Path:
        """The path of the file; raises `NotFound` if it does not exist or is a link."""
        return self.folder.find(self.file)

    def load(self, *, trusted: bool = False) -> Any:
        """Return the serialized object, the array of an `.npy` file, or the file's bytes.

        Args:
            trusted: unpickle an object although this user of this machine did not write it, which
                can run any code in the file.

        Raises:
            NotFound: the file does not exist, or is a link or no regular file.
            StoreUnavailable: the content of the file has changed since it was stored.
            UntrustedArtifact: the object was pickled elsewhere and is not `trusted`.
            MissingDependency: the library that wrote the file is not installed.
        """
        content = self.folder.read(self.file, self.sha256)
        if self.serializer is not None:
            if not trusted and not origin.is_own(self.sha256, self.signature):
                raise UntrustedArtifact(str(self.folder.path / Path(self.file).name), self.name)
            return _unpickled(content, self.serializer)
        if self.file.endswith(".npy"):
            return _array(content)
        return content


def _array(content: bytes) -> Any:
    try:
        import numpy as np
    except ModuleNotFoundError as error:
        raise missing(error, "numpy", "pandas") from error
    return np.load(io.BytesIO(content), allow_pickle=False)


def _unpickled(content: bytes, serializer: str) -> Any:
    if serializer != "joblib":
        import pickle

        return pickle.loads(content)  # noqa: S301 - written here, or trusted by the user
    try:
        import joblib
    except ModuleNotFoundError as error:
        raise missing(error, "joblib", "sklearn") from error
    return joblib.load(io.BytesIO(content))


def _existing_sizes(entries: Iterable[os.DirEntry[str]]) -> Iterator[int]:
    """Yield the sizes of files, except of those that another process has removed meanwhile."""
    for entry in entries:
        with contextlib.suppress(FileNotFoundError):
            yield entry.stat(follow_symlinks=False).st_size


def _checked_name(name: str) -> str:
    if not isinstance(name, str):
        raise UnstorableValue("the artifact's name", type(name).__name__, "give text")
    Encoder().encode(name, "the artifact's name")
    return name


def _is_renewed(path: Path) -> bool:
    """Touch the file if it exists; return whether it did.

    Even if no record refers to the file, its recent time shows cleaning that a record is about to.
    A link of its name is no stored file.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        os.utime(path)
    except OSError:
        return False
    return True


def _copy(source: BinaryIO, target: Path) -> tuple[str, int]:
    """Copy a stream to a file and sync it; return its hash and size."""
    import hashlib  # loads OpenSSL, which readers do not need

    digest = hashlib.sha256()
    with target.open("wb") as file:
        while chunk := source.read(COPIED):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
        return digest.hexdigest(), file.tell()
