"""The protocol of a store, and the parts that stores share.

A store keeps records in the order in which they were appended. It only considers the experiment,
model and session of a record, its claim, and the end of a session. `casket.testing.StoreContract`
tests every sentence of the protocol below.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypedDict, get_args

from casket.errors import BadLocation, CasketError, CasketWarning, DamagedFile
from casket.format.lifecycle import Life
from casket.format.records import Record

Sync = Literal["session", "always"]
"""When a file is synced against power loss: at the end of a session and at most once a second in
between, or at every append."""

Offline = Literal["refuse", "allow"]
"""Whether a session starts if a remote store cannot be reached."""

SYNC_INTERVAL = 1.0
"""Minimum number of seconds between two syncs of a file with `sync="session"`."""

LOOK_INTERVAL = 0.05
"""Seconds between two checks of a writer that the path still refers to its open file."""

HEADS = frozenset({"experiment", "model", "session", "end", "tag", "deleted"})
"""The kinds of records of which there are few, and which a writer looks up in a large store."""

Numbered = tuple[int, Record]

Reading = Callable[..., Iterable[Numbered]]
"""The method `Store.records`."""


GONE = "it was moved or deleted meanwhile, and nothing was written"
"""The message for an append to a missing file that must not be created."""


class Heads(Protocol):
    """Finds the heads to which other records refer.

    A store calls it, with its lock held, if the location refers to a different file than this
    handle last read or wrote. The store may be read during the call.
    """

    def __call__(self, records: Sequence[Record], /) -> Sequence[Record]:
        """Return the heads that `records` need and the store lacks.

        Heads are the records of experiments and models, and the starts of sessions. Heads that
        a tombstone in the store covers were removed on purpose and are not returned.
        """


class StoreOptions(NamedTuple):
    """The options of a store; `Experiment.use` documents those that are not listed here.

    Attributes:
        create: whether an append creates a file of this machine that is missing.
        heads: finds the heads to repeat in another file; None repeats none.
        writing: whether an append may create and change anything.
    """

    sync: Sync = "session"
    flush_timeout: float = 30.0
    offline: Offline = "refuse"
    create: bool = True
    heads: Heads | None = None
    writing: bool = True
    sync_every: float | None = None

    def checked(self) -> StoreOptions:
        """Return these options.

        Raises:
            BadLocation: an option has an invalid value.
        """
        for name, choices in (("sync", get_args(Sync)), ("offline", get_args(Offline))):
            if getattr(self, name) not in choices:
                raise BadLocation(f"{name}={getattr(self, name)!r}: give one of {choices}")
        if not self.flush_timeout >= 0:
            raise BadLocation(f"flush_timeout={self.flush_timeout!r}: give seconds, 0 or more")
        if self.sync_every is not None and not self.sync_every >= 0:
            raise BadLocation(f"sync_every={self.sync_every!r}: give seconds, 0 or more")
        return self


DEFAULTS = StoreOptions()


class Chosen(TypedDict, total=False):
    """The keyword arguments of `Store.records`, for stores that hand them on to `Filters`."""

    experiment: str | None
    session: str | None
    claim: str | None
    kinds: Collection[str] | None
    after: int


class Filters(NamedTuple):
    """The filters of `Store.records`."""

    experiment: str | None = None
    session: str | None = None
    claim: str | None = None
    kinds: Collection[str] | None = None
    after: int = 0

    def fits(self, record: Record) -> bool:
        """Return whether a record matches, apart from its number."""
        _, session, claim, kinds, _ = self
        return (
            (kinds is None or record["kind"] in kinds)
            and (session is None or record.get("session") == session)
            and (claim is None or record.get("claim") == claim)
            and (self.experiment is None or record.get("experiment") == self.experiment)
        )

    @property
    def are_for_heads(self) -> bool:
        """Whether the filters select only kinds in `HEADS`."""
        return self.kinds is not None and HEADS.issuperset(self.kinds)


class Store(Protocol):
    """An ordered, append-only sequence of records, shared by threads, processes and hosts.

    A class of stores is called as `Class(url, options)`, with `StoreOptions`; nothing is created
    before the first append. If its attribute `drops_copies` is true, an append skips records that
    are already stored, by their `writer` and `n`, and still returns the number of the last record:
    such a store is written through a journal on this machine, so that writing does not wait for
    it. The optional attribute `shipping_interval` is the number of seconds for which that journal
    gathers records. The optional attribute `files` is the folder of its artifacts, or, of a store
    that drops copies, the artifacts themselves (`casket.format.files.Files`).
    """

    def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
        """Append `records` at the end, all of them or none.

        When the call returns, they are stored whatever happens to the process, and other handles
        read all of them. Records read are equal to the records appended, apart from the `crc` that
        a store may add (`casket.format.records.encoded`).

        Args:
            records: at least one record.
            claim: append only if no stored record holds this key. A record with this `claim`
                holds it until it is pruned. The start of a session holds it while a
                writer of the session has no end (a record of kind `end` that names the writer
                as `of`), and afterwards if the last writer's end is `completed`
                (`casket.format.lifecycle.Life`). A start with a larger `body.changes` than the
                others of its session gives up their claims for its own. Of several processes
                that append with the same claim at once, one succeeds. Ends among `records` count
                first.

        Returns:
            The number of the last record. Numbers grow and are never used again.

        Raises:
            Claimed: the claim is held; nothing was appended.
            StoreUnavailable: the records could not be written; nothing was appended.
        """

    def records(
        self,
        *,
        experiment: str | None = None,
        session: str | None = None,
        claim: str | None = None,
        kinds: Collection[str] | None = None,
        after: int = 0,
    ) -> Iterator[Numbered]:
        """Yield (number, record) in ascending order for the records that match every filter.

        Records appended later have larger numbers than all that were yielded. Needs no lock and
        changes nothing.

        Raises:
            NotFound: the store was opened to read and does not exist.
        """

    def prune(self, tombstone: Record, /) -> None:
        """Remove the records that `tombstone` covers, and append it, while others read and write.

        Frees the space of removed records. A tombstone without any names is not appended; such a
        call only compacts the store.
        """

    def close(self) -> None:
        """Release the resources of the handle. A closed handle reopens on its next use."""


def check_order(numbers: Sequence[int], after: int, location: object) -> None:
    """Check that numbers grow: a reader that continues after the last would never end otherwise.

    Args:
        numbers: the numbers of the records that were read at once.
        after: the number of the record before them.
        location: the path or URL of the store.

    Raises:
        DamagedFile: they do not grow.
    """
    for before, number in pairwise((after, *numbers)):
        if number <= before:
            raise DamagedFile(str(location), f"record {number} follows record {before}")


class Claimed(Exception):
    """A claim is held by a stored record.

    Attributes:
        session: the session that holds it; None for another kind of record.
    """

    def __init__(self, session: str | None) -> None:
        self.session = session
        super().__init__(session)


def refuse_within(is_amid_write: bool, location: str | Path) -> None:
    """Raise an error if a signal handler writes while the code it interrupted writes."""
    if is_amid_write:
        raise CasketError(
            f"{location}: a signal handler cannot log while a record is being written; "
            "let it set a flag, or raise, and log after it"
        )


def refuse_held(
    claim: str,
    records: Callable[..., Iterable[Numbered]],
    appended: Sequence[Record],
) -> None:
    """Raise `Claimed` if a stored record holds `claim`; the caller has locked the store.

    Args:
        claim: the requested key.
        records: the method `records` of the store.
        appended: the records to be appended; ends among them release their claims first.
    """
    for session in _claimants(records(claim=claim)):
        stored = [record for _, record in records(session=session, kinds={"session", "end"})]
        ends = [r for r in appended if r["kind"] == "end" and r.get("session") == session]
        if life_of([*stored, *ends]).holds(claim):
            raise Claimed(session)


def _claimants(claiming: Iterable[Numbered]) -> list[str]:
    sessions: dict[str, None] = {}
    for _, record in claiming:
        if record["kind"] != "session":
            raise Claimed(record.get("session"))
        if "session" in record:  # missing in a damaged record
            sessions[record["session"]] = None
    return list(sessions)


def life_of(starts_and_ends: Iterable[Record]) -> Life:
    """Return the life of a session from its starts and ends, without those that are damaged."""
    return Life(record for record in starts_and_ends if says_whose(record))


def says_whose(record: Record) -> bool:
    """Return whether a record is a start, or an end that names its writer."""
    if "time" not in record or not isinstance(record.get("body"), dict):  # a damaged record
        return False
    return record["kind"] == "session" or "of" in record["body"]


def warn(message: str) -> None:
    """Log a message and issue it as a warning.

    If warnings are errors, the message is only logged: an append that raised would be repeated,
    and its records would be stored twice.
    """
    import logging  # takes time to load: not for an import

    log = logging.getLogger("casket")
    log.addHandler(logging.NullHandler())  # no output unless the user configures logging
    log.warning(message)
    with contextlib.suppress(CasketWarning):
        warnings.warn(message, CasketWarning, stacklevel=3)


def warn_unsynced(path: Path | str, error: Exception) -> None:
    """Warn that records are written but not safe against power loss."""
    warn(
        f"{path}: the records are written but could not be made safe against power loss ({error}); "
        "they may be lost if this machine loses power or crashes"
    )
