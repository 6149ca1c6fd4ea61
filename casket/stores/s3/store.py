"""The store in S3, and in other places where an object can be created once only.

A batch is an object that is created on the condition that its name is free. Two concurrent writers
compete for the same name; the second is refused, reads what was added and tries the next name.
Hence a writer that obtains a name has seen all records before it, and with them every claim.
"""

from __future__ import annotations

import errno
import itertools
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any, Unpack

import orjson

from casket.errors import NotFound, StoreUnavailable
from casket.format.records import Record, names_nothing, new_id
from casket.stores import base, replaced
from casket.stores.remote import repeats
from casket.stores.s3.address import S3Address
from casket.stores.s3.batch import VERSION, Batch
from casket.stores.s3.log import Log, Objects
from casket.system import forks

if TYPE_CHECKING:
    from casket.stores.s3.files import S3Files

END_KNOWN = 5.0
"""Seconds for which a handle assumes that the last object it saw is still there."""

SLOW = 300.0
"""Seconds after which an append is in doubt: the objects before it may have been packed."""

CONTESTED = 1.0
"""Seconds for which a handle that met another writer looks before it appends."""

PAUSE = 0.01
"""The longest pause in seconds before a retry after a conflict; doubled a few times."""


class ObjectStore:
    """Records in objects that are created on the condition that their names are free.

    Args:
        open_objects: opens the place of the objects.
        shown: the path or URL, for messages.
        options: how to open it; every append is stored safely before it returns.
    """

    drops_copies = True

    def __init__(
        self, open_objects: Callable[[], Objects], shown: str, options: base.StoreOptions
    ) -> None:
        self._open_objects = open_objects
        self._shown = shown
        self._writing = options.writing
        self._heads = options.heads
        self._appended: Record | None = None
        self._is_probed = False
        self.after_fork()
        forks.renew_in_children(self)

    def after_fork(self) -> None:
        """Leave the parent's connections to the parent, in the child."""
        self._lock = RLock()
        self._bucket: Objects | None = None
        self._reset()

    def _reset(self) -> None:
        self._log: Log | None = None
        # The last number of each writer whose records only this handle appends.
        self._own: dict[str, int] = {}
        self._seen = self._contested_until = -math.inf

    def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
        with self._lock:
            own = self._own
            self._own = {}  # after a failure, it is not known which records are stored
            try:
                number = self._append(records, claim, own)
            except base.Claimed:
                self._own = own
                raise
            self._own = own
            self._appended = records[-1]
            return number

    def _append(self, records: Sequence[Record], claim: str | None, own: dict[str, int]) -> int:
        log, batch_id = self._prepared(), new_id()
        must_look = claim is not None or any(
            n <= own.get(writer, n) for writer, n in map(repeats.identity, records)
        )
        for tries in itertools.count():
            begun = time.time()
            if self._look(log, must_look):
                records, must_look = self._completed(log, records), True
            stored = log.numbers({one["writer"] for one in records}) if must_look else {}
            if claim is not None and repeats.must_ask(claim, records, stored):
                base.refuse_held(claim, self._stored(log), records)
            missing = [
                one for one in repeats.once_each(records) if repeats.identity(one) not in stored
            ]
            batch = Batch.of(log.next, missing, batch_id)
            if not missing or log.append(batch):
                break
            self._contested_until = time.monotonic() + CONTESTED
            time.sleep(random.uniform(0.0, PAUSE * 2 ** min(tries, 4)))  # noqa: S311 - no secret
        self._check_pace(begun)
        stored.update((repeats.identity(one), n) for n, one in enumerate(missing, batch.first))
        for writer, n in stored:
            own[writer] = max(n, own.get(writer, 0))
        return stored[repeats.identity(records[-1])]

    def _stored(self, log: Log) -> base.Reading:
        """Return the function that reads what a log knows; the lock is held."""
        return log.records

    def _look(self, log: Log, must_look: bool) -> bool:
        """Look what others appended; return whether the last known object is gone."""
        now = time.monotonic()
        if not must_look and now - self._seen < END_KNOWN and now > self._contested_until:
            return False
        is_gone = log.look() if must_look else log.find_end()
        self._seen = now
        return is_gone

    def _completed(self, log: Log, records: Sequence[Record]) -> list[Record]:
        """Return records, preceded by those that this handle must repeat in an emptied place."""
        return replaced.completed(
            records,
            doubtful=[],
            last=self._appended,
            heads=self._heads,
            read=self._stored(log),
            location=self._shown,
        )

    def _check_pace(self, begun: float) -> None:
        """Check that this process was not suspended while it appended.

        Raises:
            StoreUnavailable: it was; the append must be repeated.
        """
        if abs(time.time() - begun) > SLOW:
            self._reset()
            raise StoreUnavailable(
                self._shown,
                "the process was suspended during a request; whether it was written is not known",
                errno.ETIMEDOUT,
            )

    def records(self, **chosen: Unpack[base.Chosen]) -> Iterator[base.Numbered]:
        with self._lock:
            log = self._opened()
            log.look()
            numbered = log.records(**chosen)
        if not (log or self._writing):
            raise NotFound(self._shown)
        yield from numbered

    def _connected(self) -> Any:
        with self._lock:
            if self._bucket is None:
                self._bucket = self._open_objects()
            return self._bucket

    def prune(self, tombstone: Record, /) -> None:
        with self._lock:
            if not names_nothing(tombstone):
                self.append([tombstone])
            self._opened().rewrite()
            self._opened().pack()

    def close(self) -> None:
        with self._lock:
            bucket, self._bucket = self._bucket, None
            self._reset()
            if bucket is not None:
                bucket.close()

    def _opened(self) -> Log:
        bucket = self._connected()
        if self._log is None:
            self._log = Log(bucket)
        return self._log

    def _prepared(self) -> Log:
        """Return the log of a server that can keep it."""
        log = self._opened()
        if not self._is_probed and self._bucket is not None:
            self._bucket.probe(orjson.dumps({"casket": VERSION}))
            self._is_probed = True
        return log


class S3Store(ObjectStore):
    """Objects `prefix/log/<number>` in a bucket.

    Args:
        url: such as `s3://bucket/prefix`, with the arguments of `casket.stores.s3.address`.
        options: how to open it.
    """

    shipping_interval = 30.0
    """A request costs money: the journal gathers records for as many seconds."""

    def __init__(self, url: str, options: base.StoreOptions = base.DEFAULTS) -> None:
        from casket.stores.s3.bucket import Bucket  # boto3: not needed for other places

        address = S3Address.of(url)
        super().__init__(partial(Bucket, address), address.shown, options)

    @property
    def files(self) -> S3Files:
        """The artifacts, as objects beside the log."""
        from casket.stores.s3.files import S3Files

        return S3Files(self._connected, self._shown)
