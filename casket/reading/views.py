"""What a reader sees: experiments, models and sessions, as their records add up to them."""

from __future__ import annotations

import copy
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, Literal

from casket.errors import NoSuchMetric
from casket.format import values
from casket.format.artifacts import Artifact, ArtifactFolder
from casket.format.lifecycle import Life
from casket.format.records import Record, is_counted, order_of
from casket.reading.lazydict import LazyDict
from casket.reading.rows import (
    NUMBERS,
    Kind,
    MetricLog,
    Mode,
    Rows,
    add_missing,
    best_of,
    is_number,
)
from casket.system import processes

Status = Literal["running", "completed", "failed", "killed"]

LATE_PROVENANCE = frozenset({"dirty"})
"""The facts about a start that its writer learns only after the start was written."""

SILENCE = timedelta(days=1)
"""After which a session of another host, which nobody can look at, reads as killed."""


class History:
    """Changes in the order of their records, whatever the order in which they are added."""

    __slots__ = ("_changes",)

    def __init__(self) -> None:
        self._changes: list[tuple[tuple[str, str, int], Any]] = []

    def __iter__(self) -> Iterator[Any]:
        return (change for _, change in self._changes)

    def add(self, record: Record, change: Any, began: str | None = None) -> None:
        """Add a change that a record of a writer makes, which began the session at a time."""
        insort(self._changes, (order_of(record, began), change), key=itemgetter(0))


class ExperimentView:
    """An experiment as read from a store.

    Attributes:
        id: its `exp_id`.
        created: when it was first used.
    """

    def __init__(self, record: Record) -> None:
        self.id = record["experiment"]
        self.created = parse_time(record["time"])
        self._changes = History()
        self._facts = History()

    def __repr__(self) -> str:
        return f"<experiment {self.id!r}>"

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags, in the order they were added."""
        return retagged((), self._changes)

    @property
    def note(self) -> str:
        """The note on it; empty if there is none."""
        return last_note(self._changes)

    @property
    def facts(self) -> dict[str, Any]:
        """The facts given to `Experiment.use`; of a name given again, the last."""
        return _merged(self._facts)

    def has_facts(self, facts: Mapping[str, Any]) -> bool:
        """Return whether facts, as they stand in a record, are among those it was last given."""
        stored = {name: value for each in self._facts for name, value in each.value.items()}
        return facts.items() <= stored.items()

    def add(self, record: Record, files: ArtifactFolder) -> None:
        """Add the record of a use."""
        facts = LazyDict.of(record, "facts", files)
        self._changes.add(record, {"add": record["body"]["tags"]})
        self._facts.add(record, facts)
        self.created = min(self.created, parse_time(record["time"]))

    def annotate(self, record: Record) -> None:
        """Add a record that changes tags or the note."""
        self._changes.add(record, record["body"])


class ModelView:
    """A model as read from a store.

    Attributes:
        id: its `model_id`.
        experiment: the id of its experiment.
        stored_config: the config that was read last, which is that of the sessions that follow.
    """

    def __init__(self, record: Record, files: ArtifactFolder) -> None:
        self.id = record["model"]
        self.experiment = record["experiment"]
        self._configs = History()
        self.add(record, files)

    def __repr__(self) -> str:
        return f"<model {self.id!r} of experiment {self.experiment!r}>"

    @property
    def config(self) -> dict[str, Any]:
        """Its `model_config`."""
        *_, latest = self._configs
        config: dict[str, Any] = latest.restored()
        return config

    def add(self, record: Record, files: ArtifactFolder) -> None:
        """Add the record of a config."""
        self.stored_config = LazyDict.of(record, "config", files)
        self._configs.add(record, self.stored_config)


class SessionView:
    """A session as read from a store.

    Attributes:
        id: 16 hexadecimal digits.
        experiment: the id of its experiment.
        model: the id of its model.
    """

    def __init__(
        self,
        record: Record,
        model: ModelView | None,
        experiment: ExperimentView | None,
        files: ArtifactFolder,
    ) -> None:
        nothing = LazyDict({}, False, files)
        self.id: str = record["session"]
        self.experiment = record.get("experiment", "")
        self.model = record.get("model", "")
        self._experiment = experiment
        self._files = files
        self._life = Life()
        self._first_time = self._last_time = record["time"]
        # Of each writer, the times of its first and its last record.
        self._times: dict[str, tuple[str, str]] = {}
        self._gone: set[str] = set()
        self._is_settled = False
        self._params = nothing
        self._config = model.stored_config if model else nothing
        self._metas = History()
        self._changes = History()
        self._artifacts = History()
        self._hidden_meta: Collection[str] = ()
        self._logged: dict[Kind, MetricLog] = {kind: MetricLog(kind, files) for kind in NUMBERS}
        self._last: tuple[int, dict[str, Any]] = (0, {})

    def __repr__(self) -> str:
        return f"<session {self.id} of {self.experiment}/{self.model}: {self.status}>"

    @property
    def params(self) -> dict[str, Any]:
        """The hyperparameters."""
        return self._params.restored()

    @property
    def config(self) -> dict[str, Any]:
        """The config its model had when the session began."""
        return self._config.restored()

    @property
    def meta(self) -> dict[str, Any]:
        """Where it came from (commit, host, pid, ...), and what `add_meta` added.

        Of a session that was continued, the first start; the later ones are in `starts`.
        """
        starts = [LazyDict.of(start, "meta", self._files) for start in self._life.starts]
        metas = {
            writer: stored.restored().copy()
            for writer, stored in zip(self._life.writers, starts, strict=True)
        }
        first: dict[str, Any] = next(iter(metas.values()), {})
        for writer, stored in self._metas:
            noted = stored.restored()
            own = metas.get(writer, first) if noted.keys() == LATE_PROVENANCE else first
            own.update(noted)
        if len(metas) > 1:
            first["starts"] = list(metas.values())[1:]
        return {name: value for name, value in first.items() if name not in self._hidden_meta}

    def without_meta(self, names: Collection[str]) -> SessionView:
        """Return it as it is now, with some names left out of its meta."""
        hiding = copy.copy(self)
        hiding._hidden_meta = names
        return hiding

    @property
    def started(self) -> datetime:
        """When it began."""
        starts = self._life.starts
        return parse_time(starts[0]["time"] if starts else self._first_time)

    @property
    def note(self) -> str:
        """The note on it; empty if there is none."""
        return last_note(self._changes)

    @property
    def status(self) -> Status:
        """The run status: that of the writer that began or continued the session last.

        A session without an end reads `running` while its process lives, `killed` once that is
        gone. Processes of other hosts cannot be looked at: then it reads `running` until its last
        record is a day old.
        """
        if any(map(self._may_run, self.open_writers)):
            return "running"
        end = self._life.last_end
        status: Status = end["body"]["status"] if end else "killed"
        return status

    @property
    def error(self) -> str | None:
        """Of a failed session, the exception: `ValueError: ...`."""
        end = self._life.last_end
        return end["body"].get("error") if end and self.status == "failed" else None

    def _may_run(self, writer: str) -> bool:
        """Return whether a writer without an end counts as running.

        Only once its process was seen to be gone and the store was read to the end afterwards
        (`settle`) is it known that it left no end.
        """
        if writer in self._gone:
            return False
        is_silent = self._is_settled and self.age >= SILENCE
        return not is_silent or processes.is_alive(self._process_of(writer)) is not None

    def _process_of(self, writer: str) -> dict[str, Any]:
        process: dict[str, Any] = self._life.start_of(writer)["body"].get("process", {})
        return process

    @property
    def is_surely_over(self) -> bool:
        """Whether every writer has ended, or its process is known to be gone."""
        return self._gone.issuperset(self.open_writers)

    @property
    def open_writers(self) -> list[str]:
        """The ids of the writers that began the session and wrote no end."""
        return self._life.open_writers

    @property
    def ended(self) -> datetime | None:
        """When it ended; of a killed session, the time of its last record; None while it runs."""
        if self.status == "running":
            return None
        end = self._life.last_end
        return self.last_seen if end is None or _is_afterthought(end) else parse_time(end["time"])

    @property
    def last_seen(self) -> datetime:
        """When its last record was logged; later tags and notes do not count."""
        return parse_time(self._last_time)

    @property
    def age(self) -> timedelta:
        """The time since its last record."""
        return datetime.now(UTC) - self.last_seen

    @property
    def duration(self) -> timedelta:
        """The time its writers were at work, added up; of those that still run, to now."""
        if not self._life.writers:
            return self.span
        return sum(map(self._time_at_work, self._life.writers), timedelta(0))

    @property
    def span(self) -> timedelta:
        """The time from its first start to its end; while it runs, to now."""
        return (self.ended or datetime.now(UTC)) - self.started

    def _time_at_work(self, writer: str) -> timedelta:
        began = parse_time(self._life.start_of(writer)["time"])
        end = self._life.end_of(writer)
        if end is not None and not _is_afterthought(end):
            return parse_time(end["time"]) - began
        if end is None and self._may_run(writer):
            return datetime.now(UTC) - began
        return parse_time(self._times[writer][1]) - began

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of its experiment and its own."""
        inherited = self._experiment.tags if self._experiment else ()
        return tuple(dict.fromkeys(inherited + retagged((), self._changes)))

    @property
    def epochs(self) -> Rows:
        """Every epoch logged: `{"epoch_num": n, **result, "timestamp": ...}`, in order."""
        return self._logged["epoch"].rows()

    @property
    def batches(self) -> Rows:
        """Every batch logged: `{"batch_num": n, "epoch": e, **result, "timestamp": ...}`."""
        return self._logged["batch"].rows()

    def results(self, index_by: Any = None) -> Rows:
        """Return the results logged under an index, in order; None: those without one."""
        logged = self._logged["result"]
        wanted = index_key(values.Encoder().encode(index_by, "index_by"))
        return Rows(
            result
            for index, result in zip(logged.numbers["index"], logged.results(), strict=False)
            if index_key(index) == wanted
        )

    @property
    def indexes(self) -> list[Any]:
        """The indexes results were logged under, in order of first use."""
        indexes = {index_key(index): index for index in self._logged["result"].numbers["index"]}
        return [index for index in indexes.values() if index is not None]

    def logged(self, kind: Kind) -> MetricLog:
        """Return all that was logged of a kind, by column."""
        return self._logged[kind]

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """The artifacts by name; of a name used again, the last."""
        return {artifact.name: artifact for artifact in self._artifacts}

    @property
    def last(self) -> Mapping[str, Any]:
        """The latest value of each metric, by flat name (`test.acc`).

        Of results without an index, over epochs, over batches, where a name is in several.
        """
        count = sum(map(len, self._logged.values()))
        if self._last[0] != count:
            self._last = (count, self._latest_values())
        return self._last[1]

    def _latest_values(self) -> dict[str, Any]:
        latest: dict[str, Any] = {}
        if self._logged["result"]:
            for result in reversed(self.results()):
                add_missing(latest, result)
        self._logged["epoch"].add_latest(latest)
        self._logged["batch"].add_latest(latest)
        return latest

    def best(self, metric: str, mode: Mode = "min") -> Any:
        """Return the lowest or highest value of a metric: over the epochs, else batches, results.

        `s.epochs.best(metric)` gives the whole epoch.

        Args:
            metric: its flat name, such as `loss` or `test.acc`.
            mode: `"min"` or `"max"`.

        Raises:
            NoSuchMetric: no number was logged under that name; it is a `KeyError`.
            BadLocation: there is no such mode.
        """
        for logged in (self._logged["epoch"], self._logged["batch"]):
            value = best_of(logged.values(metric), mode)
            if value is not None:
                return value
        value = best_of(self._unindexed(metric), mode)
        if value is not None:
            return value
        raise NoSuchMetric(metric, self.id, sorted(self.last))

    def _unindexed(self, metric: str) -> list[Any]:
        """Return the values of a metric in the results without an index."""
        logged = self._logged["result"]
        indexed = zip(logged.numbers["index"], logged.values(metric), strict=False)
        return [value for index, value in indexed if index is None]

    def summary(self) -> str:
        """Say in a line when it ran, how it stands and what it reached."""
        return "; ".join(part for part in self._summary_parts() if part)

    def _summary_parts(self) -> Iterator[str | None]:
        yield f"started {self.started:%Y-%m-%d %H:%M:%S} UTC, is {self.status}"
        if self.status == "running":
            yield f"on {self.meta.get('host')}, last record {_ago(self.age)} ago"
        yield self.error
        if self.epochs:
            yield f"{len(self.epochs.latest)} epochs"
        metrics = [(name, value) for name, value in self.last.items() if is_number(value)]
        yield ", ".join(f"{name}={_short(value)}" for name, value in metrics[:6])

    # Called by the fold.

    def add(self, record: Record) -> None:
        """Add a record of this session that is no epoch, batch or result."""
        getattr(self, f"_add_{record['kind']}")(record)
        if not _is_afterthought(record):
            self._note_time(record["writer"], record["time"], record["time"])

    def add_logged(self, kind: Kind, records: Sequence[Record]) -> None:
        """Add epochs, batches or results of this session."""
        self._logged[kind].add(records)
        times: dict[str, list[str]] = {}
        for record in records:
            if type(time := record.get("time")) is str:
                times.setdefault(record["writer"], []).append(time)
        for writer, logged in times.items():
            self._note_time(writer, min(logged), max(logged))

    def find_gone(self) -> list[str]:
        """Look at the processes of the writers without an end; return those that are gone."""
        return [
            writer
            for writer in self.open_writers
            if writer not in self._gone and processes.is_alive(self._process_of(writer)) is False
        ]

    def settle(self, gone: Iterable[str] = ()) -> None:
        """Take note that the store was read to its end after these writers were seen gone."""
        self._gone.update(gone)
        self._is_settled = True
        for kind, logged in self._logged.items():
            if not logged.is_in_order:
                self._arrange(kind, logged)

    @property
    def may_end(self) -> bool:
        """Whether a writer has no end and its process is not known to be gone."""
        return not self.is_surely_over

    def _note_time(self, writer: str, first: str, last: str) -> None:
        known = self._times.get(writer, (first, last))
        self._times[writer] = (min(known[0], first), max(known[1], last))
        self._first_time = min(self._first_time, first)
        self._last_time = max(self._last_time, last)

    def _arrange(self, kind: Kind, logged: MetricLog) -> None:
        """Order epochs, batches or results by their writers' starts, then by number.

        Forked children have no start: their records stay among those of the start that they
        followed in time, in the order in which they were stored.
        """
        starts = {writer: i for i, writer in enumerate(self._life.writers)}
        began = [start["time"] for start in self._life.starts]
        ranks = {
            writer: starts.get(writer, max(bisect_right(began, self._times[writer][0]) - 1, 0))
            for writer in logged.writers
        }
        shared = Counter(ranks.values())
        numbered = {
            writer for writer, rank in ranks.items() if shared[rank] == 1 and is_counted(writer)
        }
        arranged = logged.arranged(ranks, numbered)
        if arranged is not logged:
            self._logged[kind] = arranged
            self._last = (0, {})

    def _began(self, record: Record) -> str | None:
        """Return when the writer of a record began this session; None if it did not."""
        writer = record["writer"]
        return self._life.start_of(writer)["time"] if writer in self._life.writers else None

    def _add_session(self, record: Record) -> None:
        LazyDict.of(record, "meta", self._files)
        self._life.add(record)
        self._params = LazyDict.of(self._life.starts[0], "params", self._files)

    def _add_meta(self, record: Record) -> None:
        stored = LazyDict(record["body"], "extended" in record, self._files)
        self._metas.add(record, (record["writer"], stored), self._began(record))

    def _add_tag(self, record: Record) -> None:
        self._changes.add(record, record["body"])

    def _add_artifact(self, record: Record) -> None:
        artifact = Artifact.of(record["body"], self._files)
        self._artifacts.add(record, artifact, self._began(record))

    def _add_end(self, record: Record) -> None:
        self._life.add(record)


def parse_time(text: str) -> datetime:
    """Parse the time of a record."""
    return datetime.fromisoformat(text)


def retagged(tags: tuple[str, ...], changes: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return tags after changes, each a dict with `add` and `remove`."""
    for change in changes:
        kept = [tag for tag in tags if tag not in change.get("remove", ())]
        tags = tuple(dict.fromkeys([*kept, *change.get("add", ())]))
    return tags


def last_note(changes: Iterable[Mapping[str, Any]]) -> str:
    """Return the last note among changes; empty if there is none."""
    note = ""
    for change in changes:
        note = change.get("note", note)
    return note


def index_key(index: Any) -> tuple[bool, Any]:
    """Return what tells indexes apart as JSON does: True is not 1, 1.0 is."""
    return isinstance(index, bool), index


def _is_afterthought(record: Record) -> bool:
    """Tell whether a record was written about a session by somebody else: a tag, a death."""
    kind = record["kind"]
    return kind == "tag" or (kind == "end" and record["body"]["status"] == "killed")


def _merged(parts: Iterable[LazyDict]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for part in parts:
        merged.update(part.restored())
    return merged


def _short(number: float) -> str:
    return f"{number:.6g}" if isinstance(number, float) else str(number)


def _ago(age: timedelta) -> str:
    seconds = max(int(age.total_seconds()), 0)
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"
