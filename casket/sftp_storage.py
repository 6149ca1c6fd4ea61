"""A TinyDB on another machine: `TinyDB("user@host:~/db.json", storage=SFTPStorage)`."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from tinydb.storages import Storage

from casket.errors import BadLocation
from casket.stores.sftp.address import Address
from casket.stores.sftp.lock import Baton
from casket.stores.sftp.ssh import Connection
from casket.stores.sftp.store import SftpFile
from casket.system import forks


class SFTPStorage(Storage):
    """Reads and writes whole documents, as TinyDB does.

    A document is replaced as a whole: readers see the old one or the new. Of two that change it at
    once TinyDB keeps the last; where several write at once, use `casket.Experiment`, which appends.

    Args:
        url: `user@host:path` or `sftp://user@host:port/path`; the file need not exist, its folder
            must.
        access_mode: `r` to refuse writing.
        json_options: for `json.dumps`, such as `indent`.

    Raises:
        BadLocation: the location or the access mode is none.
        StoreUnavailable: the machine cannot be reached, or refuses.
    """

    def __init__(self, url: str, access_mode: str = "r+", **json_options: Any) -> None:
        super().__init__()
        if access_mode not in {"r", "r+"}:
            raise BadLocation(f"access_mode={access_mode!r}: give r or r+")
        self._address = Address.read(url)
        self._is_read_only = access_mode == "r"
        self._json_options = json_options
        self._connection = Connection(self._address)
        self.after_fork()
        forks.renew_in_children(self)

    def after_fork(self) -> None:
        """Let go of the connection, which is the parent's, and be another holder of the lock."""
        self._connection.leave()
        self._connection = Connection(self._address)
        self._baton = Baton()

    def read(self) -> dict[str, dict[str, Any]] | None:
        """Return the document; None if there is none yet."""
        try:
            with contextlib.closing(SftpFile(self._connection, self._address, None)) as file:
                text = file.read_at(0, file.size())
        except FileNotFoundError:
            return None
        document: dict[str, dict[str, Any]] | None = json.loads(text) if text.strip() else None
        return document

    def write(self, data: dict[str, dict[str, Any]]) -> None:
        """Put a document in place of the one that is there.

        Raises:
            BadLocation: it was opened to read.
        """
        if self._is_read_only:
            raise BadLocation(f"{self._address} was opened with access_mode='r': it is read only")
        text = json.dumps(data, **self._json_options).encode()
        with contextlib.closing(SftpFile(self._connection, self._address, self._baton)) as file:
            file.lock()
            file.replace([text])
            file.unlock()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
