"""Open the files of artifacts and arrays, without following links."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from casket.errors import NotFound

FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # opening a pipe would wait for a writer
    | getattr(os, "O_BINARY", 0)
)


def open_stored(folder: Path, file: str) -> BinaryIO:
    """Open a file in a folder of artifacts.

    Only regular files inside the folder are opened: whoever can write to the folder could
    otherwise have any file sent that the user of the server can read.

    Raises:
        NotFound: the file does not exist, or is a link or no regular file.
    """
    path = folder / Path(file).name
    try:
        descriptor = os.open(path, FLAGS)
    except OSError:
        advice = "a link is not followed" if path.is_symlink() else "its file is missing"
        raise NotFound(str(path), f"{advice}; put the stored file there again") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotFound(str(path), "it is not a regular file; put the stored file there again")
    return os.fdopen(descriptor, "rb")
