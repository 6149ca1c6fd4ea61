"""Syncing to disk, so that changes survive a power loss."""

from __future__ import annotations

import os
import sys


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Sync a folder, so that a new name in it survives a power loss, where supported."""
    if sys.platform == "win32":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
