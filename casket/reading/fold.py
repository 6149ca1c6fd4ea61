"""Folding records into experiments, models and sessions.

`Fold` is pure: it consumes records in order and keeps the resulting state. All readers
(`casket.open`, pandas, the command line, the dashboard) use the views it creates.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from casket.errors import CasketWarning
from casket.format.artifacts import ArtifactFolder
from casket.format.intact import DAMAGED, check, described
from casket.format.records import FORMAT_VERSION, KINDS, Record, Seen, covering
from casket.reading.family import Family
from casket.reading.rows import NUMBERS, Kind, name_unreadable
from casket.reading.views import ExperimentView, ModelView, SessionView

if TYPE_CHECKING:
    from casket.stores.base import Numbered

AT_ONCE = 200
"""Records added per call: epochs of the same session cost less than half as much in bulk."""


def in_chunks(records: Iterable[Numbered]) -> Iterator[list[Numbered]]:
    """Yield numbered records in chunks of a size that is efficient for `Fold.add`.

    Resume after the last number only once all chunks have been added, because the records of a
    nested document share a number.
    """
    following = iter(records)
    while chunk := list(islice(following, AT_ONCE)):
        yield chunk


class Fold:
    """The experiments, models and sessions described by a sequence of records.

    Args:
        files: the artifact folder.
    """

    def __init__(self, files: ArtifactFolder) -> None:
        self.experiments: dict[str, ExperimentView] = {}
        self.models: dict[tuple[str, str], ModelView] = {}
        self.sessions: Family[SessionView] = Family()
        self._files = files
        self._seen: dict[str, Seen] = {}
        self._waiting: defaultdict[tuple[str, Kind], list[Record]] = defaultdict(list)
        self._newer: set[str] = set()
        # The sessions with new records since the last `settle`, and those that may continue.
        self._touched: dict[str, SessionView] = {}
        self._open: dict[str, SessionView] = {}

    def add(self, records: Iterable[Record]) -> list[Record]:
        """Add the next records; return the ones not seen before."""
        new = []
        for record in records:
            try:
                writer, kind = record["writer"], record["kind"]
                seen = self._seen.get(writer)
                if seen is None:
                    seen = self._seen[writer] = Seen()
                if not seen.add(record["n"]):
                    continue
                new.append(record)
                if kind in NUMBERS and "session" in record and record["v"] <= FORMAT_VERSION:
                    self._waiting[record["session"], kind].append(record)
                else:
                    self._add_one(record)
            except DAMAGED as error:
                name_unreadable(record, described(error))
        self._add_waiting()
        return new

    def _add_one(self, record: Record) -> None:
        kind = record["kind"]
        if record["v"] > FORMAT_VERSION or kind not in KINDS:
            self._name_newer(record)
            return
        check(record)
        if kind == "deleted":
            self._add_waiting()
            self._add_deleted(record)
        elif "session" in record:
            if record["session"] not in self.sessions:
                self._add_waiting()
            self._session_of(record).add(record)
        else:
            getattr(self, f"_add_{kind}")(record)

    def _add_waiting(self) -> None:
        """Add the pending epochs, batches and results in bulk."""
        while self._waiting:
            first = next(iter(self._waiting))
            records = self._waiting.pop(first)
            self._session_of(records[0]).add_logged(first[1], records)

    def has(self, record: Record) -> bool:
        """Return whether a record has been added."""
        seen = self._seen.get(record["writer"])
        return seen is not None and record["n"] in seen

    def find_gone(self) -> dict[str, list[str]]:
        """Check the processes of the sessions without an end.

        Returns:
            The writers whose process has exited, by session. Read the store to its end before
            passing them to `settle`: the writers may have appended records before they exited.
        """
        gone_by_session: dict[str, list[str]] = {}
        for key, view in {**self._open, **self._touched}.items():
            if gone := view.find_gone():
                gone_by_session[key] = gone
        return gone_by_session

    def settle(self, gone: Mapping[str, list[str]]) -> None:
        """Record that the store has been read to its end after these writers had exited."""
        for key, view in {
            **self._touched,
            **{key: self.sessions[key] for key in gone if key in self.sessions},
        }.items():
            view.settle(gone.get(key, ()))
            self._open[key] = view
        self._open = {
            key: view
            for key, view in self._open.items()
            if view.may_end and self.sessions.get(key) is view
        }
        self._touched = {}

    def _session_of(self, record: Record) -> SessionView:
        view = self.sessions.get(record["session"]) or self._new_session(record)
        self._touched[view.id] = view
        return view

    def _new_session(self, record: Record) -> SessionView:
        experiment = record.get("experiment", "")
        model = self.models.get((experiment, record.get("model", "")))
        owner = self.experiments.get(experiment)
        session = SessionView(record, model, owner, self._files, self.sessions)
        self.sessions[session.id] = session
        return session

    def _add_experiment(self, record: Record) -> None:
        view = self.experiments.setdefault(record["experiment"], ExperimentView(record))
        view.add(record, self._files)

    def _add_model(self, record: Record) -> None:
        key = (record["experiment"], record["model"])
        if key in self.models:
            self.models[key].add(record, self._files)
        else:
            self.models[key] = ModelView(record, self._files)

    def _add_tag(self, record: Record) -> None:
        view = self.experiments.get(record["experiment"])
        if view is not None:
            view.annotate(record)

    def _add_deleted(self, tombstone: Record) -> None:
        is_covered = covering(tombstone)
        kinds: tuple[dict[Any, Any], ...] = (self.experiments, self.models, self.sessions)
        for views in kinds:
            for key, view in list(views.items()):
                if is_covered(_owner(view)):
                    del views[key]

    def _name_newer(self, record: Record) -> None:
        """Warn of a record that needs a newer casket, once per version or kind."""
        version, kind = record["v"], record["kind"]
        newer = f"format version {version}" if version > FORMAT_VERSION else f"kind {kind!r}"
        if newer not in self._newer:
            self._newer.add(newer)
            warnings.warn(
                f"records of {newer}, such as {record['writer']}:{record['n']} of kind {kind!r}, "
                f"were written by a newer casket than this one (format version "
                f"{FORMAT_VERSION}) and are not shown; they stay in the store: "
                "pip install -U casket",
                CasketWarning,
                stacklevel=2,
            )


def _owner(view: ExperimentView | ModelView | SessionView) -> Any:
    """Return the owner fields of the records of an experiment, model or session."""
    if isinstance(view, ExperimentView):
        return {"experiment": view.id}
    if isinstance(view, ModelView):
        return {"experiment": view.experiment, "model": view.id}
    return {"experiment": view.experiment, "model": view.model, "session": view.id}
