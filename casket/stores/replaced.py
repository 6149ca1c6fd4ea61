"""Recovery of a writer whose file was replaced.

A file may be removed, moved, replaced or emptied while a handle has it open. A writer that notices
this continues in the current file. Before the next records, it repeats the records acknowledged
since it last saw its own file in place, and the heads to which all these records refer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from casket.format.records import Record, covers
from casket.stores import base

Read = Callable[..., Iterable[base.Numbered]]
"""The method `Store.records` of the store in its current state."""


def completed(
    records: Sequence[Record],
    *,
    doubtful: Sequence[Record],
    last: Record | None,
    heads: base.Heads | None,
    read: Read,
    location: object,
) -> list[Record]:
    """Return `records` preceded by all records that the store lacks; warn if any are missing.

    Args:
        records: the records to append.
        doubtful: the records acknowledged since the file was last seen in place.
        last: the last record appended by this handle.
        heads: the user's hook.
        read: the method `records` of the store in its current state.
        location: the path or URL of the store, for the warning.
    """
    candidates = [*doubtful, *([last] if last else [])]
    lacking = _lacking(candidates, read)
    again = [record for record in doubtful if _identity(record) in lacking]
    present = {_owner(record) for record in [*again, *records] if record["kind"] in _HEADS}
    needed = heads([*again, *records]) if heads and (again or records) else ()
    missing = [head for head in needed if _owner(head) not in present]
    if lacking or missing:
        repeated = ", with the experiment, model and session repeated" if missing else ""
        base.warn(
            f"{location}: it no longer holds the records of this process (it was moved, deleted, "
            f"replaced or emptied); logging continues in the file that is there now{repeated}; "
            "earlier records are only in the file that was moved away"
        )
    return [*missing, *again, *records]


_HEADS = frozenset({"experiment", "model", "session"})


def _owner(head: Record) -> tuple[str | None, ...]:
    """Return the kind of a head and the ids of its experiment, model and session."""
    return head["kind"], head.get("experiment"), head.get("model"), head.get("session")


def _identity(record: Record) -> tuple[str, int]:
    return record["writer"], record["n"]


def _lacking(candidates: Sequence[Record], read: Read) -> set[tuple[str, int]]:
    """Return the identities of the candidates that are neither stored nor deleted."""
    wanted = {_identity(record): record for record in candidates}
    for record in _relatives(candidates, read):
        wanted.pop(_identity(record), None)
    if wanted:
        for _, tombstone in read(kinds={"deleted"}):
            for identity, record in list(wanted.items()):
                if tombstone["time"] >= record["time"] and covers(tombstone, record):
                    del wanted[identity]
    return set(wanted)


def _relatives(candidates: Iterable[Record], read: Read) -> Iterator[Record]:
    """Yield the stored records of the candidates' sessions, or of their kind without a session."""
    sessions: set[str] = set()
    kinds: set[str] = set()
    for record in candidates:
        session = record.get("session")
        if session is None:
            kinds.add(record["kind"])
        else:
            sessions.add(session)
    for session in sessions:
        yield from (record for _, record in read(session=session))
    if kinds:
        yield from (record for _, record in read(kinds=kinds))
