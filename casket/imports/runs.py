"""Runs of other trackers and their conversion into records.

An importer reads its source into `Run`s; this module converts them into records
deterministically. A session's id follows from the identifying facts of the run, and a record's
identity from its content: `writer` from the session, `n` from a hash of the body, of the time if
the source has it, and of the number of equal records before. Importing is therefore merging
(`casket.maintenance.merging`): a second import adds nothing, and if the source has grown, only the
new records are added. An epoch to which the source has added a metric is added again as a whole and
becomes the latest record of its number.

A run's name becomes the model, and the source's grouping of runs the experiment. The source's facts
about the run are stored in `meta["imported"]`.

A run with the status running gets no end and no claim on its params: its status is `running` until
it has been silent for a day, then `killed`, like any session of another host. If a source has no
status, the run counts as completed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson

from casket.errors import CasketError, StoreUnavailable, UnstorableValue
from casket.format.artifacts import ArtifactFolder
from casket.format.records import FORMAT_VERSION, Record, claim_key
from casket.format.values import Encoder, plain_json
from casket.imports.report import Report
from casket.system.secrets import redact

Status = Literal["completed", "failed", "killed"]


class Entry(NamedTuple):
    """An epoch, batch or result.

    Attributes:
        kind: the kind of record.
        numbers: its numbering, as in the body of a record: `epoch_num`, or `batch_num` and
            `epoch`, or `index`.
        values: metrics by name.
        time: the time it was logged; None if unknown.
    """

    kind: Literal["epoch", "batch", "result"]
    numbers: dict[str, Any]
    values: dict[str, Any]
    time: datetime | None = None


@dataclass
class Run:
    """A run read from a source.

    Attributes:
        facts: JSON values that identify the run among all runs of such sources, independent of the
            source's location.
        name: the name of the run, which becomes the model.
        is_named: whether its user or tracker gave it this name, which then is the session's, too.
        experiment: the group of the run in the source.
        started: the start time, or the modification time of the file if unknown.
        ended: the end time, if known.
        status: the final status; None if the run is running.
        source_status: the status as spelled in the source; None if it has no status.
        error: the error that ended a failed run.
        meta: facts about the run, under casket's names where they exist.
        note: the user's note.
        parent: the identifying facts of the run that it is a child of, if any.
        forked_from: the identifying facts of the run that it was started from, if any.
        artifacts: the files of the run by name.
        folder: the folder of its log, below which a job of Hydra may have run.
    """

    facts: list[Any]
    name: str
    experiment: str
    started: datetime
    is_named: bool = False
    ended: datetime | None = None
    status: Status | None = "completed"
    source_status: str | None = None
    error: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    note: str = ""
    parent: list[Any] | None = None
    forked_from: list[Any] | None = None
    entries: list[Entry] = field(default_factory=list)
    artifacts: dict[str, Path] = field(default_factory=dict)
    folder: Path | None = None


class Point(NamedTuple):
    """A single value of a metric."""

    name: str
    step: int
    value: Any
    time: datetime | None = None


TOGETHER = timedelta(seconds=1)
"""Maximum difference between the times of values in the same epoch or result."""


def by_step(points: Iterable[Point]) -> list[Entry]:
    """Group points into epochs by step, in the order in which the steps were first logged.

    A metric that is logged again at the same step, or at another time, starts another epoch with
    that number, because all values of an epoch have the same time.
    """
    epochs: dict[int, Entry] = {}
    entries: list[Entry] = []
    for point in points:
        epoch = epochs.get(point.step)
        if epoch is None or not _belongs(point, epoch):
            epoch = Entry("epoch", {"epoch_num": point.step}, {}, point.time)
            epochs[point.step] = epoch
            entries.append(epoch)
        epoch.values[point.name] = point.value
    return entries


def as_results(points: Iterable[Point], index: str | None = None) -> list[Entry]:
    """Group points without steps into results, one for each time."""
    entries: list[Entry] = []
    for point in points:
        if not entries or not _belongs(point, entries[-1]):
            entries.append(Entry("result", {"index": index}, {}, point.time))
        entries[-1].values[point.name] = point.value
    return entries


def _belongs(point: Point, entry: Entry) -> bool:
    if point.name in entry.values:
        return False
    if point.time is None or entry.time is None:
        return point.time is None
    return abs(point.time - entry.time) < TOGETHER


class Names(NamedTuple):
    """The experiment and model chosen by the user; None to take them from the source."""

    experiment: str | None = None
    model: str | None = None


class Known:
    """The experiments, models and sessions that the target already has.

    Args:
        records: the target's records of kind `experiment`, `model` and `session`.

    Attributes:
        heads: pairs of experiment and model, with the model None for the experiment itself.
        sessions: the experiment and the model of each session.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.heads: set[tuple[str, str | None]] = set()
        self.sessions: dict[str, tuple[str, str]] = {}
        for record in records:
            experiment, model = record["experiment"], record.get("model")
            if "session" in record:
                self.sessions.setdefault(record["session"], (experiment, model or ""))
            else:
                self.heads.add((experiment, model))


class Translator:
    """Converts the runs of a source into records.

    Args:
        source: the kind of source.
        names: the experiment and model chosen by the user. They are part of a session's identity,
            so that the same run can be imported again under another name.
        files: the destination of artifacts; None to skip them.
        known: the records in the target. A run that is already there is continued in place, even if
            it would be named differently because only a part of the source is imported.
        report: receives the problems.
    """

    def __init__(
        self,
        source: str,
        names: Names,
        files: ArtifactFolder | None,
        known: Known,
        report: Report,
    ) -> None:
        self._source = source
        self._names = names
        self._files = files
        self._known = known
        self._report = report

    def records(self, run: Run) -> Iterator[Record]:
        """Yield the records of a run, preceded by those of its experiment and model."""
        session = self._session_id(run.facts)
        experiment, model = self._names
        named = (
            run.experiment if experiment is None else experiment,
            run.name if model is None else model,
        )
        experiment, model = self._known.sessions.get(session, named)
        yield from self._new_heads(experiment, model, run.started)
        maker = _Maker(self._source, session, {"experiment": experiment, "model": model})
        yield self._start(maker, run)
        last = run.started
        for entry in run.entries:
            last = max(last, entry.time or last)
            yield from self._entry(maker, entry, last)
        if run.tags or run.note:
            body = {"add": run.tags, **({"note": run.note} if run.note else {})}
            yield maker.session_record("tag", body, last)
        yield from self._artifacts(maker, run, run.ended or last)
        if run.status is not None:
            yield self._end(maker, run, max(last, run.ended or last))

    def _session_id(self, facts: list[Any]) -> str:
        return _digest([self._source, facts, *self._names])

    def _new_heads(self, experiment: str, model: str, time: datetime) -> Iterator[Record]:
        maker = _Maker(self._source, _digest([experiment]), {"experiment": experiment})
        heads = self._known.heads
        if (experiment, None) not in heads:
            heads.add((experiment, None))
            claim = claim_key(experiment, "", None)
            yield maker.record("experiment", {"tags": [], "facts": {}}, time, claim=claim)
        if (experiment, model) not in heads:
            heads.add((experiment, model))
            yield maker.record("model", {"config": {}}, time, [model], model=model)

    def _start(self, maker: _Maker, run: Run) -> Record:
        params, is_extended = self._encoded(run.params, f"{run.name}, params")
        facts_of_run = dict(run.meta)
        if run.forked_from is not None:
            facts_of_run["forked_from"] = self._session_id(run.forked_from)
        parent = None if run.parent is None else self._session_id(run.parent)
        if isinstance(run.meta.get("command"), str):
            facts_of_run["command"] = redact(run.meta["command"])
        meta, is_meta_extended = self._encoded(facts_of_run, f"{run.name}, meta")
        # Without the name and the claim derived from it, because the name of a TensorBoard run
        # depends on the part of the tree that is imported.
        facts = [params, meta, run.source_status, run.status, *([parent] if parent else [])]
        imported = {"from": self._source, "name": run.name, "status": run.source_status}
        fields: dict[str, Any] = _mark(is_extended or is_meta_extended)
        if run.status == "completed":
            owner = maker.owner["experiment"], maker.owner["model"]
            fields["claim"] = claim_key(*owner, params, parent)
        body = {
            "params": params,
            "meta": {**meta, "imported": imported},
            "process": {},
            **({"name": run.name} if run.is_named else {}),
            **({"parent": parent} if parent else {}),
            # If the run has grown since the last import, the start with more entries takes effect.
            "entries": len(run.entries) + len(run.params),
        }
        return maker.session_record("session", body, run.started, facts, **fields)

    def _entry(self, maker: _Maker, entry: Entry, time: datetime) -> Iterator[Record]:
        result, is_extended = self._encoded(entry.values, f"{maker.owner['model']}, {entry.kind}")
        body: dict[str, Any] = {**entry.numbers, "result": result}
        if entry.time is None:
            body["timestamp"] = False
        facts = [body, None if entry.time is None else _text(entry.time)]
        yield maker.session_record(
            entry.kind, body, entry.time or time, facts, **_mark(is_extended)
        )

    def _artifacts(self, maker: _Maker, run: Run, time: datetime) -> Iterator[Record]:
        if self._files is None:
            self._report.leave_out("artifacts", len(run.artifacts))
            return
        for name, path in run.artifacts.items():
            try:
                with path.open("rb"):
                    body = self._files.put(name, path)
            except (OSError, UnstorableValue) as error:
                if isinstance(error, StoreUnavailable):
                    raise
                self._report.problem(f"{run.name}, artifact {name}", error)
            else:
                yield maker.session_record("artifact", body, time)

    def _end(self, maker: _Maker, run: Run, time: datetime) -> Record:
        # If the run has grown since the last import, the end with more entries takes effect.
        body: dict[str, Any] = {
            "status": run.status,
            "of": maker.writer,
            "entries": len(run.entries),
        }
        if run.error is not None:
            body["error"] = redact(run.error)
        return maker.session_record("end", body, time)

    def _encoded(self, values: dict[str, Any], what: str) -> tuple[dict[str, Any], bool]:
        """Encode the storable values and report the others."""
        if plain_json(values) is not None:
            return values, False
        encoder = Encoder()
        encoded: dict[str, Any] = {}
        for name, value in values.items():
            try:
                encoded |= encoder.mapping({name: value}, what)
            except CasketError as error:
                self._report.problem(f"{what}: {name}", error)
        return encoded, encoder.extended


class _Maker:
    """Creates the records of a writer, each with an identity derived from its content."""

    def __init__(self, source: str, session: str, owner: dict[str, str]) -> None:
        self.owner = owner
        self.writer = f"{source}-{session}"
        self._session = session
        self._made: Counter[str] = Counter()

    def session_record(
        self, kind: str, body: dict[str, Any], time: datetime, facts: Any = None, **fields: Any
    ) -> Record:
        """Create a record of the session.

        Args:
            kind: the kind of record.
            body: the body of the record.
            time: the time of the record.
            facts: the values that identify it; by default, the body.
            fields: additional fields.
        """
        return self.record(kind, body, time, facts, session=self._session, **fields)

    def record(
        self, kind: str, body: dict[str, Any], time: datetime, facts: Any = None, **fields: Any
    ) -> Record:
        """Create a record without a session."""
        digest = _digest([kind, body if facts is None else facts])
        self._made[digest] += 1
        return {
            "kind": kind,
            "v": FORMAT_VERSION,
            **self.owner,  # type: ignore[typeddict-item]  # experiment, model
            **fields,  # model, session, claim, extended
            "writer": self.writer,
            # 52 bits, which every JSON reader preserves.
            "n": int(_digest([digest, self._made[digest]])[:13], 16) + 1,
            "time": _text(time),
            "body": body,
        }


def _mark(is_extended: bool) -> dict[str, bool]:
    return {"extended": True} if is_extended else {}


def _text(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _digest(facts: Any) -> str:
    text = orjson.dumps(Encoder().encode(facts, ""), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:16]
