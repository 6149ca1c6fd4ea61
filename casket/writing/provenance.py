"""The provenance of a session: commit, user, host, platform, Python and command line.

Nothing here may fail a run or take more than a few milliseconds. Git determines in the background
whether the code has changed since its commit (`casket.system.git.DirtyCheck`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from casket.format.records import utc_now
from casket.system import jobs
from casket.system.git import commit_and_branch, plain
from casket.system.processes import host_name
from casket.system.secrets import without_secrets

__all__ = ["PERSONAL", "provenance"]

PERSONAL = frozenset({"user", "host", "pid", "command_line", "command", "group", "checkpoints"})
"""The names in a session's meta, imported or not, that identify the user, machine and command."""

_COMMAND_LINE_ROOM = 20_000
_ROOM_PER_ARGUMENT = 20


ALWAYS = frozenset(
    {
        "branch",
        "command_line",
        "commit",
        "dirty",
        "host",
        "pid",
        "platform",
        "python",
        "start",
        "user",
    }
)
"""The names of the provenance of every session."""


def provenance() -> dict[str, Any]:
    """Return the provenance of the current process. Never raises; unknown values are None.

    Returns:
        A dict with the keys `commit`, `branch`, `dirty`, `user`, `host`, `pid`, `platform`,
        `python`, `command_line` (without secrets) and `start`. `dirty` is None until
        `dirty_check` determines it. In the job of a scheduler also `job`, see
        `casket.system.jobs.this_job`.
    """
    commit, branch = commit_and_branch()
    job = jobs.this_job()
    return {
        "commit": commit,
        "branch": branch,
        "dirty": None,
        "user": _user(),
        "host": host_name() or None,
        "pid": os.getpid(),
        "platform": _platform(),
        "python": sys.version.partition(" ")[0],
        "command_line": _command_line(),
        "start": utc_now(),
        **({"job": job} if job else {}),
    }


def beside(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return params for a meta; those with a name that casket uses there are `params.NAME`."""
    from casket.reading.query import OCCASIONAL_META

    own = ALWAYS | OCCASIONAL_META
    return {f"params.{name}" if name in own else name: value for name, value in params.items()}


def _command_line() -> list[str] | None:
    arguments = getattr(sys, "orig_argv", None) or getattr(sys, "argv", None)
    if not isinstance(arguments, list):
        return None
    kept: list[str] = []
    room = _COMMAND_LINE_ROOM
    for argument in map(str, arguments):
        room -= len(argument) + _ROOM_PER_ARGUMENT
        if room < 0:
            break
        kept.append(plain(argument))
    left_out = len(arguments) - len(kept)
    return [*_without_secrets(tuple(kept)), *[f"... {left_out} more arguments"] * bool(left_out)]


@lru_cache(maxsize=1)
def _without_secrets(arguments: tuple[str, ...]) -> list[str]:
    return without_secrets(list(arguments))


def _user() -> str | None:
    import getpass

    try:
        return plain(getpass.getuser())
    except (KeyError, OSError, ImportError):
        return None


def _platform() -> str | None:
    if hasattr(os, "uname"):
        system = os.uname()
        return f"{system.sysname}-{system.release}-{system.machine}"
    import platform

    try:
        return platform.platform()
    except OSError:
        return None
