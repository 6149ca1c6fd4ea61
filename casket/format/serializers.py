"""Serialization of artifacts: figures, images, arrays and any other object.

Libraries are recognized by the module names of their types, and imported only here and only when
an object of theirs is stored.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import re
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from casket.errors import CasketError, StoreUnavailable, UnstorableValue

_PICKLES = frozenset({".joblib", ".pkl", ".pickle"})
_PLOTLY_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".svg", ".pdf", ".eps"})


class Serialized(NamedTuple):
    """Serialized data, the suffix of its file, and the serializer used."""

    data: bytes | Path
    suffix: str
    serializer: str | None = None

    def open(self) -> BinaryIO:
        """Open the data for reading.

        Raises:
            StoreUnavailable: the file cannot be read.
        """
        if isinstance(self.data, bytes):
            return io.BytesIO(self.data)
        try:
            return self.data.open("rb")
        except (OSError, ValueError) as error:  # ValueError: a null character
            advice = "give the path of a file that can be read, or bytes"
            number = getattr(error, "errno", None) or errno.EINVAL
            raise StoreUnavailable(str(self.data), advice, number) from error


def serialize(name: str, source: Any) -> Serialized:
    """Serialize an artifact.

    Args:
        name: the artifact's name; its suffix selects the format of a figure or image.
        source: a path, bytes, a figure, an image, an array or any other object.

    Raises:
        UnstorableValue: the object cannot be serialized.
        CasketError: the path is a folder.
    """
    suffix = _suffix(name)
    if isinstance(source, (str, os.PathLike)):
        return _existing(name, suffix, Path(os.fsdecode(source)))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return Serialized(bytes(source), suffix)
    try:
        return _rendered(name, suffix.lower(), source) or _pickled(suffix.lower(), source)
    except (CasketError, ImportError, MemoryError):
        raise
    except Exception as error:  # the object's own code may raise anything
        hint = f"it cannot be serialized ({error}); give the path of a file, or bytes"
        raise UnstorableValue(name, type(source).__name__, hint) from error


def _suffix(name: str) -> str:
    """Return the suffix of a name if it is a valid file suffix on any system, else empty."""
    suffix = Path(name).suffix
    return suffix if re.fullmatch(r"\.\w{1,16}", suffix, re.ASCII) else ""


def _existing(name: str, suffix: str, path: Path) -> Serialized:
    if os.path.isdir(path):
        raise CasketError(f"artifact {name!r}: {path} is a folder; add its files, or an archive")
    return Serialized(path, suffix or _suffix(path.name))


def _rendered(name: str, suffix: str, source: Any) -> Serialized | None:
    """Return a figure, image or array in the format of the suffix; None for other objects."""
    package = type(source).__module__.partition(".")[0]
    if package == "matplotlib" and hasattr(source, "savefig"):
        return _matplotlib(source, suffix)
    if package == "plotly" and hasattr(source, "to_html"):
        return _plotly(name, suffix, source)
    if package == "PIL" and hasattr(source, "save"):
        return _pillow(source, suffix)
    if package == "numpy" and suffix == ".npy":
        return Serialized(npy(source), suffix)
    return None


def _matplotlib(figure: Any, suffix: str) -> Serialized:
    # In a name such as `lr_0.1`, the part after the dot is not a format.
    known = suffix[1:] in figure.canvas.get_supported_filetypes()
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix[1:] if known else "png", bbox_inches="tight")
    return Serialized(buffer.getvalue(), suffix if known else ".png")


def _plotly(name: str, suffix: str, figure: Any) -> Serialized:
    if suffix == ".json":
        return Serialized(figure.to_json().encode(), suffix)
    if suffix in _PLOTLY_IMAGES:
        _require_kaleido(name)
        return Serialized(figure.to_image(format=suffix[1:]), suffix)
    # With plotly.js embedded, the page also shows the figure offline.
    page = figure.to_html(include_plotlyjs=True).encode()
    return Serialized(page, suffix if suffix == ".htm" else ".html")


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
    buffer = io.BytesIO()
    image.save(buffer, format=Image.registered_extensions()[suffix] if known else "PNG")
    return Serialized(buffer.getvalue(), suffix if known else ".png")


def npy(array: Any) -> bytes:
    """Return a numpy array in `.npy` format."""
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _pickled(suffix: str, source: Any) -> Serialized:
    kept = suffix if suffix in _PICKLES else ""
    try:
        import joblib
    except ModuleNotFoundError as error:
        if error.name != "joblib":
            raise
        import pickle

        return Serialized(pickle.dumps(source), kept or ".pkl", "pickle")
    buffer = io.BytesIO()
    joblib.dump(source, buffer)
    return Serialized(buffer.getvalue(), kept or ".joblib", "joblib")
