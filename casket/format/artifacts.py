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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from casket.errors import NotFound, UnstorableValue, missing
from casket.format.records import new_id
from casket.format.serializers import npy, serialize
from casket.format.values import Encoder
from casket.system import durability, failures

COPIED = 1 << 20
"""Bytes copied and hashed at a time."""


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
            The artifact's description: name, file, sha256, size in bytes, media type, serializer.

        Raises:
            UnstorableValue: the object cannot be serialized.
            StoreUnavailable: the file cannot be read, or its copy cannot be written.
        """
        serialized = serialize(_checked_name(name), source)
        with serialized.open() as stream:
            kept = self._keep(stream, serialized.suffix)
        media_type = mimetypes.guess_type(f"artifact{serialized.suffix}")[0]
        return {
            "name": name,
            **kept,
            "media_type": media_type or "application/octet-stream",
            "serializer": serialized.serializer,
        }

    def put_array(self, array: Any) -> dict[str, Any]:
        """Store a numpy array as an `.npy` file and return its description."""
        kept = self._keep(io.BytesIO(npy(array)), ".npy")
        return {**kept, "shape": list(array.shape), "dtype": str(array.dtype)}

    def load_array(self, kept: dict[str, Any]) -> Any:
        """Load an array stored by `put_array`.

        Raises:
            NotFound: its file does not exist.
            MissingDependency: numpy is not installed.
        """
        try:
            import numpy as np
        except ModuleNotFoundError as error:
            raise missing(error, "numpy", "pandas") from error
        return np.load(self.find(kept["file"]), allow_pickle=False)

    def find(self, file: str) -> Path:
        """Return the path of a stored file.

        Raises:
            NotFound: the file does not exist.
        """
        path = self.path / Path(file).name
        if not path.is_file():
            raise NotFound(str(path), "put the folder of its artifacts beside the store again")
        return path

    def _keep(self, stream: BinaryIO, suffix: str) -> dict[str, Any]:
        try:
            if not self.path.is_dir():
                self.path.mkdir(parents=True, exist_ok=True)
                durability.sync_folder(self.path.parent)
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

    @classmethod
    def of(cls, body: dict[str, Any], folder: ArtifactFolder) -> Artifact:
        """Create an artifact from the description returned by `ArtifactFolder.put`."""
        known = {field: body[field] for field in cls._fields[:5]}
        return cls(**known, file=body["file"], folder=folder)

    @property
    def path(self) -> Path:
        """The path of the file; raises `NotFound` if the file does not exist."""
        return self.folder.find(self.file)

    def load(self) -> Any:
        """Return the serialized object, the array of an `.npy` file, or the file's bytes.

        Unpickling can execute arbitrary code: load only files from sources you trust.

        Raises:
            NotFound: the file does not exist.
            MissingDependency: the library that wrote the file is not installed.
        """
        if self.serializer == "joblib":
            try:
                import joblib
            except ModuleNotFoundError as error:
                raise missing(error, "joblib", "sklearn") from error
            return joblib.load(self.path)
        if self.serializer == "pickle":
            import pickle

            return pickle.loads(self.path.read_bytes())  # noqa: S301 - asked for by the user
        if self.file.endswith(".npy"):
            return self.folder.load_array({"file": self.file})
        return self.path.read_bytes()


def _checked_name(name: str) -> str:
    if not isinstance(name, str):
        raise UnstorableValue("the artifact's name", type(name).__name__, "give text")
    Encoder().encode(name, "the artifact's name")
    return name


def _is_renewed(path: Path) -> bool:
    """Touch the file if it exists; return whether it did.

    Even if no record refers to the file, its recent time shows cleaning that a record is about to.
    """
    try:
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
