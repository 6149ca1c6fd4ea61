"""A throwaway SecantusDB: MongoDB's wire protocol over the WiredTiger engine.

No package index has MongoDB's own server. SecantusDB is under the GPL, so it is a tool with an
environment of its own, made on first use, and never a dependency.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pymongo
import pytest

from tests.services.processes import (
    free_port,
    kill_with_descendants,
    remove,
    stop,
    wait_for_port,
)

VERSION = "0.7.0b3"
ENVIRONMENT = Path(__file__).parents[2] / ".venv-secantus"
TRIES = 3
"""How often another port is tried, when somebody took the free one first."""


def program() -> Path | None:
    """Return the server, installed if it was not; None if it cannot be."""
    server = ENVIRONMENT / "bin" / "secantusd-py"
    ENVIRONMENT.mkdir(exist_ok=True)
    with (ENVIRONMENT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not server.exists():
            subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
            subprocess.run(
                [ENVIRONMENT / "bin" / "pip", "install", "--quiet", f"secantusdb=={VERSION}"],
                check=False,
            )
    return server if server.exists() else None


class Mongo:
    """A server with its data in a folder of its own.

    Args:
        is_standalone: do not pretend to be a replica set.
    """

    def __init__(self, *, is_standalone: bool = False) -> None:
        server = program()
        if server is None:
            pytest.skip("SecantusDB cannot be installed")
        self._program = server
        self._is_standalone = is_standalone
        self.folder = Path(tempfile.mkdtemp(prefix="casket-mongo-"))
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self, *, auth: bool = False) -> None:
        """Start it, on its previous port if it had any."""
        options = ["--auth"] * auth + ["--standalone"] * self._is_standalone
        for _ in range(TRIES):
            port = self.port or free_port()
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    [
                        *(self._program, "--host", "127.0.0.1", "--port", str(port)),
                        *("--storage-path", self.folder / "data", "--log-level", "WARNING"),
                        *("--sync-on-commit", *options),
                    ],
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    env={**os.environ, "HOME": str(self.folder)},
                )
            if wait_for_port(port, self._process):
                self.port = port
                return
        pytest.fail(f"SecantusDB does not start: {(self.folder / 'log').read_text()[-500:]}")

    def stop(self, how: int = signal.SIGTERM) -> None:
        """Stop it."""
        if self._process is not None:
            stop(self._process, how)

    def kill(self) -> None:
        """Kill it and all it has started, as a power cut would."""
        if self._process is not None:
            kill_with_descendants(self._process)

    def discard(self) -> None:
        """Stop it and remove its data."""
        self.stop()
        remove(self.folder)

    def create_user(self, name: str, password: str, role: str, database: str) -> None:
        """Add a user of a database, who needs the password once the server requires it."""
        with pymongo.MongoClient("127.0.0.1", self.port) as client:
            roles = [{"role": role, "db": database}]
            client[database].command("createUser", name, pwd=password, roles=roles)

    def url(self, database: str, login: str = "") -> str:
        """Return the URL of a database."""
        return f"mongodb://{login}127.0.0.1:{self.port}/{database}"
