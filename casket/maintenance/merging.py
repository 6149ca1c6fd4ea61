"""Merging of stores: appending the records of a store that another store lacks.

A record is identified by (`writer`, `n`). Stores can therefore be merged in any order and any
number of times, from several processes at once and while others write: a record that two merges
append concurrently is a copy, and readers drop copies. Records are appended in atomic batches; a
merge that was killed continues when it is run again.

Claims are not checked. If both stores have a completed session with the same params, both
sessions are kept and both keep holding their claim.

Deleted data stays deleted. A tombstone lists the ids of sessions, which are never reused, and the
names of experiments and models, which may be: "digits" may be deleted here and in use on a
cluster. A session is therefore merged only if no tombstone of either store lists its id. The record
of a deleted experiment or model is omitted unless a merged session needs it. A merged tombstone
deletes its sessions in the target, but nothing by name. The tombstone of an experiment or model
should therefore list the ids of its sessions; otherwise they cannot be distinguished from other
sessions and reappear.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from casket.errors import NotFound, StoreUnavailable
from casket.format.artifacts import ArtifactFolder
from casket.format.intact import is_intact, problem_of
from casket.format.records import Record, Seen, covers
from casket.format.references import References
from casket.reading.rows import name_unreadable
from casket.stores.base import Store

GROUP = 500
"""The number of records per append."""

_Name = tuple[str, str | None]
"""An experiment, and its model or None."""


class Counts:
    """Counts of merged records.

    Attributes:
        added: the number of appended records, by kind.
        held: the number of records that the target already had.
        removed: the number of records omitted because they had been deleted.
    """

    def __init__(self) -> None:
        self.added: Counter[str] = Counter()
        self.held = 0
        self.removed = 0


def add_missing(
    store: Store,
    records: Iterable[Record],
    *,
    carry: Callable[[Record], None] | None = None,
    counts: Counts | None = None,
) -> Counts:
    """Append the records that a store lacks, in their order.

    Args:
        store: the target store; other processes may be using it.
        records: the records of the source store, in order.
        carry: called with each record that will be in the target, before it is appended;
            `FileCarrier` copies the files that the record references.
        counts: the counts to update, to observe the progress; created if None.

    Raises:
        StoreUnavailable: the store cannot be written. Records already appended are kept; the same
            call continues from there.
    """
    merge = _Merge(store, carry, counts or Counts())
    for record in records:
        merge.add(record)
    merge.finish()
    return merge.counts


class FileCarrier:
    """Copies the artifacts and large arrays that records reference to another store's folder.

    Args:
        source: the artifact folder of the source store.
        target: the artifact folder of the target store.

    """

    def __init__(self, source: ArtifactFolder, target: ArtifactFolder) -> None:
        self._source = source
        self._target = target
        self._references = References()
        self._failures: dict[str, str] = {}

    @property
    def problems(self) -> dict[str, str]:
        """The reason why a file was not copied, by file name."""
        needed = self._references.owners
        return {file: reason for file, reason in self._failures.items() if file in needed}

    def __call__(self, record: Record) -> None:
        """Copy the files that a record references and the target lacks.

        Raises:
            StoreUnavailable: the target cannot be written.
        """
        for file in self._references.add(record):
            if not self._target.has(file):
                self._copy(file)

    def _copy(self, file: str) -> None:
        try:
            stream = self._source.stream(file)
        except (NotFound, StoreUnavailable) as error:
            self._failures[file] = str(error)
            return
        with stream:
            try:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
            except OSError as error:
                self._failures[file] = str(error)
                return
            if file.startswith(digest):
                stream.seek(0)
                self._target.keep(stream, Path(file).name.removeprefix(digest))
            else:
                path = self._source.place(file)
                self._failures[file] = f"{path} is damaged: its hash is {digest}"


class _Merge:
    """The state of a call of `add_missing`."""

    def __init__(
        self, store: Store, carry: Callable[[Record], None] | None, counts: Counts
    ) -> None:
        self.counts = counts
        self._waiting: list[Record] = []
        self._store = store
        self._carry = carry
        self._target = _Target(store)
        self._models: dict[_Name, Record] = {}
        self._kept_back: dict[_Name, list[Record]] = {}

    def add(self, record: Record) -> None:
        """Add the next record; a damaged record stays in its store only."""
        problem = problem_of(record)
        if problem is not None:
            name_unreadable(record, problem)
            return
        if record["kind"] == "deleted":
            self._delete(record)
            return
        if "session" not in record:
            if self._target.has_deleted_name(record):
                self._kept_back.setdefault(_name_of(record), []).append(record)
                return
        elif record["session"] in self._target.deleted:
            self.counts.removed += 1
            return
        else:
            self._release(record)
        self._wait(record)

    def finish(self) -> None:
        """Append the remaining records."""
        self._append()
        self.counts.removed += sum(map(len, self._kept_back.values()))

    def _release(self, record: Record) -> None:
        """Add the held-back records of the experiment and model that a record belongs to."""
        experiment, model = _name_of(record)
        for name in ((experiment, None), (experiment, model)):
            for head in self._kept_back.pop(name, ()):
                self._wait(head)

    def _wait(self, record: Record) -> None:
        if self._carry is not None:
            self._carry(record)
        self._waiting.append(record)
        if len(self._waiting) >= GROUP:
            self._append()

    def _delete(self, tombstone: Record) -> None:
        narrowed = tombstone.copy()
        narrowed.pop("crc", None)
        narrowed["body"] = {
            "sessions": tombstone["body"]["sessions"],
            "models": [],
            "experiments": [],
        }
        if not narrowed["body"]["sessions"]:
            return
        self._append()
        is_covering = self._target.holds_any(narrowed["body"]["sessions"])
        if not self._target.know(narrowed):
            self.counts.held += 1
            return
        # An appended tombstone hides its sessions; pruning also frees their claims and space.
        if is_covering:
            self._store.prune(narrowed)
        else:
            self._store.append([narrowed])
        self.counts.added["deleted"] += 1

    def _append(self) -> None:
        self._target.look()
        waiting, self._waiting = self._waiting, []
        missing: list[Record] = []
        for record in waiting:
            if record["kind"] == "model":
                self._models[_name_of(record)] = record
            again = self._config_of(record)
            if record.get("session") in self._target.deleted:  # deleted by another process
                self.counts.removed += 1
            elif self._target.know(record):
                missing += [*again, record]
            else:
                self.counts.held += 1
        if missing:
            self._target.appended(self._store.append(missing), len(missing))
            self.counts.added.update(record["kind"] for record in missing)

    def _config_of(self, record: Record) -> list[Record]:
        """Return the config record of a session's model again if the target has another config.

        Readers show a session with the config of its model at the start of the session.
        """
        if record["kind"] != "session" or self._target.has_begun(record["session"]):
            return []
        name = _name_of(record)
        model = self._models.get(name)
        if model is None or self._target.configs.get(name) == model["body"]:
            return []
        again = model.copy()
        again["writer"] = f"{model['writer']}-{record['writer']}"
        again.pop("crc", None)
        self._target.know(again)
        return [again]


class _Target:
    """The contents of the target store, as far as a merge needs them.

    Attributes:
        deleted: the ids of deleted sessions.
        configs: the body of the last record of each model.
    """

    def __init__(self, store: Store) -> None:
        self._sessions: set[str] = set()
        self.deleted: set[str] = set()
        self.configs: dict[_Name, dict[str, Any]] = {}
        self._tombstones: list[Record] = []
        self._seen: dict[str, Seen] = {}
        self._store = store
        self._last = 0
        self.look()

    def look(self) -> None:
        """Read the records that other processes have appended since the last call."""
        last = self._last
        for number, record in self._store.records(after=last):
            last = number
            self.know(record)
        # Not earlier, because the records of a nested document share a number.
        self._last = last

    def appended(self, last: int, count: int) -> None:
        """Record that this merge appended `count` known records, up to number `last`."""
        if last == self._last + count:
            self._last = last

    def know(self, record: Record) -> bool:
        """Register a record; return whether it is new and intact."""
        if not is_intact(record):
            return False
        seen = self._seen.get(record["writer"])
        if seen is None:
            seen = self._seen[record["writer"]] = Seen()
        if not seen.add(record["n"]):
            return False
        kind = record["kind"]
        if kind == "deleted":
            self._know_tombstone(record)
        elif kind == "model":
            self.configs[_name_of(record)] = record["body"]
        if "session" in record:
            self._sessions.add(record["session"])
        return True

    def has_begun(self, session: str) -> bool:
        """Return whether the store has, or had, a session."""
        return session in self._sessions or session in self.deleted

    def holds_any(self, sessions: Iterable[str]) -> bool:
        """Return whether the store has any of these sessions."""
        return not self._sessions.isdisjoint(sessions)

    def has_deleted_name(self, record: Record) -> bool:
        """Return whether the experiment or model of a record was deleted after the record."""
        return any(
            record["time"] <= tombstone["time"] and covers(tombstone, record)
            for tombstone in self._tombstones
        )

    def _know_tombstone(self, tombstone: Record) -> None:
        body = tombstone["body"]
        self.deleted.update(body["sessions"])
        self._sessions.difference_update(body["sessions"])
        if body["models"] or body["experiments"]:
            self._tombstones.append(tombstone)
            for name in [*self.configs]:
                owner: Any = {"experiment": name[0], "model": name[1]}
                if covers(tombstone, owner):
                    del self.configs[name]


def _name_of(record: Record) -> _Name:
    return record.get("experiment", ""), record.get("model")
