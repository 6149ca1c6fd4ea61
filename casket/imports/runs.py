"""Runs of other trackers, and the records they become.

An importer reads its source into `Run`s; this module turns them into records, always the same
ones. A session's id follows from what tells the run from others, a record's identity from what
it says: `writer` from the session, `n` from a hash of the body, of the time if the source tells
one, and of how many equal ones came before. So importing is merging
(`casket.maintenance.merging`): a second import finds everything there, and of a source that has
grown only what is new is added. An epoch
to which the source has added a metric comes again, whole, and is the latest of its number.

A run's name becomes the model, what the source groups runs by the experiment. What the source
tells of the run itself stands in `meta["imported"]`.

A run that the source says is running gets no end and no claim on its params: it reads `running`
until it has been silent for a day, then `killed`, as any session of another host does. Where a
source tells no status at all, the run is taken to be completed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson

from casket.errors import CasketError, StoreUnavailable, UnstorableValue
from casket.format.artifacts import ArtifactFolder
from casket.format.records import FORMAT_VERSION, Record, claim_key
from casket.format.values import Encoder, is_plain
from casket.imports.report import Report

Status = Literal["completed", "failed", "killed"]


class Entry(NamedTuple):
    """An epoch, batch or result.

    Attributes:
        kind: which of them.
        numbers: what numbers it, as in the body of a record: `epoch_num`, or `batch_num` and
            `epoch`, or `index`.
        values: metrics by name.
        time: when it was logged; None if the source does not tell.
    """

    kind: Literal["epoch", "batch", "result"]
    numbers: dict[str, Any]
    values: dict[str, Any]
    time: datetime | None = None


@dataclass
class Run:
    """A run as a source tells it.

    Attributes:
        facts: JSON values that tell it from every other run of such a source, wherever the source
            is kept.
        name: what becomes the model.
        experiment: what the source groups it by.
        started: when it began, or, if the source does not tell, the time of its file.
        ended: when it ended, if the source tells.
        status: how it ended; None: it is running.
        told: the status in the source's own word; None if it tells none.
        error: what ended a failed run.
        meta: facts about it, under the names casket uses where it has one.
        note: what somebody wrote about it.
        artifacts: its files, by name.
    """

    facts: list[Any]
    name: str
    experiment: str
    started: datetime
    ended: datetime | None = None
    status: Status | None = "completed"
    told: str | None = None
    error: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    note: str = ""
    entries: list[Entry] = field(default_factory=list)
    artifacts: dict[str, Path] = field(default_factory=dict)


class Point(NamedTuple):
    """One value of one metric."""

    name: str
    step: int
    value: Any
    time: datetime | None = None


def by_step(points: Iterable[Point]) -> list[Entry]:
    """Group points into an epoch for each step, in the order the steps were first logged.

    A metric that was logged again at a step begins another epoch of that number.
    """
    entries: list[Entry] = []
    places: dict[int, int] = {}
    for point in points:
        place = places.get(point.step)
        if place is None or point.name in entries[place].values:
            places[point.step] = place = len(entries)
            entries.append(Entry("epoch", {"epoch_num": point.step}, {}, point.time))
        entry = entries[place]
        entry.values[point.name] = point.value
        if point.time is not None and (entry.time is None or point.time > entry.time):
            entries[place] = entry._replace(time=point.time)
    return entries


class Names(NamedTuple):
    """What the user wants the runs to be filed under; None: what the source says."""

    experiment: str | None = None
    model: str | None = None


class Known:
    """What of experiments, models and sessions is in the target already.

    Args:
        records: its records of kind `experiment`, `model` and `session`.

    Attributes:
        heads: experiments (with None), and their models.
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
    """Turns the runs of one source into records.

    Args:
        source: the kind of source.
        names: what the user wants them to be filed under. It is part of a session's identity: the
            same run may be imported under another name.
        files: where artifacts go; None: they are not brought over.
        known: what is in the target already: a run that is there goes on where it is, even if a
            part of the source, which would be named otherwise, is imported now.
        report: what could not be brought over is noted there.
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
        """Yield the records of a run, its experiment's and its model's before them."""
        session = _digest([self._source, run.facts, *self._names])
        named = (self._names.experiment or run.experiment, self._names.model or run.name)
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
        meta, is_meta_extended = self._encoded(run.meta, f"{run.name}, meta")
        # Not the name, nor the claim that is made of it: a run of TensorBoard has another one if
        # a part of the tree is imported.
        facts = [params, meta, run.told, run.status]
        imported = {"from": self._source, "name": run.name, "status": run.told}
        fields: dict[str, Any] = _mark(is_extended or is_meta_extended)
        if run.status == "completed":
            fields["claim"] = claim_key(maker.owner["experiment"], maker.owner["model"], params)
        body = {
            "params": params,
            "meta": {**meta, "imported": imported},
            "process": {},
            # If the run has grown when it is imported again, the start with more entries counts.
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
        # If the run has grown when it is imported again, the end with more entries counts.
        body: dict[str, Any] = {
            "status": run.status,
            "of": maker.writer,
            "entries": len(run.entries),
        }
        if run.error is not None:
            body["error"] = run.error
        return maker.session_record("end", body, time)

    def _encoded(self, values: dict[str, Any], what: str) -> tuple[dict[str, Any], bool]:
        """Encode what can be stored, and note what cannot."""
        if is_plain(values):
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
    """Makes the records of one writer, each with an identity that follows from what it says."""

    def __init__(self, source: str, session: str, owner: dict[str, str]) -> None:
        self.owner = owner
        self.writer = f"{source}-{session}"
        self._session = session
        self._made: Counter[str] = Counter()

    def session_record(
        self, kind: str, body: dict[str, Any], time: datetime, facts: Any = None, **fields: Any
    ) -> Record:
        """Make a record of the session.

        Args:
            kind: its kind.
            body: its body.
            time: its time.
            facts: what it is told by; the body, if nothing is said.
            fields: more of its fields.
        """
        return self.record(kind, body, time, facts, session=self._session, **fields)

    def record(
        self, kind: str, body: dict[str, Any], time: datetime, facts: Any = None, **fields: Any
    ) -> Record:
        """Make a record of no session."""
        digest = _digest([kind, body if facts is None else facts])
        self._made[digest] += 1
        return {
            "kind": kind,
            "v": FORMAT_VERSION,
            **self.owner,  # type: ignore[typeddict-item]  # experiment, model
            **fields,  # model, session, claim, extended
            "writer": self.writer,
            # 52 bits, which every reader of JSON keeps.
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
