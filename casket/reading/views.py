"""Views of experiments, models and sessions, built from their records."""

from __future__ import annotations

import copy
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, groupby
from operator import attrgetter, itemgetter
from typing import Any, Literal, NamedTuple, SupportsIndex, overload

from casket.errors import NoSuchMetric
from casket.format import values
from casket.format.artifacts import Artifact, ArtifactFolder
from casket.format.lifecycle import Life
from casket.format.names import two_words
from casket.format.records import Record, is_counted, order_of
from casket.format.references import Identity, freed_by, identity_of
from casket.reading.columns import Times
from casket.reading.family import Family
from casket.reading.latest import LastValues
from casket.reading.lazydict import LazyDict
from casket.reading.rows import (
    Kind,
    MetricLog,
    Mode,
    Rows,
    best_of,
    index_key,
    is_number,
)
from casket.reading.system import SystemLog
from casket.system import processes

Status = Literal["running", "completed", "failed", "killed"]

LATE_PROVENANCE = frozenset({"dirty"})
"""The facts about a start that become known only after the start was written."""

LABELS = ("name", "tags", "group")
"""The members of a start that later records of kind `tag` change."""

SILENCE = timedelta(days=1)
"""The time after which an inactive session on another host is considered killed."""


_BY_NUMBER: tuple[Kind, ...] = ("epoch", "batch")


class History:
    """Changes sorted by the order of their records, independent of the order of addition."""

    __slots__ = ("_changes",)

    def __init__(self) -> None:
        self._changes: list[tuple[tuple[str, str, int], Any]] = []

    def __iter__(self) -> Iterator[Any]:
        return (change for _, change in self._changes)

    def add(self, record: Record, change: Any, began: str | None = None) -> None:
        """Add the change made by a record.

        Args:
            record: the record.
            change: the change.
            began: the time at which the writer of the record started the session.
        """
        insort(self._changes, (order_of(record, began), change), key=itemgetter(0))


class ExperimentView:
    """An experiment read from a store.

    Attributes:
        id: the `exp_id` of the experiment.
        created: the time of its first use.
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
        """The tags, in the order they were added."""
        return retagged((), self._changes)

    @property
    def note(self) -> str:
        """The note on it; empty if there is none."""
        return last_set(self._changes, "note")

    @property
    def facts(self) -> dict[str, Any]:
        """The facts passed to `Experiment.use`; later values replace earlier values."""
        return _merged(self._facts)

    def has_facts(self, facts: Mapping[str, Any]) -> bool:
        """Return whether encoded facts are among the current facts of the experiment."""
        stored = {name: value for each in self._facts for name, value in each.value.items()}
        return facts.items() <= stored.items()

    def add(self, record: Record, files: ArtifactFolder) -> None:
        """Add a record of kind `experiment`."""
        facts = LazyDict.of(record, "facts", files)
        self._changes.add(record, {"add": record["body"]["tags"]})
        self._facts.add(record, facts)
        self.created = min(self.created, parse_time(record["time"]))

    def annotate(self, record: Record) -> None:
        """Add a record that changes the tags or the note."""
        self._changes.add(record, record["body"])


class ModelView:
    """A model read from a store.

    Attributes:
        id: the `model_id` of the model.
        experiment: the id of its experiment.
        stored_config: the config read last, which applies to the sessions that follow it.
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
        """The `model_config` of the model."""
        *_, latest = self._configs
        config: dict[str, Any] = latest.restored()
        return config

    def add(self, record: Record, files: ArtifactFolder) -> None:
        """Add a record of kind `model`."""
        self.stored_config = LazyDict.of(record, "config", files)
        self._configs.add(record, self.stored_config)


class _Logs(dict[Kind, MetricLog]):
    """What was logged, by kind; the log of other kinds is empty, and created when it is read."""

    def __init__(self, files: ArtifactFolder) -> None:
        super().__init__()
        self._files = files

    def __missing__(self, kind: Kind) -> MetricLog:
        return MetricLog(kind, self._files)


class Alert(NamedTuple):
    """An alert of a session.

    Attributes:
        title: the subject.
        text: the details.
        level: `"info"`, `"warning"` or `"error"`.
        time: the time at which it was logged.
    """

    title: str
    text: str
    level: str
    time: datetime


class SessionView:
    """A session read from a store.

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
        family: Family[SessionView],
    ) -> None:
        nothing = LazyDict({}, False, files)
        self.id: str = record["session"]
        self.experiment = record.get("experiment", "")
        self.model = record.get("model", "")
        self._experiment = experiment
        self._files = files
        self._family = family
        self._life = Life()
        self._first_time = self._last_time = record["time"]
        # The times of the first and the last record of each writer.
        self._times: dict[str, tuple[str, str]] = {}
        self._gone: frozenset[str] = frozenset()
        self._is_settled = False
        self._params = nothing
        self._config = model.stored_config if model else nothing
        self._metas = History()
        self._changes = History()
        self._artifacts = History()
        self._freed: frozenset[Identity] = frozenset()
        self._alerts = History()
        self._hidden_meta: Collection[str] = ()
        self._hides_captured = False
        self._system: SystemLog | None = None
        self._logged = _Logs(files)
        self._last: tuple[int, LastValues] | None = None

    def __repr__(self) -> str:
        return f"<session {self.id} of {self.experiment}/{self.model}: {self.status}>"

    def _repr_html_(self) -> str:
        from casket.reading.html import session_html

        return session_html(self)

    def __getstate__(self) -> dict[str, Any]:
        """Exclude the sessions of the store that are not related to this one."""
        return {**self.__dict__, "_family": self._family.related_to(self.id)}

    @property
    def parent_id(self) -> str | None:
        """The id of the session that this one is a child of, otherwise None."""
        starts = self._life.starts
        return starts[0]["body"].get("parent") if starts else None

    @property
    def parent(self) -> SessionView | None:
        """The session that this one is a child of; None if there is none, or it was removed."""
        return self._family.get(self.parent_id or "")

    @property
    def children(self) -> list[SessionView]:
        """The children of the session, in order of their start."""
        return sorted(self._family.children_of(self.id), key=attrgetter("started"))

    @property
    def params(self) -> dict[str, Any]:
        """The hyperparameters."""
        return self._params.restored()

    @property
    def config(self) -> dict[str, Any]:
        """The config of the model when the session started."""
        return self._config.restored()

    @property
    def meta(self) -> dict[str, Any]:
        """The provenance (commit, host, pid, ...) and the facts added by `add_meta`.

        For a continued session this is the meta of its first start; `starts` holds the meta of
        the later starts.
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

    @property
    def restart(self) -> int:
        """How often a scheduler has requeued the job in which the session was last started."""
        meta = self.meta
        starts = meta.get("starts")
        latest = starts[-1] if isinstance(starts, list) and starts else meta
        job = latest.get("job") if isinstance(latest, Mapping) else None
        restart = job.get("restart") if isinstance(job, Mapping) else None
        return restart if isinstance(restart, int) else 0

    def anonymous(self, names: Collection[str]) -> SessionView:
        """Return a shallow copy without captured artifacts, whose meta omits the given names."""
        hiding = copy.copy(self)
        hiding._hidden_meta = names
        hiding._hides_captured = True
        return hiding

    @property
    def started(self) -> datetime:
        """The time of its first start."""
        starts = self._life.starts
        return parse_time(starts[0]["time"] if starts else self._first_time)

    @property
    def note(self) -> str:
        """The note on it; empty if there is none."""
        return last_set(self._changes, "note")

    @property
    def name(self) -> str:
        """The name it was given, otherwise two words made from its id, such as `patient-goat`."""
        return self.named or two_words(self.id)

    @property
    def named(self) -> str | None:
        """The name it was given, otherwise None."""
        return last_set(self._changes, "name") or None

    @property
    def group(self) -> str | None:
        """The group it was put in, otherwise None."""
        return last_set(self._changes, "group") or None

    @property
    def status(self) -> Status:
        """The run status, as set by the writer that started or continued the session last.

        A session without an end is `running` while its process is alive and `killed` afterwards.
        Processes on other hosts cannot be checked, so such a session is `running` until its last
        record is a day old.
        """
        if any(map(self._may_run, self.open_writers)):
            return "running"
        end = self._life.last_end
        status: Status = end["body"]["status"] if end else "killed"
        return status

    @property
    def error(self) -> str | None:
        """The exception that ended a failed session (`ValueError: ...`), otherwise None."""
        end = self._life.last_end
        return end["body"].get("error") if end and self.status == "failed" else None

    def _may_run(self, writer: str) -> bool:
        """Return whether a writer without an end counts as running.

        The end is known to be missing only if the store was read to its end after the process
        had exited (`settle`).
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
        """Whether every writer has ended or its process is known to have exited."""
        return self._gone.issuperset(self.open_writers)

    @property
    def open_writers(self) -> list[str]:
        """The ids of the writers that started the session and have not ended it."""
        return self._life.open_writers

    @property
    def ended(self) -> datetime | None:
        """The time of its end, or None while it is running.

        For a killed session this is the time of its last record.
        """
        if self.status == "running":
            return None
        end = self._life.last_end
        return self.last_seen if end is None or _is_afterthought(end) else parse_time(end["time"])

    @property
    def last_seen(self) -> datetime:
        """The time of its last record, not counting tags and notes."""
        return parse_time(self._last_time)

    @property
    def age(self) -> timedelta:
        """The time since its last record."""
        return datetime.now(UTC) - self.last_seen

    @property
    def duration(self) -> timedelta:
        """The total time its writers were active, up to now for running writers."""
        if not self._life.writers:
            return self.span
        return sum(map(self._time_at_work, self._life.writers), timedelta(0))

    @property
    def span(self) -> timedelta:
        """The time from its first start to its end, or to now while it is running."""
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
        """The tags of its experiment, followed by its own tags."""
        inherited = self._experiment.tags if self._experiment else ()
        return tuple(dict.fromkeys(inherited + retagged((), self._changes)))

    @property
    def epochs(self) -> Rows:
        """All epochs in order, as `{"epoch_num": n, **result, "timestamp": ...}`."""
        return self._logged["epoch"].rows()

    @property
    def batches(self) -> Rows:
        """All batches in order, as `{"batch_num": n, "epoch": e, **result, "timestamp": ...}`."""
        return self._logged["batch"].rows()

    def results(self, index_by: Any = None) -> Rows:
        """Return the results logged under an index, in order.

        Args:
            index_by: the index; None for results without an index.
        """
        logged = self._logged["result"]
        wanted = index_key(values.Encoder().encode(index_by, "index_by"))
        return Rows(
            result
            for index, result in zip(logged.numbers["index"], logged.results(), strict=False)
            if index_key(index) == wanted
        )

    @property
    def indexes(self) -> list[Any]:
        """The indexes of the results, in order of first use."""
        indexes = {index_key(index): index for index in self._logged["result"].numbers["index"]}
        return [index for index in indexes.values() if index is not None]

    def logged(self, kind: Kind) -> MetricLog:
        """Return all records of a kind, stored by column."""
        return self._logged[kind]

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """The artifacts by name; if a name was used again, the last artifact.

        They include the captured ones, unless the script has added an artifact of that name.
        `artifacts[name].history` has all artifacts of the name, except for those whose files were
        removed because of `keep="last"` or by `casket clean --old-artifacts`.
        """
        captured, own = self._artifacts_of(is_captured=True), self._artifacts_of(is_captured=False)
        return own if self._hides_captured else {**captured, **own}

    def _artifacts_of(self, *, is_captured: bool) -> dict[str, Artifact]:
        history: dict[str, list[Artifact]] = {}
        for identity, artifact in self._artifacts:
            if identity not in self._freed and (artifact.captured is not None) == is_captured:
                history.setdefault(artifact.name, []).append(artifact)
        return {name: each[-1]._replace(history=tuple(each)) for name, each in history.items()}

    @property
    def old_artifacts(self) -> list[Identity]:
        """The identities of the records of artifacts whose name was used again."""
        last = {
            (artifact.name, artifact.captured): identity for identity, artifact in self._artifacts
        }
        return [
            identity
            for identity, artifact in self._artifacts
            if identity not in self._freed and identity != last[artifact.name, artifact.captured]
        ]

    @property
    def alerts(self) -> list[Alert]:
        """The alerts, in the order they were logged."""
        return list(self._alerts)

    @property
    def captured(self) -> dict[str, Artifact]:
        """The artifacts that casket captured: code, packages and output."""
        artifacts = self.artifacts.items()
        return {name: each for name, each in artifacts if each.captured is not None}

    @property
    def system(self) -> list[dict[str, Any]]:
        """The system metrics, such as `{"time": ..., "cpu_percent": 12.5, ...}`, in order.

        There are at most 5,000 rows: of longer sessions, each row is the mean of several samples.
        """
        return self._system.rows() if self._system else []

    def system_table(self) -> tuple[dict[str, Sequence[Any]], Times]:
        """Return the system metrics by name, and the times of the rows."""
        return self._system.table() if self._system else ({}, Times())

    @property
    def last(self) -> Mapping[str, Any]:
        """The latest value of each metric, by flat name (`val.acc`).

        Precedence: unindexed results, then epochs, then batches. Results under an index are named
        `test.test_acc`; their bare name finds them if it is unambiguous. Of a search this is the
        best score of each scorer, such as `accuracy.best_score`.
        """
        return self._latest

    @property
    def _latest(self) -> LastValues:
        count = sum(map(len, self._logged.values()))
        if self._last is None or self._last[0] != count:
            latest = LastValues()
            for kind in ("result", "epoch", "batch"):
                self._logged[kind].add_latest(latest)
            self._logged["result"].add_latest_indexed(latest)
            self._last = (count, latest)
        return self._last[1]

    def best(self, metric: str, mode: Mode = "min") -> Any:
        """Return the lowest or highest value of a metric.

        Epochs are searched first, then batches, then results. Use `session.epochs.best(metric)`
        to get the whole epoch.

        Args:
            metric: the flat name of the metric, such as `loss` or, under an index, `test.test_acc`.
            mode: `"min"` or `"max"`.

        Raises:
            NoSuchMetric: no number was logged under that name; a subclass of `KeyError`.
            BadLocation: `mode` is neither `"min"` nor `"max"`.
        """
        logged = (self._logged[kind].values(metric) for kind in _BY_NUMBER)
        for sample in chain(logged, [self._unindexed(metric), self.indexed(metric)]):
            best = best_of(sample, mode)
            if best is not None:
                return best
        raise NoSuchMetric(metric, self.id, sorted(self.last))

    def _unindexed(self, metric: str) -> list[Any]:
        """Return the values of a metric in the results without an index."""
        logged = self._logged["result"]
        indexed = zip(logged.numbers["index"], logged.values(metric), strict=False)
        return [value for index, value in indexed if index is None]

    def indexed(self, metric: str) -> list[Any]:
        """Return the values of a metric in the results under an index, by its name in `last`."""
        origin = self._latest.origin(metric)
        if origin is None:
            return []
        logged = self._logged["result"]
        indexed = zip(logged.numbers["index"], logged.values(origin[1]), strict=False)
        return [value for index, value in indexed if index is not None and str(index) == origin[0]]

    def summary(self) -> str:
        """Return a one-line summary: start, status, error, number of epochs, latest metrics."""
        return "; ".join(part for part in self._summary_parts() if part)

    def _summary_parts(self) -> Iterator[str | None]:
        yield f"started {self.started:%Y-%m-%d %H:%M:%S} UTC, is {self.status}"
        if self.status == "running":
            yield f"on {self.meta.get('host')}, last record {_ago(self.age)} ago"
        yield self.error
        if self.epochs:
            count = len(self.epochs.latest)
            yield f"{count} epoch{'s' * (count != 1)}"
        metrics = [(name, value) for name, value in self.last.items() if is_number(value)]
        yield ", ".join(f"{name}={_short(value)}" for name, value in metrics[:6])

    # The methods below are called by the fold.

    def add(self, record: Record) -> None:
        """Add a record other than an epoch, a batch or a result."""
        getattr(self, f"_add_{record['kind']}")(record)
        if not _is_afterthought(record):
            self._note_time(record["writer"], record["time"], record["time"])

    def add_logged(self, kind: Kind, records: Sequence[Record]) -> None:
        """Add records of epochs, batches or results."""
        if kind not in self._logged:
            self._logged[kind] = MetricLog(kind, self._files)
        self._logged[kind].add(records)
        for writer, written in groupby(records, itemgetter("writer")):
            times = [record["time"] for record in written if "time" in record]
            is_text = set(map(type, times)) == {str}
            if not is_text or not _is_time(min(times)) or not _is_time(max(times)):
                times = list(filter(_is_time, times))
            if times:
                self._note_time(writer, min(times), max(times))

    def find_gone(self) -> list[str]:
        """Return the writers without an end whose process has exited."""
        return [
            writer
            for writer in self.open_writers
            if writer not in self._gone and processes.is_alive(self._process_of(writer)) is False
        ]

    def settle(self, gone: Iterable[str] = ()) -> None:
        """Record that the store has been read to its end after these writers had exited."""
        self._gone = self._gone.union(gone)
        self._is_settled = True
        for kind, logged in self._logged.items():
            if not logged.is_in_order:
                self._arrange(kind, logged)

    @property
    def may_end(self) -> bool:
        """Whether a writer has no end and its process is not known to have exited."""
        return not self.is_surely_over

    def _note_time(self, writer: str, first: str, last: str) -> None:
        known = self._times.get(writer, (first, last))
        self._times[writer] = (min(known[0], first), max(known[1], last))
        self._first_time = min(self._first_time, first)
        self._last_time = max(self._last_time, last)

    def _arrange(self, kind: Kind, logged: MetricLog) -> None:
        """Sort epochs, batches or results by the starts of their writers, then by number.

        Forked children have no start. Their records stay with those of the latest start before
        them, in the order in which they were stored.
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
            self._last = None

    def _began(self, record: Record) -> str | None:
        """Return when the writer of a record started this session, or None if it did not."""
        writer = record["writer"]
        return self._life.start_of(writer)["time"] if writer in self._life.writers else None

    def _add_session(self, record: Record) -> None:
        LazyDict.of(record, "meta", self._files)
        self._life.add(record)
        self._params = LazyDict.of(self._life.identity or record, "params", self._files)
        labels = {name: record["body"].get(name) for name in LABELS if name in record["body"]}
        if labels:
            self._changes.add(record, {"add": labels.pop("tags", []), **labels})
        if "parent" in record["body"]:
            self._family.add_child(record["body"]["parent"], self.id)

    def _add_meta(self, record: Record) -> None:
        stored = LazyDict(record["body"], "extended" in record, self._files)
        change = record["writer"], stored
        self._metas.add(record, change, self._began(record))

    def _add_tag(self, record: Record) -> None:
        self._changes.add(record, record["body"])
        self._freed = self._freed.union(freed_by(record))

    def _add_artifact(self, record: Record) -> None:
        artifact = Artifact.of(record["body"], self._files)
        change = identity_of(record), artifact
        self._artifacts.add(record, change, self._began(record))
        self._freed = self._freed.union(freed_by(record))

    def _add_alert(self, record: Record) -> None:
        body = record["body"]
        alert = Alert(body["title"], body["text"], body["level"], parse_time(record["time"]))
        self._alerts.add(record, alert, self._began(record))

    def _add_system(self, record: Record) -> None:
        if self._system is None:
            self._system = SystemLog()
        self._system.add(record)

    def _add_end(self, record: Record) -> None:
        self._life.add(record)


class Sessions(list[SessionView]):
    """A list of sessions, which a notebook shows as a table."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> SessionView: ...
    @overload
    def __getitem__(self, index: slice) -> Sessions: ...
    def __getitem__(self, index: SupportsIndex | slice) -> SessionView | Sessions:
        if isinstance(index, slice):
            return Sessions(super().__getitem__(index))
        return super().__getitem__(index)

    def _repr_html_(self) -> str:
        from casket.reading.html import sessions_html

        return sessions_html(self)


def parse_time(text: str) -> datetime:
    """Parse the time of a record; a time without a zone is in UTC."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _is_time(value: Any) -> bool:
    """Return whether a value is the text of a time; in a damaged record it may not be."""
    try:
        return isinstance(value, str) and bool(parse_time(value))
    except ValueError:
        return False


def retagged(tags: tuple[str, ...], changes: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the tags after applying changes, which are dicts with `add` and `remove`."""
    for change in changes:
        kept = [tag for tag in tags if tag not in change.get("remove", ())]
        tags = tuple(dict.fromkeys([*kept, *change.get("add", ())]))
    return tags


def last_set(changes: Iterable[Mapping[str, Any]], label: str) -> str:
    """Return the text that a label, such as the note, was last set to; by default empty."""
    text = ""
    for change in changes:
        text = change.get(label, text)
    return text


def _is_afterthought(record: Record) -> bool:
    """Return whether a record was added later: a tag, or an end as `killed` by another writer."""
    body = record["body"]
    is_killed = record["kind"] == "end" and body["status"] == "killed"
    return record["kind"] == "tag" or (is_killed and body.get("of") != record["writer"])


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
