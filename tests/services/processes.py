"""Starting and stopping servers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal as signals
import socket
import subprocess
import time
from pathlib import Path

from tests.waiting import PATIENCE


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait until a process listens on a port or ends; return whether it listens."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.02)
    return False


def stop(process: subprocess.Popen[bytes], signal: int) -> None:
    """Send a process a signal and wait until it is gone; kill it if it stays."""
    if process.poll() is None:
        process.send_signal(signal)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def kill_with_descendants(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all it has started, as a power cut would."""
    started = _descendants(process.pid)
    stop(process, signals.SIGKILL)
    for each in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signals.SIGKILL)


def _descendants(process: int) -> list[int]:
    """Return the processes that a process has started, and those that they have."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    parents = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    family, grown = {process}, 0
    while len(family) > grown:
        grown = len(family)
        family |= {child for child, parent in parents if parent in family}
    return sorted(family - {process})


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def remove(folder: Path) -> None:
    """Remove the files of a server, whoever owns them."""
    shutil.rmtree(folder, ignore_errors=True)
