"""Folders of other tools: the owner of a folder, and its description in messages."""

from __future__ import annotations

from pathlib import Path

from casket.imports.parsing import header_of

_SHOWN = 5
"""The number of names in a description."""


def owner_of(folder: Path) -> str | None:
    """Return the tool that made a folder, if its event files hold only a part of the run."""
    if (folder / "params.json").is_file() and (folder / "result.json").is_file():
        return "Ray Tune"
    is_guild = any((each / ".guild" / "opref").is_file() for each in (folder, *folder.parents))
    return "Guild AI" if is_guild or ".guild" in folder.parts else None


def describe(path: Path) -> str:
    """Return a short description of the content of a path."""
    if path.is_file():
        header = header_of(path)[:40]
        return f"a file that begins with {header!r}" if header else "a file without text"
    owner = next(filter(None, map(owner_of, (path, *sorted(path.glob("**/"))))), None)
    names = sorted(each.name for each in path.iterdir())
    listed = ", ".join(names[:_SHOWN]) + (", ..." if names[_SHOWN:] else "")
    content = f"a folder with {listed}" if names else "an empty folder"
    return f"{content}, written by {owner}" if owner else content
