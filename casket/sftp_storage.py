"""A TinyDB storage on a remote machine: `TinyDB("user@host:~/db.json", storage=SFTPStorage)`."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from tinydb.storages import Storage

from casket.errors import BadLocation
from casket.stores.sftp.address import SftpLocation
from casket.stores.sftp.file import SftpFile
from casket.stores.sftp.lock import Lease
from casket.stores.sftp.ssh import Connection
from casket.system import forks


class SFTPStorage(Storage):
    """A TinyDB storage that keeps its document in a file on a remote machine.

    The document is replaced atomically: readers see either the old or the new version. If two
    processes change it at once, the last write wins; for concurrent writers use
    `casket.Experiment`, which appends.

    Args:
        url: `user@host:path` or `sftp://user@host:port/path`. The folder must exist, the file is
            created if needed.
        access_mode: `r` for read-only access.
        json_options: keyword arguments for `json.dumps`, such as `indent`.

    Raises:
        BadLocation: the location or the access mode is invalid.
        StoreUnavailable: the machine cannot be reached, or refuses the connection.
    """

    def __init__(self, url: str, access_mode: str = "r+", **json_options: Any) -> None:
        super().__init__()
        if access_mode not in {"r", "r+"}:
            raise BadLocation(f"access_mode={access_mode!r}: give r or r+")
        self._address = SftpLocation.of(url)
        self._is_read_only = access_mode == "r"
        self._json_options = json_options
        self._connection = Connection(self._address)
        self.after_fork()
        forks.renew_in_children(self)

    def after_fork(self) -> None:
        """Drop the connection, which belongs to the parent, and use a lock identity of its own."""
        self._connection.leave()
        self._connection = Connection(self._address)
        self._lease = Lease()

    def read(self) -> dict[str, dict[str, Any]] | None:
        """Return the document, or None if it does not exist yet."""
        try:
            with contextlib.closing(SftpFile(self._connection, self._address, None)) as file:
                text = file.read_at(0, file.size())
        except FileNotFoundError:
            return None
        document: dict[str, dict[str, Any]] | None = json.loads(text) if text.strip() else None
        return document

    def write(self, data: dict[str, dict[str, Any]]) -> None:
        """Replace the document.

        Raises:
            BadLocation: the storage was opened read-only.
        """
        if self._is_read_only:
            raise BadLocation(f"{self._address} was opened with access_mode='r': it is read only")
        text = json.dumps(data, **self._json_options).encode()
        with contextlib.closing(SftpFile(self._connection, self._address, self._lease)) as file:
            file.lock()
            file.replace([text])
            file.unlock()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
