"""Where a session came from: commit, user, host, platform, Python and command line.

Nothing here may fail a run or take more than a few milliseconds. So the commit is read from git's
own files, and the one question that needs git itself, whether the code is changed since its
commit, is asked in the background (`DirtyCheck`).
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from threading import Lock
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from casket.processes import host_name
from casket.records import utc_now

if TYPE_CHECKING:
    from subprocess import Popen

__all__ = ["PERSONAL", "DirtyCheck", "dirty_check", "provenance", "redact"]

PERSONAL = frozenset({"user", "host", "pid", "command_line", "command", "group", "checkpoints"})
"""The names in a session's meta, imported or not, of what tells who ran it, where and how."""

_HIDDEN = "***"
_SENSITIVE_KEY = r"(?:access|account|api|auth|private|secret)[-_.]?key"
_SENSITIVE_WORD = r"password|passwd|passphrase|(?<![a-z])pass|pwd|secret|token|credentials?"
_SENSITIVE = rf"(?:{_SENSITIVE_WORD}|{_SENSITIVE_KEY})"
# A quote ends a URL only where it closes something.
_IN_URL = r"""(?:[^\s"']|["'](?![\s,;:)\]}]|$))"""
_URL_LOGIN = rf"(://(?:(?![:/]){_IN_URL})*:)({_IN_URL}*)"
_URL_ARGUMENT = r"""(?s)\A((?:[^\s="']*=)?[a-zA-Z][\w+.-]*://[^\s:/]*:)(.*)"""
_HTTP_LOGIN = r"(https?://)[^\s:/@?#\"']+@"
_NAMED_VALUE = rf"""({_SENSITIVE}(?:=["']?|["']\s*:\s*["']))""" + (
    r"""(?:(?<=")(?:[^"\\]|\\.)*|(?<=')(?:[^'\\]|\\.)*|(?<==)[^\s&"']+)"""
)
_SENSITIVE_NAME = rf"[^\s=]*{_SENSITIVE}"
_COMMAND_LINE_ROOM = 20_000
_ROOM_PER_ARGUMENT = 20

_SYMBOLIC_LINKS_FOLLOWED = 5
_ANSWER_KEPT = 60.0
_GIT_TIME_LIMIT = 10.0
_PAUSE = 0.002
# Not `git diff --quiet`: that locks and rewrites the index where files were touched. Not with the
# file monitor either: git would leave it running.
_GIT_OPTIONS = ("--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "status.renames=false")
_GIT_QUESTION = (
    "status",
    "--porcelain",
    "--untracked-files=no",
    "--ignore-submodules=untracked",
)
_SIGKILL = 9
_SIGPIPE = 13
# Nobody reads what git writes, so the first word about a change ends it with a broken pipe.
_ANSWERS = {0: False, -_SIGPIPE: True, 128 + _SIGPIPE: True}
# They would point git to another repository than the one whose commit is told.
_GIT_PLACES = frozenset(
    ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")
)
_GIT_SETTINGS = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1"}


def provenance() -> dict[str, Any]:
    """Tell where what this process logs comes from. Never raises; what is unknown is None.

    Returns:
        The keys `commit`, `branch`, `dirty`, `user`, `host`, `pid`, `platform`, `python`,
        `command_line` (without secrets) and `start`. `dirty` is None: `dirty_check` tells it.
    """
    commit, branch = _commit_and_branch()
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
    }


def redact(text: str) -> str:
    """Replace the passwords in a text's URLs, and what follows `password=` and the like, by `***`.

    Args:
        text: Any text, such as the location of a store or an error message.

    Returns:
        The text, with too much hidden rather than too little where a URL can be read in two ways.
    """
    if "://" in text and "@" in text:
        text = re.sub(_URL_LOGIN, _hide_password, text)
        text = re.sub(_HTTP_LOGIN, rf"\1{_HIDDEN}@", text, flags=re.IGNORECASE)
    return re.sub(_NAMED_VALUE, rf"\1{_HIDDEN}", text, flags=re.IGNORECASE)


def _hide_password(login: re.Match[str]) -> str:
    # Up to the last @: a password may hold one, and hiding too much harms less than too little.
    start, rest = login.groups()
    _, at, host = rest.rpartition("@")
    return f"{start}{_HIDDEN}@{host}" if at else login[0]


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
        kept.append(_plain(argument))
    left_out = len(arguments) - len(kept)
    return _without_secrets(kept) + [f"... {left_out} more arguments"] * bool(left_out)


def _without_secrets(arguments: list[str]) -> list[str]:
    safe = []
    value_is_secret = False
    for argument in arguments:
        hide = value_is_secret and not re.match("--[a-zA-Z]", argument)
        safe.append(_HIDDEN if hide else _without_secret(argument))
        value_is_secret = not hide and _names_a_secret(argument) and argument.startswith("-")
    return safe


def _without_secret(argument: str) -> str:
    name, equals, _ = argument.partition("=")
    if equals and _names_a_secret(name):
        return f"{name}={_HIDDEN}"
    # An argument that is a URL ends where the argument does: its password may hold blanks.
    return redact(re.sub(_URL_ARGUMENT, _hide_password, argument))


def _names_a_secret(name: str) -> bool:
    return re.fullmatch(_SENSITIVE_NAME, name, re.IGNORECASE) is not None


def _plain(text: str) -> str:
    # The bytes of a name that is not UTF-8 are lone surrogates, which JSON cannot hold.
    return text.encode(errors="backslashreplace").decode()


def _user() -> str | None:
    import getpass

    try:
        return _plain(getpass.getuser())
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


def _commit_and_branch() -> tuple[str | None, str | None]:
    _, git_folder = _repository(_code_folder())
    return _head(git_folder) if git_folder else (None, None)


def _head(git_folder: str) -> tuple[str | None, str | None]:
    head = _read(os.path.join(git_folder, "HEAD"))
    link = _link(head)
    # A reftable repository keeps refs/heads/.invalid here; its real HEAD is elsewhere.
    if link is None or link.startswith("refs/heads/."):
        return _hash(head), None
    is_branch = link.startswith("refs/heads/")
    branch = _plain(link.removeprefix("refs/heads/")) if is_branch else None
    return _resolve(git_folder, link), branch


def _code_folder() -> str | None:
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    try:
        return os.path.dirname(os.path.realpath(script)) if script else os.getcwd()
    except (OSError, TypeError, ValueError):
        return None


def _repository(folder: str | None) -> tuple[str, str] | tuple[None, None]:
    """Find the repository that `folder` lies in: its root, and the folder of git's files."""
    while folder:
        git_folder = _git_folder(os.path.join(folder, ".git"))
        if git_folder is not None:
            return folder, git_folder
        parent = os.path.dirname(folder)
        folder = parent if parent != folder else None
    return None, None


def _git_folder(path: str) -> str | None:
    if os.path.isfile(os.path.join(path, "HEAD")):
        return path
    # Worktrees and submodules have a file there, which says where the folder is.
    text = _read(path)
    if text is None or not text.startswith("gitdir:"):
        return None
    return os.path.join(os.path.dirname(path), text.removeprefix("gitdir:").strip())


def _resolve(git_folder: str, ref: str) -> str | None:
    common = _read(os.path.join(git_folder, "commondir"))
    shared = os.path.join(git_folder, common) if common else git_folder
    for _ in range(_SYMBOLIC_LINKS_FOLLOWED):
        value = _read(os.path.join(git_folder, ref))
        if value is None:
            value = _read(os.path.join(shared, ref))
        if value is None:
            return _packed(shared, ref)
        following = _link(value)
        if following is None:
            return _hash(value)
        ref = following
    return None


def _packed(git_folder: str, ref: str) -> str | None:
    refs = "\n" + (_read(os.path.join(git_folder, "packed-refs")) or "") + "\n"
    end = refs.find(f" {ref}\n")
    return _hash(refs[refs.rfind("\n", 0, end) + 1 : end]) if end >= 0 else None


def _link(head: str | None) -> str | None:
    return head.removeprefix("ref:").strip() if head and head.startswith("ref:") else None


def _hash(text: str | None) -> str | None:
    return text if text and re.fullmatch("[0-9a-f]{40}(?:[0-9a-f]{24})?", text) else None


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return None


class DirtyCheck:
    """A question asked in the background: does the code differ from its commit?

    Making one starts git and does not wait for it. Files git does not track do not count. In a
    forked child, an answer that was not there before the fork stays None.

    Args:
        folder: The absolute path of a folder in the repository; by default the main script's.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._owner = os.getpid()
        self._started = monotonic()
        self._lock = Lock()
        self._answer: bool | None = None
        self._git: _Spawned | Popen[bytes] | None = None
        root, git_folder = _repository(folder or _code_folder())
        self._root = root
        if root and git_folder and _head(git_folder)[0]:
            self._git = _start_git(root)

    @property
    def done(self) -> bool:
        """Whether the answer will not change any more."""
        if self._git is None or self._owner != os.getpid():
            return True
        # Without waiting: whoever holds the lock is just finding out, and may be a signal's
        # handler further down in this thread.
        if self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        return self._git is None

    def result(self, wait: float = 0.0) -> bool | None:
        """Tell whether the code differs from its commit.

        Args:
            wait: How many seconds to wait for the answer.

        Returns:
            True or False, or None if that is not known yet or cannot be known.
        """
        deadline = monotonic() + wait
        while not self.done and (left := deadline - monotonic()) > 0:
            sleep(min(left, _PAUSE))
        return self._answer

    def serves(self, folder: str | None) -> bool:
        """Tell whether this check answers for `folder`, now and in this process."""
        fresh = monotonic() - self._started < _ANSWER_KEPT
        known = self._answer is not None or self._owner == os.getpid()
        return fresh and known and self._root == _repository(folder)[0]

    def _look(self) -> None:
        if self._git is None:  # another thread has just seen it end
            return
        code = self._git.poll()
        if code is not None:
            self._answer = _ANSWERS.get(code)
            self._git = None
        elif monotonic() - self._started > _GIT_TIME_LIMIT:
            self._git.kill()

    def __del__(self) -> None:
        git = self._git
        if git is not None and not self.done:
            git.kill()
            self.result(wait=1.0)  # reaps it: nobody else will


_latest: DirtyCheck | None = None


def dirty_check() -> DirtyCheck:
    """Return the check of the main script's repository; it is asked anew after a minute."""
    global _latest
    folder = _code_folder()
    check = _latest
    if check is None or not check.serves(folder):
        check = _latest = DirtyCheck(folder)
    return check


def _start_git(root: str) -> _Spawned | Popen[bytes] | None:
    command = ["git", "-C", root, *_GIT_OPTIONS, *_GIT_QUESTION]
    start = _Spawned if hasattr(os, "posix_spawnp") else _popen
    try:
        unread, output = os.pipe()
        os.close(unread)
        with open(output, "wb", 0):
            return start(command, _git_environment(), output)
    except (OSError, ValueError, KeyError):  # KeyError: a thread took a variable away meanwhile
        return None


def _git_environment() -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if key not in _GIT_PLACES}
    return inherited | _GIT_SETTINGS


class _Spawned:
    """A process started by `posix_spawn`, which spares the import of subprocess."""

    def __init__(self, command: list[str], environment: dict[str, str], output: int) -> None:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, 0, 2),
            *((os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _inheritable()),
        ]
        self._pid = os.posix_spawnp(command[0], command, environment, file_actions=actions)

    def poll(self) -> int | None:
        try:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:
            # Somebody else waited for all children, or SIGCHLD is ignored: it is gone, no more
            # is known, and its number may be another process's by now.
            return -1
        return os.waitstatus_to_exitcode(status) if pid else None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, _SIGKILL)


def _inheritable() -> list[int]:
    """List the descriptors, but for the first three, that a child would hold open."""
    found = []
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # the one that listed them is closed by now
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
    return found


def _popen(command: list[str], environment: dict[str, str], output: int) -> Popen[bytes]:
    import subprocess

    return subprocess.Popen(  # noqa: S603  # a fixed command
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.DEVNULL,
        env=environment,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
