"""Serialization of artifacts: files, streams, figures, images, tables and any other object.

Libraries are recognized by the module names of their types, and imported only here and only when
an object of theirs is stored.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from casket.errors import CasketError, StoreUnavailable, UnstorableValue
from casket.format import forms
from casket.format.hashed import HashedFile, Write

_PICKLES = frozenset({".joblib", ".pkl", ".pickle"})
_PLOTLY_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".svg", ".pdf", ".eps"})
_OF_A_PATH = "give the path of a file that can be read, or bytes; text is given by text="


class Serialized(NamedTuple):
    """The content of an artifact, and how it is read back.

    Attributes:
        content: a function that opens a stream of the content, or one that writes it to a file.
        suffix: the suffix of the file.
        serializer: `joblib` or `pickle`, if the object was serialized by it.
        form: the name of the form of an object (`casket.format.forms`).
        index_columns: the number of columns that are the index of a table.
    """

    content: Opened | Written
    suffix: str
    serializer: str | None = None
    form: str | None = None
    index_columns: int = 0


class Opened(NamedTuple):
    """Content that is read from a stream."""

    open: Callable[[], BinaryIO]


class Written(NamedTuple):
    """Content that is written to a file."""

    write: Write


def serialize(name: str, source: Any) -> Serialized:
    """Choose how an artifact is stored.

    Args:
        name: the artifact's name; its suffix selects the format of an object.
        source: a path, bytes, an open binary file, a figure, an image, a table or any other object.

    Raises:
        UnstorableValue: the object cannot be stored in the format of the suffix.
        CasketError: the path is a folder.
    """
    suffix = _suffix(name)
    if isinstance(source, (str, os.PathLike)):
        return _existing(name, suffix, Path(os.fsdecode(source)))
    if is_content(source):
        return Serialized(Opened(lambda: open_content(name, source)), suffix)
    lower = suffix.lower()
    return _rendered(name, lower, source) or _formed(name, lower, source) or _pickled(lower, source)


def of_text(name: str, content: str) -> Serialized:
    """Choose how text is stored.

    Raises:
        UnstorableValue: it is not text, or not Unicode.
    """
    if not isinstance(content, str):
        raise UnstorableValue(name, f"text= of type {type(content).__name__}", "give a str")
    try:
        encoded = content.encode()
    except UnicodeEncodeError as error:
        raise UnstorableValue(name, "text that is not Unicode", str(error)) from None
    return Serialized(Opened(lambda: io.BytesIO(encoded)), _suffix(name) or ".txt", form="text")


def is_content(source: Any) -> bool:
    """Return whether an object is bytes or an open file."""
    is_file = isinstance(source, io.IOBase) or hasattr(source, "readinto")
    return is_file or isinstance(source, (bytes, bytearray, memoryview))


def open_content(name: str, source: Any) -> BinaryIO:
    """Open a path, bytes or an open file for reading from the beginning.

    Raises:
        StoreUnavailable: the file cannot be read.
        UnstorableValue: the open file is not binary, or closed.
    """
    if isinstance(source, (str, os.PathLike)):
        return _open(Path(os.fsdecode(source)))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(bytes(source))
    return _borrowed(name, source)


class _Borrowed(io.RawIOBase):
    """An open file of the caller, from its beginning; it stays open, at its position."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._is_seekable = file.seekable()
        self._position = file.tell() if self._is_seekable else 0
        if self._is_seekable:
            file.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._is_seekable

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def readinto(self, buffer: Any) -> int:
        chunk = self._file.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        if not self.closed and self._is_seekable:
            self._file.seek(self._position)
        super().close()


def _borrowed(name: str, file: Any) -> BinaryIO:
    if isinstance(file, io.TextIOBase):
        hint = "open it with mode 'rb', or give its content by text="
        raise UnstorableValue(name, "a file that is open as text", hint)
    if file.closed or not file.readable():
        hint = "open it with mode 'rb', or give its path"
        raise UnstorableValue(name, "a file that is closed or cannot be read", hint)
    return cast("BinaryIO", _Borrowed(file))


def _suffix(name: str) -> str:
    """Return the suffix of a name if it is a valid file suffix on any system, else empty."""
    suffix = Path(name).suffix
    return suffix if re.fullmatch(r"\.\w{1,16}", suffix, re.ASCII) else ""


def _existing(name: str, suffix: str, path: Path) -> Serialized:
    if os.path.isdir(path):
        raise CasketError(f"artifact {name!r}: {path} is a folder; add its files, or an archive")
    return Serialized(Opened(lambda: _open(path)), suffix or _suffix(path.name))


def _open(path: Path) -> BinaryIO:
    try:
        if not path.is_file() and path.exists():
            raise OSError(errno.EINVAL, "not a regular file")
        return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a null character
        number = getattr(error, "errno", None) or errno.EINVAL
        raise StoreUnavailable(str(path), _OF_A_PATH, number) from error


def _rendered(name: str, suffix: str, source: Any) -> Serialized | None:
    """Return a figure or image in the format of the suffix; None for other objects."""
    package = type(source).__module__.partition(".")[0]
    if package == "matplotlib" and hasattr(source, "savefig"):
        return _matplotlib(source, suffix)
    if package == "plotly" and hasattr(source, "to_html"):
        return _plotly(name, suffix, source)
    if package == "PIL" and hasattr(source, "save"):
        return _pillow(source, suffix)
    return None


def _formed(name: str, suffix: str, source: Any) -> Serialized | None:
    chosen = forms.choose(name, suffix, source)
    if chosen is None:
        return None
    form, suffix = chosen
    write = forms.writer_of(form)
    written = Written(lambda file: write(source, file))
    return Serialized(written, suffix, None, form, forms.index_of(form, source))


def _matplotlib(figure: Any, suffix: str) -> Serialized:
    # In a name such as `lr_0.1`, the part after the dot is not a format.
    known = suffix[1:] in figure.canvas.get_supported_filetypes()
    options = {"format": suffix[1:] if known else "png", "bbox_inches": "tight"}
    write = Written(lambda file: figure.savefig(file, **options))
    return Serialized(write, suffix if known else ".png")


def _plotly(name: str, suffix: str, figure: Any) -> Serialized:
    if suffix == ".json":
        write = Written(lambda file: file.write(figure.to_json().encode()))
        return Serialized(write, suffix, form="plotly")
    if suffix in _PLOTLY_IMAGES:
        _require_kaleido(name)
        return Serialized(
            Written(lambda file: file.write(figure.to_image(format=suffix[1:]))), suffix
        )
    # With plotly.js embedded, the page also shows the figure offline.
    write = Written(lambda file: file.write(figure.to_html(include_plotlyjs=True).encode()))
    return Serialized(write, suffix if suffix == ".htm" else ".html")


def _require_kaleido(name: str) -> None:
    try:
        importlib.import_module("kaleido")
    except ModuleNotFoundError as error:
        if error.name != "kaleido":
            raise
        hint = "pip install kaleido, or give it a name that ends in .html"
        raise UnstorableValue(name, "a plotly figure as an image", hint) from error


def _pillow(image: Any, suffix: str) -> Serialized:
    from PIL import Image

    known = Image.registered_extensions().get(suffix) in Image.SAVE
    image_format = Image.registered_extensions()[suffix] if known else "PNG"
    write = Written(lambda file: image.save(file, format=image_format))
    return Serialized(write, suffix if known else ".png", form="pillow")


def _pickled(suffix: str, source: Any) -> Serialized:
    kept = suffix if suffix in _PICKLES else ""
    try:
        import joblib
    except ModuleNotFoundError as error:
        if error.name != "joblib":
            raise
        return Serialized(Written(_pickling(source)), kept or ".pkl", "pickle")
    write = Written(lambda file: joblib.dump(source, file))
    return Serialized(write, kept or ".joblib", "joblib")


def _pickling(source: Any) -> Write:
    def write(file: HashedFile) -> None:
        import pickle

        pickle.dump(source, file)

    return write
