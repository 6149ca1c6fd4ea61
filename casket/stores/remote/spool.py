"""The journal in front of a remote store: writing never waits for the network.

An append is safe in a journal on this machine when it returns. A thread ships pending records in
batches and in order, retries after failures, and removes records only after the store has
confirmed them; the store drops duplicates. Claims alone are sent to the store immediately, when a
session begins: if two hosts start the same params, the second must be refused.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import random
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, Unpack

from casket.errors import CasketWarning, DamagedFile, StoreRefused, StoreUnavailable
from casket.format.records import FORMAT_VERSION, Record, utc_now
from casket.stores import base
from casket.stores.remote.files import FileSender, Uploads
from casket.stores.remote.journal import Journal, journals
from casket.system import forks

BATCH = 500
"""Records shipped at once."""

GATHER = 0.2
"""Seconds for which records are gathered, unless the store or the user names another interval:
shipping each separately would slow down the training."""

LONGEST_END = 1.0
"""Seconds for which closing a handle waits for an attempt in progress."""

SHORTEST_END = 0.1
"""The least time it waits, for an idle thread."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
"""Seconds between a failure and the next attempt; doubled each time, up to the longest."""

PAUSES = (0.05, 0.2, 0.8, 1.6)
"""Seconds between attempts of an operation that a session waits for, after a lost connection."""

PATIENCE = 8.0
"""Seconds after which it is not retried: an unresponsive store takes ten seconds to fail."""

ASKED = "asked"
"""Marks a record in the journal whose claim has not been checked by the store yet."""

Answer = TypeVar("Answer")

MayEnd = Callable[[Record], bool]


def _always(_: Record) -> bool:
    return True


log = logging.getLogger("casket")
log.addHandler(logging.NullHandler())  # without configuration, nothing is printed


class Spool:
    """A remote store with a journal in front of it.

    Args:
        store: the store; its `append` drops duplicates.
        url: its URL, without the password.
        options: the options of `Experiment.use`.
        outbox: the folder with the files of a store that has `files`.
    """

    def __init__(
        self,
        store: base.Store,
        url: str,
        options: base.StoreOptions,
        outbox: Path | None = None,
    ) -> None:
        self._store = store
        self._files: FileSender | None = None
        if outbox is not None:
            carried: Any = store
            uploads = Uploads(outbox, url, lambda: carried.files)
            self._files = FileSender(uploads, self._on_files)
        self._url = url
        self._options = options
        interval: float = getattr(store, "shipping_interval", GATHER)
        self._gather = interval if options.sync_every is None else options.sync_every
        self._own: Journal | None = None
        self.after_fork()
        forks.renew_in_children(self)
        _spools.add(self)

    def after_fork(self) -> None:
        """Start afresh in a child: journal, thread and locks belong to its parent."""
        if self._own is not None:
            self._own.leave()
        self._own = None
        self._pid = os.getpid()
        self._writing = threading.Lock()
        self._shipping = threading.Lock()
        self._progress = threading.Condition()
        self._wake, self._hurry = threading.Event(), threading.Event()
        self._closing = threading.Event()
        self._sender: threading.Thread | None = None
        # The threads inside the store: reads on their behalf must not ship first.
        self._at_store: set[int] = set()
        self._tries = 0
        self._failure: Exception | None = None
        self._has_warned = False
        self._holds_end = False
        if self._files is not None:
            self._files.after_fork()

    def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
        """Append to the journal; with a claim, ask the store.

        Returns:
            An ascending number, unrelated to those of the store.
        """
        if claim is not None:
            return self._append_claiming(records, claim)
        number = self._journal(records)
        if any(record["kind"] == "end" for record in records):
            self.flush()
        return number

    def append_later(self, records: Sequence[Record]) -> int:
        """Append to the journal without waiting for the store, even if a session ends."""
        return self._journal(records)

    def records(self, **chosen: Unpack[base.Chosen]) -> Iterator[base.Numbered]:
        """Ship pending records, then yield from the store; offline, yield the pending ones only."""
        if threading.get_ident() in self._at_store:
            yield from self._store.records(**chosen)
            return
        try:
            self._insist(self._ship)
            yield from self._store.records(**chosen)
        except StoreUnavailable:
            if self._options.offline == "refuse":
                raise
            yield from self._waiting_records(base.Filters(**chosen))

    def prune(self, tombstone: Record, /) -> None:
        """Ship pending records, then remove records from the store."""
        self._insist(self._ship)
        with self._in_store():
            self._store.prune(tombstone)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all records are shipped; warn after a timeout.

        Args:
            timeout: seconds; by default the `flush_timeout` of `Experiment.use`.
        """
        seconds = self._options.flush_timeout if timeout is None else timeout
        if self._wait(seconds):
            return True
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(self._said(), CasketWarning, stacklevel=3)
        return False

    def hurry(self) -> None:
        """Wake the threads, so that they ship immediately."""
        self._wake.set()
        self._hurry.set()
        if self._files is not None:
            self._files.hurry()

    def close(self, waited: float = 0.0) -> None:
        """Ship pending records for at most `flush_timeout`, and free all resources.

        Args:
            waited: the seconds of `flush_timeout` that have already passed.
        """
        if os.getpid() != self._pid:
            return
        if self._own is not None:
            give_up = time.monotonic() + max(0.0, self._options.flush_timeout - waited)
            if self._sender is not None and not self._sender.is_alive():
                self._ship_without_thread()
            is_waiting = self._sender is not None and not self._has_warned
            self.flush(give_up - time.monotonic() if is_waiting else 0.0)
            left = max(SHORTEST_END, give_up - time.monotonic())
            if not self._end_threads(min(LONGEST_END, left)):
                # It waits for the network and holds the store until then.
                self._own.leave()
                self._own, self._shipping = None, threading.Lock()
                return
            self._own.close()
            self._own = None
        self._store.close()

    # Writing

    def _journal(self, records: Sequence[Record]) -> int:
        with self._writing:
            own = self._begun()
            number = own.append(records)
        if self._files is not None:
            self._files.expect(records)
        self._wake.set()
        return number

    def _begun(self) -> Journal:
        """Return the journal; create it and start the shipping thread if necessary."""
        own = self._own
        if own is None:
            own = self._own = Journal.begin(self._url, self._options.sync)
            if self._files is not None:
                self._files.start()  # files that dead processes left
        if self._sender is None or not self._sender.is_alive():
            self._closing = threading.Event()
            self._sender = threading.Thread(
                target=self._send, args=(self._closing,), name="casket", daemon=True
            )
            # Since Python 3.12 no thread can start while the interpreter exits; `close` ships.
            with contextlib.suppress(RuntimeError):
                self._sender.start()
        return own

    def _append_claiming(self, records: Sequence[Record], claim: str) -> int:
        try:
            return self._insist(lambda: self._ask(records, claim))
        except StoreRefused:
            raise
        except StoreUnavailable as error:
            if self._options.offline == "refuse":
                raise _refused(error) from None
            log.warning("%s cannot be reached; its claims are checked later: %s", self._url, error)
        asked: list[Any] = [
            {**record, ASKED: True} if record.get("claim") == claim else record
            for record in records
        ]
        return self._journal(asked)

    def _ask(self, records: Sequence[Record], claim: str) -> int:
        self._ship()
        with self._in_store():
            return self._store.append(records, claim=claim)

    def _insist(self, action: Callable[[], Answer]) -> Answer:
        """Perform an operation on the store; retry it if the connection was lost."""
        begun = time.monotonic()
        for pause in PAUSES:
            try:
                return action()
            except StoreRefused:
                raise
            except StoreUnavailable as error:
                if time.monotonic() - begun > PATIENCE:
                    raise
                log.info("retrying after: %s", error)
                time.sleep(pause)
        return action()

    # Shipping

    def _send(self, closing: threading.Event) -> None:
        """Ship records until this handle is closed; runs in a separate thread."""
        while not closing.is_set():
            self._wake.wait(LONGEST_WAIT)
            self._hurry.wait(self._pause())
            self._wake.clear()
            self._hurry.clear()
            try:
                self._ship(self._may_end)
                self._ship_orphans()
                self._tries, self._failure = 0, None
            except Exception as error:  # noqa: BLE001 - drivers raise anything; it continues
                self._tries, self._failure = self._tries + 1, error
                self._wake.set()
                log.warning("records could not be shipped, retrying: %s", error)
            with self._progress:
                self._progress.notify_all()

    def _ship_without_thread(self) -> None:
        """Ship while the interpreter exits; what cannot be shipped stays in the journal."""
        self._sender = None
        if self._files is not None:
            self._files.start_or_send(self._options.flush_timeout)
        try:
            self._ship(self._may_end)
        except Exception as error:  # noqa: BLE001 - drivers raise anything
            self._failure = error
        self.hurry()

    def _pause(self) -> float:
        """Return the seconds to wait before the next attempt."""
        if not self._tries:
            return self._gather
        longest: float = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (self._tries - 1))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret

    def _end_sender(self, seconds: float) -> bool:
        """Stop the thread; return whether it stopped in time."""
        self._closing.set()
        self.hurry()
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.join(seconds)
        return sender is None or not sender.is_alive()

    def _end_threads(self, seconds: float) -> bool:
        """Stop both threads; return whether they stopped in time."""
        has_stopped = self._files is None or self._files.finish(seconds)
        return self._end_sender(seconds) and has_stopped

    def _ship(self, may_end: MayEnd = _always) -> None:
        """Ship the pending records of this handle's journal.

        Args:
            may_end: returns whether an end may be shipped. Others are held back with all records
                after them, unless the store has to be asked for something, which may concern them.

        Raises:
            StoreUnavailable: the store cannot be reached; pending records are kept.
        """
        with self._shipping:
            own = self._own
            if own is None:
                return
            with self._in_store():
                ship(own, self._store, may_end=may_end)
            if own.is_large():
                self._begin_anew(own)

    @contextlib.contextmanager
    def _in_store(self) -> Iterator[None]:
        """Let this thread read the store directly, in order to find records to repeat."""
        me = threading.get_ident()
        self._at_store.add(me)
        try:
            yield
        finally:
            self._at_store.discard(me)

    def _begin_anew(self, own: Journal) -> None:
        with self._writing:
            if not own.waiting:
                self._own = Journal.begin(self._url, self._options.sync)
                own.close()

    def _ship_orphans(self) -> None:
        """Ship the records left behind by dead processes."""
        for url, path in journals(self._url):
            if self._own is not None and path == self._own.path:
                continue
            orphan = Journal.orphan(path, url)
            if orphan is not None:
                try:
                    with self._in_store():
                        ship(orphan, self._store, may_end=self._may_orphan_end)
                finally:
                    orphan.close()

    def _wait(self, seconds: float) -> bool:
        """Wait for the thread to ship the current content of the journal."""
        own = self._own
        if own is None:
            return True
        goal = own.last
        self.hurry()
        if self._files is not None:
            self._files.start_or_send(seconds)
        with self._progress:
            return self._progress.wait_for(
                lambda: own.shipped >= goal and not self._waiting_files(), seconds
            )

    def _waiting_files(self) -> int:
        return len(self._files.waiting()) if self._files is not None else 0

    def _may_end(self, record: Record) -> bool:
        if self._files is None:
            return True
        self._holds_end = True  # before the look, after which the last file may arrive
        self._holds_end = not self._files.may_end(record)
        return not self._holds_end

    def _may_orphan_end(self, record: Record) -> bool:
        return self._files is None or self._files.uploads.may_end(record)

    def _on_files(self) -> None:
        """Ship the end of a session whose files have arrived."""
        if self._holds_end:
            self._wake.set()
            self._hurry.set()
        with self._progress:
            self._progress.notify_all()

    def _waiting_records(self, filters: base.Filters) -> Iterator[base.Numbered]:
        own = self._own
        for number, record in own.all_waiting() if own else ():
            if filters.fits(record):
                yield number, _unmarked(record)

    def _said(self) -> str:
        own, files = self._own, self._waiting_files()
        waiting = f"{own.waiting if own else 0} records"
        if files:
            waiting += f" and {files} file{'s' * (files > 1)}"
        failure = self._failure or (self._files.failure if self._files is not None else None)
        why = f" ({failure})" if failure else ""
        return (
            f"{waiting} wait for {self._url}{why}. They are safe in "
            f"{own.path if own else ''} and are shipped when it is used again, or by: casket sync"
        )


def _refused(error: StoreUnavailable) -> StoreUnavailable:
    """Return an error that also says how to start without the store."""
    location, advice, *rest = error.facts
    if isinstance(error, DamagedFile):
        return error
    return type(error)(
        location,
        f'{advice}; Experiment.use(..., offline="allow") starts a session without it, and its '
        "records are sent later",
        *rest,
    )


def ship(
    journal: Journal,
    store: base.Store,
    progress: Callable[[int], object] | None = None,
    may_end: MayEnd = _always,
) -> None:
    """Ship the pending records of a journal, in order.

    Args:
        journal: the journal.
        store: the store to ship to.
        progress: called after each batch with its number of records.
        may_end: returns whether the end of a session may be shipped; before one that may not,
            shipping stops.

    Raises:
        StoreUnavailable: the store could not be reached; confirmed records have been removed.
    """
    while batch := _until_held(journal.batch(BATCH), may_end):
        plain: list[Record] = []
        for number, record in batch:
            if ASKED in record:
                _append(store, plain)
                plain = []
                _append_asking(store, _unmarked(record))
                journal.confirm(number)
            else:
                plain.append(record)
        _append(store, plain)
        journal.confirm(batch[-1][0])
        if progress is not None:
            progress(len(batch))


def _until_held(batch: list[base.Numbered], may_end: MayEnd) -> list[base.Numbered]:
    """Return the records before the first end that may not be shipped yet."""
    for place, (_, record) in enumerate(batch):
        if record["kind"] == "end" and not may_end(record):
            return batch[:place]
    return batch


def _append(store: base.Store, records: Sequence[Record]) -> None:
    if records:
        store.append(records)


def _append_asking(store: base.Store, record: Record) -> None:
    """Append a record whose claim was not checked when it was written; mark it if it clashes."""
    try:
        store.append([record], claim=record["claim"])
    except base.Claimed as claimed:
        clash = [_clash(record, claimed.session)] if record["kind"] == "session" else []
        store.append([record, *clash])


def _clash(start: Record, other: str | None) -> Record:
    """Return the record that names another session with the same params."""
    clash = start.copy()
    clash.pop("claim")
    clash.pop("extended", None)
    clash["kind"], clash["v"] = "meta", FORMAT_VERSION
    # Of the start, so that it is the same record if it is shipped again.
    clash["writer"], clash["n"] = f"clash-{start['writer']}", start["n"]
    clash["time"], clash["body"] = utc_now(), {"clash": other}
    return clash


def _unmarked(record: Record) -> Record:
    plain: Any = {name: value for name, value in record.items() if name not in {ASKED, "crc"}}
    unmarked: Record = plain
    return unmarked


_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Ship pending records to all stores at the same time, each for at most its `flush_timeout`."""
    begun, spools = time.monotonic(), list(_spools)
    for spool in spools:
        spool.hurry()
    for spool in spools:
        spool.close(waited=time.monotonic() - begun)
