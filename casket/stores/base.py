"""The contract of a store, and what stores share.

A store keeps records in the order they were appended. It knows no experiments: all it looks at
is what a record belongs to, its claim, and how a session ended. `casket.testing.StoreContract`
tests every sentence of the protocol below.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypedDict, get_args

from casket.errors import BadLocation, CasketWarning
from casket.format.lifecycle import Life
from casket.format.records import Record

Sync = Literal["session", "always"]
"""When a file is synced against power loss: at a session's end and at most once a second
meanwhile, or at every append."""

Offline = Literal["refuse", "allow"]
"""What a session does at its start when a remote store cannot be reached."""

SYNC_INTERVAL = 1.0
"""Seconds; with `sync="session"` an append syncs the file if the last sync is older."""

LOOK_INTERVAL = 0.05
"""Seconds between two looks of a writer whether the path still names the file it writes."""

HEADS = frozenset({"experiment", "model", "session", "end", "tag", "deleted"})
"""The kinds that are few, and that a writer has to find in a large store."""

Numbered = tuple[int, Record]


GONE = "it was moved or deleted meanwhile, and nothing was written"
"""What becomes of an append to a file that is missing and is not to be created."""


class Heads(Protocol):
    """Finds the records without which others would belong to nothing.

    A store calls it, with its lock held, when the location turns out to hold another
    file than the one this handle last read or wrote; reading the store meanwhile is allowed.
    """

    def __call__(self, records: Sequence[Record], /) -> Sequence[Record]:
        """Return the heads that `records` need and the store lacks.

        Heads are the records of experiments and models, and the starts of sessions. None is
        needed for what a tombstone in the store covers: that was removed on purpose.
        """


class StoreOptions(NamedTuple):
    """How a store is opened; `Experiment.use` documents what is not listed here.

    Attributes:
        create: whether an append creates a file of this machine that is missing.
        heads: finds the records to repeat if the location holds another file; None repeats none.
        writing: whether an append may create and change anything.
    """

    sync: Sync = "session"
    flush_timeout: float = 30.0
    offline: Offline = "refuse"
    create: bool = True
    heads: Heads | None = None
    writing: bool = True

    def checked(self) -> StoreOptions:
        """Return these options.

        Raises:
            BadLocation: one is not among the choices.
        """
        for name, choices in (("sync", get_args(Sync)), ("offline", get_args(Offline))):
            if getattr(self, name) not in choices:
                raise BadLocation(f"{name}={getattr(self, name)!r}: give one of {choices}")
        if not self.flush_timeout >= 0:
            raise BadLocation(f"flush_timeout={self.flush_timeout!r}: give seconds, 0 or more")
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
    """Which records are asked for; see `Store.records`."""

    experiment: str | None = None
    session: str | None = None
    claim: str | None = None
    kinds: Collection[str] | None = None
    after: int = 0

    def fits(self, record: Record) -> bool:
        """Return whether a record fits, apart from its number."""
        _, session, claim, kinds, _ = self
        return (
            (kinds is None or record["kind"] in kinds)
            and (session is None or record.get("session") == session)
            and (claim is None or record.get("claim") == claim)
            and (self.experiment is None or record.get("experiment") == self.experiment)
        )

    @property
    def are_for_heads(self) -> bool:
        """Whether only kinds in `HEADS` are asked for."""
        return self.kinds is not None and HEADS.issuperset(self.kinds)


class Store(Protocol):
    """An ordered, append-only sequence of records, shared by threads, processes and hosts.

    A class of stores is called as `Class(url, options)`, with `StoreOptions`; nothing is created
    before the first append. If it has an attribute `drops_copies` that is true, an append leaves
    out records that are stored already, by their `writer` and `n`, and returns the number of the
    last one all the same: then a journal of this machine is put before it, so that writing does
    not wait for it. If it has an attribute `files`, that is the folder of its artifacts.
    """

    def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
        """Append `records` at the end, all of them or none.

        They are there, whatever happens to the process, when the call returns; another handle
        sees all of them. What goes in comes out equal.

        Args:
            records: at least one record.
            claim: append only if nothing stored holds this key. A record that carries it as its
                `claim` holds it until it is pruned. The start of a session holds it while a
                writer of the session has no end (a record of kind `end` that names the writer
                as `of`), and afterwards if the last writer's end is `completed`
                (`casket.format.lifecycle.Life`). Of several processes that append with the same
                claim at once, one succeeds. Ends among `records` count first.

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
        """Yield (number, record) in the order of the numbers, for records that fit every filter.

        Whatever is appended later has a larger number than all that was yielded before. Needs no
        lock and changes nothing.

        Raises:
            NotFound: the store was opened to read and does not exist.
        """

    def prune(self, tombstone: Record, /) -> None:
        """Drop for good what `tombstone` covers, and append it; readers and writers may go on.

        The room of what goes is given back. A tombstone that names nothing is not appended: what
        a reader sees stays as it is, and what keeps it takes no more room than it needs.
        """

    def close(self) -> None:
        """Free what the handle holds. A closed handle opens again when it is used."""


class Claimed(Exception):
    """A claim is held by a record that is in the store.

    Attributes:
        session: the session that holds it; None if another kind of record does.
    """

    def __init__(self, session: str | None) -> None:
        self.session = session
        super().__init__(session)


def refuse_held(
    claim: str,
    records: Callable[..., Iterable[Numbered]],
    appended: Sequence[Record],
) -> None:
    """Raise `Claimed` if something stored holds `claim`; call it with the store locked.

    Args:
        claim: the key asked for.
        records: the store's own `records`.
        appended: the records about to be appended; an end among them gives up its claim first.
    """
    for session in _claimants(records(claim=claim)):
        stored = [record for _, record in records(session=session, kinds={"session", "end"})]
        ends = [r for r in appended if r["kind"] == "end" and r.get("session") == session]
        if is_holding([*stored, *ends]):
            raise Claimed(session)


def _claimants(claiming: Iterable[Numbered]) -> list[str]:
    sessions: dict[str, None] = {}
    for _, record in claiming:
        if record["kind"] != "session":
            raise Claimed(record.get("session"))
        sessions[record["session"]] = None
    return list(sessions)


def is_holding(starts_and_ends: Iterable[Record]) -> bool:
    """Return whether a session still holds its claim, given its starts and ends."""
    return Life(record for record in starts_and_ends if _says_whose(record)).is_holding


def _says_whose(record: Record) -> bool:
    """Return whether a record is a start, or an end that names its writer."""
    return record["kind"] == "session" or "of" in record["body"]


def warn(message: str) -> None:
    """Log and warn; an append goes on after it.

    Where warnings are errors, it is only logged: an append that raised would be repeated, and
    what it appended would be there twice.
    """
    import logging  # takes time to load: not for an import

    log = logging.getLogger("casket")
    log.addHandler(logging.NullHandler())  # who has not asked for it sees no log
    log.warning(message)
    with contextlib.suppress(CasketWarning):
        warnings.warn(message, CasketWarning, stacklevel=3)


def warn_unsynced(path: Path | str, error: Exception) -> None:
    """Warn that records are written but not safe against power loss."""
    warn(
        f"{path}: the records are written but could not be made safe against power loss ({error}); "
        "they may be lost if this machine loses power or crashes"
    )
