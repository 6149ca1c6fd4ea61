"""The JSON file on another machine, over SFTP: appended in place, by many machines at once.

`casket.stores.sftp.lock` says how they wait for each other and what becomes of one that dies,
`casket.stores.sftp.ssh` how they connect, `casket.stores.sftp.wire` what they say. An append takes
three round trips: take the lock and look at the end of the file, write, give the lock up.

An append whose answer was lost may be there or not. It raises, and whoever asked for it asks
again: then what is there already is dropped.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Unpack, cast

import orjson

from casket.errors import StoreFull, StoreRefused, StoreUnavailable
from casket.format.records import Record, new_id
from casket.stores import base
from casket.stores.jsonfile import layout, scan
from casket.stores.jsonfile.files import FilePort
from casket.stores.jsonfile.store import PROBED, JsonStore
from casket.stores.remote import repeats as databases
from casket.stores.sftp import lock as sftplock
from casket.stores.sftp import wire as sftpwire
from casket.stores.sftp.address import SftpLocation
from casket.stores.sftp.lock import Lease, Lost
from casket.stores.sftp.ssh import Connection

NEAR_END, BEYOND = PROBED + 64, 4096
"""Bytes read along with taking the lock, before and after where the file ended."""

MOST_AHEAD = 1 << 22
"""Bytes read ahead at most, when a file is read on and on."""

COPIED = 1 << 26
"""Bytes a server copies in one request, well within the time it has for an answer."""


class _Mark(NamedTuple):
    """Where a line begins, and the number on it."""

    at: int
    number: int


class _Buffer(NamedTuple):
    """What was read: `asked` bytes from `start`, of which there may be fewer."""

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
        # Under the lock: the size, and whether the path named this file when it was taken.
        self._size: int | None = None
        self._was_current = False
        self._end = 0
        try:
            with self._told():
                self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        if self._lease is None:
            self._handle = self._session.open(self._path, sftpwire.READ)
            return
        if sftpwire.POSIX_RENAME not in self._session.offers:
            advice = f"its server is read only, or lacks {sftpwire.POSIX_RENAME} to write with"
            raise StoreRefused(self._location, advice, errno.EOPNOTSUPP)
        self._path = self.name = self._session.full_path(self._path)
        self._lease.look(self._session, self._path)
        self._open()

    def _open(self) -> None:
        """Open what the path names now, of the generation that the lease names."""
        if self._handle:
            self._session.ask(sftpwire.close(self._handle))
        flags = sftpwire.READ | sftpwire.WRITE | sftpwire.CREATE
        self._handle = self._session.open(self._path, flags)
        self._generation = self._held_lease.generation
        self._buffer = _NOTHING

    def size(self) -> int:
        if self._size is not None:
            return self._size
        # Of what is read from now on, none shall be older than the size.
        self._buffer = _NOTHING
        with self._told():
            answer = self._session.do(sftpwire.stat_of_handle(self._handle))
            return sftpwire.stat(answer).size

    def read_at(self, offset: int, length: int) -> bytes:
        if not self._buffer.has(offset, length):
            with self._told():
                self.keep_lock()
                if self._locked is not None:
                    self._locked.keep_lock()
                self._buffer = self._read(offset, length)
        return self._buffer.part(offset, length)

    def keep_lock(self) -> None:
        """Show that the holder of the lock lives, if it is held and that is due."""
        if self._lease is not None and self._lease.is_held():
            self._lease.renew(self._session, self._path)

    def _read(self, offset: int, length: int) -> _Buffer:
        """Read on from what was read before, more each time; or only what is asked for."""
        before = self._buffer
        if not before.start < offset <= before.stop or len(before.content) < before.asked:
            return _Buffer(offset, length, self._session.read(self._handle, offset, length))
        kept = before.part(offset, before.stop - offset)
        ahead = max(length - len(kept), min(4 * before.asked, MOST_AHEAD))
        content = kept + self._session.read(self._handle, before.stop, ahead)
        return _Buffer(offset, len(kept) + ahead, content)

    def write_at(self, offset: int, data: bytes) -> None:
        self._buffer = _NOTHING
        with self._told():
            self._held_lease.renew(self._session, self._path)
            try:
                self._session.write(self._handle, offset, data)
            except OSError as error:
                raise self._why_not_written(error) from None
        self._end = offset + len(data)
        self._size = max(self._size or 0, self._end)

    def truncate(self, size: int) -> None:
        self._buffer = _NOTHING
        with self._told():
            self._held_lease.renew(self._session, self._path)
            self._session.do(sftpwire.set_size(self._handle, size))
        self._size = self._end = size

    def lock(self) -> None:
        with self._told():
            self._held_lease.wait(self._is_taken, self._location)

    def unlock(self) -> None:
        with self._told():
            self._held_lease.give_up(self._session, self._path, self._generation)
        self._size = None

    def is_current(self) -> bool:
        if self._size is not None:
            return self._was_current
        with self._told():
            return _are_one(self._session.ask(*self._whether_current()))

    def sync(self) -> None:
        with self._told():
            self._sync(self._handle)

    def replace(self, parts: Iterable[bytes]) -> None:
        def write(handle: bytes) -> None:
            at = 0
            for part in _gathered(parts, self._session.longest):
                self._held_lease.renew(self._session, self._path)
                self._session.write(handle, at, part)
                at += len(part)

        with self._told():
            self._replace(write)

    def keep_aside(self, parts: Iterable[bytes]) -> str:
        name = f"{self._path}.torn"
        with self._told():
            flags = sftpwire.READ | sftpwire.WRITE | sftpwire.CREATE
            handle = self._session.open(name, flags)
            at = sftpwire.stat(self._session.do(sftpwire.stat_of_handle(handle))).size
            self._session.write(handle, at, b"".join(parts))
            self._sync(handle)
            self._session.ask(sftpwire.close(handle))
        return name

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        # What was written has been confirmed, or an error said that it was not; and a lock that
        # cannot be given up is taken over by whoever needs it.
        with contextlib.suppress(OSError, Lost):
            if self._lease is not None and self._lease.is_held():
                self._lease.give_up(self._session, self._path, self._generation)
        with contextlib.suppress(OSError):
            if self._handle:
                self._session.ask(sftpwire.close(self._handle))
        if self._lease is not None:
            self._lease.forget()
        self._connection.give_back(self._session)

    @property
    def _held_lease(self) -> Lease:
        if self._lease is None:
            raise OSError(errno.EBADF, "the file was opened to read")
        return self._lease

    def _is_taken(self) -> bool:
        """Try to take the lock, and look at the file along with it."""
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
        end = sftpwire.read(self._handle, start, length)
        requests = (*self._whether_current(), end)
        is_taken, answers = self._held_lease.acquire(self._session, self._path, *requests)
        if is_taken:
            *stats, last = answers
            self._was_current = _are_one(stats)
            self._size = sftpwire.stat(stats[1]).size
            self._buffer = _Buffer(start, length, sftpwire.data(last))
        return is_taken

    def _whether_current(self) -> tuple[sftpwire.Request, sftpwire.Request]:
        return sftpwire.stat_of(self._path), sftpwire.stat_of_handle(self._handle)

    def _go_on_in_a_copy(self) -> None:
        """Let what a dead holder has asked for, and is on its way, change nothing."""
        self._open()
        self._size = sftpwire.stat(self._session.do(sftpwire.stat_of_handle(self._handle))).size
        self._replace(self._copy)
        self._was_current = True

    def _copy(self, handle: bytes) -> None:
        size = self._size or 0
        is_offered = sftpwire.COPY in self._session.offers
        step = COPIED if is_offered else self._session.longest
        for at in range(0, size, step):
            self._held_lease.renew(self._session, self._path)
            length = min(step, size - at)
            if is_offered:
                self._session.do(sftpwire.copy(self._handle, at, length, handle))
            else:
                part = self._session.read(self._handle, at, length)
                self._session.write(handle, at, part)

    def _replace(self, write: Callable[[bytes], None]) -> None:
        """Put a new file in place of this one, and go on in it."""
        lease, session = self._held_lease, self._session
        new = lease.new_file(self._path)
        handle = session.open(
            new, sftpwire.READ | sftpwire.WRITE | sftpwire.CREATE | sftpwire.EXCLUSIVE
        )
        try:
            # Whoever takes the lock away from now on finds the new file, and removes it.
            lease.renew(session, self._path, is_due=True)
            old = sftpwire.stat(session.do(sftpwire.stat_of_handle(self._handle)))
            write(handle)
            # An owner can be given by root only; that of the folder's group may do.
            session.ask(sftpwire.set_owner(handle, old.owner))
            session.do(sftpwire.set_mode(handle, old.mode))
            self._sync(handle)
            self._put_in_place(new)
        except BaseException:
            if not session.is_broken:
                session.ask(sftpwire.close(handle), sftpwire.remove(new))
            raise
        session.ask(sftpwire.close(self._handle))
        self._handle, self._generation, self._buffer = handle, new_id(), _NOTHING

    def _put_in_place(self, new: str) -> None:
        try:
            self._session.do(sftpwire.rename(new, self._path))
        except FileNotFoundError:
            raise Lost from None

    def _sync(self, handle: bytes) -> None:
        if sftpwire.SYNC in self._session.offers:
            self._session.do(sftpwire.sync(handle))

    def _why_not_written(self, error: OSError) -> OSError:
        """Return the error for a refused write; the protocol has none for a full disk."""
        if error.errno == errno.EIO and not self._session.has_room(self._path):
            advice = "no record was lost; make room, then go on"
            return StoreFull(self._location, advice, errno.ENOSPC)
        return error

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what the protocol tells into errors that say what to do."""
        try:
            yield
        except StoreUnavailable:
            raise
        except FileNotFoundError:
            if self._lease is None:
                raise
            advice = "its folder does not exist; create it first, or correct the path"
            raise StoreRefused(self._location, advice, errno.ENOENT) from None
        except sftpwire.BrokenChannel as error:
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


class SftpStore(JsonStore):
    """A JSON document on another machine.

    Args:
        url: `user@host:path` or `sftp://user@host:port/path`, without a password.
        options: how to open it; it syncs where the server can.
    """

    drops_copies = True
    lease_duration = sftplock.DURATION
    """Seconds after which a writer that is silent counts as dead."""

    def __init__(self, url: str, options: base.StoreOptions = base.DEFAULTS) -> None:
        self._address = SftpLocation.of(url)
        self._connection = Connection(self._address)
        self._repeats, self._claims = _Repeats(), _Claims()
        super().__init__(str(self._address), options._replace(create=True))
        self._always_looks = True  # taking the lock shows it without another round trip

    def after_fork(self) -> None:
        """Let go of the connection, which is the parent's, and be another holder of the lock."""
        self._connection.leave()
        super().after_fork()
        self._connection = Connection(self._address)
        self._lease = Lease(self.lease_duration)
        self._appending = 0  # the thread that does

    def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
        """Append as `Store.append` says, but for records that are there already.

        If it raises `StoreUnavailable`, the records may be there all the same; append them again.
        """
        with self._mutex:
            self._repeats.expect(records)
            if self._repeats.is_first_look:
                self._look_before_locking(claim)
            self._appending = threading.get_ident()
            try:
                last = super().append(records, claim=claim)
            except base.Claimed:
                self._repeats.withdraw()
                raise
            finally:
                self._appending = 0
            self._repeats.confirm(records)
            return last

    def close(self) -> None:
        with self._mutex:
            super().close()
            self._connection.close()

    def _open(self, *, writing: bool) -> FilePort:
        if writing:
            return SftpFile(self._connection, self._address, self._lease)
        locked = self._file if self._appending == threading.get_ident() else None
        assert locked is None or isinstance(locked, SftpFile)  # noqa: S101 - for the type checker
        return SftpFile(self._connection, self._address, None, locked)

    def _look_before_locking(self, claim: str | None) -> None:
        """Look at all of the file; with the lock held, only at what came since.

        In a long file it takes time, in which nobody else could write.
        """
        with (
            contextlib.suppress(FileNotFoundError),
            contextlib.closing(self._open(writing=False)) as file,
        ):
            self._repeats.look(file)
            if claim is not None:
                self._claims.look(file)

    def _caught_up_unclaimed(
        self, file: FilePort, records: Sequence[Record], claim: str | None
    ) -> FilePort:
        self._repeats.look(file)
        if claim is None or not databases.must_ask(claim, records, self._repeats.there):
            return self._catch_up(file)
        if not self._claims.look(file):
            return super()._caught_up_unclaimed(file, records, claim)
        base.refuse_held(claim, self._claims.records, records)
        return self._catch_up(file)

    def _write(self, file: FilePort, records: Sequence[Record]) -> int:
        there = self._repeats.there
        new = [one for one in databases.once_each(records) if databases.identity(one) not in there]
        if not new:
            return there[databases.identity(records[-1])]
        at, number = self._stop + len(layout.NEXT), self._last + 1
        last = super()._write(file, new)
        self._repeats.written = _Mark(at, number)
        return there.get(databases.identity(records[-1]), last)


class _Repeats:
    """Which of the records that are about to be appended are there already.

    They may be if this handle does not know their writer, if an append of it has failed, or if
    they were appended last.

    Attributes:
        there: the identities of those that are, as far as was looked, with their numbers.
        is_first_look: whether all of the file has to be looked at.
        written: where the last append began.
    """

    def __init__(self) -> None:
        self.there: dict[databases.Identity, int] = {}
        self.is_first_look = False
        self.written: _Mark | None = None
        self._appended: set[databases.Identity] = set()
        self._writers: set[str] = set()
        self._known: set[str] = set()
        self._doubted: set[str] = set()
        self._expected: set[str] = set()
        self._since: _Mark | None = None
        self._certain: _Mark | None = None

    def expect(self, records: Sequence[Record]) -> None:
        """Begin to look for what is to be appended, as far as it is not known to be new."""
        writers = {record["writer"] for record in records}
        is_again = not self._appended.isdisjoint(map(databases.identity, records))
        self.there = {}
        self.is_first_look = is_again or not writers <= self._known
        self._writers = writers if self.is_first_look else writers & self._doubted
        self._since = None if self.is_first_look else self._certain
        # In doubt, until `confirm` or `withdraw` says otherwise.
        self._expected = writers - self._doubted
        self._doubted |= writers

    def withdraw(self) -> None:
        """Learn that nothing was written."""
        self._doubted -= self._expected

    def confirm(self, records: Sequence[Record]) -> None:
        """Learn that they are there."""
        writers = {record["writer"] for record in records}
        self._known |= writers
        self._doubted -= writers
        self._appended = set(map(databases.identity, records))
        if not self._doubted:
            self._certain = self.written

    def look(self, file: FilePort) -> None:
        """Find them in the part of the file that was not looked at yet."""
        extent = scan.find_extent(file) if self._writers else None
        if extent is None:
            return
        wanted = scan.Patterns([orjson.dumps(writer) for writer in self._writers], [], [])
        for number, document in _shown(file, _rest(file, extent, self._since), wanted):
            if layout.is_record(document):
                identity = databases.column(document["writer"]), document["n"]
                self.there.setdefault(identity, number)
        self._since = _end_of(extent)


class _Claims:
    """What decides about claims, so that asking for one reads only what is new.

    Of a long file, all else would have to be read with the lock held.
    """

    def __init__(self) -> None:
        self._heads: list[base.Numbered] = []
        self._since: _Mark | None = None

    def look(self, file: FilePort) -> bool:
        """Read what is new; tell whether all that there is was understood.

        A nested document of the first casket is not, nor is a damaged line.
        """
        extent = scan.find_extent(file)
        if extent is None:
            return False
        rest = _rest(file, extent, self._since)
        if rest is extent:
            self._heads.clear()
        for found in scan.found(file, rest, _CLAIMING):
            if isinstance(found, layout.Damage) or not layout.is_record(found[1]):
                self._since = None
                return False
            if not rest.shows(found):
                continue
            number, head = found[0], cast(Record, found[1])
            if not self._heads or number > self._heads[-1][0]:
                self._heads.append((number, head))
        self._since = _end_of(extent)
        return True

    def records(self, **chosen: Unpack[base.Chosen]) -> Iterator[base.Numbered]:
        """Yield the records that fit, as `Store.records` does."""
        filters = base.Filters(**chosen)
        for number, record in self._heads:
            if filters.fits(record):
                yield number, record


_CLAIMING = scan.Patterns(
    [b'"claim":', b'"kind":"session"', b'"kind":"end"'],
    [b'"claim" :', b'"kind": "session"', b'"kind": "end"', b'"models":'],
    [],
)


def _shown(
    file: FilePort, extent: scan.Extent, patterns: scan.Patterns
) -> Iterator[layout.Document]:
    """Yield the documents on matching lines that belong to whole appends."""
    for found in scan.found(file, extent, patterns):
        if not isinstance(found, layout.Damage) and extent.shows(found):
            yield found


def _end_of(extent: scan.Extent) -> _Mark | None:
    return None if extent.is_cut else _Mark(extent.at, extent.last)


def _rest(file: FilePort, extent: scan.Extent, since: _Mark | None) -> scan.Extent:
    """Return what follows a line, which is read again; all, if the line is not there any more."""
    if since is None or not extent.start < since.at <= extent.at:
        return extent
    line = b'\n"%d":' % since.number
    is_there = file.read_at(since.at - 1, len(line)) == line
    return extent._replace(start=since.at - 1) if is_there else extent


def _are_one(stats: Sequence[sftpwire.Answer]) -> bool:
    """Tell whether the path names the open file, as far as the protocol lets one see."""
    if stats[0].failure() is not None:
        return False
    return sftpwire.stat(stats[0]) == sftpwire.stat(stats[1])


def _gathered(parts: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield the same bytes in parts of about a size."""
    gathered: list[bytes] = []
    length = 0
    for part in parts:
        gathered.append(part)
        length += len(part)
        if length >= size:
            yield b"".join(gathered)
            gathered, length = [], 0
    yield b"".join(gathered)
