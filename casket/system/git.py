"""The git state of the running code: commit, branch and uncommitted changes.

The commit is read from git's own files, which takes microseconds. Detecting uncommitted changes
requires git itself, which runs in the background (`DirtyCheck`).
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from threading import Event, Lock
from time import monotonic, sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from subprocess import Popen

_SYMBOLIC_LINKS_FOLLOWED = 5
_ANSWER_KEPT = 60.0
_GIT_TIME_LIMIT = 10.0
_PAUSE = 0.002
# `git diff --quiet` would lock and rewrite the index where files were touched. The file monitor is
# disabled because git would leave it running.
_GIT_OPTIONS = ("--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "status.renames=false")
# A larger file counts as binary: it holds data, and its changes would fill a patch.
# `git diff` would rewrite the index where files were touched.
_PATCH_OPTIONS = (
    *("-c", "core.bigFileThreshold=1m", "-c", "core.quotePath=false"),
    *("-c", "diff.autoRefreshIndex=false"),
)
_GIT_QUESTION = (
    "status",
    "--porcelain",
    "--untracked-files=no",
    "--ignore-submodules=untracked",
)
_SIGKILL = 9
_SIGPIPE = 13
# The pipe has no reader, so git ends with a broken pipe as soon as it reports a change.
_ANSWERS = {0: False, -_SIGPIPE: True, 128 + _SIGPIPE: True}
# These variables would point git to a different repository from the one whose commit is recorded.
_GIT_PLACES = frozenset(
    ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")
)
_GIT_SETTINGS = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1"}


def plain(text: str) -> str:
    """Return the text in a form that UTF-8 can encode.

    Bytes of a name that are not UTF-8 become lone surrogates, which JSON cannot hold.
    """
    return text.encode(errors="backslashreplace").decode()


def commit_and_branch() -> tuple[str | None, str | None]:
    """Return the commit and branch of the main script's repository, each None if unknown."""
    _, git_folder = _repository(_code_folder())
    return _head(git_folder) if git_folder else (None, None)


def committed_root() -> tuple[str, str] | None:
    """Return the root of the main script's repository and its commit; None if it has none."""
    root, git_folder = _repository(_code_folder())
    commit = _head(git_folder)[0] if git_folder else None
    return (root, commit) if root and commit else None


def _head(git_folder: str) -> tuple[str | None, str | None]:
    head = _read(os.path.join(git_folder, "HEAD"))
    link = _link(head)
    # A reftable repository has refs/heads/.invalid here and keeps its real HEAD elsewhere.
    if link is None or link.startswith("refs/heads/."):
        return _hash(head), None
    is_branch = link.startswith("refs/heads/")
    branch = plain(link.removeprefix("refs/heads/")) if is_branch else None
    return _resolve(git_folder, link), branch


def _code_folder() -> str | None:
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    try:
        return os.path.dirname(os.path.realpath(script)) if script else os.getcwd()
    except (OSError, TypeError, ValueError):
        return None


def _repository(folder: str | None) -> tuple[str, str] | tuple[None, None]:
    """Return the root of the repository containing `folder`, and its git directory."""
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
    # Worktrees and submodules have a file there that contains the path of the git directory.
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
    """A background check for uncommitted changes in the code.

    The constructor starts git without waiting for it. Untracked files are ignored. In a forked
    child, a result that was not available before the fork stays None.

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
        """Whether the result is final."""
        if self._git is None or self._owner != os.getpid():
            return True
        # Without blocking: the holder of the lock is already polling, and this call may be a
        # signal handler that interrupted it in the same thread.
        if self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        return self._git is None

    def result(self, wait: float = 0.0) -> bool | None:
        """Return whether the code differs from its commit.

        Args:
            wait: The maximum number of seconds to wait for the result.

        Returns:
            True or False, or None if it is not known yet or cannot be determined.
        """
        deadline = monotonic() + wait
        while not self.done and (left := deadline - monotonic()) > 0:
            sleep(min(left, _PAUSE))
        return self._answer

    def serves(self, folder: str | None) -> bool:
        """Return whether this check is still valid for `folder` in this process."""
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
            self.result(wait=1.0)  # reaps the process, which nothing else does


_latest: DirtyCheck | None = None


def dirty_check() -> DirtyCheck:
    """Return the check of the main script's repository, repeated after a minute."""
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
    except (OSError, ValueError, KeyError):  # KeyError: another thread removed a variable
        return None


def _git_environment() -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if key not in _GIT_PLACES}
    return inherited | _GIT_SETTINGS


class GitCall:
    """A running git command, which locks nothing and runs no other program of its own.

    Args:
        root: the root of the repository.
        command: the name of the command.
        arguments: its arguments.

    Raises:
        OSError: git cannot be run.
    """

    def __init__(self, root: str, command: str, *arguments: str) -> None:
        import tempfile

        self._command = command
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `output`
        with contextlib.ExitStack() as failing:
            failing.callback(self._output.close)
            self._process = self._start(root, [command, *arguments])
            failing.pop_all()

    def _start(self, root: str, command: list[str]) -> Popen[bytes]:
        import subprocess

        return subprocess.Popen(  # noqa: S603  # a fixed command
            ["git", "-C", root, *_GIT_OPTIONS, *_PATCH_OPTIONS, *command],  # noqa: S607
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.DEVNULL,
            env=_git_environment(),
        )

    def output(self, stop: Event, most: int) -> tuple[bytes, str | None]:
        """Wait for the command, at most 10 seconds.

        Args:
            stop: when set, the command is killed.
            most: the number of bytes beyond which the command is killed.

        Returns:
            The output, at most `most` bytes, and why it is not whole, or None if it is.
        """
        problem = None
        with self._output as output:
            deadline = monotonic() + _GIT_TIME_LIMIT
            while problem is None and self._process.poll() is None:
                is_large = os.fstat(output.fileno()).st_size > most
                if is_large or monotonic() > deadline or stop.wait(_PAUSE):
                    problem = f"has more than {most} bytes" if is_large else "took too long"
                    self._process.kill()
            code = self._process.wait()
            output.seek(0)
            content = output.read(most + 1)
        if problem is None and len(content) > most:
            problem = f"has more than {most} bytes"
        if problem is None and code:
            problem = f"failed with exit code {code}"
        return content[:most], problem and f"git {self._command} {problem}"


class _Spawned:
    """A process started by `posix_spawn`, which avoids importing subprocess."""

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
            # Other code waited for all children, or SIGCHLD is ignored: the process is gone, its
            # exit status is unknown, and its pid may belong to another process by now.
            return -1
        return os.waitstatus_to_exitcode(status) if pid else None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, _SIGKILL)


def _inheritable() -> list[int]:
    """Return the descriptors above 2 that a child would inherit."""
    descriptors = []
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # the descriptor of this listing is closed by now
            if int(name) > 2 and os.get_inheritable(int(name)):
                descriptors.append(int(name))
    return descriptors


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
