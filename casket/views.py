"""What a reader sees: experiments, models and sessions, as their records add up to them."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from casket import processes, values
from casket.artifacts import Artifact, ArtifactFolder
from casket.errors import NoSuchMetric
from casket.records import Record
from casket.rows import NUMBERS, Kind, Logged, Mode, Rows, add_missing, best_of, is_number
from casket.stored import Stored

Status = Literal["running", "completed", "failed", "killed"]

SILENCE = timedelta(days=1)
"""After which a session of another host, which nobody can look at, reads as killed."""


class ExperimentView:
    """An experiment as read from a store.

    Attributes:
        id: its `exp_id`.
        tags: its tags, in the order they were added.
        note: what was noted about it; empty if nothing.
        created: when it was first used.
    """

    def __init__(self, record: Record) -> None:
        self.id = record["experiment"]
        self.tags: tuple[str, ...] = ()
        self.note = ""
        self.created = moment(record["time"])
        self._facts: list[Stored] = []

    def __repr__(self) -> str:
        return f"<experiment {self.id!r}>"

    @property
    def facts(self) -> dict[str, Any]:
        """What was given to `Experiment.use` besides; of a name given again, the last."""
        return _merged(self._facts)

    def has_facts(self, facts: Mapping[str, Any]) -> bool:
        """Tell whether facts, as they stand in a record, are among those it was last given."""
        stored = {name: value for each in self._facts for name, value in each.value.items()}
        return facts.items() <= stored.items()

    def take(self, record: Record, files: ArtifactFolder) -> None:
        """Add what the record of a use says."""
        self.tags = retagged(self.tags, {"add": record["body"]["tags"]})
        self._facts.append(Stored.of(record, "facts", files))

    def annotate(self, change: Mapping[str, Any]) -> None:
        """Take the body of a record that changes tags or the note."""
        self.tags = retagged(self.tags, change)
        self.note = change.get("note", self.note)


class ModelView:
    """A model as read from a store.

    Attributes:
        id: its `model_id`.
        experiment: the id of its experiment.
    """

    def __init__(self, record: Record, files: ArtifactFolder) -> None:
        self.id = record["model"]
        self.experiment = record["experiment"]
        self.take(record, files)

    def __repr__(self) -> str:
        return f"<model {self.id!r} of experiment {self.experiment!r}>"

    @property
    def config(self) -> dict[str, Any]:
        """Its `model_config`."""
        return self.stored_config.restored()

    def take(self, record: Record, files: ArtifactFolder) -> None:
        """Take the config from a record."""
        self.stored_config = Stored.of(record, "config", files)


class SessionView:
    """A session as read from a store.

    Attributes:
        id: 16 hexadecimal digits.
        experiment: the id of its experiment.
        model: the id of its model.
        started: when it began.
        note: what was noted about it; empty if nothing.
    """

    def __init__(
        self,
        record: Record,
        model: ModelView | None,
        experiment: ExperimentView | None,
        files: ArtifactFolder,
    ) -> None:
        nothing = Stored({}, False, files)
        self.id: str = record["session"]
        self.experiment = record.get("experiment", "")
        self.model = record.get("model", "")
        self.started = moment(record["time"])
        self.note = ""
        self._experiment = experiment
        self._tags: tuple[str, ...] = ()
        self._files = files
        self._last_time = record["time"]
        self._starts: dict[str, Record] = {}
        self._ends: dict[str, Record] = {}
        self._params = nothing
        self._config = model.stored_config if model else nothing
        self._metas: list[Stored] = []
        self._hidden_meta: Collection[str] = ()
        self._artifacts: dict[str, Artifact] = {}
        self._logged: dict[str, Logged] = {kind: Logged(kind, files) for kind in NUMBERS}
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
        """Where it came from (commit, host, pid, ...) and what `add_meta` added."""
        merged = _merged(self._metas)
        return {name: merged[name] for name in merged if name not in self._hidden_meta}

    def without_meta(self, names: Collection[str]) -> SessionView:
        """Return it as it is now, with some names left out of its meta."""
        hiding = copy.copy(self)
        hiding._hidden_meta = names
        return hiding

    @property
    def status(self) -> Status:
        """How the session stands.

        A session without an end reads `running` while its process lives, `killed` once that is
        gone. On another host nobody can look: it reads `running` until it was silent for a day.
        """
        if any(self._is_running(self._starts[writer]) for writer in self.open_writers):
            return "running"
        end = self._last_end()
        status: Status = end["body"]["status"] if end else "killed"
        return status

    @property
    def error(self) -> str | None:
        """Of a failed session, the exception: `ValueError: ...`."""
        end = self._last_end()
        return end["body"].get("error") if end and self.status == "failed" else None

    def _last_end(self) -> Record | None:
        """Return the end of the writer that began it last; of any, if no beginning was kept."""
        last_writer = next(reversed(self._starts or self._ends), "")
        return self._ends.get(last_writer)

    def _is_running(self, start: Record) -> bool:
        alive = processes.is_alive(start["body"].get("process", {}))
        return self.age < SILENCE if alive is None else alive

    @property
    def is_surely_over(self) -> bool:
        """Whether no process can still be writing to it, as far as can be known for sure."""
        return all(
            writer in self._ends or processes.is_alive(start["body"].get("process", {})) is False
            for writer, start in self._starts.items()
        )

    @property
    def open_writers(self) -> list[str]:
        """The ids of the writers that began the session and wrote no end."""
        return [writer for writer in self._starts if writer not in self._ends]

    @property
    def ended(self) -> datetime | None:
        """When it ended; of a killed session, when it was last seen; None while it runs."""
        if self.status == "running":
            return None
        end = self._last_end()
        return self.last_seen if end is None or _is_afterthought(end) else moment(end["time"])

    @property
    def last_seen(self) -> datetime:
        """When its last record was logged; what others noted about it later does not count."""
        return moment(self._last_time)

    @property
    def age(self) -> timedelta:
        """The time since its last record."""
        return datetime.now(UTC) - self.last_seen

    @property
    def duration(self) -> timedelta:
        """From its start to its end; while it runs, to now."""
        return (self.ended or datetime.now(UTC)) - self.started

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of its experiment and its own."""
        inherited = self._experiment.tags if self._experiment else ()
        return tuple(dict.fromkeys(inherited + self._tags))

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
        found = {index_key(index): index for index in self._logged["result"].numbers["index"]}
        return [index for index in found.values() if index is not None]

    def logged(self, kind: Kind) -> Logged:
        """Return all that was logged of a kind, by column."""
        return self._logged[kind]

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """The artifacts by name; of a name used again, the last."""
        return dict(self._artifacts)

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
        found: dict[str, Any] = {}
        if self._logged["result"]:
            for result in reversed(self.results()):
                add_missing(found, result)
        self._logged["epoch"].add_latest(found)
        self._logged["batch"].add_latest(found)
        return found

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
            found = best_of(logged.values(metric), mode)
            if found is not None:
                return found
        found = best_of(self._unindexed(metric), mode)
        if found is not None:
            return found
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

    # What the fold calls.

    def take(self, record: Record) -> None:
        """Add a record of this session that is no epoch, batch or result."""
        getattr(self, f"_take_{record['kind']}")(record)
        if not _is_afterthought(record):
            self._last_time = max(self._last_time, record["time"])

    def take_logged(self, kind: Kind, records: Sequence[Record]) -> None:
        """Add epochs, batches or results of this session."""
        self._logged[kind].take(records)
        times = [time for record in records if type(time := record.get("time")) is str]
        self._last_time = max(self._last_time, *times)

    def _take_session(self, record: Record) -> None:
        self._params = Stored.of(record, "params", self._files)
        self._metas.append(Stored.of(record, "meta", self._files))
        # Last, also if this writer began it before: the last start says how the session stands.
        self._starts.pop(record["writer"], None)
        self._starts[record["writer"]] = record

    def _take_meta(self, record: Record) -> None:
        self._metas.append(Stored(record["body"], "extended" in record, self._files))

    def _take_tag(self, record: Record) -> None:
        self._tags = retagged(self._tags, record["body"])
        self.note = record["body"].get("note", self.note)

    def _take_artifact(self, record: Record) -> None:
        self._artifacts[record["body"]["name"]] = Artifact.of(record["body"], self._files)

    def _take_end(self, record: Record) -> None:
        self._ends[record["body"]["of"]] = record


def moment(text: str) -> datetime:
    """Parse the time of a record."""
    return datetime.fromisoformat(text)


def retagged(tags: tuple[str, ...], change: Mapping[str, Any]) -> tuple[str, ...]:
    """Return tags after a change, a dict with `add` and `remove`."""
    kept = [tag for tag in tags if tag not in change.get("remove", ())]
    return tuple(dict.fromkeys([*kept, *change.get("add", ())]))


def index_key(index: Any) -> tuple[bool, Any]:
    """Return what tells indexes apart as JSON does: True is not 1, 1.0 is."""
    return isinstance(index, bool), index


def _is_afterthought(record: Record) -> bool:
    """Tell whether a record was written about a session by somebody else: a tag, a death."""
    kind = record["kind"]
    return kind == "tag" or (kind == "end" and record["body"]["status"] == "killed")


def _merged(parts: list[Stored]) -> dict[str, Any]:
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
