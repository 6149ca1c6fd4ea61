"""Adding the records of one store to another: appending what the other does not hold.

A record is told by its identity, (`writer`, `n`), so merging may be done in any order and any
number of times, from several processes at once and while others write: what another merge
appended in the same moment is a copy, and readers drop copies. Records are appended in groups,
each whole or not at all; a merge that was killed goes on where it was when it is run again.

Claims are not asked for. Two stores may both hold a completed session with the same params; both
are kept, and both hold their claim from then on, as they did before.

What was deleted stays deleted. A tombstone names sessions, whose ids are never used again, and
experiments and models, whose names are: "digits" was deleted here, and is in use on the cluster.
So a session comes back only if no tombstone, of either store, names its id. Of a deleted
experiment or model the record of its name is left out until a session comes that needs it. A
tombstone that is merged deletes its sessions in the target, too, and nothing by name. Whoever
deletes an experiment or a model should therefore name the ids of its sessions in the tombstone;
where that was not done, its sessions cannot be told from others and come back.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from casket.errors import CasketError
from casket.format.artifacts import ArtifactFolder
from casket.format.records import Record, Seen, covers
from casket.format.values import restore
from casket.stores.base import Store

GROUP = 500
"""Records appended at once."""

_Name = tuple[str, str | None]
"""An experiment, and a model of it or None."""


class Counts:
    """What became of the records that were to be added.

    Attributes:
        added: how many were appended, by kind.
        held: how many the target held already.
        removed: how many were left out because they had been deleted.
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
    """Append the records that a store does not hold, in their order.

    Args:
        store: where they go; may be in use by others.
        records: what another store holds, in its order.
        carry: called with each record that is in the store afterwards, before it is appended:
            `FileCarrier` brings the files it names.
        counts: where to count, for who wants to watch; new ones if it is not given.

    Raises:
        StoreUnavailable: the store cannot be written; what was appended stays, and the same call
            goes on from there.
    """
    merge = _Merge(store, carry, counts or Counts())
    for record in records:
        merge.add(record)
    merge.finish()
    return merge.counts


class FileCarrier:
    """Copies the files that records name, artifacts and large arrays, to another store's folder.

    Args:
        source: the folder of the store the records come from.
        target: the folder of the store they go to.

    Attributes:
        problems: why a file was not copied, by its name.
    """

    def __init__(self, source: ArtifactFolder, target: ArtifactFolder) -> None:
        self._source = source
        self._target = target
        self.problems: dict[str, str] = {}

    def __call__(self, record: Record) -> None:
        """Copy what a record names and the target does not have.

        Raises:
            StoreUnavailable: the target cannot be written.
        """
        for file in files_of(record):
            if not (self._target.path / file).exists():
                self._copy(file)

    def _copy(self, file: str) -> None:
        try:
            path = self._source.find(file)
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except (CasketError, OSError) as error:
            self.problems[file] = str(error)
            return
        if file.startswith(digest):
            self._target.put(file, path)
        else:
            self.problems[file] = f"{path} is damaged: its hash is {digest}"


def files_of(record: Record) -> list[str]:
    """Return the names of the files in the artifact folder that a record refers to."""
    files: list[str] = []
    if record["kind"] == "artifact":
        files.append(record["body"]["file"])
    if "extended" in record:
        restore(record["body"], lambda kept: files.append(kept["file"]))
    return files


class _Merge:
    """One call of `add_missing`."""

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
        """Take the next record."""
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
        """Append what is left."""
        self._append()
        self.counts.removed += sum(map(len, self._kept_back.values()))

    def _release(self, record: Record) -> None:
        """Let the records of an experiment and a model come that this one belongs to."""
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
        # An appended tombstone hides its sessions; pruning frees their claims and their room, too.
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
            if record.get("session") in self._target.deleted:  # by others, meanwhile
                self.counts.removed += 1
            elif self._target.know(record):
                missing += [*again, record]
            else:
                self.counts.held += 1
        if missing:
            self._target.appended(self._store.append(missing), len(missing))
            self.counts.added.update(record["kind"] for record in missing)

    def _config_of(self, record: Record) -> list[Record]:
        """Return the config of a session's model anew, if the target has another one by now.

        A session shows the config its model had when the session began.
        """
        if record["kind"] != "session" or self._target.has_begun(record["session"]):
            return []
        name = _name_of(record)
        model = self._models.get(name)
        if model is None or self._target.configs.get(name) == model["body"]:
            return []
        again = model.copy()
        again["writer"] = f"{model['writer']}-{record['writer']}"
        self._target.know(again)
        return [again]


class _Target:
    """What a store holds, as far as a merge has to know it.

    Attributes:
        deleted: the ids of sessions that were deleted.
        configs: the last body of each model's record.
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
        """Learn what others have appended since the last look."""
        last = self._last
        for number, record in self._store.records(after=last):
            last = number
            self.know(record)
        # Not sooner: a nested document of the first casket gives many records of one number.
        self._last = last

    def appended(self, last: int, count: int) -> None:
        """Note that this merge appended `count` records, which it knows, up to number `last`."""
        if last == self._last + count:
            self._last = last

    def know(self, record: Record) -> bool:
        """Take note of a record; return False if it was known."""
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
        """Tell whether a session is there, or was there."""
        return session in self._sessions or session in self.deleted

    def holds_any(self, sessions: Iterable[str]) -> bool:
        """Tell whether one of these sessions is there."""
        return not self._sessions.isdisjoint(sessions)

    def has_deleted_name(self, record: Record) -> bool:
        """Tell whether the experiment or model a record is about was deleted after it."""
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
