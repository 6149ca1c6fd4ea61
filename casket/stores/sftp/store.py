"""The JSON document on another machine, over SFTP, appended in place by many machines.

An append whose answer was lost may have been written or not. It raises and is to be repeated;
records that are stored already are then dropped.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Unpack

from casket.format.records import Record
from casket.stores import base
from casket.stores.jsonfile.document import JsonDocument
from casket.stores.jsonfile.files import FilePort
from casket.stores.remote import repeats
from casket.stores.sftp import lock
from casket.stores.sftp.address import SftpLocation
from casket.stores.sftp.copies import Claims, Copies
from casket.stores.sftp.file import SftpFile
from casket.stores.sftp.files import SftpFiles
from casket.stores.sftp.ssh import Connection
from casket.system import forks


class SftpStore:
    """A JSON document on another machine.

    Args:
        url: `user@host:path` or `sftp://user@host:port/path`, without a password.
        options: the options of the store; writes are synced if the server supports it.
    """

    drops_copies = True
    lease_duration = lock.DURATION
    """Seconds after which a silent writer is considered dead."""

    def __init__(self, url: str, options: base.StoreOptions = base.DEFAULTS) -> None:
        self._address = SftpLocation.of(url)
        self._connection = Connection(self._address)
        self._copies, self._claims = Copies(), Claims()
        # Acquiring the lock shows whether the path refers to the file, without a round trip.
        self._document = JsonDocument(
            self._open, self._address, options._replace(create=True), always_looks=True
        )
        self.after_fork()
        forks.renew_in_children(self)

    def after_fork(self) -> None:
        """Drop the connection, which belongs to the parent, and use a lock identity of its own."""
        self._mutex = threading.RLock()
        self._connection.leave()
        self._document.after_fork()
        self._connection = Connection(self._address)
        self._lease = lock.Lease(self.lease_duration)
        self._locked: SftpFile | None = None
        self._appending = 0  # the id of the thread that appends

    def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
        with self._mutex:
            self._copies.expect(records)
            if self._copies.is_first_look:
                self._look_before_locking(claim)
            self._appending = threading.get_ident()
            try:
                self._document.append(records, partial(self._lacking, claim, records))
            except base.Claimed:
                self._copies.withdraw()
                raise
            finally:
                self._appending = 0
            return self._copies.confirm(records, self._document.left)

    def records(self, **chosen: Unpack[base.Chosen]) -> Iterator[base.Numbered]:
        return self._document.reader.records(**chosen)

    @property
    def files(self) -> SftpFiles:
        """The artifacts, in a folder beside the document."""
        return SftpFiles(lambda: self._connection, self._address)

    def prune(self, tombstone: Record, /) -> None:
        self._document.prune(tombstone)

    def close(self) -> None:
        with self._mutex:
            self._document.close()
            self._connection.close()

    def _open(self, *, writing: bool) -> SftpFile:
        if writing:
            self._locked = SftpFile(self._connection, self._address, self._lease)
            return self._locked
        locked = self._locked if self._appending == threading.get_ident() else None
        return SftpFile(self._connection, self._address, None, locked)

    def _look_before_locking(self, claim: str | None) -> None:
        """Read the whole file, so that only later lines are read while the lock is held."""
        with (
            contextlib.suppress(FileNotFoundError),
            contextlib.closing(self._open(writing=False)) as file,
        ):
            self._copies.look(file)
            if claim is not None:
                self._claims.look(file)

    def _lacking(
        self, claim: str | None, records: Sequence[Record], file: FilePort
    ) -> Sequence[Record]:
        """Return the records that the file lacks, unless their claim is held."""
        self._copies.look(file)
        if claim is not None and repeats.must_ask(claim, records, self._copies.stored):
            is_known = self._claims.look(file)
            read = self._claims.records if is_known else self._document.reader.records
            base.refuse_held(claim, read, records)
        return self._copies.lacking(records)
