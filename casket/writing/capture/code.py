"""The uncommitted changes of the code, as a patch against its commit."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from threading import Event

from casket.system.git import GitCall, committed_root
from casket.system.secrets import has_secret

LARGEST_PATCH = 10 << 20
"""Bytes of changes to tracked files that are kept."""

UNTRACKED_ROOM = 1 << 20
"""Bytes of untracked source files that are kept, all together."""

_SUFFIXES = re.compile(
    r"\.(?:pyi?|py[xd]|ipynb|c|cc|cpp|cxx|h|hpp|cuh?|rs|go|jl|r|m|java|scala|kt|js|ts|lua|sh|sql|pl|f90)",
    re.IGNORECASE,
)
_LARGEST_LISTING = 16 << 20
# A link may lead out of the repository, and a FIFO would block.
_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_SECRET_FILE = re.compile(
    r"(?:^|/)(?:\.env[^/]*|\.netrc|\.pypirc|id_[a-z0-9]+|[^/]*\.(?:pem|key|p12|pfx)"
    r"|(?:credentials?|secrets?)(?:\.[^/]*)?)$",
    re.IGNORECASE,
)
_QUOTED = re.compile(r'[\x00-\x1f\x7f"\\]')
"""Characters because of which git writes a name in quotes."""

_FORM = ("--full-index", "--src-prefix=a/", "--dst-prefix=b/", "--no-color", "--no-renames")
_DIFF = ("diff", "HEAD", *_FORM, "--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty")
_UNTRACKED = ("ls-files", "-z", "--others", "--exclude-standard")


def patch(stop: Event) -> bytes | None:
    """Return the uncommitted changes of the main script's repository, for `git apply`.

    The first lines name the commit, and what was left out and why: hunks and files that contain a
    secret, binary files, and files beyond the limits.

    Args:
        stop: when set, git is killed.

    Returns:
        The patch; None without changes or without a commit.

    Raises:
        OSError: git cannot be run.
    """
    root_and_commit = committed_root()
    if root_and_commit is None:
        return None
    root, commit = root_and_commit
    calls = [GitCall(root, *arguments) for arguments in (_DIFF, _UNTRACKED)]
    (diff, diff_problem), (listing, listing_problem) = (
        call.output(stop, most)
        for call, most in zip(calls, (LARGEST_PATCH, _LARGEST_LISTING), strict=True)
    )
    left_out = [f"the rest: {each}" for each in (diff_problem, listing_problem) if each]
    tracked = _tracked(_text(diff), is_whole=diff_problem is None)
    untracked = _untracked(root, sorted(_text(listing).split("\0")))
    parts = []
    for changes, notes in (*tracked, *untracked):
        parts.append(changes)
        left_out += notes
    if not any(parts) and not left_out:
        return None
    head = [f"Uncommitted changes against commit {commit}"]
    head += [f"Left out: {note}" for note in left_out]
    return "".join([*(f"{line}\n" for line in head), *parts]).encode(errors="surrogateescape")


Change = tuple[str, list[str]]
"""The part of the patch that concerns a file, and what was left out of it."""


def _text(content: bytes) -> str:
    return content.decode(errors="surrogateescape")


def _tracked(diff: str, *, is_whole: bool) -> Iterator[Change]:
    changes = re.split(r"(?m)^(?=diff --git )", diff)
    # The last file may be cut off.
    for change in changes if is_whole else changes[:-1]:
        if change:
            yield _checked(change, _name_of(change))


def _name_of(change: str) -> str:
    """Return the path of a file from the line `diff --git a/PATH b/PATH` of its changes."""
    names = change.partition("\n")[0].removeprefix("diff --git ")
    return names[(len(names) + 1) // 2 :].strip('"').removeprefix("b/")


def _checked(change: str, path: str) -> Change:
    """Return the changes of a file without the hunks that contain a secret."""
    if _SECRET_FILE.search(path):
        return "", [f"{path}: files of this name hold secrets"]
    head, *hunks = re.split(r"(?m)^(?=@@ )", change)
    if not hunks:
        is_binary = "\nBinary files " in head
        return ("", [f"{path}: binary, or larger than 1 MB"]) if is_binary else (head, [])
    is_python = PurePosixPath(path).suffix in {".py", ".pyi", ".pyx", ".ipynb"}
    secret = [has_secret(_lines_of(hunk), is_python=is_python) for hunk in hunks]
    notes = [
        f"{path} {hunk.partition(' @@')[0]} @@: contains a secret"
        for hunk, is_secret in zip(hunks, secret, strict=True)
        if is_secret
    ]
    kept = [hunk for hunk, is_secret in zip(hunks, secret, strict=True) if not is_secret]
    return "".join([head, *kept]) if kept else "", notes


def _lines_of(hunk: str) -> str:
    """Return the lines of a hunk without their marks."""
    return re.sub(r"(?m)^[-+ ]", "", hunk)


def _untracked(root: str, paths: Iterable[str]) -> Iterator[Change]:
    """Yield the untracked source files, as far as there is room."""
    room = UNTRACKED_ROOM
    for path in filter(_is_source, paths):
        try:
            content = _content(os.path.join(root, path), room)
        except OSError as error:
            yield "", [f"{path}: {error.strerror}"]
            continue
        if content is None:
            yield "", [f"{path}: the untracked files have more than {UNTRACKED_ROOM} bytes"]
        elif b"\0" in content or _QUOTED.search(path):
            yield "", [f"{path}: binary, or has an unusual name"]
        else:
            room -= len(content)
            yield _checked(_addition(path, _text(content)), path)


def _is_source(path: str) -> bool:
    """Return whether a path is that of a source file of the user, and not of a package."""
    *folders, name = path.split("/")
    if {"site-packages", "node_modules"}.intersection(folders):
        return False
    is_hidden = any(folder.startswith(".") for folder in folders)
    return not is_hidden and bool(_SUFFIXES.fullmatch(os.path.splitext(name)[1]))


def _content(path: str, room: int) -> bytes | None:
    """Return the content of a regular file; None if there is no room for it."""
    descriptor = os.open(path, os.O_RDONLY | _SAFELY)
    with open(descriptor, "rb") as file:
        content = file.read(room + 1)
    return content if len(content) <= room else None


def _addition(path: str, content: str) -> str:
    """Return a new file as a patch."""
    mark = "\t" if " " in path else ""
    head = f"diff --git a/{path} b/{path}\nnew file mode 100644\n"
    if not content:
        return head
    lines = content.split("\n")
    end = "" if lines[-1] == "" else "\n\\ No newline at end of file\n"
    if not end:
        lines.pop()
    added = "\n".join(f"+{line}" for line in lines)
    hunk = f"@@ -0,0 +1,{len(lines)} @@\n{added}{end or chr(10)}"
    return f"{head}--- /dev/null\n+++ b/{path}{mark}\n{hunk}"
