"""Standard output and error of the process and its children, through a process of their own.

The descriptors 1 and 2 become pipes to `casket.writing.capture.tee`, which forwards to where they
led before. The streams of notebooks, which write elsewhere, are listened to as well.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from threading import RLock
from typing import Any

from casket.system import forks

PATIENCE = 0.5
"""How many seconds to wait for an answer of the process at the end."""

LINGER = 0.5
"""How many seconds to wait for the process to exit; it stays while children of the script print."""

START_PATIENCE = 5.0
"""How many seconds a second session waits for an answer at its start."""

_DESCRIPTORS = {"stdout": 1, "stderr": 2}
_DEBUGGERS = ("pdb", "bdb", "pydevd", "_pydevd_bundle", "debugpy", "pudb")
_TEE = Path(__file__).with_name("tee.py")


class OutputNotCaptured(Exception):
    """Output cannot be captured, or not any more; the message says why."""


def why_not() -> str | None:
    """Return why the output of this process is left alone, or None if it can be captured."""
    if "_pytest.capture" in sys.modules:
        return "off, because pytest captures output itself"
    if _is_debugged():
        return "off, because a debugger is running"
    if hasattr(sys, "ps1") and not _is_kernel():
        return "off in an interactive session"
    if not sys.executable or not hasattr(os, "fork"):
        return "not supported on this platform"
    return None


def _is_debugged() -> bool:
    trace = sys.gettrace()
    module = getattr(trace, "__module__", None) or type(trace).__module__
    monitoring: Any = getattr(sys, "monitoring", None)
    is_monitored = monitoring is not None and monitoring.get_tool(monitoring.DEBUGGER_ID)
    return bool(is_monitored) or str(module).partition(".")[0] in _DEBUGGERS


def _is_kernel() -> bool:
    """Return whether this process is the kernel of a notebook."""
    ipython: Any = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class _Echo:
    """Where a stream of ipykernel writes to as well.

    Args:
        descriptor: the descriptor to write to.
        earlier: the echo that the stream had before, or None.
    """

    def __init__(self, descriptor: int, earlier: Any) -> None:
        self._descriptor = descriptor
        self.earlier = earlier

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the process is gone
            os.write(self._descriptor, text.encode(errors="replace"))
        if self.earlier is not None:
            self.earlier.write(text)

    def flush(self) -> None:
        if self.earlier is not None:
            self.earlier.flush()


class Tee:
    """The redirected output of this process, and the process that it goes through.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(self) -> None:
        self.users = 0
        self._lock = RLock()
        self._saved: dict[int, tuple[int, int]] = {}
        self._heard: list[tuple[Any, _Echo]] = []
        with contextlib.ExitStack() as open_until_started:
            self._start(open_until_started)

    def _start(self, opened: contextlib.ExitStack) -> None:
        self._control, control = socket.socketpair()
        opened.enter_context(control)
        passed = [control.fileno()]
        ends: dict[int, int] = {}
        for descriptor in (*_DESCRIPTORS.values(), -1):
            try:
                target = os.dup(descriptor) if descriptor >= 0 else -1
            except OSError:  # it is closed
                continue
            reading, ends[descriptor] = os.pipe()
            opened.callback(os.close, reading)
            passed += [reading, target]
            if target >= 0:
                self._saved[descriptor] = (target, os.fstat(ends[descriptor]).st_ino)
        self._process = subprocess.Popen(  # noqa: S603  # a fixed command
            [sys.executable, "-I", "-S", str(_TEE), *map(str, passed)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[number for number in passed if number >= 0],
            start_new_session=True,
        )
        _flush()
        self._listening = ends.pop(-1)
        for descriptor, end in ends.items():
            os.dup2(end, descriptor)
            os.close(end)
        self._listen()

    def _listen(self) -> None:
        """Listen to the streams of a notebook, which do not write to the descriptors."""
        for name in _DESCRIPTORS:
            stream: Any = getattr(sys, name, None)
            if hasattr(stream, "echo"):
                echo = _Echo(self._listening, stream.echo)
                stream.echo = echo
                self._heard.append((stream, echo))

    def ask(self, request: str, patience: float) -> bytes:
        """Return the answer to a request, after all output so far has been forwarded.

        Args:
            request: the request; see `casket.writing.capture.tee`.
            patience: how many seconds to wait at most.

        Raises:
            OutputNotCaptured: there is no answer in time, now or earlier.
        """
        _flush()
        try:
            with self._lock:
                self._control.settimeout(patience)
                self._control.sendall(request.encode())
                with self._control.makefile("rb") as answers:
                    size = int(answers.readline())
                    answer = answers.read(size)
        except (OSError, ValueError) as error:
            self._control.close()  # a process that is still answering must not wait
            raise OutputNotCaptured(f"no answer of the process that keeps it: {error}") from error
        return answer

    def close(self) -> None:
        """Let the output go where it went before."""
        _flush()
        for stream, echo in self._heard:
            if stream.echo is echo:
                stream.echo = echo.earlier
        for descriptor, (saved, pipe) in self._saved.items():
            with contextlib.suppress(OSError):  # closed by the script
                if os.fstat(descriptor).st_ino == pipe:
                    os.dup2(saved, descriptor)
            os.close(saved)
        self._control.close()
        os.close(self._listening)
        try:
            self._process.wait(LINGER)
        except subprocess.TimeoutExpired:
            _outliving.append(self._process)  # a child of the script still prints

    def leave_to_parent(self) -> None:
        """Forget the process in a forked child, whose output stays captured."""
        self._control.close()
        self._process.returncode = 0  # it is no child of this process


_lock = RLock()
_tee: Tee | None = None
_outliving: list[subprocess.Popen[bytes]] = []


class Tap:
    """The output of this process from now on.

    Raises:
        OutputNotCaptured: output cannot be captured here.
    """

    def __init__(self) -> None:
        global _tee
        reason = why_not()
        if reason is not None:
            raise OutputNotCaptured(reason)
        with _lock:
            try:
                _tee = self._tee = _tee or Tee()
            except OSError as error:
                raise OutputNotCaptured(str(error)) from error
            self._tee.users += 1
            try:
                # The process may still be starting for the first session, which gets everything.
                is_first = self._tee.users == 1
                self._start = 0 if is_first else int(self._tee.ask("mark", START_PATIENCE))
            except OutputNotCaptured:
                self.close()
                raise

    def text(self) -> bytes:
        """Return the output so far, at most its last megabyte.

        Raises:
            OutputNotCaptured: it is not known any more.
        """
        return self._tee.ask(f"since {self._start}", PATIENCE)

    def close(self) -> None:
        """Stop capturing, unless others do."""
        global _tee
        with _lock:
            self._tee.users -= 1
            if self._tee.users == 0 and _tee is self._tee:
                _tee = None
                self._tee.close()


class _Forks:
    """Forgets the parent's output in forked children."""

    def after_fork(self) -> None:
        global _lock, _tee
        _lock = RLock()
        if _tee is not None:
            _tee.leave_to_parent()
            _tee = None


_forks = _Forks()
forks.renew_in_children(_forks)


def _flush() -> None:
    """Write what Python and C hold back."""
    for name in _DESCRIPTORS:
        with contextlib.suppress(AttributeError, OSError, ValueError):  # closed, or none
            getattr(sys, name).flush()
    try:
        import ctypes

        library = ctypes.CDLL(None)
        for name in ("stdout", "stderr"):
            symbol = f"__{name}p" if sys.platform == "darwin" else name
            library.fflush(ctypes.c_void_p.in_dll(library, symbol))
    except (ImportError, OSError, ValueError, AttributeError):  # a C library of another kind
        return
