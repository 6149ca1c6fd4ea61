"""Removal of sessions, empty models and experiments, and unreferenced files from a store.

Other processes may keep writing. A deletion lists the ids of the sessions it removes
(`deletion(only_named=True)`), so that sessions started after the list was made are kept. An
artifact is written before the record that references it; an unreferenced file is therefore removed
only if no writer can be about to reference it (`Cleaner`).
"""

from __future__ import annotations

import contextlib
import glob
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from casket.format.files import HASH, StoredFile
from casket.format.intact import is_intact
from casket.format.records import FORMAT_VERSION, KINDS, Record, Writer, deletion
from casket.format.references import Identity, files_of, freed_by, identity_of
from casket.reading.fold import Fold
from casket.reading.reader import Reader
from casket.reading.views import SessionView, Status
from casket.stores.base import Store, StoreOptions
from casket.stores.location import Location

YOUNG = timedelta(hours=1)
"""The minimum age for removing unreferenced or unused data while a session may be running."""

SETTLING = timedelta(seconds=2)
"""The time to wait after a file was modified before checking whether it is referenced."""

ModelKey = tuple[str, str]
"""The ids of an experiment and of its model."""
Owner = str | tuple[str | None, str | None]
"""The owner of a record: a session's id, an experiment and a model, or an experiment and None."""

Reference = tuple[Owner, str, Identity | None]
"""The owner of a record that refers to a file, its time, and its identity; None if unknown."""

_SOMEBODY: Owner = (None, None)
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Removal(NamedTuple):
    """The data to remove; falsy if there is none.

    Attributes:
        sessions: the ids of the sessions, with their status at the time of planning.
        models: the models; their sessions to remove are in `sessions`.
        experiments: the ids of the experiments; their models are in `models`.
        files: the names of the files in the artifact folder that will no longer be referenced.
        old: the identities of the records of artifacts whose name was used again, with their
            sessions.
    """

    sessions: dict[str, Status] = {}  # noqa: RUF012 - a NamedTuple's default, never changed
    models: frozenset[ModelKey] = frozenset()
    experiments: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    old: dict[Identity, str] = {}  # noqa: RUF012

    def __bool__(self) -> bool:
        return any(self)


class Cleaner:
    """Finds removable data in a store and removes it.

    An unreferenced file may be referenced soon: its writer has stored it and is about to append
    the record. Such a writer has a running session and has touched the file. A file is therefore
    removed immediately if no session may be running, or if it is referenced by the removed data
    and has not been modified since; otherwise it is removed after an hour. If a file was modified
    within the last two seconds, the cleaner waits and reads the records appended in the meantime.

    Args:
        location: the location of the store.

    Raises:
        NotFound: the store does not exist.
        NotACasketFile: the file has another format.
        StoreUnavailable: the store cannot be read.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self._reading = location.open(StoreOptions(), writing=False)
        self._folder = location.artifacts()
        self._reader = Reader(self._reading, lambda: Fold(self._folder))
        self._files = self._folder.stored
        self._used: dict[Owner, str] = {}
        self._names: dict[str, list[Reference]] = {}
        self._freed: set[Identity] = set()
        self.look()

    def look(self) -> None:
        """Read the records appended since the last call."""
        for record in self._reader.read_on():
            self._note(record)

    @property
    def _fold(self) -> Fold:
        return self._reader.fold

    def _note(self, record: Record) -> None:
        is_readable = is_intact(record)
        if not is_readable or record["v"] > FORMAT_VERSION or record["kind"] not in KINDS:
            # All hashes in a damaged record or one of unknown kind count as references.
            for digest in _DIGEST.findall(str(record)):
                reference = (_SOMEBODY, str(record.get("time")), None)
                self._names.setdefault(digest, []).append(reference)
        if not is_readable:
            return
        owner = _owner(record)
        self._used[owner] = max(str(record["time"]), self._used.get(owner, ""))
        for file in files_of(record):
            self._names.setdefault(file, []).append((owner, record["time"], identity_of(record)))
        self._freed.update(freed_by(record))

    @property
    def sessions(self) -> list[SessionView]:
        """The sessions in the store, in order of their start."""
        return list(self._fold.sessions.values())

    @property
    def models(self) -> list[ModelKey]:
        """The models in the store, including models known only from their sessions."""
        owners = [(view.experiment, view.model) for view in self.sessions]
        return list(dict.fromkeys([*self._fold.models, *owners]))

    @property
    def experiments(self) -> list[str]:
        """The ids of the experiments in the store, including those known only from their models."""
        owners = [experiment for experiment, _ in self.models]
        return list(dict.fromkeys([*self._fold.experiments, *owners]))

    # Planning.

    def chosen(
        self,
        sessions: Callable[[SessionView], bool] = lambda _: False,
        models: Callable[[ModelKey], bool] = lambda _: False,
        experiments: Callable[[str], bool] = lambda _: False,
    ) -> Removal:
        """Return the removal of the selected data, including everything that belongs to it.

        The children of a session belong to it.
        """
        gone = {each for each in self.experiments if experiments(each)}
        keys = {key for key in self.models if key[0] in gone or models(key)}
        doomed = {
            each.id: each.status
            for view in self.sessions
            if sessions(view) or view.experiment in gone or (view.experiment, view.model) in keys
            for each in (view, *self._below(view.id))
        }
        return self._with_files(Removal(doomed, frozenset(keys), frozenset(gone)))

    def _below(self, session: str) -> list[SessionView]:
        """Return the children of a session, and theirs, which are removed with it."""
        return self._fold.sessions.descendants_of(session)

    def cleanable(
        self,
        *,
        statuses: frozenset[Status] = frozenset({"failed", "killed"}),
        empty: bool = True,
        files: bool = True,
        old_artifacts: bool = False,
        older_than: timedelta = timedelta(0),
    ) -> Removal:
        """Return the removal of data that is most likely unused.

        Args:
            statuses: remove sessions with these statuses, and their children. A session with a
                child that is running is kept.
            empty: remove models without sessions, and experiments without models and sessions,
                including those that become empty by this removal.
            files: remove files in the artifact folder that no record references.
            old_artifacts: remove the files of artifacts whose name was used again in their session,
                except for the last.
            older_than: remove only data that has not been written to for this long.
        """
        doomed: dict[str, Status] = {}
        for view in self.sessions:
            with_children = (view, *self._below(view.id))
            is_old = all(_since(each.last_seen) >= older_than for each in with_children)
            is_over = all(each.status != "running" for each in with_children)
            if view.status in statuses and is_old and is_over:
                doomed.update((each.id, each.status) for each in with_children)
        removal = Removal(doomed)
        if empty:
            removal = self._with_empty(removal, older_than)
        if old_artifacts:
            removal = removal._replace(old=self._old_artifacts(removal, older_than))
        removal = self._with_files(removal)
        if files:
            is_busy = self._is_busy(removal)
            unused = {
                file.name
                for file in self._unused(removal)
                if _age(file) >= older_than and self._may_go(file, is_busy)
            }
            removal = removal._replace(files=removal.files | unused)
        return removal

    def _old_artifacts(self, removal: Removal, older_than: timedelta) -> dict[Identity, str]:
        times = {each: time for names in self._names.values() for _, time, each in names}
        return {
            identity: view.id
            for view in self.sessions
            if view.id not in removal.sessions
            for identity in view.old_artifacts
            if _since(datetime.fromisoformat(times[identity])) >= older_than
        }

    def _with_empty(self, removal: Removal, older_than: timedelta) -> Removal:
        used = {
            (view.experiment, view.model)
            for view in self.sessions
            if view.id not in removal.sessions
        }
        least = max(older_than, YOUNG if self._is_busy(removal) else timedelta(0))
        models = {
            key for key in self._fold.models if key not in used and self._is_unused(key, least)
        }
        used |= {key for key in self._fold.models if key not in models}
        in_use = {experiment for experiment, _ in used}
        experiments = {
            each
            for each in self._fold.experiments
            if each not in in_use and self._is_unused((each, None), least)
        }
        return removal._replace(models=frozenset(models), experiments=frozenset(experiments))

    def _is_unused(self, owner: Owner, least: timedelta) -> bool:
        """Return whether the last record of a model or experiment itself is at least this old."""
        return _since(datetime.fromisoformat(self._used[owner])) >= least

    def _is_busy(self, removal: Removal) -> bool:
        """Return whether a session outside of the removal may be running."""
        return any(
            not view.is_surely_over for view in self.sessions if view.id not in removal.sessions
        )

    # Files.

    def size_of(self, removal: Removal) -> int:
        """Return the total size of the files of a removal in bytes."""
        if not removal.files:
            return 0
        return sum(file.size for file in self._files.listed() if file.name in removal.files)

    def _with_files(self, removal: Removal) -> Removal:
        """Add files referenced only by the data being removed."""
        is_free, is_free_already = self._after(removal), self._after(Removal())
        released = {file for file in self._names if is_free(file) and not is_free_already(file)}
        there = {file.name for file in self._files.listed()} if released else set()
        return removal._replace(files=frozenset(released & there))

    def _references_of(self, file: str) -> list[Reference]:
        return [*self._names.get(file, ()), *self._names.get(file[:HASH], ())]

    def _after(self, removal: Removal) -> Callable[[str], bool]:
        """Return a function that returns whether a file is unreferenced after a removal."""
        owners, freed = _owners(removal), self._freed.union(removal.old)

        def is_unreferenced(file: str) -> bool:
            return not any(
                identity not in freed and owner not in owners and self._is_there(owner)
                for owner, _, identity in self._references_of(file)
            )

        return is_unreferenced

    def _is_there(self, owner: Owner) -> bool:
        if isinstance(owner, str):
            return owner in self._fold.sessions
        experiment, model = owner
        if model is None:
            return owner == _SOMEBODY or experiment in self._fold.experiments
        return owner in self._fold.models

    def _unused(self, removal: Removal) -> Iterator[StoredFile]:
        """Yield files that are unreferenced or referenced only by the data being removed.

        Unfinished uploads and copies are among them.
        """
        is_unreferenced = self._after(removal)
        return (file for file in self._files.listed() if is_unreferenced(file.name))

    def _may_go(self, file: StoredFile, is_busy: bool) -> bool:
        """Return whether an unreferenced file is safe to delete."""
        times = [time for _, time, _ in self._references_of(file.name)]
        was_named_last = bool(times) and file.modified <= datetime.fromisoformat(max(times))
        return was_named_last or _age(file) >= YOUNG or not is_busy

    # Removing.

    def remove(self, removal: Removal) -> Removal:
        """Remove data, except sessions that were continued and data that was used since planning.

        Args:
            removal: the data to remove.

        Returns:
            The data that was removed.

        Raises:
            StoreUnavailable: the store or the files cannot be changed.
        """
        self.look()
        removal = self._narrowed(removal)
        if any(removal._replace(files=frozenset())):
            with closing(self.location.open(StoreOptions(), writing=True)) as store:
                self._remove_records(store, removal)
            self.look()
        return removal._replace(files=frozenset(self._remove_files(removal)))

    def _remove_records(self, store: Store, removal: Removal) -> None:
        if removal.old:
            store.append(list(self._freeing(removal.old)))
        if removal.sessions or removal.models or removal.experiments:
            tombstone = deletion(
                Writer(),
                sessions=removal.sessions,
                models=sorted(removal.models),
                experiments=sorted(removal.experiments),
                only_named=True,
            )
            store.prune(tombstone)

    def _freeing(self, old: dict[Identity, str]) -> Iterator[Record]:
        """Yield the records that free the files of old artifacts."""
        writer = Writer()
        freed: dict[str, list[Identity]] = {}
        for identity, session in old.items():
            freed.setdefault(session, []).append(identity)
        for session, identities in freed.items():
            view = self._fold.sessions[session]
            body = {"add": [], "remove": [], "freed": list(map(list, identities))}
            owner = {"experiment": view.experiment, "model": view.model, "session": session}
            yield writer.record("tag", body, **owner)

    def _narrowed(self, removal: Removal) -> Removal:
        sessions = {
            name: status
            for name, status in removal.sessions.items()
            if name in self._fold.sessions and self._fold.sessions[name].status == status
        }
        for name in list(sessions):
            if any(child.id not in sessions for child in self._below(name)):
                del sessions[name]  # a child was started or continued, which keeps its parents
        used = {(view.experiment, view.model) for view in self.sessions if view.id not in sessions}
        models = {key for key in removal.models if key in self._fold.models and key not in used}
        in_use = {key[0] for key in used | {key for key in self._fold.models if key not in models}}
        experiments = {
            each
            for each in removal.experiments
            if each in self._fold.experiments and each not in in_use
        }
        old = {each: owner for each, owner in removal.old.items() if owner in self._fold.sessions}
        return Removal(sessions, frozenset(models), frozenset(experiments), removal.files, old)

    def _remove_files(self, removal: Removal) -> Iterator[str]:
        self._wait_for_new(removal)
        self.look()
        is_busy = self._is_busy(removal)
        for file in list(self._unused(removal)):
            is_wanted = file.name in removal.files and self._may_go(file, is_busy)
            if is_wanted and self._files.delete(file.name, file.modified):
                yield file.name

    def _wait_for_new(self, removal: Removal) -> None:
        """Wait until files that were just stored are referenced, if they ever are."""
        chosen = [file for file in self._unused(removal) if file.name in removal.files]
        youngest = min(map(_age, chosen), default=SETTLING)
        time.sleep((SETTLING - min(youngest, SETTLING)).total_seconds())


def compact(location: Location) -> None:
    """Reduce the size of a store to a minimum; other processes may keep writing.

    A JSON file is rewritten with a record per line, and damaged parts are moved to `<file>.torn`.
    SQLite returns unused pages to the disk. Nothing that readers see is removed. Tombstones are
    kept, too, because they prevent deleted data from reappearing when files are merged.

    Args:
        location: the location of the store.

    Raises:
        NotFound: the store does not exist.
        NotACasketFile: the file has another format.
        StoreUnavailable: the store cannot be changed.
    """
    reading = location.open(StoreOptions(), writing=False)
    next(reading.records(kinds={"experiment"}), None)
    reading.close()
    store = location.open(StoreOptions(), writing=True)
    try:
        store.prune(deletion(Writer()))
    finally:
        store.close()


def size_of_store(location: Location) -> int:
    """Return the size of a store on disk in bytes, without its artifacts."""
    log = location.path.with_name(f"{location.path.name}-wal")
    files = (location.path, log, *location.path.with_name(f"{location.path.name}.parts").glob("*"))
    return sum(path.stat().st_size for path in files if path.is_file())


def rewritten(location: Location) -> int:
    """Return the number of bytes written so far by a rewrite of a JSON file."""
    sizes = [0]
    for path in location.path.parent.glob(f"{glob.escape(location.path.name)}.*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # it has just replaced the old file
            sizes.append(path.stat().st_size)
    return max(sizes)


def _owner(record: Record) -> Owner:
    return record.get("session") or (record.get("experiment"), record.get("model"))


def _owners(removal: Removal) -> set[Owner]:
    experiments: set[Owner] = {(each, None) for each in removal.experiments}
    return experiments | set(removal.sessions) | set(removal.models)


def _age(file: StoredFile) -> timedelta:
    return _since(file.modified)


def _since(timestamp: datetime) -> timedelta:
    """Return the time since a timestamp, or zero if another machine's clock is ahead."""
    return max(datetime.now(UTC) - timestamp, timedelta(0))
