"""Watching, and killing, a process at its system calls, by strace."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.crash.scripts import run_python


class Call(NamedTuple):
    """A system call: when it began, its name, and the name of the (last) file it is about."""

    time: float
    name: str
    file: str


@cache
def _can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    tried = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True)
    return tried.returncode == 0


needs_strace = pytest.mark.skipif(
    not _can_trace(), reason="needs strace, and the right to trace (apt-get install strace)"
)


def trace(code: str, folder: Path, calls: str) -> list[Call]:
    """Run code and return the calls, of those named, that it made to files in `folder`."""
    output = folder.with_name(f"{folder.name}.strace")
    options = ["-f", "--seccomp-bpf", "-y", "-ttt", "-s", "0", "-o", str(output)]
    done = run_python(code, folder, "strace", *options, "-e", f"trace={calls}")
    assert done.returncode == 0, done.stdout
    traced = []
    for line in output.read_text().splitlines():
        call = re.match(r"\d+ +([\d.]+) (\w+)\(", line)
        paths = re.findall(r"\d<([^>]*)>|\"(/[^\"]*)\"", line)
        if call and paths and Path("".join(paths[-1])).is_relative_to(folder):
            traced.append(Call(float(call[1]), call[2], Path("".join(paths[-1])).name))
    return traced


def run_and_kill_at(code: str, folder: Path, call: str, number: int) -> bool:
    """Run code and kill it as it makes a system call for the `number`-th time.

    Returns:
        Whether it came to that.
    """
    inject = f"inject={call}:signal=KILL:when={number}"
    options = ["-f", "-o", os.devnull, "-e", f"trace={call}", "-e", inject]
    done = run_python(code, folder, "strace", *options)
    assert done.returncode in {0, -signal.SIGKILL}, done.stdout
    return done.returncode != 0
