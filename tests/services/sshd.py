"""A throwaway OpenSSH server, with keys of its own and a home folder for its client."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.services.processes import (
    free_port,
    kill_with_descendants,
    remove,
    wait_for_port,
)

TRIES = 3
"""How often another port is tried, when somebody took the free one first."""


class Sshd:
    """A server that lets the user of the tests in, with the key in `home`.

    Its log lists the requests. Sessions outlive the process that listens; `stop` ends
    them too.

    Args:
        only: the permitted command: `internal-sftp`, with arguments if need be.

    Attributes:
        home: `$HOME` of the client, with its key and known hosts.
        files: a folder on the server; the client's home folder there is the user's own.
    """

    def __init__(self, only: str = "internal-sftp") -> None:
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        if program is None or shutil.which("ssh-keygen") is None:
            pytest.skip("OpenSSH's sshd is not installed")
        self._program = program
        self._only = only
        self.user = getpass.getuser()
        # Not below a folder of pytest's: sshd looks at all folders above its keys.
        self.folder = Path(tempfile.mkdtemp(prefix="casket-sshd-"))
        self.home, self.files = self.folder / "home", self.folder / "files"
        (self.home / ".ssh").mkdir(parents=True)
        self.files.mkdir()
        self.make_key(self.folder / "host")
        self.make_key(self.home / ".ssh" / "id_ed25519")
        keys = (self.home / ".ssh" / "id_ed25519.pub").read_text()
        (self.folder / "authorized").write_text(keys)
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def make_key(self, path: Path, passphrase: str = "") -> None:
        """Make a key, in place of an existing key."""
        for old in (path, path.with_name(f"{path.name}.pub")):
            old.unlink(missing_ok=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "tests", "-f", path],
            check=True,
        )

    def start(self) -> None:
        """Start it, on its previous port if it had any."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # required for its separation of privileges
        for _ in range(TRIES):
            port = self.port or free_port()
            config = self.folder / "config"
            config.write_text(
                f"ListenAddress 127.0.0.1:{port}\nHostKey {self.folder}/host\n"
                f"PidFile none\nAuthorizedKeysFile {self.folder}/authorized\n"
                "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\n"
                "PermitRootLogin prohibit-password\nStrictModes no\nUseDNS no\n"
                f"MaxStartups 200\nMaxSessions 100\nSubsystem sftp {self._only}\n"
            )
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    [self._program, "-D", "-e", "-f", config],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            if wait_for_port(port, self._process):
                self.port = port
                self.know(self.home)
                return
        pytest.fail(f"sshd does not start: {(self.folder / 'log').read_text()[-500:]}")

    def know(self, home: Path, *ports: int, host: str = "127.0.0.1") -> None:
        """Make the host key known to a client, at this port and those of proxies."""
        kind, key, *_ = (self.folder / "host.pub").read_text().split()
        lines = [f"[{host}]:{port} {kind} {key}\n" for port in (self.port, *ports)]
        (home / ".ssh" / "known_hosts").write_text("".join(lines))

    def stop(self) -> None:
        """Kill it, and all its sessions, as a power cut would."""
        if self._process is not None:
            kill_with_descendants(self._process)

    kill = stop

    def discard(self) -> None:
        """Stop it and remove its files."""
        self.stop()
        remove(self.folder)

    def url(self, path: Path | str, port: int | None = None) -> str:
        """Return the URL of a file; a path that is relative is taken from the files' folder."""
        return f"sftp://{self.user}@127.0.0.1:{port or self.port}{self.files / path}"
