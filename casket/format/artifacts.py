"""Artifacts: files kept beside a store, by the hash of what they hold.

A file is written under another name, synced and renamed, so it is there whole or not at all;
what is there already is not written again.
"""

from __future__ import annotations

import contextlib
import errno
import io
import mimetypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from casket.errors import NotFound, UnstorableValue, missing
from casket.format.records import new_id
from casket.format.serializers import npy, serialise
from casket.format.values import Encoder
from casket.system import failures

COPIED = 1 << 20
"""Bytes copied and hashed at a time."""


class ArtifactFolder:
    """The folder of a store's artifacts; it is made when the first one comes.

    Args:
        path: the folder, such as `runs.json.files`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, name: str, source: Any) -> dict[str, Any]:
        """Keep an artifact.

        Args:
            name: what it is called; its suffix tells its media type.
            source: the path of a file; bytes; a matplotlib or plotly figure or a PIL image, in the
                format the suffix names (else as `.html` or `.png`); a numpy array named `.npy`;
                or any other object, kept by joblib if that is installed, else by pickle.

        Returns:
            What finds it again: name, file, sha256, size in bytes, media type, serializer.

        Raises:
            UnstorableValue: the object cannot be serialised.
            StoreUnavailable: the file cannot be read, or its copy not be written.
        """
        serialised = serialise(_checked_name(name), source)
        with serialised.open() as stream:
            kept = self._keep(stream, serialised.suffix)
        media_type = mimetypes.guess_type(f"artifact{serialised.suffix}")[0]
        return {
            "name": name,
            **kept,
            "media_type": media_type or "application/octet-stream",
            "serializer": serialised.serializer,
        }

    def put_array(self, array: Any) -> dict[str, Any]:
        """Keep a numpy array as an `.npy` file; return what finds it again."""
        kept = self._keep(io.BytesIO(npy(array)), ".npy")
        return {**kept, "shape": list(array.shape), "dtype": str(array.dtype)}

    def load_array(self, kept: dict[str, Any]) -> Any:
        """Load an array that `put_array` kept.

        Raises:
            NotFound: its file is gone.
            MissingDependency: numpy is not installed.
        """
        try:
            import numpy as np
        except ModuleNotFoundError as error:
            raise missing(error, "numpy", "pandas") from error
        return np.load(self.find(kept["file"]), allow_pickle=False)

    def find(self, file: str) -> Path:
        """Return the path of a kept file.

        Raises:
            NotFound: it is not there (any more).
        """
        path = self.path / Path(file).name
        if not path.is_file():
            raise NotFound(str(path), "put the folder of its artifacts beside the store again")
        return path

    def _keep(self, stream: BinaryIO, suffix: str) -> dict[str, Any]:
        try:
            if not self.path.is_dir():
                self.path.mkdir(parents=True, exist_ok=True)
                _sync_names(self.path.parent)
            with self._temporary() as temporary:
                digest, size = _copy(stream, temporary)
                file = f"{digest}{suffix}"
                if not _is_renewed(self.path / file):
                    os.replace(temporary, self.path / file)
                    _sync_names(self.path)
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
    """A kept file.

    Attributes:
        name: what it was called.
        size: in bytes.
        sha256: the hash of what it holds, hexadecimal.
        media_type: such as `image/png`.
        serializer: `joblib` or `pickle` for a serialised object, None for anything else.
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
        """Make it from what `ArtifactFolder.put` returned."""
        known = {field: body[field] for field in cls._fields[:5]}
        return cls(**known, file=body["file"], folder=folder)

    @property
    def path(self) -> Path:
        """The file; raises `NotFound` if it is gone."""
        return self.folder.find(self.file)

    def load(self) -> Any:
        """Return the object that was kept, an array of an `.npy` file, or the file's bytes.

        Unpickling runs code of whoever wrote the file: load only what you trust.

        Raises:
            NotFound: the file is gone.
            MissingDependency: what it was written with is not installed.
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
    """Give a file that is there a new time; tell whether it is.

    Nothing may name it any more: by its time, cleaning sees that something is about to.
    """
    try:
        os.utime(path)
    except OSError:
        return False
    return True


def _copy(source: BinaryIO, target: Path) -> tuple[str, int]:
    """Copy a stream to a file, synced; return its hash and its size."""
    import hashlib  # loads OpenSSL: not for a reader

    digest = hashlib.sha256()
    with target.open("wb") as file:
        while chunk := source.read(COPIED):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
        return digest.hexdigest(), file.tell()


def _sync_names(folder: Path) -> None:
    """Make new names in a folder safe against power loss, where the system can."""
    if sys.platform == "win32":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
