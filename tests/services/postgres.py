"""A throwaway PostgreSQL server."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.services.processes import (
    free_port,
    is_root,
    kill_with_descendants,
    remove,
    stop,
    wait_for_port,
)
from tests.waiting import eventually

TRIES = 3
"""How often another port is tried, when somebody took the free one first."""


def binaries() -> Path | None:
    """Return the folder of the newest server that is installed."""
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    installed = [folder for folder in folders if (folder / "initdb").exists()]
    return max(installed, key=lambda folder: float(folder.parent.name), default=None)


class Postgres:
    """A server with its data in a folder of its own. Everybody on loopback is let in.

    The user `guest` must give the password `geheim`.
    """

    def __init__(self) -> None:
        folder = binaries()
        if folder is None:
            pytest.skip("PostgreSQL is not installed")
        self._binaries = folder
        # Not below a folder of pytest's, which another user may not enter.
        self.folder = Path(tempfile.mkdtemp(prefix="casket-postgres-"))
        self._user = _server_user() if is_root() else None
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self._data = self.folder / "data"
        self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                  "--locale=C.UTF-8", "--no-sync")  # fmt: skip
        rules = self._data / "pg_hba.conf"
        rules.write_text("host all guest all scram-sha-256\n" + rules.read_text())
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, on its previous port if it had any."""
        for _ in range(TRIES):
            port = self.port or free_port()
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    [
                        *(self._binaries / "postgres", "-D", self._data, "-p", str(port)),
                        *("-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"),
                        *("-c", f"unix_socket_directories={self.folder}"),
                    ],
                    stdout=log,
                    stderr=log,
                    **self._identity(),
                )
            if wait_for_port(port, self._process):
                self.port = port
                self._wait_until_ready()
                return
        pytest.fail(f"PostgreSQL does not start: {(self.folder / 'log').read_text()[-500:]}")

    def stop(self, how: int = signal.SIGINT) -> None:
        """Stop it, by default like a `fast` shutdown."""
        if self._process is not None:
            stop(self._process, how)

    def kill(self) -> None:
        """Kill it and all it has started, as a power cut would."""
        if self._process is not None:
            kill_with_descendants(self._process)

    def discard(self) -> None:
        """Stop it and remove its data."""
        self.stop(signal.SIGQUIT)
        remove(self.folder)

    def url(self, database: str = "postgres", user: str = "postgres", password: str = "") -> str:
        """Return the URL of a database."""
        login = f"{user}:{password}" if password else user
        return f"postgresql://{login}@127.0.0.1:{self.port}/{database}"

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as the superuser; return its output."""
        command = [self._binaries / "psql", "-qAtX", "-v", "ON_ERROR_STOP=1"]
        ran = subprocess.run(
            [*command, "-d", self.url(database), "-c", statement],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    def _wait_until_ready(self) -> None:
        """Wait until it lets clients in: it listens before, while it recovers."""
        command = [self._binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        eventually(
            lambda: subprocess.run(command, check=False).returncode == 0,
            "PostgreSQL does not get ready",
        )

    def _run(self, program: str, *arguments: str | Path) -> None:
        ran = subprocess.run(
            [self._binaries / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            **self._identity(),
        )
        assert ran.returncode == 0, ran.stderr

    def _identity(self) -> dict[str, Any]:
        """Return the options for a process of another user: PostgreSQL refuses root."""
        options: dict[str, Any] = {"cwd": self.folder}
        if self._user is not None:
            options |= {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        return options


def _server_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")
