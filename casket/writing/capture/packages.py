"""The installed packages, by the names of their folders: reading their metadata takes too long."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator

_INSTALLED = re.compile(r"([^-]+)-([^-]+?)(?:-py\d[^-]*)?\.(?:dist|egg)-info")


def packages() -> bytes:
    """Return the names and versions of the packages that this process can import, line by line."""
    versions: dict[str, str] = {}
    for folder in sys.path:
        for name, version in sorted(_installed(folder or ".")):
            versions.setdefault(name, version)
    return "".join(f"{name}=={versions[name]}\n" for name in sorted(versions)).encode()


def _installed(folder: str) -> Iterator[tuple[str, str]]:
    try:
        names = os.listdir(folder)
    except OSError:  # a zip file, or a folder that does not exist
        return
    for entry in names:
        installed = _INSTALLED.fullmatch(entry)
        if installed:
            yield re.sub(r"[-_.]+", "-", installed[1]).lower(), installed[2].replace("_", "-")
