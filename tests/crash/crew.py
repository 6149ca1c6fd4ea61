"""Processes for the tests of this folder: forked from a warm server, so that many are cheap."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from casket import CasketWarning
from tests.waiting import PATIENCE

START_METHOD = "forkserver"
context: Any = multiprocessing.get_context(START_METHOD)


class Crew:
    """The processes of a test; those that still run at its end are killed.

    Args:
        folder: where they work, and where they leave their errors and acknowledgements.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.members: list[BaseProcess] = []

    def start(self, work: Callable[..., None], *args: Any) -> BaseProcess:
        """Run `work(*args)` in a process of its own."""
        member = context.Process(target=_run, args=(self.folder, work, args))
        member.start()
        self.members.append(member)
        return member

    def kill(self, *members: BaseProcess) -> None:
        """Kill processes as `kill -9` does and wait until they are gone; fail if any failed."""
        self.remove(members)
        failed = [member.exitcode for member in members if member.exitcode != -signal.SIGKILL]
        assert not failed, "\n".join(self.errors()) or failed

    def remove(self, members: Iterable[BaseProcess]) -> None:
        """Kill processes, whatever has become of them."""
        for member in members:
            member.kill()
        for member in members:
            member.join(PATIENCE)
            assert not member.is_alive(), "a killed process lives on"
            self.members.remove(member)

    def finish(self, *members: BaseProcess) -> None:
        """Wait for processes, all of them if none is named; fail if any hangs or failed."""
        deadline = time.monotonic() + PATIENCE
        for member in members or tuple(self.members):
            member.join(max(deadline - time.monotonic(), 0))
            assert member.exitcode is not None, f"process {member.pid} hangs"
            assert member.exitcode == 0, "\n".join(self.errors()) or member.exitcode
            self.members.remove(member)

    def errors(self) -> list[str]:
        """Return the tracebacks of the processes that raised."""
        return [path.read_text() for path in sorted(self.folder.glob("*.error"))]

    def disband(self) -> None:
        self.remove(tuple(self.members))


def _run(folder: Path, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    os.chdir(folder)
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", CasketWarning)  # that something was healed is no error here
    try:
        work(*args)
    except BaseException:
        Path(f"{os.getpid()}.error").write_text(traceback.format_exc())
        raise


class Log:
    """The acknowledgements of a process, a line each, in a file that outlives it."""

    def __init__(self, path: Path | str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def add(self, *words: object) -> None:
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


def acknowledged(path: Path) -> Iterator[list[str]]:
    """Yield the words of each whole line of a log, which may not be there yet."""
    if path.exists():
        for line in path.read_text().split("\n")[:-1]:
            yield line.split()
