"""The background work that belongs to a session, from its start to its end."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock
from time import monotonic
from typing import Protocol

from casket.errors import CasketError
from casket.format.records import Record
from casket.writing.capture.choices import Part, Plan
from casket.writing.capture.collecting import collect
from casket.writing.log import SessionLog

PATIENCE = 0.5
"""How many seconds the end of a session waits for what is being collected."""

LONGEST_WRITE = 10.0
"""How many seconds the end of a session waits for a thread that writes."""

Missing = dict[str, str]
"""Why something was not recorded, by its name."""


class Recorded(Protocol):
    """A kind of background work."""

    def end(self, patience: float) -> Missing:
        """End the work within some seconds; return what is missing, and why."""


class Recording:
    """What a session records besides what its script logs. Nothing here may fail the run.

    Args:
        log: the log of the session, which has started.
        plan: what to record.
    """

    def __init__(self, log: SessionLog, plan: Plan) -> None:
        self._log = log
        self._missing: Missing = {}
        self._works = list(self._begun(plan))

    def _begun(self, plan: Plan) -> Iterator[Recorded]:
        if plan.collected:
            yield _Code(self._log, plan.collected)
        if "output" in plan.parts:
            from casket.writing.capture.transcript import OutputNotCaptured, Transcript

            try:
                yield Transcript(self._log)
            except (OutputNotCaptured, RuntimeError) as error:
                self._missing["output"] = str(error)
        if plan.interval is not None:
            from casket.writing.capture.system import SystemMetrics

            yield SystemMetrics(self._log, plan.interval)

    def end(self) -> None:
        """Write what has been collected, and into the session's meta what is missing.

        Raises:
            StoreUnavailable: the store cannot be written.
        """
        deadline = monotonic() + PATIENCE
        for work in reversed(self._works):
            self._missing |= work.end(max(deadline - monotonic(), 0.0))
        if self._missing:
            self._log.write("meta", {"capture": self._missing})


def collected_records(log: SessionLog, plan: Plan) -> list[Record]:
    """Return the records of the code and packages for a session that is written at once."""
    collection = collect(log.backend.files, plan.collected)
    is_whole = collection.wait(PATIENCE)
    records = [log.record("artifact", body) for body in list(collection.artifacts.values())]
    missing = collection.problems if is_whole else _late(plan.collected)
    return [*records, *([log.record("meta", {"capture": missing})] if missing else [])]


def _late(parts: tuple[Part, ...]) -> Missing:
    return dict.fromkeys(map(str, parts), f"not collected within {PATIENCE} s of the end")


class _Code:
    """The code and packages, written as soon as they are collected."""

    def __init__(self, log: SessionLog, parts: tuple[Part, ...]) -> None:
        self._log = log
        self._parts = parts
        self._lock = Lock()
        self._is_over = False
        self._failure: Missing = {}
        self._collection = collect(log.backend.files, parts)
        self._collection.then(self._write)

    def _write(self) -> None:
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
            artifacts = self._collection.artifacts
            try:
                if artifacts:
                    self._log.append([self._log.record("artifact", artifacts[part])
                                      for part in self._parts if part in artifacts])  # fmt: skip
            except CasketError as error:
                self._failure = {part: str(error) for part in artifacts}

    def end(self, patience: float) -> Missing:
        if self._collection.wait(patience, self._write):
            self._write()
        if not self._lock.acquire(timeout=LONGEST_WRITE):
            return _late(self._parts)
        is_late, self._is_over = not self._is_over, True
        self._lock.release()
        return _late(self._parts) if is_late else self._collection.problems | self._failure
