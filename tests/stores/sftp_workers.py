"""What processes do to a file on another machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any

from casket.format.records import Record, Writer
from casket.stores.base import Claimed, Store
from casket.stores.jsonfile.files import FilePort
from casket.stores.sftp.store import SftpStore
from casket.testing import Wait, record, start

EACH, CONTESTS = 100, 20
LEASE = 1.5


class Hasty(SftpStore):
    """A store whose holders count as dead soon."""

    lease_duration = LEASE


class Brisk(SftpStore):
    """The same, but on a machine that is busy with much else a holder may be silent for longer."""

    lease_duration = 4.0


class Doomed(Hasty):
    """Is killed while it holds the lock, before or after it wrote the record of session `last`."""

    def _write(self, file: FilePort, records: Sequence[Record]) -> int:
        session = records[0].get("session")
        if session == "never":
            os.kill(os.getpid(), signal.SIGKILL)
        number = super()._write(file, records)
        if session == "last":
            os.kill(os.getpid(), signal.SIGKILL)
        return number


def append_and_contest(store: Store, me: int, wait: Wait) -> list[bool]:
    """Append alone, then ask for the claims that all others ask for; tell which were won."""
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
