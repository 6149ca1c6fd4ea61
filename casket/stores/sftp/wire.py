"""The SSH file transfer protocol (SFTP), version 3, over a channel.

paramiko's own client cannot send several requests at once and inspect every response, which saves
two of the three round trips of an append. It also does not expose the server's extensions and
cannot sync a file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple, Protocol

READ, WRITE, CREATE, EXCLUSIVE = 0x01, 0x02, 0x08, 0x20
"""Flags for opening a file."""

POSIX_RENAME, SYNC, ROOM = "posix-rename@openssh.com", "fsync@openssh.com", "statvfs@openssh.com"
LIMITS, COPY = "limits@openssh.com", "copy-data"
"""Protocol extensions that a server may offer."""

BLOCK = 1 << 15
"""Bytes that every server can read or write in a single request."""

_INIT, _VERSION, _OPEN, _CLOSE, _READ, _WRITE = 1, 2, 3, 4, 5, 6
_LSTAT, _FSTAT, _SETSTAT, _FSETSTAT = 7, 8, 9, 10
_OPENDIR, _READDIR, _REMOVE, _MKDIR, _RMDIR, _REALPATH, _STAT = 11, 12, 13, 14, 15, 16, 17
_STATUS, _DATA, _NAME, _EXTENDED, _EXTENDED_REPLY = 101, 103, 104, 200, 201

_OK, _EOF = 0, 1
_NUMBERS = {2: errno.ENOENT, 3: errno.EACCES, 8: errno.EOPNOTSUPP}
_HAS_SIZE, _HAS_OWNER, _HAS_MODE, _HAS_TIMES = 1, 2, 4, 8


class Channel(Protocol):
    """The subset of paramiko's channel used here."""

    def sendall(self, s: bytes) -> None:
        """Send all bytes or raise an exception."""

    def recv(self, nbytes: int) -> bytes:
        """Receive some bytes; none if the peer has closed the channel."""

    def close(self) -> None:
        """Close the channel."""


class BrokenChannel(ConnectionError):
    """The peer is gone or silent; pending requests may or may not have been executed."""


class Request(NamedTuple):
    """A request: its type and the bytes after its id."""

    kind: int
    body: bytes


class Answer(NamedTuple):
    """A response: its type and the bytes after its id."""

    kind: int
    body: bytes

    def failure(self) -> OSError | None:
        """Return the reported error, or None."""
        if self.kind != _STATUS:
            return None
        code, text = _take_uint32(self.body, 0), _take_text(self.body, 4)[0]
        number = _NUMBERS.get(code, errno.EIO)
        return None if code in {_OK, _EOF} else OSError(number, text or os.strerror(number))

    def checked(self) -> Answer:
        """Return this response.

        Raises:
            OSError: the response reports an error.
        """
        failure = self.failure()
        if failure is not None:
            raise failure
        return self


class Stat(NamedTuple):
    """The attributes of a file on the server; version 3 has no inode number."""

    size: int
    owner: tuple[int, int]
    mode: int
    changed: int


class Session:
    """A session of requests and responses on a channel, for use by a single thread at a time.

    Args:
        channel: a channel connected to the server's SFTP subsystem.

    Attributes:
        offers: the names of the server's extensions.
        longest: the maximum number of bytes per read or write request.
        is_broken: whether the session can no longer be used.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._number = 0
        self.is_broken = False
        with self._breaking():
            self._send(_INIT, struct.pack(">I", 3))
            kind, body = self._receive()
        if kind != _VERSION:
            raise BrokenChannel("the other side does not speak SFTP")
        self.offers = set(_texts(body[4:])[::2])
        self.longest = self._limit() if LIMITS in self.offers else BLOCK

    def ask(self, *requests: Request) -> list[Answer]:
        """Send requests together and return their responses, in the order of the requests.

        Raises:
            BrokenChannel: not all responses arrived in time.
        """
        with self._breaking():
            first = self._number
            for kind, body in requests:
                self._send(kind, struct.pack(">I", self._number) + body)
                self._number = (self._number + 1) & 0xFFFFFFFF
            answers: dict[int, Answer] = {}
            while len(answers) < len(requests):
                kind, body = self._receive()
                answers[_take_uint32(body, 0)] = Answer(kind, body[4:])
            return [answers[(first + i) & 0xFFFFFFFF] for i in range(len(requests))]

    def do(self, request: Request) -> Answer:
        """Send a request and return its response.

        Raises:
            OSError: the server refused the request.
        """
        return self.ask(request)[0].checked()

    def open(self, path: str, flags: int) -> bytes:
        """Open a file and return its handle."""
        answer = self.do(Request(_OPEN, _text(path) + struct.pack(">II", flags, 0)))
        return _take_bytes(answer.body, 0)[0]

    def read(self, handle: bytes, offset: int, length: int) -> bytes:
        """Read up to `length` bytes, sending all read requests together."""
        parts: list[bytes] = []
        while length > 0:
            sizes = _sizes(length, self.longest)
            starts = range(offset, offset + length, self.longest)
            asked = [read(handle, at, size) for at, size in zip(starts, sizes, strict=True)]
            for answer, size in zip(self.ask(*asked), sizes, strict=True):
                part = data(answer)
                parts.append(part)
                offset, length = offset + len(part), length - len(part)
                if len(part) < size:  # the end of the file, or the server's limit per request
                    break
            if not parts[-1]:
                break
        return b"".join(parts)

    def write(self, handle: bytes, offset: int, content: bytes) -> None:
        """Write all of `content`, each part after the preceding part has been confirmed."""
        for at in range(0, len(content), self.longest):
            self.do(write(handle, offset + at, content[at : at + self.longest]))

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; for a large folder, only the first names."""
        handle = _take_bytes(self.do(Request(_OPENDIR, _text(folder))).body, 0)[0]
        some = Request(_READDIR, _bytes(handle))
        answers = self.ask(some, some, close(handle))
        names = [name for one in answers if one.kind == _NAME for name in _names(one.body)]
        return [name for name in names if name not in {".", ".."}]

    def entries(self, folder: str) -> Iterator[tuple[str, Stat]]:
        """Yield the names in a folder with their attributes."""
        handle = _take_bytes(self.do(Request(_OPENDIR, _text(folder))).body, 0)[0]
        try:
            while (answer := self.do(Request(_READDIR, _bytes(handle)))).kind == _NAME:
                yield from _entries(answer.body)
        finally:
            if not self.is_broken:
                self.ask(close(handle))

    def write_all(self, handle: bytes, offset: int, content: bytes) -> None:
        """Write all of `content`, sending all write requests together."""
        parts = range(0, len(content), self.longest)
        requests = [write(handle, offset + at, content[at : at + self.longest]) for at in parts]
        for answer in self.ask(*requests):
            answer.checked()

    def full_path(self, path: str) -> str:
        """Return the absolute path with symbolic links resolved."""
        return _names(self.do(Request(_REALPATH, _text(path))).body)[0]

    def has_room(self, path: str) -> bool:
        """Return whether the file system of a path has free space; True if unknown."""
        if ROOM not in self.offers:
            return True
        answer = self.do(Request(_EXTENDED, _text(ROOM) + _text(path)))
        _, _, _, _, available = struct.unpack_from(">5Q", answer.body)
        return bool(available)

    def close(self) -> None:
        """Close the channel."""
        self.is_broken = True
        with contextlib.suppress(OSError, EOFError):  # the peer may have closed it first
            self._channel.close()

    def _limit(self) -> int:
        """Return the maximum number of bytes per read or write request."""
        answer = self.ask(Request(_EXTENDED, _text(LIMITS)))[0]
        if answer.kind != _EXTENDED_REPLY:
            return BLOCK
        _, reading, writing = struct.unpack_from(">3Q", answer.body)
        return max(min(reading or BLOCK, writing or BLOCK), BLOCK)

    @contextlib.contextmanager
    def _breaking(self) -> Iterator[None]:
        """Close the channel if an exception leaves a response outstanding."""
        # At interpreter shutdown, the thread that would deliver the response has already ended.
        if self.is_broken or sys.is_finalizing():
            raise BrokenChannel("the connection is closed")
        try:
            yield
        except TimeoutError:
            self.close()
            raise BrokenChannel("the server did not answer in time") from None
        except (OSError, EOFError) as error:
            self.close()
            raise BrokenChannel(f"the connection broke ({error})") from None
        except BaseException:
            self.close()
            raise

    def _send(self, kind: int, body: bytes) -> None:
        self._channel.sendall(struct.pack(">IB", len(body) + 1, kind) + body)

    def _receive(self) -> tuple[int, bytes]:
        length, kind = struct.unpack(">IB", self._receive_exactly(5))
        return kind, self._receive_exactly(length - 1)

    def _receive_exactly(self, length: int) -> bytes:
        parts: list[bytes] = []
        while length:
            part = self._channel.recv(length)
            if not part:
                raise EOFError("it was closed by the server")
            parts.append(part)
            length -= len(part)
        return b"".join(parts)


def read(handle: bytes, offset: int, length: int) -> Request:
    """Request up to `length` bytes; `data` reads the response."""
    return Request(_READ, _bytes(handle) + struct.pack(">QI", offset, length))


def write(handle: bytes, offset: int, content: bytes) -> Request:
    """Request to write bytes."""
    return Request(_WRITE, _bytes(handle) + struct.pack(">Q", offset) + _bytes(content))


def data(answer: Answer) -> bytes:
    """Return the bytes of a read response; none at the end of the file."""
    answer = answer.checked()
    return _take_bytes(answer.body, 0)[0] if answer.kind == _DATA else b""


def stat_of(path: str) -> Request:
    """Request the attributes of the file at a path; `stat` reads the response."""
    return Request(_STAT, _text(path))


def stat_of_link(path: str) -> Request:
    """Request the attributes of a path without following a symbolic link."""
    return Request(_LSTAT, _text(path))


def stat_of_handle(handle: bytes) -> Request:
    """Request the attributes of an open file; `stat` reads the response."""
    return Request(_FSTAT, _bytes(handle))


def stat(answer: Answer) -> Stat:
    """Return the file attributes in a response; missing attributes are 0."""
    return _stat_in(answer.checked().body, 0)


def _stat_in(body: bytes, at: int) -> Stat:
    flags, at = _take_uint32(body, at), at + 4
    size, owner, mode, changed = 0, (0, 0), 0, 0
    if flags & _HAS_SIZE:
        size, at = struct.unpack_from(">Q", body, at)[0], at + 8
    if flags & _HAS_OWNER:
        owner, at = struct.unpack_from(">II", body, at), at + 8
    if flags & _HAS_MODE:
        mode, at = _take_uint32(body, at), at + 4
    if flags & _HAS_TIMES:
        changed = _take_uint32(body, at + 4)
    return Stat(size, owner, mode, changed)


def set_size(handle: bytes, size: int) -> Request:
    """Truncate a file to `size` bytes."""
    return Request(_FSETSTAT, _bytes(handle) + struct.pack(">IQ", _HAS_SIZE, size))


def set_time(path: str, seconds: int) -> Request:
    """Set the times of the last access and of the last change of a file."""
    return Request(_SETSTAT, _text(path) + struct.pack(">III", _HAS_TIMES, seconds, seconds))


def set_owner(handle: bytes, owner: tuple[int, int]) -> Request:
    """Set the owner and group of a file."""
    return Request(_FSETSTAT, _bytes(handle) + struct.pack(">III", _HAS_OWNER, *owner))


def set_mode(handle: bytes, mode: int) -> Request:
    """Set the permissions of a file."""
    return Request(_FSETSTAT, _bytes(handle) + struct.pack(">II", _HAS_MODE, mode & 0o7777))


def close(handle: bytes) -> Request:
    """Close a file."""
    return Request(_CLOSE, _bytes(handle))


def sync(handle: bytes) -> Request:
    """Sync a file, so that it survives a power loss."""
    return Request(_EXTENDED, _text(SYNC) + _bytes(handle))


def copy(source: bytes, offset: int, length: int, target: bytes) -> Request:
    """Copy bytes on the server from an open file to the same offset of another open file."""
    numbers = struct.pack(">QQ", offset, length)
    place = _bytes(target) + struct.pack(">Q", offset)
    return Request(_EXTENDED, _text(COPY) + _bytes(source) + numbers + place)


def rename(old: str, new: str) -> Request:
    """Rename a file, replacing any file with the new name."""
    return Request(_EXTENDED, _text(POSIX_RENAME) + _text(old) + _text(new))


def remove(path: str) -> Request:
    """Remove a file."""
    return Request(_REMOVE, _text(path))


def make_folder(path: str, mode: int | None = None) -> Request:
    """Create a folder."""
    attributes = struct.pack(">I", 0) if mode is None else struct.pack(">II", _HAS_MODE, mode)
    return Request(_MKDIR, _text(path) + attributes)


def remove_folder(path: str) -> Request:
    """Remove an empty folder."""
    return Request(_RMDIR, _text(path))


def _sizes(length: int, longest: int) -> list[int]:
    return [min(longest, length - at) for at in range(0, length, longest)]


def _bytes(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def _text(text: str) -> bytes:
    return _bytes(text.encode(errors="surrogateescape"))


def _take_uint32(body: bytes, at: int) -> int:
    number: int = struct.unpack_from(">I", body, at)[0]
    return number


def _take_bytes(body: bytes, at: int) -> tuple[bytes, int]:
    stop = at + 4 + _take_uint32(body, at)
    return body[at + 4 : stop], stop


def _take_text(body: bytes, at: int) -> tuple[str, int]:
    content, at = _take_bytes(body, at)
    return content.decode(errors="surrogateescape"), at


def _texts(body: bytes) -> list[str]:
    texts, at = [], 0
    while at < len(body):
        text, at = _take_text(body, at)
        texts.append(text)
    return texts


def _names(body: bytes) -> list[str]:
    """Return the names in a response, without their attributes."""
    return [name for name, _ in _entries(body)]


def _entries(body: bytes) -> Iterator[tuple[str, Stat]]:
    """Yield the names and attributes in a response."""
    at = 4
    for _ in range(_take_uint32(body, 0)):
        name, at = _take_text(body, at)
        _, at = _take_text(body, at)
        yield name, _stat_in(body, at)
        at = _after_attributes(body, at)


def _after_attributes(body: bytes, at: int) -> int:
    flags = _take_uint32(body, at)
    sizes = ((_HAS_SIZE, 8), (_HAS_OWNER, 8), (_HAS_MODE, 4), (_HAS_TIMES, 8))
    at += 4 + sum(size for flag, size in sizes if flags & flag)
    if flags & 0x80000000:
        count, at = _take_uint32(body, at), at + 4
        for _ in range(2 * count):
            _, at = _take_bytes(body, at)
    return at
