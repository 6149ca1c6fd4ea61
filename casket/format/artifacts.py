"""Artifacts: files stored beside a store, named by the hash of their content.

A file is written under a temporary name, synced and renamed, so that it appears whole or not at
all; a file that already exists is not written again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from casket.errors import (
    CasketError,
    NotFound,
    StoreUnavailable,
    UnstorableValue,
    UntrustedArtifact,
)
from casket.format import forms, serializers
from casket.format.files import Files, FolderFiles
from casket.format.folders import files_below
from casket.format.hashed import COPIED, Write, copy, sync, write_hashed
from casket.format.media_types import media_type_of
from casket.format.records import new_id
from casket.format.serializers import Opened, Serialized
from casket.format.stored import open_stored
from casket.format.values import Encoder
from casket.system import durability, failures, origin

SYNCED_AT_ONCE = 16
"""Files of a folder that are copied at a time."""

LISTED = 10_000
"""The number of files in a folder beyond which stored content is not looked for."""

Description = dict[str, Any]
"""The body of an artifact's record: name, file, sha256, size in bytes, media type, serializer and,
where they apply, form, index_columns and signature."""


class ArtifactFolder:
    """The folder of a store's artifacts, created with the first artifact.

    Args:
        path: the folder, such as `runs.json.files`.
        mode: the permissions of the folder, as far as the umask allows them.
    """

    def __init__(self, path: Path, mode: int = 0o777) -> None:
        self.path = path
        self._mode = mode

    def put(self, name: str, source: Any, owner: str = "") -> Description:
        """Store an artifact.

        Args:
            name: the artifact's name; its suffix determines the media type.
            source: the path of a file; bytes; an open binary file; a figure, an image or an object
                of another library in the format of the suffix; or any other object, serialized with
                joblib if that is installed, else with pickle.
            owner: a suffix that keeps the content apart from that of others, so that it can be
                removed.

        Returns:
            The artifact's description; of an object that may hold code, with a signature that shows
            that this machine wrote it.

        Raises:
            UnstorableValue: the object cannot be serialized.
            StoreUnavailable: the file cannot be read, or its copy cannot be written.
        """
        _check_name(name)
        try:
            return self._put(name, serializers.serialize(name, source), owner)
        except (CasketError, ImportError, MemoryError):
            raise
        except Exception as error:  # the object's own code may raise anything
            hint = f"it cannot be serialized ({error}); give the path of a file, or bytes"
            raise UnstorableValue(name, type(source).__name__, hint) from error

    def put_text(self, name: str, text: str, owner: str = "") -> Description:
        """Store text as an artifact; see `put`."""
        _check_name(name)
        return self._put(name, serializers.of_text(name, text), owner)

    def put_folder(
        self, name: str, folder: Path, owner_of: Callable[[str], str] = lambda _: ""
    ) -> list[Description]:
        """Store each file of a folder as an artifact, named by `name` and its relative path.

        Args:
            name: the beginning of the names.
            folder: the folder; links in it are followed.
            owner_of: returns the owner of an artifact as in `put`, given its name.

        Raises:
            StoreUnavailable: a file cannot be read, or its copy cannot be written.
            CasketError: the folder contains no files, or a link to one of its own parents.
        """
        from concurrent.futures import ThreadPoolExecutor  # loads much that others do not need

        _check_name(name)
        files = files_below(folder, name, without=self.path)

        def put(file: tuple[str, Path]) -> Description:
            return self.put(*file, owner=owner_of(file[0]))

        # A file system syncs several files at once at the cost of one.
        with ThreadPoolExecutor(SYNCED_AT_ONCE) as pool:
            return list(pool.map(put, files))

    def _put(self, name: str, serialized: Serialized, owner: str) -> Description:
        ending, content = f"{owner}{serialized.suffix}", serialized.content
        if isinstance(content, Opened):
            with content.open() as stream:
                kept = self.keep(stream, ending)
        else:
            kept = self._kept(lambda: self._write(content.write, ending))
        form = serialized.serializer or serialized.form
        signature = origin.sign(kept["sha256"]) if forms.may_hold_code(form) else None
        return {
            "name": name,
            **kept,
            "media_type": media_type_of(serialized.suffix),
            "serializer": serialized.serializer,
            **({"form": serialized.form} if serialized.form else {}),
            **({"index_columns": serialized.index_columns} if serialized.index_columns else {}),
            **({"signature": signature} if signature else {}),
        }

    def put_array(self, array: Any) -> dict[str, Any]:
        """Store a numpy array as an `.npy` file and return its description."""
        kept = self._kept(lambda: self._write(lambda file: forms.write_npy(array, file), ".npy"))
        return {**kept, "shape": list(array.shape), "dtype": str(array.dtype)}

    def load_array(self, kept: dict[str, Any]) -> Any:
        """Load an array stored by `put_array`.

        Raises:
            NotFound: its file does not exist.
            StoreUnavailable: its content has changed.
            MissingDependency: numpy is not installed.
        """
        with self.open(kept["file"], kept["sha256"]) as file:
            return forms.load_npy(file)

    def find(self, file: str) -> Path:
        """Return the path of a stored file.

        Raises:
            NotFound: the file does not exist, or is a link or no regular file.
        """
        self.stream(file).close()
        return self.place(file)

    def place(self, file: str) -> Path:
        """Return the path at which a stored file is, or would be, on this machine."""
        return self.path / Path(file).name

    def has(self, file: str) -> bool:
        """Return whether a file is stored."""
        try:
            self.stream(file).close()
        except NotFound:
            return False
        return True

    def stream(self, file: str) -> BinaryIO:
        """Open a stored file, whatever its content is.

        Raises:
            NotFound: the file does not exist, or is a link or no regular file.
        """
        return open_stored(self.path, file)

    def is_near(self, file: str) -> bool:  # noqa: ARG002 - a far store needs it
        """Return whether a file, if it is stored, can be opened without a transfer."""
        return True

    @property
    def shown(self) -> str:
        """The location of the stored files, for messages."""
        return str(self.path)

    @property
    def stored(self) -> Files:
        """The stored files, to list and delete them."""
        return FolderFiles(self.path)

    def open(self, file: str, sha256: str) -> BinaryIO:
        """Open a stored file whose content is as it was stored.

        Raises:
            NotFound: the file does not exist, or is a link or no regular file.
            StoreUnavailable: the content has another hash.
        """
        import hashlib  # loads OpenSSL, which most readers do not need

        stream = self.stream(file)
        if hashlib.file_digest(stream, "sha256").hexdigest() != sha256:  # type: ignore[arg-type]
            stream.close()
            advice = "its content has changed since it was stored; restore it from a copy"
            raise StoreUnavailable(str(self.place(file)), advice)
        stream.seek(0)
        return stream

    def keep(self, stream: BinaryIO, ending: str) -> dict[str, Any]:
        """Store content and return the name of its file, its hash and its size in bytes.

        Args:
            stream: the content.
            ending: the end of the name, after the hash.

        Raises:
            StoreUnavailable: the content cannot be read, or its copy cannot be written.
        """
        return self._kept(lambda: self._copy(stream, ending))

    def remove(self, file: str) -> None:
        """Remove a stored file that no record refers to.

        Raises:
            StoreUnavailable: it cannot be removed.
        """
        try:
            (self.path / Path(file).name).unlink(missing_ok=True)
        except OSError as error:
            raise failures.unavailable(self.path, error.errno, "a file stays in it") from error

    def close(self) -> None:
        """Release the connection to a far store; the next use opens it again."""

    def _kept(self, keep: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Create the folder and store content in it."""
        try:
            if not self.path.is_dir():
                self.path.mkdir(self._mode, parents=True, exist_ok=True)
                durability.sync_folder(self.path.parent)
            return keep()
        except OSError as error:
            if isinstance(error, CasketError):
                raise
            raise failures.unavailable(
                self.path, error.errno or errno.EIO, "it was not kept"
            ) from error

    def _copy(self, stream: BinaryIO, ending: str) -> dict[str, Any]:
        digest, size = self._known(stream)
        if digest is not None and self._has(digest, ending):
            return _description(digest, size, ending)
        return self._write(copy(stream), ending)

    def _write(self, write: Write, ending: str) -> dict[str, Any]:
        with self._temporary() as temporary:
            digest, size = write_hashed(write, temporary)
            if not self._has(digest, ending):
                sync(temporary)
                os.replace(temporary, self.path / f"{digest}{ending}")
                durability.sync_folder(self.path)
        return _description(digest, size, ending)

    def _has(self, digest: str, ending: str) -> bool:
        """Touch the file of this content if it exists; return whether it does."""
        return _is_renewed(self.path / f"{digest}{ending}")

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
        step: the step that it was stored for, or None.
        history: all artifacts of this name in the order they were stored, of which this is the
            last; only set for the artifacts of a session view.
        captured: `code`, `packages` or `output` if casket captured it, None otherwise.
    """

    name: str
    size: int
    sha256: str
    media_type: str
    serializer: str | None
    file: str
    folder: ArtifactFolder
    signature: str | None = None
    form: str | None = None
    index_columns: int = 0
    step: int | None = None
    history: tuple[Artifact, ...] = ()
    captured: str | None = None

    @classmethod
    def of(cls, body: Description, folder: ArtifactFolder) -> Artifact:
        """Create an artifact from the description returned by `ArtifactFolder.put`."""
        known = {field: body[field] for field in cls._fields if field in body}
        return cls(**{**known, "folder": folder, "serializer": body.get("serializer")})

    @property
    def path(self) -> Path:
        """The path of the file; raises `NotFound` if it does not exist or is a link.

        A file of a far store is fetched into the cache of this machine, from which it may be
        removed when it has not been used for the longest time.
        """
        return self.folder.find(self.file)

    def load(self, *, trusted: bool = False) -> Any:
        """Return the stored object.

        Text, a dict or list, a table, an array, an image, weights and a serialized object are
        returned as such, an `.npy` file as an array, and any other file as its bytes.

        Args:
            trusted: run the code in a pickle although this user of this machine did not write it.

        Raises:
            NotFound: the file does not exist, or is a link or no regular file.
            StoreUnavailable: the content of the file has changed since it was stored.
            UntrustedArtifact: the object was pickled elsewhere and is not `trusted`.
            MissingDependency: the library that wrote the file is not installed.
        """
        form = self.serializer or self.form or ("npy" if self.file.endswith(".npy") else None)
        with self.folder.open(self.file, self.sha256) as file:
            if form is None:
                return file.read()
            is_trusted = trusted or origin.is_own(self.sha256, self.signature)
            refusal = UntrustedArtifact(str(self.folder.place(self.file)), self.name)
            return forms.load(forms.Loading(file, form, self.index_columns, is_trusted, refusal))


def _existing_sizes(entries: Iterable[os.DirEntry[str]]) -> Iterator[int]:
    """Yield the sizes of files, except of those that another process has removed meanwhile."""
    for entry in entries:
        with contextlib.suppress(FileNotFoundError):
            yield entry.stat(follow_symlinks=False).st_size


def _check_name(name: str) -> None:
    if not isinstance(name, str):
        raise UnstorableValue("the artifact's name", type(name).__name__, "give text")
    Encoder().encode(name, "the artifact's name")


def _description(digest: str, size: int, ending: str) -> dict[str, Any]:
    return {"file": f"{digest}{ending}", "sha256": digest, "size": size}


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
