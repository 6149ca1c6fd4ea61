"""An SSH server that asks for a password, which OpenSSH's cannot without changing the system."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import paramiko


class _Doorkeeper(paramiko.ServerInterface):
    def __init__(self, password: str, method: str) -> None:
        self._password = password
        self._method = method

    def get_allowed_auths(self, username: str) -> str:
        return self._method

    def _judged(self, password: str) -> int:
        is_right = password == self._password
        return paramiko.AUTH_SUCCESSFUL if is_right else paramiko.AUTH_FAILED

    def check_auth_password(self, username: str, password: str) -> int:
        return self._judged(password) if self._method == "password" else paramiko.AUTH_FAILED

    def check_auth_interactive(
        self, username: str, submethods: str
    ) -> int | paramiko.InteractiveQuery:
        return paramiko.InteractiveQuery("", "", ("Password: ", False))

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        return self._judged(responses[0])

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED


class PasswordServer:
    """Lets everybody in who knows the password, and has no files.

    Args:
        password: the password.
        method: how it is asked for: `password` or `keyboard-interactive`.
        key: the file with the server's key.
    """

    def __init__(self, password: str, method: str, key: Path) -> None:
        self._doorkeeper = _Doorkeeper(password, method)
        self._key = paramiko.Ed25519Key.from_private_key_file(str(key))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._transports: list[paramiko.Transport] = []
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        # Closing alone would not wake other threads that wait for it.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for transport in self._transports:
            transport.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                transport = paramiko.Transport(client)
                self._transports.append(transport)
                transport.add_server_key(self._key)
                transport.set_subsystem_handler("sftp", paramiko.SFTPServer)
                with contextlib.suppress(paramiko.SSHException, EOFError):
                    transport.start_server(server=self._doorkeeper, event=threading.Event())
