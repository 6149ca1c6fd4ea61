"""The work of processes on a remote file."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from casket.format.records import Writer
from casket.stores.base import Claimed, Store
from casket.stores.sftp.file import SftpFile
from casket.stores.sftp.store import SftpStore
from casket.testing import Wait, record, start

Write = Callable[[int, bytes], None]

EACH, CONTESTS = 100, 20
LEASE = 1.5


class Hasty(SftpStore):
    """A store whose holders count as dead soon."""

    lease_duration = LEASE


class Brisk(SftpStore):
    """The same, but on a machine that is busy with much else a holder may be silent for longer."""

    lease_duration = 4.0


class Intercepted(Hasty):
    """A store whose writes to the open file can be delayed or broken."""

    def _open(self, *, writing: bool) -> SftpFile:
        file = super()._open(writing=writing)
        file.write_at = partial(self.write, file, file.write_at)  # type: ignore[method-assign]
        return file

    def write(self, file: SftpFile, write: Write, offset: int, data: bytes) -> None:
        write(offset, data)


class Doomed(Intercepted):
    """Is killed while it holds the lock, before or after it wrote the record of session `last`."""

    def write(self, file: SftpFile, write: Write, offset: int, data: bytes) -> None:
        if b'"session":"never"' in data:
            os.kill(os.getpid(), signal.SIGKILL)
        write(offset, data)
        if b'"session":"last"' in data:
            os.kill(os.getpid(), signal.SIGKILL)


def append_and_contest(store: Store, me: int, wait: Wait) -> list[bool]:
    """Append, then contest claims with all others; return the claims that were won."""
    writer = Writer()
    wait()
    for i in range(EACH):
        store.append([record(session=f"s{me}", writer=writer, body={"i": i})])
    won = []
    for i in range(CONTESTS):
        wait()
        try:
            store.append([start(f"c{i}-{me}", f"c{i}", writer)], claim=f"c{i}")
        except Claimed:
            won.append(False)
        else:
            won.append(True)
    return won


def append_until_killed(url: str, sessions: Sequence[str], acknowledged: Any) -> None:
    store, writer = Doomed(url), Writer()
    for session in sessions:
        acknowledged.send(store.append([record(session=session, writer=writer)]))
