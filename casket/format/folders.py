"""The files of a folder that becomes artifacts."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from casket.errors import CasketError
from casket.system import failures


def files_below(folder: Path, name: str, without: Path | None = None) -> list[tuple[str, Path]]:
    """Return the files of a folder and its subfolders, sorted, with the names of their artifacts.

    Links are followed, as by `cp -L`: the artifact is the content that the link leads to.

    Args:
        folder: the folder.
        name: the beginning of the names, which the relative path of the file follows.
        without: a folder to leave out, such as the folder of the artifacts itself.

    Raises:
        CasketError: there is no file, a link leads to one of its own parents, or an entry is
            neither a file nor a folder.
        StoreUnavailable: a folder cannot be read.
    """
    try:
        files = list(_files(folder, name, [_identity(folder)], _identity_of(without)))
    except OSError as error:
        raise failures.unavailable(folder, error.errno, "nothing was kept") from error
    if not files:
        raise CasketError(f"artifact {name!r}: the folder {folder} contains no files")
    return files


def _files(
    folder: Path, name: str, parents: list[tuple[int, int]], without: tuple[int, int] | None
) -> Iterator[tuple[str, Path]]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path, below = folder / entry.name, f"{name}/{entry.name}"
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            yield below, path
        elif not stat.S_ISDIR(mode):
            raise CasketError(f"artifact {name!r}: {path} is neither a file nor a folder")
        elif (identity := _identity(path)) in parents:
            raise CasketError(f"artifact {name!r}: the link {path} leads to one of its own parents")
        elif identity != without:
            yield from _files(path, below, [*parents, identity], without)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _identity_of(folder: Path | None) -> tuple[int, int] | None:
    return _identity(folder) if folder is not None and folder.is_dir() else None
