"""The artifacts of a JSON document on another machine, in the folder `<file>.files` beside it.

So they are those of the same file when it is opened on that machine.
"""

from __future__ import annotations

import contextlib
import errno
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import BinaryIO

from casket.errors import NotFound, StoreFull, StoreRefused, StoreUnavailable
from casket.format.files import CHUNK, NAME, StoredFile, Upload, is_unfinished, missing_file
from casket.stores.sftp import wire
from casket.stores.sftp.address import SftpLocation
from casket.stores.sftp.ssh import Connection

_WRITING = wire.READ | wire.WRITE | wire.CREATE


class SftpFiles:
    """The files of a document; see `casket.format.files.Files`.

    Args:
        connection: returns the connection to the machine.
        address: the document.
    """

    def __init__(self, connection: Callable[[], Connection], address: SftpLocation) -> None:
        self._connection = connection
        self._address = address
        self._location = str(address)

    def renew(self, name: str, modified: datetime, /) -> bool:
        with self._session() as session:
            path = f"{self._folder(session)}/{name}"
            [link] = session.ask(wire.stat_of_link(path))
            if link.failure() is not None or not stat.S_ISREG(wire.stat(link).mode):
                return False
            session.do(wire.set_time(path, int(modified.timestamp())))
            return True

    def put(self, upload: Upload, content: BinaryIO, /) -> None:
        with self._session() as session:
            folder = self._folder(session)
            [there] = session.ask(wire.stat_of(folder))
            if there.failure() is not None:
                session.do(wire.make_folder(folder))
            with _opened(session, f"{folder}/{upload.part}", _WRITING) as handle:
                self._send(session, handle, content)
                if wire.SYNC in session.offers:
                    session.do(wire.sync(handle))
            session.do(wire.rename(f"{folder}/{upload.part}", f"{folder}/{upload.name}"))
            seconds = int(upload.modified.timestamp())
            session.do(wire.set_time(f"{folder}/{upload.name}", seconds))

    def _send(self, session: wire.Session, handle: bytes, content: BinaryIO) -> None:
        """Send the content that has not arrived.

        The last part may have arrived in pieces, with gaps between them, and is sent again.
        """
        size = wire.stat(session.do(wire.stat_of_handle(handle))).size
        at = content.seek(max(0, size - CHUNK) // CHUNK * CHUNK)
        while chunk := content.read(CHUNK):
            session.write_all(handle, at, chunk)
            at += len(chunk)
        session.do(wire.set_size(handle, at))

    def read(self, name: str, start: int = 0, /) -> Iterator[bytes]:
        with self._session() as session:
            path = f"{self._folder(session)}/{name}"
            [link] = session.ask(wire.stat_of_link(path))
            if link.failure() is not None or not stat.S_ISREG(wire.stat(link).mode):
                raise missing_file(name, self._location)
            with _opened(session, path, wire.READ) as handle:
                while chunk := session.read(handle, start, CHUNK):
                    yield chunk
                    start += len(chunk)

    def listed(self) -> Iterator[StoredFile]:
        with self._session() as session, contextlib.suppress(FileNotFoundError):
            for name, status in session.entries(self._folder(session)):
                if stat.S_ISREG(status.mode) and _is_ours(name):
                    modified = datetime.fromtimestamp(status.changed, UTC)
                    yield StoredFile(name, status.size, modified)

    def delete(self, name: str, modified: datetime | None = None, /) -> bool:
        with self._session() as session:
            path = f"{self._folder(session)}/{name}"
            [there] = session.ask(wire.stat_of_link(path))
            if there.failure() is not None:
                return False
            changed = datetime.fromtimestamp(wire.stat(there).changed, UTC)
            if modified is not None and changed > modified:
                return False
            return session.ask(wire.remove(path))[0].failure() is None

    def _folder(self, session: wire.Session) -> str:
        """Return the folder, beside the document itself, so that links to it share the folder."""
        return f"{session.full_path(self._address.path)}.files"

    @contextlib.contextmanager
    def _session(self) -> Iterator[wire.Session]:
        connection = self._connection()
        session = connection.session()
        try:
            yield session
        except (StoreUnavailable, NotFound):
            raise
        except wire.BrokenChannel as error:
            connection.drop()
            advice = f"{error}; the files are sent or fetched again"
            raise StoreUnavailable(self._location, advice, errno.ECONNRESET) from None
        except PermissionError:
            advice = f"no permission for the folder {self._address.path}.files; ask its owner"
            raise StoreRefused(self._location, advice, errno.EACCES) from None
        except FileNotFoundError:
            advice = "its folder does not exist; create it first, or correct the path"
            raise StoreRefused(self._location, advice, errno.ENOENT) from None
        except OSError as error:
            raise self._failure(session, error) from None
        finally:
            connection.give_back(session)

    def _failure(self, session: wire.Session, error: OSError) -> StoreUnavailable:
        """Return the error for a refused request; the protocol has no code for a full disk."""
        has_room = session.is_broken or session.has_room(self._address.path)
        if error.errno == errno.EIO and not has_room:
            advice = "the file was not stored; make room and continue"
            return StoreFull(self._location, advice, errno.ENOSPC)
        advice = f"the server says: {error.strerror}"
        return StoreUnavailable(self._location, advice, error.errno or errno.EIO)


@contextlib.contextmanager
def _opened(session: wire.Session, path: str, flags: int) -> Iterator[bytes]:
    handle = session.open(path, flags)
    try:
        yield handle
    finally:
        if not session.is_broken:
            session.ask(wire.close(handle))


def _is_ours(name: str) -> bool:
    return bool(NAME.fullmatch(name)) or (is_unfinished(name) and name.endswith((".part", ".tmp")))
