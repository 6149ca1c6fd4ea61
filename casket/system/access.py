"""Files beside another file: private while they are written, then with its mode and owner.

Folders may be shared with other users, who could plant a symbolic link at a predictable name. A
link is therefore never followed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO

_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)


def open_private(path: Path | str, mode: str) -> IO[bytes]:
    """Open a file that only its owner can read if it is created.

    Raises:
        OSError: the path is a symbolic link, or cannot be opened.
    """
    return open(path, mode, opener=_open)


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | _NOFOLLOW, 0o600)


def copy_access(file: IO[bytes], status: os.stat_result) -> None:
    """Give a file the mode and, as far as permissions allow, the owner of another file."""
    target = file.fileno() if os.chmod in os.supports_fd else file.name
    if hasattr(os, "chown"):
        with contextlib.suppress(PermissionError):
            os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, status.st_mode & 0o7777)
