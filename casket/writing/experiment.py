"""Experiments and models: what a script opens to log into."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, Self

from casket.errors import (
    CasketError,
    ExistingExperimentError,
    NoSuchSession,
    NotInASession,
    UnstorableValue,
)
from casket.format.records import Record, claim_key, covering, new_id
from casket.format.values import Encoder, restore
from casket.stores import location as locate
from casket.stores.base import Claimed, Offline, StoreOptions, Sync
from casket.writing.backend import Backend
from casket.writing.session import Session

if TYPE_CHECKING:
    import pandas as pd
    from tinydb import TinyDB

    from casket.reading.casket import Casket
    from casket.reading.fold import Fold
    from casket.reading.frames import Table
    from casket.reading.nearest import Near
    from casket.reading.views import ModelView, SessionView
    from casket.writing.claims import Holder

LATEST = 2_000
"""Starts that the params of a refused session are compared with."""

Where = str | Callable[["SessionView"], bool] | None


class Experiment:
    """An experiment in a store: what groups models.

    Open one with `use` or `new`. A subclass may override `get_id`, which then decides the id.
    Handles pickle, copy and survive a fork.

    Attributes:
        id: what identifies it in the store.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        exp_id: str | None = None,
        tags: Iterable[str] = (),
        *,
        sync: Sync = "session",
        flush_timeout: float = 30.0,
        offline: Offline = "refuse",
        **facts: Any,
    ) -> None:
        """Name an experiment without writing anything; `use` and `new` take the same."""
        options = StoreOptions(sync, flush_timeout, offline).checked()
        self.backend = Backend(locate.locate(path), options)
        self._exp_id = exp_id
        self._given_tags = _tags(tags)
        self._given_facts = facts
        self.id = str(self.get_id() or new_id())
        self.backend.remember((self.id, None, None), self._record)

    @classmethod
    def use(
        cls,
        path: str | os.PathLike[str],
        exp_id: str | None = None,
        tags: Iterable[str] = (),
        *,
        sync: Sync = "session",
        flush_timeout: float = 30.0,
        offline: Offline = "refuse",
        **facts: Any,
    ) -> Self:
        """Create an experiment, or join the one of that id.

        Args:
            path: a file or URL; a file is created if it does not exist, its folder is not.
            exp_id: its id; a random one if neither this nor an overridden `get_id` gives one.
            tags: tags to add.
            sync: `"session"` syncs the file against power loss at a session's end and at most
                once a second meanwhile, `"always"` at every record.
            flush_timeout: seconds a session's end waits for what a remote store has not
                confirmed; a local one has nothing to wait for.
            offline: whether a session may start (`"allow"`) or not (`"refuse"`) when a remote
                store cannot be reached; a local one always can.
            facts: anything else to keep about the experiment.

        Raises:
            BadLocation: `path` is no place, or an option is not one of those above.
            NotACasketFile: the file holds something else; it was left as it is.
            StoreUnavailable: the file cannot be written.
            UnstorableValue: a fact cannot be stored.
        """
        options: Any = {"sync": sync, "flush_timeout": flush_timeout, "offline": offline}
        experiment = cls(path, exp_id, tags, **options, **facts)
        try:
            experiment._create()
        except Claimed:
            experiment._join()
        return experiment

    @classmethod
    def new(
        cls,
        path: str | os.PathLike[str],
        exp_id: str | None = None,
        tags: Iterable[str] = (),
        *,
        sync: Sync = "session",
        flush_timeout: float = 30.0,
        offline: Offline = "refuse",
        **facts: Any,
    ) -> Self:
        """Create an experiment; arguments and errors are those of `use`.

        Raises:
            ExistingExperimentError: there is one of that id.
        """
        options: Any = {"sync": sync, "flush_timeout": flush_timeout, "offline": offline}
        experiment = cls(path, exp_id, tags, **options, **facts)
        try:
            experiment._create()
        except Claimed:
            place = str(experiment.backend.place)
            raise ExistingExperimentError(experiment.id, place) from None
        return experiment

    def get_id(self) -> str | None:
        """Return the experiment's id; override it to decide otherwise than by `exp_id`."""
        return self._exp_id

    @property
    def exp_id(self) -> str:
        """The experiment's id."""
        return self.id

    def __repr__(self) -> str:
        return f"<experiment {self.id!r} in {self.backend.place}>"

    def model(self, model_id: str, model_config: Mapping[str, Any] | None = None) -> Model:
        """Return the model of that id, and add it to the experiment if it is not there.

        Args:
            model_id: what identifies it in the experiment.
            model_config: what stays the same over all its sessions.

        Raises:
            UnstorableValue: something in the config cannot be stored.
            StoreUnavailable: it cannot be written.
        """
        return Model(self, model_id, model_config)

    def add_tag(self, tag: str) -> None:
        """Tag the experiment; a tag it has already changes nothing."""
        self._retag(add=_tags([tag]))

    def remove_tag(self, tag: str) -> None:
        """Take a tag away; one it does not have changes nothing."""
        self._retag(remove=_tags([tag]))

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags, in the order they were added."""
        view = self._read_heads().experiments.get(self.id)
        return view.tags if view else ()

    def exists(self) -> bool:
        """Tell whether the experiment is in the store (it may have been removed)."""
        records = self.backend.store.records(experiment=self.id, kinds={"experiment"})
        return next(records, None) is not None

    def get_models(self) -> list[Model]:
        """Return its models, in the order they were added."""
        return [Model(self, view.id, None) for view in self._read_heads().models.values()]

    def sessions(
        self,
        model: str | None = None,
        status: str | None = None,
        tag: str | None = None,
        where: Where = None,
    ) -> list[SessionView]:
        """Return its sessions, as `Casket.sessions` does."""
        return self._read().sessions(model=model, status=status, tag=tag, where=where)

    def to_pandas(self, table: Table = "sessions") -> pd.DataFrame:
        """Return its sessions, epochs, batches or results, as `Casket.to_pandas` does."""
        return self._read().to_pandas(table)

    def to_polars(self, table: Table = "sessions") -> Any:
        """Return the same as a polars frame."""
        return self._read().to_polars(table)

    @property
    def db(self) -> TinyDB:
        """A TinyDB over the store, to query only: `exp.db.search(where("kind") == "epoch")`."""
        from casket.writing.tinydb import tinydb_of

        return tinydb_of(self.backend)

    def close(self) -> None:
        """Free the file; the experiment opens it again when it is used."""
        self.backend.store.close()

    def _read(self, model: str | None = None) -> Casket:
        from casket.reading.casket import Casket

        backend = self.backend
        return Casket(backend.store, backend.files, str(backend.place), self.id, model)

    def _read_heads(self) -> Fold:
        """Return what is known of the experiment itself and its models, reading no session."""
        from casket.reading.fold import Fold

        backend = self.backend
        fold = Fold(backend.files)
        heads = {"experiment", "model", "tag"}
        numbered = backend.store.records(experiment=self.id, kinds=heads)
        fold.add(record for _, record in numbered if "session" not in record)
        return fold

    def _create(self) -> None:
        record = self._record()
        self.backend.store.append([record], claim=record["claim"])

    def _record(self) -> Record:
        claim = claim_key(self.id, "", None)
        facts, extended = self.backend.encode(self._given_facts, "facts")
        body = {"tags": list(self._given_tags), "facts": facts}
        return self.backend.record(
            "experiment", body, extended=extended, experiment=self.id, claim=claim
        )

    def _join(self) -> None:
        """Add what this handle was given and the experiment does not have."""
        if not self._given_tags and not self._given_facts:
            return
        facts, extended = self.backend.encode(self._given_facts, "facts")
        view = self._read_heads().experiments.get(self.id)
        if view and set(self._given_tags) <= set(view.tags) and view.has_facts(facts):
            return
        body = {"tags": list(self._given_tags), "facts": facts}
        record = self.backend.record("experiment", body, extended=extended, experiment=self.id)
        self.backend.store.append([record])

    def _retag(self, **change: tuple[str, ...]) -> None:
        body: dict[str, Any] = {name: list(tags) for name, tags in change.items()}
        record = self.backend.record("tag", body, extended=False, experiment=self.id)
        self.backend.store.append([record])


class Model:
    """A model of an experiment: what groups sessions. Handles pickle, copy and survive a fork.

    Attributes:
        id: what identifies it in the experiment.
        experiment: the experiment it belongs to.
    """

    def __init__(
        self, experiment: Experiment, model_id: str, model_config: Mapping[str, Any] | None
    ) -> None:
        self.experiment = experiment
        self.backend = experiment.backend
        self.id = str(model_id)
        self._add(model_config)

    @property
    def experiment_id(self) -> str:
        """The id of its experiment."""
        return self.experiment.id

    @property
    def model_id(self) -> str:
        """The model's id."""
        return self.id

    def __repr__(self) -> str:
        return f"<model {self.id!r} of {self.experiment!r}>"

    @property
    def config(self) -> dict[str, Any]:
        """Its `model_config`."""
        view = self._read_config()
        return view.config if view else {}

    def session(
        self,
        params: Mapping[str, Any] | None = None,
        ensure_unique: bool = True,
        *,
        repeat: bool = False,
    ) -> Session:
        """Begin a session, or continue one; use it in a `with` block, which ends it.

        Args:
            params: the hyperparameters of this run.
            ensure_unique: refuse params that a running or completed session of this model has;
                else go on with the last session that has them, or begin one.
            repeat: begin a new session, whatever sessions have these params. Its `meta["repeat"]`
                counts the repetitions, from 1.

        Raises:
            ExistingParamsException: there is such a session. Of processes that race for the same
                params, one begins.
            UnstorableValue: something in the params cannot be stored.
            StoreUnavailable: the start cannot be written.
        """
        return Session(self, params, ensure_unique, repeat)

    def resume(self, session_id: str) -> Session:
        """Go on with a session of this model, whatever its status.

        Args:
            session_id: its id, or the beginning of it.

        Raises:
            NoSuchSession: the model has no such session, or several.
            StoreUnavailable: the start cannot be written.
        """
        starts = self.backend.store.records(experiment=self.experiment.id, kinds={"session"})
        matching = {
            start["session"]: start
            for _, start in starts
            if start["model"] == self.id and start["session"].startswith(session_id)
        }
        if len(matching) != 1:
            place = str(self.backend.place)
            raise NoSuchSession(session_id, f"model {self.id!r} in {place}", sorted(matching))
        return Session.resumed(self, *matching.values())

    def resume_last(self, params: Mapping[str, Any] | None = None) -> Session:
        """Go on with the last session of these params that is not running, or begin one.

        Training loops that resume from a checkpoint start here. If all sessions of these params
        are running, the new session is a repetition.

        Args:
            params: the hyperparameters of this run.

        Raises:
            UnstorableValue: something in the params cannot be stored.
            StoreUnavailable: the start cannot be written.
        """
        return Session.resumed_last(self, params)

    def add_result(
        self,
        result: Mapping[str, Any],
        params: Mapping[str, Any] | None = None,
        index_by: Any = None,
    ) -> None:
        """Log a result in a session of its own, which is completed at once.

        Args:
            result: values by name.
            params: the hyperparameters it was reached with.
            index_by: what to file it under: text, a number, a bool or None.

        Raises:
            UnstorableValue: `result` or `params` hold something no store can keep.
            StoreUnavailable: it cannot be written.
        """
        Session.of_one_result(self, params, result, index_by)

    def add_epoch(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: epochs are logged in a session.

        Raises:
            NotInASession: always; shows the `with` line to write.
        """
        raise NotInASession("add_epoch", "was called on a model")

    def add_batch(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: batches are logged in a session.

        Raises:
            NotInASession: always; shows the `with` line to write.
        """
        raise NotInASession("add_batch", "was called on a model")

    def sessions(
        self, status: str | None = None, tag: str | None = None, where: Where = None
    ) -> list[SessionView]:
        """Return its sessions, as `Casket.sessions` does."""
        return self._read().sessions(status=status, tag=tag, where=where)

    def to_pandas(self, table: Table = "sessions") -> pd.DataFrame:
        """Return its sessions, epochs, batches or results, as `Casket.to_pandas` does."""
        return self._read().to_pandas(table)

    def to_polars(self, table: Table = "sessions") -> Any:
        """Return the same as a polars frame."""
        return self._read().to_polars(table)

    def nearest(self, params: Mapping[str, Any], n: int = 3) -> list[Near]:
        """Return the sessions whose params differ least from `params`, with the difference.

        Args:
            params: the params asked for.
            n: how many.

        Returns:
            Nearest first: by the number of params that differ, then by how far numbers are
            apart, relative to their size.
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
        """Do the same without one session, reading no more than starts and ends.

        For the message of a refusal, which must not take long in a store of any size, only the
        latest starts are compared.
        """
        from casket.reading.nearest import Near, nearest

        # Arrays stay lists: a question stores nothing.
        wanted = restore(Encoder().mapping(params, "params"), self.backend.files.load_array)
        return [
            Near(view, near.difference)
            for near in nearest(self._params_by_session(session_id, latest), wanted, n)
            if (view := self._read_heads_of(near.session)) is not None
        ]

    def _params_by_session(
        self, but: str | None, latest: int | None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the id and the params of each session that was not deleted, by its first start."""
        from casket.reading.nearest import starts_of

        store, load_array = self.backend.store, self.backend.files.load_array
        ids, seen = (self.experiment.id, self.id), {but}
        deletions = [
            (number, covering(record)) for number, record in store.records(kinds={"deleted"})
        ]
        for number, session, params in starts_of(store, *ids, load_array, latest):
            start: Any = {"experiment": self.experiment.id, "model": self.id, "session": session}
            if session in seen:
                continue
            seen.add(session)
            if not any(later > number and is_covered(start) for later, is_covered in deletions):
                yield session, params

    def _read_heads_of(self, session_id: str) -> SessionView | None:
        fold = self._fold(session=session_id, kinds={"session", "end"})
        return fold.sessions.get(session_id)

    def read_session(self, session_id: str) -> SessionView | None:
        """Return one of its sessions, reading no other; None if it is not there."""
        return self._fold(session=session_id).sessions.get(session_id)

    def view_of(self, holder: Holder) -> SessionView:
        """Return the session that holds a claim; if it cannot be read by now, as it was then."""
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
        config, extended = self.backend.encode(model_config or {}, "model_config")
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


def _tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags as a tuple; one given as a text is one tag.

    Raises:
        UnstorableValue: one is not text.
    """
    names = (tags,) if isinstance(tags, str) else tuple(tags)
    for tag in names:
        if not isinstance(tag, str):
            raise UnstorableValue("tags", type(tag).__name__, "give text")
    return names
