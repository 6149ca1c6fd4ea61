"""Helpers for tests of files: reading them without casket, and collecting casket's warnings."""

from __future__ import annotations

import json
import os
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from casket.errors import CasketWarning
from casket.format.records import Record
from casket.stores.base import Store


def strict_json(path: Path) -> dict[str, Any]:
    """Parse a file as JSON, without Python's extensions of the standard."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs), "a key twice"
        return dict(pairs)

    return json.loads(path.read_bytes(), parse_constant=refuse, object_pairs_hook=unique)


def records_in(path: Path) -> list[Record]:
    """Return the records that a JSON parser sees, in the order of their numbers."""
    table = strict_json(path)["_default"]
    documents = [table[number] for number in sorted(table, key=int)]
    return [{k: v for k, v in one.items() if k != "more"} for one in documents if "writer" in one]  # type: ignore[misc]


def stored(store: Store) -> list[Record]:
    """Return the records that the store sees."""
    return [record for _, record in store.records()]


@contextmanager
def casket_warnings() -> Iterator[list[str]]:
    """Collect the warnings of casket; any other warning is an error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", CasketWarning)
        said: list[str] = []
        yield said
        said += [str(one.message) for one in caught]


def traces(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return the content of a folder in bytes, with modification times."""
    return {
        str(path.relative_to(folder)): (
            path.read_bytes() if path.is_file() else b"",
            path.lstat().st_mtime_ns,
        )
        for path in sorted([folder, *folder.rglob("*")])
    }


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount an empty file system of its own at a folder, for a while."""
    command = ["mount", "-t", "tmpfs", "-o", options, "casket-test", str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        pytest.skip(f"mounting is not allowed here: {ran.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
