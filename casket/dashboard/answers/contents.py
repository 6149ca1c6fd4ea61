"""Convert params and results for display: truncated, or as an image, array or table.

Arrays stored as files are not loaded to list sessions; `ShownFolder` returns their descriptions.
"""

from __future__ import annotations

import base64
import binascii
import math
import os
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from casket.format.artifacts import Artifact, ArtifactFolder
from casket.reading.summary import as_json

LONGEST_TEXT = 500
LARGEST_EXACT = 2**53
"""The largest magnitude up to which JavaScript represents every integer exactly."""

MOST_VALUES = 2_000
LONGEST_LIST = 500
"""Maximum numbers in a list; longer lists are shown as an array with its shape and range."""

MOST_TABLE_ROWS = 100
LARGEST_IMAGE = 4 << 20
"""Maximum bytes of an array shown as an image."""

LARGEST_ARRAY = 64 << 20
"""Maximum bytes of an array that is loaded."""

SMALLEST_SIDE = 8
"""Minimum height and width of an image in pixels; smaller arrays are shown as numbers."""

IMAGES = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}
"""The supported image types and the first bytes of their files."""

_DATA_URL = re.compile(r"data:(image/[a-z]+);base64,([A-Za-z0-9+/]+=*)")


class ArrayInFile:
    """An array stored as a file and not loaded.

    Attributes:
        shape: the shape of the array.
        dtype: the name of its NumPy dtype.
    """

    def __init__(self, kept: Mapping[str, Any], folder: ArtifactFolder) -> None:
        self.shape = [int(side) for side in kept.get("shape", [])]
        self.dtype = str(kept.get("dtype", ""))
        self._folder, self._file = folder, str(kept["file"])

    def __str__(self) -> str:
        return f"array of shape {self.shape}, {self.dtype}"

    def stream(self) -> BinaryIO:
        """Open the file."""
        return self._folder.stream(self._file)

    @property
    def is_image(self) -> bool:
        """Whether the array has the dtype and shape of a gray, RGB or RGBA image."""
        if self.dtype != "uint8" or len(self.shape) not in {2, 3}:
            return False
        height, width, *rest = self.shape
        depth = rest[0] if rest else 1
        return (
            min(height, width) >= SMALLEST_SIDE
            and depth in _PNG_COLORS
            and height * width * depth <= LARGEST_IMAGE
        )


class ShownFolder(ArtifactFolder):
    """A folder of artifacts that does not load arrays.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: ArtifactFolder) -> None:
        super().__init__(folder.path)
        self._folder = folder

    def place(self, file: str) -> Path:
        """Return the path at which a stored file is, or would be, on this machine."""
        return self._folder.place(file)

    def stream(self, file: str) -> BinaryIO:
        """Open a stored file, whatever its content is."""
        return self._folder.stream(file)

    def is_near(self, file: str) -> bool:
        """Return whether a file, if it is stored, can be opened without a transfer."""
        return self._folder.is_near(file)

    def load_array(self, kept: dict[str, Any]) -> ArrayInFile:
        """Return a description of an array."""
        return ArrayInFile(kept, self._folder)

    def close(self) -> None:
        """Release the connection to a far store."""
        self._folder.close()


def image_type(head: bytes) -> str | None:
    """Return the media type of a supported image by its first 12 bytes; None for other data."""
    for media_type, beginning in IMAGES.items():
        if head.startswith(beginning):
            return media_type if media_type != "image/webp" or head[8:12] == b"WEBP" else None
    return None


def image_type_of(artifact: Artifact) -> str | None:
    """Return the media type of an image artifact; None if it is missing or not an image.

    A file of a far store is fetched only if its name is that of an image.
    """
    if artifact.media_type not in IMAGES and not artifact.folder.is_near(artifact.file):
        return None
    try:
        with artifact.folder.stream(artifact.file) as file:
            return image_type(file.read(12))
    except OSError:
        return None


def has_image(value: Any) -> bool:
    """Return whether a value contains an image."""
    if isinstance(value, Mapping):
        return any(map(has_image, value.values()))
    if isinstance(value, list):
        return any(map(has_image, value[:LONGEST_LIST]))
    if isinstance(value, str):
        return value.startswith("data:image/") and _is_image_url(value)
    return isinstance(value, ArrayInFile) and value.is_image


def cut(value: Any) -> tuple[Any, bool]:
    """Return a value as truncated JSON, and whether anything was removed."""
    budget = _Budget(MOST_VALUES)
    return budget.cut(value), budget.is_over


class _Budget:
    """The number of values that may still be added to an answer."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.is_over = False

    def cut(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): self.cut(item) for key, item in self._some(value.items())}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.cut(item) for item in self._some(value)]
        plain = as_json(value)
        if isinstance(plain, list):
            return self.cut(plain)
        if isinstance(plain, str) and len(plain) > LONGEST_TEXT:
            self.is_over = True
            return f"{plain[:LONGEST_TEXT]}…"
        return _whole(plain)

    def _some(self, items: Any) -> Iterator[Any]:
        for item in items:
            if self.left <= 0:
                self.is_over = True
                return
            self.left -= 1
            yield item


def shown(value: Any, *, tables: bool = True) -> Any:
    """Return a value as JSON, with images, long arrays and tables marked as such.

    Args:
        value: the logged value.
        tables: whether lists of equal length are the columns of a table, unlike those of a grid of
            hyperparameters.
    """
    if isinstance(value, ArrayInFile):
        return _shown_array(value)
    if isinstance(value, str):
        return {"casket": "image", "src": value} if _is_image_url(value) else value
    if isinstance(value, Mapping):
        table = _table_of_columns(value) if tables else None
        return table or {str(key): shown(item, tables=tables) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return _shown_list(list(value), tables=tables)
    return _whole(as_json(value))


def _whole(plain: Any) -> Any:
    """Return integers that a browser would round, such as seeds, as strings."""
    return str(plain) if type(plain) is int and abs(plain) > LARGEST_EXACT else plain


def _shown_list(items: list[Any], *, tables: bool) -> Any:
    numbers = _numbers(items)
    if numbers is not None and len(numbers) > LONGEST_LIST:
        shape = _shape(items)
        if _is_color_image(shape, numbers):
            return {"casket": "image", "src": _as_data_url(_png(shape, bytes(numbers)))}
        return _array(shape, "", numbers)
    if tables and len(items) > 1 and all(isinstance(item, dict) and item for item in items):
        return _table_of_rows(items)
    return [shown(item, tables=tables) for item in items]


def _table_of_rows(rows: list[dict[str, Any]]) -> dict[str, Any]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return _table(columns, [[row.get(name) for name in columns] for row in rows[:MOST_TABLE_ROWS]],
                  len(rows))  # fmt: skip


def _table_of_columns(value: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a mapping of lists of equal length as a table, like a data frame; else None."""
    columns = list(value.values())
    if len(columns) < 2 or not all(isinstance(column, list) for column in columns):
        return None
    lengths = {len(column) for column in columns}
    if len(lengths) > 1 or lengths == {0} or any(map(_is_nested, columns)):
        return None
    rows = zip(*(column[:MOST_TABLE_ROWS] for column in columns), strict=True)
    return _table(list(value), [list(row) for row in rows], lengths.pop())


def _is_nested(column: list[Any]) -> bool:
    return any(isinstance(item, (list, dict)) for item in column)


def _table(columns: list[str], rows: list[list[Any]], count: int) -> dict[str, Any]:
    cells = [[shown(cell) for cell in row] for row in rows]
    return {"casket": "table", "columns": columns, "rows": cells, "count": count}


def _numbers(items: list[Any]) -> list[Any] | None:
    """Return the numbers in a nested list; None if it contains other values."""
    numbers: list[Any] = []
    for item in items:
        if isinstance(item, list):
            inner = _numbers(item)
            if inner is None:
                return None
            numbers += inner
        elif isinstance(item, (int, float)) and not isinstance(item, bool):
            numbers.append(item)
        else:
            return None
    return numbers


def _shape(items: list[Any]) -> list[int]:
    inner = _shape(items[0]) if items and isinstance(items[0], list) else []
    return [len(items), *inner]


def _is_color_image(shape: list[int], numbers: list[Any]) -> bool:
    """Return whether numbers form a color image; a gray image is indistinguishable from a table."""
    return (
        len(shape) == 3
        and shape[2] in {3, 4}
        and min(shape[:2]) >= SMALLEST_SIDE
        and math.prod(shape) == len(numbers) <= LARGEST_IMAGE
        and set(map(type, numbers)) == {int}
        and min(numbers) >= 0
        and max(numbers) <= 255
    )


def _array(shape: list[int], dtype: str, numbers: list[float] | None) -> dict[str, Any]:
    finite = [number for number in numbers or [] if math.isfinite(number)]
    return {
        "casket": "array",
        "shape": shape,
        "dtype": dtype or ("int" if set(map(type, numbers or [])) == {int} else "float"),
        "min": min(finite, default=None),
        "max": max(finite, default=None),
        "mean": sum(finite) / len(finite) if finite else None,
    }


def _shown_array(array: ArrayInFile) -> dict[str, Any]:
    loaded = _loaded(array)
    if loaded is None:
        return _array(array.shape, array.dtype, None)
    if array.is_image:
        return {"casket": "image", "src": _as_data_url(_png(array.shape, loaded.tobytes()))}
    with_range = _array(array.shape, array.dtype, None)
    finite = loaded[abs(loaded) < float("inf")] if loaded.dtype.kind == "f" else loaded
    if finite.size:
        numbers = {"min": finite.min(), "max": finite.max(), "mean": finite.mean()}
        with_range |= {name: as_json(number.item()) for name, number in numbers.items()}
    return with_range


def _loaded(array: ArrayInFile) -> Any:
    """Load an array with NumPy; None if it is too large or missing, or NumPy is not installed."""
    try:
        import numpy as np

        with array.stream() as file:
            if os.fstat(file.fileno()).st_size > LARGEST_ARRAY:
                return None
            return np.load(file, allow_pickle=False)
    except (ImportError, OSError, EOFError, ValueError):
        return None


def _is_image_url(text: str) -> bool:
    match = _DATA_URL.fullmatch(text) if text.startswith("data:image/") else None
    if match is None:
        return False
    try:
        return image_type(base64.b64decode(match[2][:16])) == match[1]
    except binascii.Error:
        return False


def _as_data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


_PNG_COLORS = {1: 0, 3: 2, 4: 6}
"""The PNG color types of gray, RGB and RGBA by bytes per pixel."""


def _png(shape: list[int], pixels: bytes) -> bytes:
    height, width, *rest = shape
    depth = rest[0] if rest else 1
    stride = width * depth
    lines = (b"\0" + pixels[at : at + stride] for at in range(0, height * stride, stride))
    header = struct.pack(">IIBBBBB", width, height, 8, _PNG_COLORS[depth], 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(lines), 6)), (b"IEND", b"")]
    return IMAGES["image/png"] + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )
