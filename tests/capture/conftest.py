"""A repository with changes of every kind, and scripts that run in it."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from casket.writing.capture import collecting, recording
from tests.waiting import PATIENCE

GIT = ("git", "-c", "user.name=me", "-c", "user.email=me@example.com", "-c", "core.autocrlf=false")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run([*GIT, "-C", str(folder), *arguments], capture_output=True, check=True)
    return done.stdout.decode(errors="replace")


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Let the end of a session wait as long as it takes: the machine may be busy."""
    monkeypatch.setattr(recording, "PATIENCE", PATIENCE)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one commit, to which the main script belongs."""
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "train.py").write_text("a = 1\nb = 2\n" + "# ...\n" * 20 + "z = 3\n")
    (folder / "gone.py").write_text("gone\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    monkeypatch.chdir(folder)
    # Each test has a working copy of its own.
    monkeypatch.setattr(collecting, "_contents", {})
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    return folder
