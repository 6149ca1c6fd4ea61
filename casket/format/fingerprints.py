"""Fingerprints of data: the same for equal data in every process and on every machine.

- The hash of a file, of bytes and of an open binary file is the SHA-256 of the content, as
  `sha256sum` prints it; that of a folder follows from the relative paths and hashes of its files.
- An array or tensor is hashed by its kind of numbers, its shape and its values in C order. Size
  and byte order of the numbers do not matter: integers are hashed as 64 bits, floats as doubles.
  0.0 and -0.0 are equal, and so are all NaN. Integers, floats and bools differ.
- A table is hashed by the names and values of its columns, so that tables of pandas and polars are
  equal. A missing value and a NaN are equal. An index that only numbers the rows does not count;
  any other is a column.
- Lists and dicts are hashed by their items, scalars as arrays without dimensions.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from casket.errors import UnstorableValue
from casket.format.arrays import ARRAYS, as_array, package_of
from casket.format.folders import files_below
from casket.format.hashed import COPIED
from casket.format.serializers import is_content, open_content
from casket.format.values import Encoder

AT_ONCE = 1 << 16
"""Values that are converted and hashed at a time; part of the definition of the hash."""


class NoFingerprint(Exception):
    """The values of an object are unknown."""


def fingerprint(name: str, data: Any) -> dict[str, Any]:
    """Return the hash and the kind of data, and its rows, columns and bytes where it has them.

    Args:
        name: the name of the data in errors.
        data: the path of a file or folder, bytes, an open binary file, an array or tensor, a table
            of pandas or polars, or lists and dicts of them.

    Raises:
        StoreUnavailable: a file cannot be read.
        UnstorableValue: the data is of another kind.
    """
    if isinstance(data, (str, os.PathLike)) and os.path.isdir(data):
        return _of_folder(name, Path(os.fsdecode(data)))
    if isinstance(data, (str, os.PathLike)) or is_content(data):
        return _of_content(name, data)
    try:
        return {"hash": digest(data), **facts_of(data)}
    except NoFingerprint as error:
        hint = f"{error}; give a path, bytes, an array, a DataFrame, or lists of them"
        raise UnstorableValue(f"data {name!r}", type(data).__name__, hint) from None


def _of_content(name: str, source: Any) -> dict[str, Any]:
    hashed, size = hashlib.sha256(), 0
    with open_content(name, source) as stream:
        while chunk := stream.read(COPIED):
            hashed.update(chunk)
            size += len(chunk)
    kind = "bytes" if isinstance(source, (bytes, bytearray, memoryview)) else "file"
    return {"hash": hashed.hexdigest(), "kind": kind, "bytes": size}


def _of_folder(name: str, folder: Path) -> dict[str, Any]:
    contents = {
        file.removeprefix(f"{name}/"): _of_content(name, path)
        for file, path in files_below(folder, name)
    }
    size = sum(content["bytes"] for content in contents.values())
    hashes = {file: content["hash"] for file, content in contents.items()}
    return {"hash": digest(hashes), "kind": "folder", "files": len(contents), "bytes": size}


def digest(value: Any) -> str:
    """Return the hash of an array, a table, a scalar, or of lists and dicts of them.

    Raises:
        NoFingerprint: the values of an object are unknown.
    """
    hashed = hashlib.sha256()
    try:
        for part in _parts(value):
            hashed.update(part)
    except NoFingerprint:
        raise
    except Exception as error:  # a library may raise anything
        raise NoFingerprint(str(error).partition("\n")[0]) from error
    return hashed.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    """Yield the bytes to hash: the kind and the size of a value, and its content."""
    if isinstance(value, Mapping):
        yield _head("dict", len(value))
        for key in sorted(value, key=str):
            yield from (digest(str(key)).encode(), digest(value[key]).encode())
    elif isinstance(value, (list, tuple)):
        yield _head("list", len(value))
        yield from (digest(item).encode() for item in value)
    elif value is None or type(value) in _SCALARS:
        yield from _of_scalar(value)
    else:
        yield from _of_library(value)


_SCALARS = frozenset({bool, int, float, complex, str, bytes})


def _head(kind: str, *sizes: int) -> bytes:
    return f"{kind} {sizes};".encode()


def _of_scalar(value: Any) -> Iterator[bytes]:
    yield _head("none" if value is None else _KINDS.get(type(value), type(value).__name__))
    if isinstance(value, (str, bytes)):
        yield value.encode(errors="surrogatepass") if isinstance(value, str) else value
    elif isinstance(value, int):
        is_large = not -(2**63) <= value < 2**63
        yield f"{value:x}".encode() if is_large else value.to_bytes(8, "little", signed=True)
    elif value is not None:
        yield struct.pack("<dd" if isinstance(value, complex) else "<d", *_doubles(value))


_KINDS = {str: "text"}


def _doubles(value: complex) -> list[float]:
    parts = [value.real, value.imag] if isinstance(value, complex) else [value]
    return [math.nan if part != part else part + 0.0 for part in parts]


def _of_library(value: Any) -> Iterator[bytes]:
    package = package_of(type(value)) or type(value).__module__.partition(".")[0]
    if package in ("pandas", "polars") and hasattr(value, "columns"):
        yield from _of_table(value, package)
    elif package in ("pandas", "polars") and hasattr(value, "to_numpy"):
        yield from _of_column(value, package)
    elif package == "scipy" and hasattr(value, "tocsr"):
        rows = value.tocsr().sorted_indices()
        yield _head("sparse", *rows.shape)
        for part in (rows.indptr, rows.indices, rows.data):
            yield from _of_array(part)
    elif package in ARRAYS:
        yield from _of_array(_array(value, package))
    else:
        yield from _of_other(value)


def _array(value: Any, package: str) -> Any:
    array = as_array(value, package)
    if array is None:
        raise NoFingerprint("its values are not an array")
    return array


def _of_other(value: Any) -> Iterator[bytes]:
    """Yield the JSON of a value that casket can store, such as a date."""
    encoder = Encoder()
    try:
        encoded = encoder.encode(value, "")
    except UnstorableValue:
        raise NoFingerprint(f"the content of {type(value).__name__} is unknown") from None
    yield _head("json")
    yield orjson.dumps(encoded, option=orjson.OPT_SORT_KEYS)


# Tables.


def _of_table(table: Any, package: str) -> Iterator[bytes]:
    if package == "pandas" and (
        type(table.index).__name__ != "RangeIndex" or table.index.name is not None
    ):
        table = table.reset_index()
    columns = [table.iloc[:, i] for i in range(table.shape[1])] if package == "pandas" else table
    yield _head("table", *table.shape)
    for name, column in zip(table.columns, columns, strict=True):
        hashed = hashlib.sha256()
        for part in _of_column(column, package):
            hashed.update(part)
        yield from (digest(str(name)).encode(), hashed.digest())


def _of_column(column: Any, package: str) -> Iterator[bytes]:
    missing, values = _of_pandas(column) if package == "pandas" else _of_polars(column)
    yield _head("column", len(column))
    if missing.any():
        yield from _of_array(missing)
    yield from _of_items(values) if isinstance(values, list) else _of_array(values)


def _of_pandas(column: Any) -> tuple[Any, Any]:
    """Return which values of a column are missing, and the values, with others in their place."""
    missing = column.isna().to_numpy(dtype=bool)
    kind = getattr(column.dtype, "kind", "O")
    if kind in _TARGETS:
        return missing, column.to_numpy(dtype=_TARGETS[kind][1], na_value=0)
    if kind in "mM":
        return missing, column.to_numpy(dtype=f"{kind}8[{_unit(column.dtype)}]")
    items = column.tolist()
    return missing, [None if gone else item for item, gone in zip(items, missing, strict=True)]


def _unit(dtype: Any) -> str:
    """Return the unit of a dtype of times, with or without a time zone."""
    return str(dtype.unit if hasattr(dtype, "unit") else dtype.name.partition("[")[2][:-1])


def _of_polars(column: Any) -> tuple[Any, Any]:
    missing = column.is_null()
    if column.dtype.is_float():
        missing, column = missing | column.is_nan().fill_null(False), column.fill_nan(0)
    if column.dtype.is_numeric() and not column.dtype.is_decimal():
        return missing.to_numpy(), column.fill_null(0).to_numpy()
    name = str(column.dtype).partition("(")[0]
    if name == "Boolean":
        return missing.to_numpy(), column.fill_null(False).to_numpy()
    if name in ("Date", "Datetime", "Duration"):
        return missing.to_numpy(), column.to_numpy()
    return missing.to_numpy(), column.to_list()


def _of_items(items: Sequence[Any]) -> Iterator[bytes]:
    """Yield the parts of the items of a column that are no numbers; None is missing."""
    if all(item is None or isinstance(item, str) for item in items):
        yield from _of_texts(["" if item is None else item for item in items])
        return
    yield _head("items", len(items))
    yield from (digest(item).encode() for item in items)


def _of_texts(texts: Sequence[str]) -> Iterator[bytes]:
    yield _head("texts", len(texts))
    for start in range(0, len(texts), AT_ONCE):
        some = texts[start : start + AT_ONCE]
        yield struct.pack(f"<{len(some)}Q", *map(len, some))
        yield "".join(some).encode(errors="surrogatepass")


# Arrays.

_TARGETS = {
    "b": ("bool", "?"),
    "i": ("int", "<i8"),
    "u": ("int", "<i8"),
    "f": ("float", "<f8"),
    "c": ("complex", "<c16"),
}
"""By kind of dtype: its name, and the dtype as which numbers are hashed."""


def _of_array(array: Any) -> Iterator[bytes]:
    kind = array.dtype.kind
    if getattr(array, "mask", None) is not None and array.mask.any():
        yield from _of_array(array.mask)
        array = array.filled(0)
    if kind in _TARGETS:
        name, target = _TARGETS[kind]
        if array.dtype.itemsize == 8 and kind == "u" and (array >> 63).any():
            name, target = "unsigned", "<u8"
        yield _head(name, *array.shape)
        yield from _numbers(array, target)
    elif kind in "mM":
        yield from _of_times(array)
    elif array.dtype.names:
        yield _head("fields", len(array.dtype.names))
        for name in array.dtype.names:
            yield from (digest(name).encode(), digest(array[name]).encode())
    elif kind in "OUT":
        yield _head("objects", *array.shape)
        yield from _of_items(array.ravel().tolist())
    else:
        raise NoFingerprint(f"the values of {array.dtype} are unknown")


def _numbers(array: Any, target: str) -> Iterator[bytes]:
    """Yield numbers in C order as another dtype, without a copy of the whole array."""
    import numpy as np

    options: Any = {"order": "C", "casting": "unsafe", "op_dtypes": [target]}
    flags: Any = ["buffered", "external_loop", "zerosize_ok"]
    iterator: Any = np.nditer(array, flags=flags, buffersize=AT_ONCE, **options)
    with iterator as chunks:
        for chunk in chunks:
            yield (_normal(chunk) if target in ("<f8", "<c16") else chunk).tobytes()


def _normal(numbers: Any) -> Any:
    """Return floats of which equal numbers, and all NaN, have the same bytes."""
    numbers = (numbers + 0.0).view("<f8")
    numbers[numbers != numbers] = math.nan
    return numbers


def _of_times(array: Any) -> Iterator[bytes]:
    """Yield times as microseconds, followed by the nanoseconds where there are any."""
    kind = array.dtype.kind
    rounded = array.astype(f"{kind}8[us]")
    yield _head("times" if kind == "M" else "durations", *array.shape)
    yield from _numbers(rounded.view("i8"), "<i8")
    rest = (array - rounded.astype(array.dtype)).astype("m8[ns]").view("i8")
    if array.dtype.name.endswith("[ns]") and (rest > 0).any():
        yield from _numbers(rest, "<i8")


# Facts.


def facts_of(data: Any) -> dict[str, Any]:
    """Return the kind, and rows, columns and bytes where they are known."""
    package = package_of(type(data)) or type(data).__module__.partition(".")[0]
    facts: dict[str, Any] = {"kind": _kind_of(data, package)}
    shape = getattr(data, "shape", None)
    if shape is None and isinstance(data, (list, tuple)):
        shape = (len(data),)
    if shape:
        facts["rows"] = int(shape[0])
    if shape and len(shape) == 2:
        facts["columns"] = int(shape[1])
    size = _size_of(data)
    return facts if size is None else {**facts, "bytes": size}


def _kind_of(data: Any, package: str) -> str:
    if package in ("pandas", "polars"):
        return f"{package} {type(data).__name__}"
    return package if package in ARRAYS or package == "scipy" else type(data).__name__


def _size_of(data: Any) -> int | None:
    if hasattr(data, "memory_usage"):
        usage = data.memory_usage()
        return int(usage if isinstance(usage, int) else usage.sum())
    if hasattr(data, "estimated_size"):
        return int(data.estimated_size())
    size = getattr(data, "nbytes", None)
    return size if isinstance(size, int) else None
