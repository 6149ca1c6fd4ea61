"""Running a command for each session of a sweep, several at a time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import monotonic
from typing import IO, Any

from casket.reading.columns import flatten
from casket.writing.capture.transcript import without_secrets
from casket.writing.sweep import SweepSession

OUTPUT = "output.txt"
LONGEST_OUTPUT = 2**20
"""Bytes of a command's output that are kept: the last ones."""

TERMINATING = 5.0
"""Seconds between SIGTERM and SIGKILL."""

_PLACEHOLDER = re.compile(r"\{([\w.\-/]+)\}")


class Commands:
    """Runs a command for each session that sweeps yield, as many at a time as there are sweeps.

    Args:
        sweeps: one sweep of the same space for each command that runs at a time.
        command: the words of the command; `{name}` stands for a param.
        environment: additional variables for each of the sweeps.
        stopping: set to start no further commands; the sweeps test it, too.
    """

    def __init__(
        self,
        sweeps: Sequence[Iterator[SweepSession]],
        command: Sequence[str],
        environment: Callable[[int, SweepSession], Mapping[str, str]],
        stopping: threading.Event,
    ) -> None:
        self._command, self._environment = command, environment
        self._stopping = stopping
        self._ending = threading.Event()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(len(sweeps), "casket-sweep")
        self._work = [
            self._pool.submit(self._run_all, number, sweep) for number, sweep in enumerate(sweeps)
        ]

    def wait(self, seconds: float) -> bool:
        """Wait for the end of all commands; return whether they have ended.

        Raises:
            CasketError: a session could not be started or ended.
        """
        ended, running = futures.wait(self._work, seconds, futures.FIRST_EXCEPTION)
        for work in ended:
            if work.exception() is not None:
                self.stop()
                work.result()
        return not running

    def stop(self) -> None:
        """Start no further commands."""
        self._stopping.set()

    def terminate(self) -> None:
        """End the running commands: SIGTERM, and SIGKILL after five seconds."""
        self._stopping.set()
        self._ending.set()
        with self._lock:
            running = list(self._running)
        for process in running:
            _signal(process, signal.SIGTERM)
        deadline = monotonic() + TERMINATING
        for process in running:
            try:
                process.wait(max(deadline - monotonic(), 0))
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)

    def _run_all(self, number: int, sweep: Iterator[SweepSession]) -> None:
        for session in sweep:
            if self._stopping.is_set():
                session.end("killed")
                return
            self._run(number, session)

    def _run(self, number: int, session: SweepSession) -> None:
        words = [filled(word, session.params) for word in self._command]
        environment = {**os.environ, **self._environment(number, session)}
        # A file and not a pipe, which a process that the command leaves behind would keep open.
        with tempfile.TemporaryFile() as output:
            try:
                process = self._spawn(words, environment, output)
            except OSError as error:
                session.end("failed", f"{words[0]}: {error.strerror}")
                return
            code = process.wait()
            with self._lock:
                self._running.discard(process)
            self._end(session, code, _last_bytes(output))

    def _spawn(
        self, words: list[str], environment: dict[str, str], output: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            process = subprocess.Popen(  # noqa: S603 - the command of the user, without a shell
                words,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running.add(process)
        if self._ending.is_set():
            _signal(process, signal.SIGTERM)
        return process

    def _end(self, session: SweepSession, code: int, output: bytes) -> None:
        session.add_meta({"exit_code": code})
        session.add_artifact(OUTPUT, without_secrets(output))
        if self._ending.is_set() and code != 0:
            session.end("killed")
        elif code == 0:
            session.end()
        else:
            session.fail(f"exit code {code}: {_last_line(output)}".rstrip(": "))


def filled(word: str, params: Mapping[str, Any]) -> str:
    """Return a word of a command with its placeholders replaced by params.

    Braces around something that is no param stay as they are, such as those of JSON.
    """
    flat = flatten(params)
    return _PLACEHOLDER.sub(
        lambda match: str(flat[match[1]]) if match[1] in flat else match[0], word
    )


def placeholders(command: Sequence[str]) -> list[str]:
    """Return the names of the placeholders of a command."""
    return [name for word in command for name in _PLACEHOLDER.findall(word)]


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to the process group of a command, unless it has ended."""
    if process.poll() is None:
        with suppress(ProcessLookupError):  # it has ended since
            os.killpg(process.pid, number)


def _last_bytes(file: IO[bytes]) -> bytes:
    """Return the last bytes of a file, from the start of a line."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - LONGEST_OUTPUT, 0))
    output = file.read()
    return output if size <= LONGEST_OUTPUT else output.partition(b"\n")[2] or output


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else ""
