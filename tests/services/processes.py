"""What starting a server takes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

PATIENCE = 60.0
"""Seconds a server may take to start or to stop."""


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait until a process listens on a port; tell whether it does, or has ended instead."""
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


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def remove(folder: Path) -> None:
    """Remove what a server left, whoever owns it."""
    shutil.rmtree(folder, ignore_errors=True)
