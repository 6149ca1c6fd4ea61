"""Experiments and models, the handles that a training script opens for logging."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack

from casket.errors import (
    CasketError,
    ExistingExperimentError,
    NoSuchSession,
    NotInASession,
)
from casket.format.records import Record, Writer, claim_key, covering, new_id
from casket.format.values import Encoder, restore
from casket.stores.base import DEFAULTS, Claimed, Offline, StoreOptions, Sync
from casket.stores.location import Location
from casket.writing import around, claims, starting
from casket.writing.arguments import checked_id, checked_tags
from casket.writing.backend import Backend
from casket.writing.capture.choices import Capture, Plan, SystemMetrics, chosen_parts
from casket.writing.parent import Parent
from casket.writing.session import Session

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    from tinydb import TinyDB

    from casket.reading.casket import Casket, Selection
    from casket.reading.fold import Fold
    from casket.reading.frames import Table
    from casket.reading.nearest import Near
    from casket.reading.views import ModelView, SessionView
    from casket.writing.claims import Holder
    from casket.writing.spaces import AnySpace
    from casket.writing.sweep import OnError, SweepSession

LATEST = 2_000
"""The number of starts whose params are compared with those of a refused session."""

Where = str | Callable[["SessionView"], bool] | None


class Experiment:
    """An experiment in a store; a group of models.

    Open an experiment with `use` or `new`. A subclass may override `get_id` to provide the id.
    Handles can be pickled and copied, and survive a fork.

    Attributes:
        id: the id of the experiment, unique within the store.
        capture: what its sessions keep as artifacts; None for the default.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        exp_id: str | int | None = None,
        tags: Iterable[str] = (),
        *,
        _options: StoreOptions = DEFAULTS,
        _capture: Capture = None,
        **facts: Any,
    ) -> None:
        """Create a handle without writing to the store; see `use` for the arguments.

        `use` and `new` pass the options of the store as `_options`, and `capture` as `_capture`.
        """
        self.capture = None if _capture is None else chosen_parts(_capture)
        self.backend = Backend(Location.of(path), _options.checked())
        self._exp_id = exp_id
        self._given_tags = checked_tags(tags)
        self._given_facts = facts
        self.id = self._chosen_id()
        self.backend.remember((self.id, None, None), self._record)

    @classmethod
    def use(
        cls,
        path: str | os.PathLike[str],
        exp_id: str | int | None = None,
        tags: Iterable[str] = (),
        *,
        sync: Sync = "session",
        flush_timeout: float = 30.0,
        offline: Offline = "refuse",
        sync_every: float | None = None,
        capture: Capture = None,
        **facts: Any,
    ) -> Self:
        """Create an experiment, or open it if it exists.

        Args:
            path: the path or URL of the store. A missing file is created, a missing folder is not.
            exp_id: the id of the experiment, used as text. If it is None, and `get_id` is not
                overridden, a random id is generated.
            tags: tags to add to the experiment.
            sync: when to sync the file to disk, as protection against power loss: `"session"`
                syncs at the end of a session and at most once a second before, `"always"` after
                every record.
            flush_timeout: how many seconds the end of a session waits for a remote store to
                confirm its records. It has no effect on local stores.
            offline: whether to start a session (`"allow"`) or not (`"refuse"`) when a remote
                store cannot be reached. It has no effect on local stores.
            sync_every: for how many seconds records are gathered before they are sent to a remote
                store, unless a session starts or ends: by default 30 for S3, where a request costs
                money, and 0.2 for others. It has no effect on local stores.
            capture: what the sessions keep as artifacts; see `Model.session`.
            facts: further information to store with the experiment.

        Raises:
            BadLocation: `path` is not a valid location, or an option has an invalid value.
            NotACasketFile: the file has another format; it was not changed.
            StoreUnavailable: the file cannot be written.
            UnstorableValue: a fact cannot be stored, or the id is empty.
        """
        options = StoreOptions(sync, flush_timeout, offline, sync_every=sync_every)
        experiment = cls(path, exp_id, tags, _options=options, _capture=capture, **facts)
        try:
            experiment._create()
        except Claimed:
            experiment._join()
        return experiment

    @classmethod
    def new(
        cls,
        path: str | os.PathLike[str],
        exp_id: str | int | None = None,
        tags: Iterable[str] = (),
        *,
        sync: Sync = "session",
        flush_timeout: float = 30.0,
        offline: Offline = "refuse",
        sync_every: float | None = None,
        capture: Capture = None,
        **facts: Any,
    ) -> Self:
        """Create an experiment that must not exist yet.

        See `use` for the arguments and further exceptions.

        Raises:
            ExistingExperimentError: an experiment with this id exists.
        """
        options = StoreOptions(sync, flush_timeout, offline, sync_every=sync_every)
        experiment = cls(path, exp_id, tags, _options=options, _capture=capture, **facts)
        try:
            experiment._create()
        except Claimed:
            location = str(experiment.backend.location)
            raise ExistingExperimentError(experiment.id, location) from None
        return experiment

    def get_id(self) -> str | int | None:
        """Return the id of the experiment; override it to provide an id other than `exp_id`."""
        return self._exp_id

    @property
    def exp_id(self) -> str:
        """The id of the experiment."""
        return self.id

    def __repr__(self) -> str:
        return f"<experiment {self.id!r} in {self.backend.location}>"

    def _repr_html_(self) -> str:
        return self._read()._repr_html_()

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        from casket.reading.plain_text import without_folder

        printer.text(f"<experiment {self.id!r} in {without_folder(str(self.backend.location))}>")

    def model(self, model_id: str, model_config: Mapping[str, Any] | None = None) -> Model:
        """Return the model with this id, adding it to the experiment if it does not exist.

        Args:
            model_id: the id of the model, unique within the experiment.
            model_config: the configuration common to all sessions of the model.

        Raises:
            UnstorableValue: the config contains a value that cannot be stored.
            StoreUnavailable: the store cannot be written.
        """
        return Model(self, model_id, model_config)

    def add_tag(self, tag: str) -> None:
        """Add a tag to the experiment; an existing tag is ignored."""
        self._retag(add=checked_tags([tag]))

    def remove_tag(self, tag: str) -> None:
        """Remove a tag from the experiment; a missing tag is ignored."""
        self._retag(remove=checked_tags([tag]))

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags, in the order they were added."""
        view = self._read_heads().experiments.get(self.id)
        return view.tags if view else ()

    def exists(self) -> bool:
        """Return whether the experiment is in the store; it may have been deleted."""
        records = self.backend.store.records(experiment=self.id, kinds={"experiment"})
        return next(records, None) is not None

    def get_models(self) -> list[Model]:
        """Return the models of the experiment, in the order they were added."""
        return [Model(self, view.id, None) for view in self._read_heads().models.values()]

    def sessions(
        self,
        model: str | None = None,
        status: str | None = None,
        tag: str | None = None,
        where: Where = None,
        *,
        children: bool = False,
    ) -> list[SessionView]:
        """Return the sessions of the experiment; see `Casket.sessions` for the arguments."""
        return self._read().sessions(None, model, status, tag, where, children=children)

    def to_pandas(
        self, table: Table = "sessions", *, latest: bool = False, **filters: Unpack[Selection]
    ) -> pd.DataFrame:
        """Return a pandas DataFrame of the experiment; see `Casket.to_pandas` for the arguments."""
        return self._read().to_pandas(table, latest=latest, **filters)

    def to_polars(
        self, table: Table = "sessions", *, latest: bool = False, **filters: Unpack[Selection]
    ) -> pl.DataFrame:
        """Return a polars DataFrame of the experiment; see `Casket.to_pandas` for the arguments."""
        return self._read().to_polars(table, latest=latest, **filters)

    @property
    def db(self) -> TinyDB:
        """A read-only TinyDB over the store: `exp.db.search(where("kind") == "epoch")`."""
        from casket.writing.tinydb import tinydb_of

        return tinydb_of(self.backend)

    def close(self) -> None:
        """Close the store; it is reopened when the experiment is used again."""
        self.backend.store.close()
        self.backend.files.close()

    def _read(self, model: str | None = None) -> Casket:
        from casket.reading.casket import Casket

        backend = self.backend
        return Casket(backend.store, backend.files, str(backend.location), self.id, model)

    def _read_heads(self) -> Fold:
        """Return a fold of the experiment and its models, without reading sessions."""
        from casket.reading.fold import Fold

        backend = self.backend
        fold = Fold(backend.files)
        heads = {"experiment", "model", "tag"}
        numbered = backend.store.records(experiment=self.id, kinds=heads)
        fold.add(record for _, record in numbered if "session" not in record)
        return fold

    def _chosen_id(self) -> str:
        """Return the id of `get_id`, else `exp_id`, else a random id.

        Raises:
            UnstorableValue: the id is empty.
        """
        given = (one for one in (self.get_id(), self._exp_id) if one is not None)
        return checked_id(next(given, new_id()), "exp_id")

    def _create(self) -> None:
        record = self._record()
        try:
            self.backend.store.append([record], claim=record["claim"])
        except Claimed:
            self.backend.writer = Writer()  # the number of the record would be missing
            raise

    def _record(self) -> Record:
        claim = claim_key(self.id, "", None)
        facts, extended = self.backend.encode(self._given_facts, "facts")
        body = {"tags": self._given_tags, "facts": facts}
        return self.backend.record(
            "experiment", body, extended=extended, experiment=self.id, claim=claim
        )

    def _join(self) -> None:
        """Add the tags and facts of this handle that the experiment lacks."""
        if not self._given_tags and not self._given_facts:
            return
        facts, _ = self.backend.encode(self._given_facts, "facts")
        view = self._read_heads().experiments.get(self.id)
        if view and set(self._given_tags) <= set(view.tags) and view.has_facts(facts):
            return
        record = self._record()
        del record["claim"]
        self.backend.store.append([record])

    def _retag(self, **change: list[str]) -> None:
        record = self.backend.record("tag", change, extended=False, experiment=self.id)
        self.backend.store.append([record])


class Model:
    """A model of an experiment; a group of sessions.

    Handles can be pickled and copied, and survive a fork.

    Attributes:
        id: the id of the model, unique within the experiment.
        experiment: the experiment of the model.
    """

    def __init__(
        self, experiment: Experiment, model_id: str, model_config: Mapping[str, Any] | None
    ) -> None:
        self.experiment = experiment
        self.backend = experiment.backend
        self.id = str(model_id)
        self.parent: Parent | None = None
        self.copied_within: Parent | None = None
        self._add(model_config)

    @property
    def experiment_id(self) -> str:
        """The id of the experiment of the model."""
        return self.experiment.id

    @property
    def model_id(self) -> str:
        """The id of the model."""
        return self.id

    def __repr__(self) -> str:
        return f"<model {self.id!r} of {self.experiment!r}>"

    def _repr_html_(self) -> str:
        return self._read()._repr_html_()

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        printer.text(f"<model {self.id!r} of experiment {self.experiment.id!r}>")

    @property
    def config(self) -> dict[str, Any]:
        """The `model_config` of the model."""
        view = self._read_config()
        return view.config if view else {}

    def session(
        self,
        params: Mapping[str, Any] | None = None,
        ensure_unique: bool = True,
        *,
        repeat: bool = False,
        name: str | None = None,
        tags: Iterable[str] = (),
        group: str | None = None,
        capture: Capture = None,
        system_metrics: SystemMetrics = None,
    ) -> Session:
        """Start or continue a session; use it in a `with` block, which ends it.

        Args:
            params: the hyperparameters of the run.
            ensure_unique: if True, refuse params that a running or completed session of this
                model has. If False, continue the last session with these params, or start a
                session if none exists.
            repeat: start a new session even if sessions with these params exist. Its
                `meta["repeat"]` counts the repetitions, starting from 1.
            name: a name for listings; names need not be unique. By default, listings show two
                words made from the id.
            tags: tags of the session; a continued session gets them in addition.
            group: the group of the session in listings.
            capture: what to keep as artifacts, any of `"code"` (uncommitted changes), `"packages"`
                and `"output"`; by default that of the experiment, then `$CASKET_CAPTURE`, then
                code and packages. Children capture nothing by default.
            system_metrics: the seconds between two samples of the system, or True for 15; by
                default `$CASKET_SYSTEM_METRICS`, then none.

        Raises:
            ExistingParamsException: a running or completed session has these params. If several
                processes start a session with the same params at once, only one succeeds.
            UnstorableValue: the params contain a value that cannot be stored, or a name, tag or
                group is not text.
            StoreUnavailable: the start cannot be written.
        """
        plan = self.plan(capture, system_metrics)
        labels = starting.labels(name, tags, group)
        log = starting.start(self, params, ensure_unique, repeat, labels)
        return Session(self, log, plan)

    def resume(self, session_id: str) -> Session:
        """Continue a session of this model, regardless of its status.

        Args:
            session_id: the id of the session, or a prefix of it.

        Raises:
            NoSuchSession: no session, or several sessions, of the model match.
            StoreUnavailable: the start cannot be written.
        """
        plan = self.plan()
        return Session(self, starting.resume(self, self._start_of(session_id)), plan)

    def within(self, parent: str | Parent) -> Model:
        """Return this model with a session as the parent of the sessions that it starts.

        Use it to start children in other processes, to which a session cannot be sent.

        Args:
            parent: the id of a session of this model, or a prefix of it. Its params are added to
                those of its children.

        Raises:
            NoSuchSession: no session, or several sessions, of the model match.
        """
        model = copy.copy(self)
        model.parent = Parent.of(self._start_of(parent)) if isinstance(parent, str) else parent
        return model

    def within_open(self) -> Model:
        """Return this model within its session that is open around the caller, if there is one."""
        parent = around.parent_around(self)
        return self if parent is None else self.within(parent)

    def __getstate__(self) -> dict[str, Any]:
        """Include the session that is open, for copies in other processes."""
        return {**self.__dict__, "copied_within": around.parent_around(self)}

    def _start_of(self, session_id: str) -> Record:
        """Return the start, with the current params, of the session whose id begins with a text."""
        starts = {start["session"]: start for start in self._starts()}
        ids = {session for session in starts if session.startswith(session_id)}
        matching = {session_id} & ids or ids
        if len(matching) != 1:
            location = str(self.backend.location)
            raise NoSuchSession(session_id, f"model {self.id!r} in {location}", sorted(matching))
        (session,) = matching
        return claims.look_at(self.backend, session).life.identity or starts[session]

    def _starts(self) -> Iterator[Record]:
        starts = self.backend.store.records(experiment=self.experiment.id, kinds={"session"})
        return (start for _, start in starts if start["model"] == self.id)

    def children_of(self, session_id: str) -> list[SessionView]:
        """Return the children of a session, in order of start, without reading others."""
        views = map(self.read_session, self._child_ids(session_id))
        return [view for view in views if view is not None]

    def has_children(self, session_id: str) -> bool:
        """Return whether a session has children."""
        return bool(self._child_ids(session_id))

    def _child_ids(self, session_id: str) -> dict[str, None]:
        starts = self._starts()
        ids = (each["session"] for each in starts if each["body"].get("parent") == session_id)
        return dict.fromkeys(ids)

    def resume_last(self, params: Mapping[str, Any] | None = None) -> Session:
        """Continue the last session with these params that is not running, or start a new session.

        Use it in training loops that resume from a checkpoint. If all sessions with these params
        are running, the new session is a repetition.

        Args:
            params: the hyperparameters of the run.

        Raises:
            UnstorableValue: the params contain a value that cannot be stored.
            StoreUnavailable: the start cannot be written.
        """
        plan = self.plan()
        return Session(self, starting.resume_last(self, params), plan)

    def sweep(
        self,
        space: AnySpace,
        *,
        retries: int = 1,
        shuffle: bool | int = False,
        wait: bool = False,
        where: str | Callable[[Mapping[str, Any]], bool] | None = None,
        until: str | None = None,
        on_error: OnError = "raise",
    ) -> Iterator[SweepSession]:
        """Yield a session for each set of params that no other process runs or has completed.

        Start the same script as often as you like, on all machines that share the store: each set
        runs once. Use each session in a `with` block.

        Args:
            space: a dict of the values of each param, of which all combinations run; an iterable
                of sets, which may be infinite; or `casket_integrations.optuna.suggest(...)`.
            retries: how often a set that failed or was killed is tried again. The failures of all
                processes that are at work together count; earlier ones do not.
            shuffle: whether to run the sets in random order; a number is the seed.
            wait: whether to wait for the sets that other processes run, and to run those that
                fail or are killed there.
            where: which sets to run, as a condition on the params such as `"lr > 0.5"`, or as a
                function of the params.
            until: the sweep ends, in all processes, once a session of the model meets this
                condition, such as `"best(val_loss) < 0.1"`.
            on_error: `"raise"` lets an exception in a block propagate; `"continue"` issues it as
                a warning and goes on.

        Raises:
            BadSpace: `space` is no space or cannot be shuffled, or `retries` is negative.
            BadExpression: a condition cannot be parsed, or names a param that no set has.
            StoreUnavailable: the store cannot be read or written.
        """
        from casket.writing.sweep import Options, Sweep

        return iter(Sweep(self, space, Options(retries, shuffle, wait, where, until, on_error)))

    def add_result(
        self,
        result: Mapping[str, Any],
        params: Mapping[str, Any] | None = None,
        index_by: Any = None,
    ) -> None:
        """Log a result in a new session, which is completed immediately.

        Args:
            result: the values by name.
            params: the hyperparameters of the run.
            index_by: the index of the result: text, a number, a bool or None.

        Raises:
            UnstorableValue: `result` or `params` contain a value that cannot be stored.
            StoreUnavailable: the store cannot be written.
        """
        starting.write_one_result(self, params, result, index_by, self.plan())

    def plan(self, capture: Capture = None, system_metrics: SystemMetrics = None) -> Plan:
        """Return what a session records besides what its script logs; see `session`."""
        if self.parent is not None:  # it records for its children
            return Plan.of([capture, ()], [system_metrics, False])
        return Plan.of([capture, self.experiment.capture], [system_metrics])

    def add_epoch(self, *_: Any, **__: Any) -> NoReturn:
        """Raise an error, because epochs are logged in a session.

        Raises:
            NotInASession: always; the message shows the `with` line to write.
        """
        raise NotInASession("add_epoch", "was called on a model")

    def add_batch(self, *_: Any, **__: Any) -> NoReturn:
        """Raise an error, because batches are logged in a session.

        Raises:
            NotInASession: always; the message shows the `with` line to write.
        """
        raise NotInASession("add_batch", "was called on a model")

    def sessions(
        self,
        status: str | None = None,
        tag: str | None = None,
        where: Where = None,
        *,
        children: bool = False,
    ) -> list[SessionView]:
        """Return the sessions of the model; see `Casket.sessions` for the arguments."""
        return self._read().sessions(None, None, status, tag, where, children=children)

    def to_pandas(
        self, table: Table = "sessions", *, latest: bool = False, **filters: Unpack[Selection]
    ) -> pd.DataFrame:
        """Return a pandas DataFrame of the model; see `Casket.to_pandas` for the arguments."""
        return self._read().to_pandas(table, latest=latest, **filters)

    def to_polars(
        self, table: Table = "sessions", *, latest: bool = False, **filters: Unpack[Selection]
    ) -> pl.DataFrame:
        """Return a polars DataFrame of the model; see `Casket.to_pandas` for the arguments."""
        return self._read().to_polars(table, latest=latest, **filters)

    def nearest(self, params: Mapping[str, Any], n: int = 3) -> list[Near]:
        """Return the sessions whose params are nearest to `params`, with their differences.

        Args:
            params: the params to compare with.
            n: the number of sessions to return.

        Returns:
            The sessions, nearest first: sorted by the number of params that differ, then by the
            distance of the numbers relative to their size.
        """
        return [
            near._replace(session=self.read_session(near.session.id) or near.session)
            for near in self.nearest_but(None, params, n, latest=None)
        ]

    def nearest_but(
        self,
        session_id: str | None,
        params: Mapping[str, Any],
        n: int = 3,
        latest: int | None = LATEST,
    ) -> list[Near]:
        """Return the nearest sessions except for a given session, reading only starts and ends.

        Only the latest starts are compared, so that the message of a refusal is fast for stores
        of any size.
        """
        from casket.reading.nearest import Near, nearest

        # Arrays stay lists, because a query must not store anything.
        wanted = restore(
            Encoder(names=True).mapping(params, "params"), self.backend.files.load_array
        )
        return [
            Near(view, near.difference)
            for near in nearest(self._params_by_session(session_id, latest), wanted, n)
            if (view := self.read_head(near.session)) is not None
        ]

    def _params_by_session(
        self, but: str | None, latest: int | None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the id and the current params of each session that is not deleted.

        Within a session, these are its children; otherwise children are left out.
        """
        from casket.reading.nearest import starts_of

        store, load_array = self.backend.store, self.backend.files.load_array
        ids = self.experiment.id, self.id
        deletions = [
            (number, covering(record)) for number, record in store.records(kinds={"deleted"})
        ]
        own_parent = self.parent.id if self.parent else None
        # The last start of a session has its current params.
        starts = {start[1]: start for start in starts_of(store, *ids, load_array, latest)}
        starts.pop(but or "", None)
        for number, session, params, parent in starts.values():
            start: Any = {"experiment": self.experiment.id, "model": self.id, "session": session}
            if parent != own_parent:
                continue
            if not any(later > number and is_covered(start) for later, is_covered in deletions):
                yield session, params

    def read_head(self, session_id: str) -> SessionView | None:
        """Return a session without its metrics, or None if it does not exist."""
        fold = self._fold(session=session_id, kinds={"session", "end", "tag"})
        return fold.sessions.get(session_id)

    def read_session(self, session_id: str) -> SessionView | None:
        """Return a session without reading others, or None if it does not exist."""
        return self._fold(session=session_id).sessions.get(session_id)

    def view_of(self, holder: Holder) -> SessionView:
        """Return the session that holds a claim; if it cannot be read, its last known state."""
        from casket.reading.fold import Fold

        with suppress(CasketError):
            view = self.read_session(holder.session)
            if view is not None:
                return view
        fold = Fold(self.backend.files)
        fold.add(holder.life.records)
        return fold.sessions[holder.session]

    def _fold(self, **filters: Any) -> Fold:
        from casket.reading.fold import Fold
        from casket.reading.reader import Reader

        backend = self.backend
        reader = Reader(
            backend.store,
            lambda: Fold(backend.files),
            experiment=self.experiment.id,
            **filters,
        )
        reader.read_on()
        return reader.fold

    def _read(self) -> Casket:
        return self.experiment._read(self.id)

    def _read_config(self) -> ModelView | None:
        return self._fold(kinds={"model"}).models.get((self.experiment.id, self.id))

    def _add(self, model_config: Mapping[str, Any] | None) -> None:
        config, extended = self.backend.encode_config(model_config, "model_config")
        view = self._read_config()
        if view is not None and (model_config is None or view.stored_config.value == config):
            config, extended = view.stored_config.value, view.stored_config.is_extended
            self._remember(config, extended)
            return
        self._remember(config, extended)
        self.backend.store.append([self._record(config, extended)])

    def _remember(self, config: dict[str, Any], extended: bool) -> None:
        owner = (self.experiment.id, self.id, None)
        self.backend.remember(owner, lambda: self._record(config, extended))

    def _record(self, config: dict[str, Any], extended: bool) -> Record:
        return self.backend.record(
            "model",
            {"config": config},
            extended=extended,
            experiment=self.experiment.id,
            model=self.id,
        )
