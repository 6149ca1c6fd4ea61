"""The sessions of a model by their params, read incrementally, as often as a sweep needs.

Only starts and ends are read. The answers may be out of date by what other processes are writing
now, so that a start still asks the store, which decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import orjson

from casket.format.lifecycle import Life
from casket.format.records import Record, Seen, covering
from casket.reading.reader import Reader
from casket.stores.base import Store, says_whose
from casket.system import processes

State = Literal["free", "running", "completed"]


class Runs:
    """The sessions of an experiment, by the claim on their params.

    Args:
        store: the store.
        experiment: the id of the experiment.
    """

    def __init__(self, store: Store, experiment: str) -> None:
        kinds = {"session", "end", "deleted"}
        self._reader = Reader(store, _Lives, experiment=experiment, kinds=kinds)
        self._alive: dict[bytes, bool] = {}
        self._states: dict[str, State] = {}

    def read_on(self) -> None:
        """Read records appended since the last call."""
        before = self._reader.fold
        new = self._reader.read_on()
        if self._reader.fold is not before:  # the file was replaced
            self._states.clear()
        for record in new:
            if record["kind"] == "deleted":
                self._states.clear()
            for claim in self._reader.fold.claims[record.get("session")]:
                self._states.pop(claim, None)

    def look_again(self) -> None:
        """Read appended records, and check the processes of running sessions again."""
        self._alive.clear()
        self._states.clear()
        self.read_on()

    def state(self, claim: str) -> State:
        """Return the state of the params of a claim, as far as it was read."""
        if claim not in self._states:
            self._states[claim] = self._state(claim)
        return self._states[claim]

    def _state(self, claim: str) -> State:
        for life in self._lives(claim):
            if any(self._may_run(life.start_of(writer)) for writer in life.open_writers):
                return "running"
            if _is_completed(life):
                return "completed"
        return "free"

    def tries(self, claim: str, since: str) -> int:
        """Return how many sessions with the params of a claim failed or were killed.

        Args:
            claim: the claim.
            since: only sessions that started at this time or later are counted.
        """
        return sum(
            life.starts[0]["time"] >= since and self._has_failed(life)
            for life in self._lives(claim)
        )

    def running(self) -> Iterable[Record]:
        """Yield the starts of writers that may be running."""
        for life in self._reader.fold.by_session.values():
            for writer in life.open_writers:
                if self._may_run(life.start_of(writer)):
                    yield life.start_of(writer)

    def claims_of(self, is_own: Callable[[Record], bool]) -> list[str]:
        """Return the claims of the sessions whose first start meets a condition."""
        fold = self._reader.fold
        return [
            claim
            for claim, sessions in fold.by_claim.items()
            if any(is_own(fold.by_session[session].starts[0]) for session in sessions)
        ]

    def _lives(self, claim: str) -> list[Life]:
        fold = self._reader.fold
        return [fold.by_session[session] for session in fold.by_claim.get(claim, ())]

    def _has_failed(self, life: Life) -> bool:
        may_run = any(self._may_run(life.start_of(writer)) for writer in life.open_writers)
        return not may_run and not _is_completed(life)

    def _may_run(self, start: Record) -> bool:
        """Return whether a writer may be running, looking once at each process."""
        process = start["body"].get("process", {})
        key = orjson.dumps(process)
        if key not in self._alive:
            self._alive[key] = processes.is_alive(process) is not False
        return self._alive[key]


def _is_completed(life: Life) -> bool:
    end = life.last_end
    return end is not None and end["body"].get("status") == "completed"


class _Lives:
    """The starts and ends of each session, the sessions of each claim, and their claims."""

    def __init__(self) -> None:
        self.by_session: dict[str, Life] = {}
        self.by_claim: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self.claims: defaultdict[str | None, list[str]] = defaultdict(list)
        self._seen: defaultdict[str, Seen] = defaultdict(Seen)

    def add(self, records: Iterable[Record]) -> list[Record]:
        """Add the next records; return the ones not seen before."""
        new = [record for record in records if self._seen[record["writer"]].add(record["n"])]
        for record in new:
            if record["kind"] == "deleted":
                self._remove(record)
            elif says_whose(record):
                self._add(record)
        return new

    def has(self, record: Record) -> bool:
        """Return whether a record has been added."""
        return record["n"] in self._seen[record["writer"]]

    def find_gone(self) -> dict[str, list[str]]:
        """Return nothing: processes are looked at when a set of params is asked for."""
        return {}

    def settle(self, gone: Mapping[str, list[str]]) -> None:
        """Do nothing; see `find_gone`."""

    def _add(self, record: Record) -> None:
        session = record["session"]
        self.by_session.setdefault(session, Life()).add(record)
        if "claim" in record:
            self.by_claim[record["claim"]][session] = None
            self.claims[session].append(record["claim"])

    def _remove(self, tombstone: Record) -> None:
        is_covered = covering(tombstone)
        for session, life in list(self.by_session.items()):
            owner: Any = life.records[0]
            if is_covered(owner):
                del self.by_session[session]
                for sessions in self.by_claim.values():
                    sessions.pop(session, None)
