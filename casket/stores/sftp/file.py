"""A JSON document's file on another machine.

`casket.stores.sftp.lock` describes the lock, `casket.stores.sftp.ssh` the connection and
`casket.stores.sftp.wire` the protocol. An append takes three round trips: acquiring the lock and
reading the end of the file, writing, releasing the lock.
"""

from __future__ import annotations

import contextlib
import errno
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from casket.errors import StoreFull, StoreRefused, StoreUnavailable
from casket.format.records import new_id
from casket.stores.jsonfile.document import PROBED
from casket.stores.sftp import wire
from casket.stores.sftp.address import SftpLocation
from casket.stores.sftp.lock import Lease, Lost
from casket.stores.sftp.ssh import Connection

NEAR_END, BEYOND = PROBED + 64, 4096
"""Bytes read while the lock is acquired, before and after the last known end of the file."""

MOST_AHEAD = 1 << 22
"""Maximum number of bytes to read ahead in sequential reading."""

COPIED = 1 << 26
"""Bytes a server copies per request, well within the time limit of a response."""


class _Buffer(NamedTuple):
    """The result of a read of `asked` bytes from `start`; there may be fewer."""

    start: int
    asked: int
    content: bytes

    @property
    def stop(self) -> int:
        return self.start + self.asked

    def has(self, offset: int, length: int) -> bool:
        return self.start <= offset and offset + length <= self.stop

    def part(self, offset: int, length: int) -> bytes:
        return self.content[offset - self.start : offset - self.start + length]


_NOTHING = _Buffer(0, 0, b"")


class SftpFile:
    """A file on another machine; see `casket.stores.jsonfile.files.FilePort`.

    Args:
        connection: to that machine.
        address: the file.
        lease: its lock; None to read only.
        locked: the same file, whose lock this thread holds and has to keep while it reads.

    Raises:
        FileNotFoundError: it is not there, or its folder is not.
        StoreUnavailable: the machine does not answer, or refuses.
    """

    def __init__(
        self,
        connection: Connection,
        address: SftpLocation,
        lease: Lease | None,
        locked: SftpFile | None = None,
    ) -> None:
        self._location = str(address)
        self._locked = locked
        self._connection = connection
        self._lease = lease
        self._handle = b""
        self._generation = ""
        self._is_open = True
        self._session = connection.session()
        self._path = self.name = address.path
        self._buffer = _NOTHING
        # With the lock held: the size, and whether the path referred to this file.
        self._size: int | None = None
        self._was_current = False
        self._end = 0
        try:
            with self._translated():
                self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        if self._lease is None:
            self._handle = self._session.open(self._path, wire.READ)
            return
        if wire.POSIX_RENAME not in self._session.offers:
            advice = f"its server is read only, or lacks {wire.POSIX_RENAME} to write with"
            raise StoreRefused(self._location, advice, errno.EOPNOTSUPP)
        self._path = self.name = self._session.full_path(self._path)
        self._lease.look(self._session, self._path)
        self._open()

    def _open(self) -> None:
        """Open the current file of the path, whose generation the lease gives."""
        if self._handle:
            self._session.ask(wire.close(self._handle))
        flags = wire.READ | wire.WRITE | wire.CREATE
        self._handle = self._session.open(self._path, flags)
        self._generation = self._held_lease.generation
        self._buffer = _NOTHING

    def size(self) -> int:
        if self._size is not None:
            return self._size
        # Data read from now on must not be older than the size.
        self._buffer = _NOTHING
        with self._translated():
            answer = self._session.do(wire.stat_of_handle(self._handle))
            return wire.stat(answer).size

    def read_at(self, offset: int, length: int) -> bytes:
        if not self._buffer.has(offset, length):
            with self._translated():
                self.keep_lock()
                if self._locked is not None:
                    self._locked.keep_lock()
                self._buffer = self._read(offset, length)
        return self._buffer.part(offset, length)

    def keep_lock(self) -> None:
        """Renew the lease if it is held and due."""
        if self._lease is not None and self._lease.is_held():
            self._lease.renew(self._session, self._path)

    def _read(self, offset: int, length: int) -> _Buffer:
        """Read ahead, more each time, if reads are sequential; else read the requested bytes."""
        before = self._buffer
        if not before.start < offset <= before.stop or len(before.content) < before.asked:
            return _Buffer(offset, length, self._session.read(self._handle, offset, length))
        kept = before.part(offset, before.stop - offset)
        ahead = max(length - len(kept), min(4 * before.asked, MOST_AHEAD))
        content = kept + self._session.read(self._handle, before.stop, ahead)
        return _Buffer(offset, len(kept) + ahead, content)

    def write_at(self, offset: int, data: bytes) -> None:
        self._buffer = _NOTHING
        with self._translated():
            self._held_lease.renew(self._session, self._path)
            try:
                self._session.write(self._handle, offset, data)
            except OSError as error:
                raise self._why_not_written(error) from None
        self._end = offset + len(data)
        self._size = max(self._size or 0, self._end)

    def truncate(self, size: int) -> None:
        self._buffer = _NOTHING
        with self._translated():
            self._held_lease.renew(self._session, self._path)
            self._session.do(wire.set_size(self._handle, size))
        self._size = self._end = size

    def lock(self) -> None:
        with self._translated():
            self._held_lease.wait(self._is_taken, self._location)

    def unlock(self) -> None:
        with self._translated():
            self._held_lease.give_up(self._session, self._path, self._generation)
        self._size = None

    def is_current(self) -> bool:
        if self._size is not None:
            return self._was_current
        with self._translated():
            return _are_one(self._session.ask(*self._whether_current()))

    def sync(self) -> None:
        with self._translated():
            self._sync(self._handle)

    def replace(self, parts: Iterable[bytes]) -> None:
        def write(handle: bytes) -> None:
            at = 0
            for part in _gathered(parts, self._session.longest):
                self._held_lease.renew(self._session, self._path)
                self._session.write(handle, at, part)
                at += len(part)

        with self._translated():
            self._replace(write)

    def keep_aside(self, data: bytes) -> str:
        name = f"{self._path}.torn"
        with self._translated():
            [link] = self._session.ask(wire.stat_of_link(name))
            if link.failure() is None and stat.S_ISLNK(wire.stat(link).mode):
                raise StoreRefused(name, "casket does not follow a link here; remove it")
            flags = wire.READ | wire.WRITE | wire.CREATE
            handle = self._session.open(name, flags)
            own = wire.stat(self._session.do(wire.stat_of_handle(self._handle)))
            self._session.do(wire.set_mode(handle, own.mode))
            size = wire.stat(self._session.do(wire.stat_of_handle(handle))).size
            at = max(0, size - len(data))
            try:
                if self._session.read(handle, at, len(data)) != data:
                    self._session.write(handle, size, data)
            except OSError as error:
                # A full disk: every attempt would add a part.
                self._session.ask(wire.set_size(handle, size))
                raise self._why_not_written(error) from None
            self._sync(handle)
            self._session.ask(wire.close(handle))
        return name

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        # Writes were confirmed or have raised an error. A lock that cannot be released is taken
        # over by the next client.
        with contextlib.suppress(OSError, Lost):
            if self._lease is not None and self._lease.is_held():
                self._lease.give_up(self._session, self._path, self._generation)
        with contextlib.suppress(OSError):
            if self._handle:
                self._session.ask(wire.close(self._handle))
        if self._lease is not None:
            self._lease.forget()
        self._connection.give_back(self._session)

    @property
    def _held_lease(self) -> Lease:
        if self._lease is None:
            raise OSError(errno.EBADF, "the file was opened to read")
        return self._lease

    def _is_taken(self) -> bool:
        """Try to acquire the lock, and read the end of the file with the same requests."""
        lease = self._held_lease
        if self._generation and self._generation == lease.generation and self._takes():
            return True
        name = lease.look(self._session, self._path)
        if lease.generation:
            if self._generation != lease.generation:
                self._open()
            return self._takes()
        if lease.take_over(self._session, self._path, name):
            self._go_on_in_a_copy()
            return True
        return False

    def _takes(self) -> bool:
        start = max(0, self._end - NEAR_END)
        length = self._end + BEYOND - start
        end = wire.read(self._handle, start, length)
        requests = (*self._whether_current(), end)
        is_taken, answers = self._held_lease.acquire(self._session, self._path, *requests)
        if is_taken:
            *stats, last = answers
            self._was_current = _are_one(stats)
            self._size = wire.stat(stats[1]).size
            self._buffer = _Buffer(start, length, wire.data(last))
        return is_taken

    def _whether_current(self) -> tuple[wire.Request, wire.Request]:
        return wire.stat_of(self._path), wire.stat_of_handle(self._handle)

    def _go_on_in_a_copy(self) -> None:
        """Replace the file by a copy, which late requests of a dead holder cannot change."""
        self._open()
        self._size = wire.stat(self._session.do(wire.stat_of_handle(self._handle))).size
        self._replace(self._copy)
        self._was_current = True

    def _copy(self, handle: bytes) -> None:
        size = self._size or 0
        is_offered = wire.COPY in self._session.offers
        step = COPIED if is_offered else self._session.longest
        for at in range(0, size, step):
            self._held_lease.renew(self._session, self._path)
            length = min(step, size - at)
            if is_offered:
                self._session.do(wire.copy(self._handle, at, length, handle))
            else:
                part = self._session.read(self._handle, at, length)
                self._session.write(handle, at, part)

    def _replace(self, write: Callable[[bytes], None]) -> None:
        """Replace the file and continue in the new file."""
        lease, session = self._held_lease, self._session
        new = lease.new_file(self._path)
        handle = session.open(new, wire.READ | wire.WRITE | wire.CREATE | wire.EXCLUSIVE)
        try:
            # A client that takes over the lock from now on removes the new file.
            lease.renew(session, self._path, is_due=True)
            old = wire.stat(session.do(wire.stat_of_handle(self._handle)))
            write(handle)
            # Only root can change the owner.
            session.ask(wire.set_owner(handle, old.owner))
            session.do(wire.set_mode(handle, old.mode))
            self._sync(handle)
            self._put_in_place(new)
        except BaseException:
            if not session.is_broken:
                session.ask(wire.close(handle), wire.remove(new))
            raise
        session.ask(wire.close(self._handle))
        self._handle, self._generation, self._buffer = handle, new_id(), _NOTHING

    def _put_in_place(self, new: str) -> None:
        try:
            self._session.do(wire.rename(new, self._path))
        except FileNotFoundError:
            raise Lost from None

    def _sync(self, handle: bytes) -> None:
        if wire.SYNC in self._session.offers:
            self._session.do(wire.sync(handle))

    def _why_not_written(self, error: OSError) -> OSError:
        """Return the error for a failed write; the protocol has no code for a full disk."""
        if error.errno == errno.EIO and not self._session.has_room(self._path):
            advice = "no record was lost; make room and continue"
            return StoreFull(self._location, advice, errno.ENOSPC)
        return error

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Translate errors of the protocol into errors that name the remedy."""
        try:
            yield
        except StoreUnavailable:
            raise
        except FileNotFoundError:
            if self._lease is None:
                raise
            advice = "its folder does not exist; create it first, or correct the path"
            raise StoreRefused(self._location, advice, errno.ENOENT) from None
        except wire.BrokenChannel as error:
            self._connection.drop()
            advice = f"{error}; whether the last records arrived is not known yet"
            raise StoreUnavailable(self._location, advice, errno.ECONNRESET) from None
        except Lost:
            advice = "others took over its lock, as this process was silent for too long; try again"
            raise StoreUnavailable(self._location, advice, errno.EBUSY) from None
        except PermissionError:
            advice = f"no permission for it, or for its folder, as {self._path}; ask its owner"
            raise StoreRefused(self._location, advice, errno.EACCES) from None
        except OSError as error:
            raise self._refused(error) from None

    def _refused(self, error: OSError) -> StoreUnavailable:
        if error.errno == errno.EBUSY:
            advice = f"others held its lock all the time (it is {self._path}.lock)"
            return StoreUnavailable(self._location, advice, errno.EBUSY)
        advice = f"the server says: {error.strerror}"
        return StoreUnavailable(self._location, advice, error.errno or errno.EIO)


def _are_one(stats: Sequence[wire.Answer]) -> bool:
    """Return whether the path refers to the open file, judged by their attributes."""
    if stats[0].failure() is not None:
        return False
    return wire.stat(stats[0]) == wire.stat(stats[1])


def _gathered(parts: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield the same bytes in parts of at least `size` bytes."""
    gathered: list[bytes] = []
    length = 0
    for part in parts:
        gathered.append(part)
        length += len(part)
        if length >= size:
            yield b"".join(gathered)
            gathered, length = [], 0
    yield b"".join(gathered)
