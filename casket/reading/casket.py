"""Read-only access to an experiment file: the `Casket` that `casket.open` returns."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Self, TypedDict, get_args

from casket.errors import BadLocation, NoSuchSession, OpenedForReading
from casket.format.artifacts import ArtifactFolder
from casket.format.intact import is_intact
from casket.format.records import Record
from casket.format.values import restore
from casket.reading.fold import Fold
from casket.reading.lookup import find, is_condition
from casket.reading.plain_text import without_folder
from casket.reading.query import Names
from casket.reading.reader import Reader
from casket.reading.views import ExperimentView, ModelView, Sessions, SessionView, Status
from casket.reading.where import compile_where
from casket.stores.base import Store, StoreOptions
from casket.system import forks, garbage

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from casket.reading.difference import Difference, Side
    from casket.reading.frames import Table
    from casket.reading.grouping import Groups
    from casket.reading.ranking import Ranking
    from casket.reading.rows import Mode
    from casket.stores.location import Location

STATUSES = get_args(Status)

CHANGES = frozenset({"tag", "untag", "rename", "note", "remove"})
"""The methods of `casket.maintenance.editing.EditableCasket`."""

Condition = Callable[[SessionView], bool]
Where = str | Condition | None
"""A condition as `Casket.sessions` takes it."""


class Selection(TypedDict, total=False):
    """The arguments of `Casket.sessions` that frames take, too."""

    experiment: str | None
    model: str | None
    status: str | None
    tag: str | None
    where: Where
    children: bool


Compared = str | SessionView | Condition | Sequence[SessionView]
"""A session or a group of sessions as `Casket.diff` takes it."""


class Casket:
    """A store opened for reading; it never creates, locks or changes anything.

    Each call reads the records appended since the last call. Views returned earlier are updated
    by later calls. Use it in a `with` block, or close it.

    Args:
        store: the store.
        files: the artifact folder of the store.
        location: the path or URL of the store, for display.
        experiment: restrict all results to this experiment.
        model: restrict all results to this model.

    Attributes:
        location: the path or URL of the store, for display.
        reader: the reader of the store.
    """

    def __init__(
        self,
        store: Store,
        files: ArtifactFolder,
        location: str,
        experiment: str | None = None,
        model: str | None = None,
    ) -> None:
        self._store = store
        self._files = files
        self.location = location
        self._experiment = experiment
        self._model = model
        self.reader = Reader(store, lambda: Fold(files))
        self._followers: weakref.WeakSet[_Follower] = weakref.WeakSet()
        self.after_fork()
        forks.renew_in_children(self)
        self._refresh()

    @classmethod
    def at(cls, location: Location) -> Self:
        """Open the store at a location.

        Raises:
            BadLocation: the store is in memory.
            NotFound, NotACasketFile, StoreUnavailable: the store cannot be read.
        """
        if location.kind == "memory":
            raise BadLocation(
                ":memory: cannot be opened a second time; ask the experiment: exp.sessions()"
            )
        store = location.open(StoreOptions(), writing=False)
        return cls(store, location.artifacts(), str(location))

    if not TYPE_CHECKING:  # otherwise type checkers would accept any attribute

        def __getattr__(self, name: str) -> Any:
            """Raise an error that names the way to change a store, if `name` would change it."""
            if name in CHANGES:
                raise OpenedForReading(name, self.location)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def after_fork(self) -> None:
        """Create a new lock, because the parent's may be held."""
        self._refreshing = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<casket {self.location}>"

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        printer.text(f"<casket {without_folder(self.location)}>")

    def _repr_html_(self) -> str:
        from casket.reading.html import store_html

        owner = (without_folder(self.location), self._experiment, self._model)
        title = " / ".join(filter(None, owner))
        counts = {"experiments": len(self.experiments), "models": len(self.models())}
        return store_html(title, {} if self._experiment else counts, self.sessions())

    def close(self) -> None:
        """Close the store; views stay readable."""
        self._store.close()
        self._files.close()

    @property
    def experiments(self) -> list[ExperimentView]:
        """The experiments, in order of creation."""
        self._refresh()
        return [
            view
            for view in sorted(self._fold.experiments.values(), key=attrgetter("created"))
            if self._experiment in {None, view.id}
        ]

    def models(self, experiment: str | None = None) -> list[ModelView]:
        """Return the models in the order they were added.

        Args:
            experiment: the id of an experiment, to return only its models.
        """
        self._refresh()
        wanted = {self._experiment, experiment} - {None}
        return [view for view in self._fold.models.values() if wanted <= {view.experiment}]

    def sessions(
        self,
        experiment: str | None = None,
        model: str | None = None,
        status: str | None = None,
        tag: str | None = None,
        where: Where = None,
        *,
        children: bool = False,
    ) -> list[SessionView]:
        """Return the sessions that match all filters, in order of their start.

        Args:
            experiment: the id of the experiment.
            model: the id of the model.
            status: `running`, `completed`, `failed` or `killed`.
            tag: a tag of the session or of its experiment.
            where: a function of a session, or an expression such as
                `"params.lr < 0.1 and val_loss < 0.3 or 'svm' in tags"`; see `docs/where.md` for
                the reference. A bare name refers to the latest value of a metric, or to a param
                if no metric has that name. The prefixes `params.`, `config.`, `meta.`, `last.`
                and `best.` (for metrics whose name implies a direction) make the source explicit.
                Attributes of the session are id, name, group, parent, experiment, model, status,
                tags, started, ended, duration (seconds), age (seconds), error, note and epochs
                (their number).
            children: return the children of other sessions, too.

        Raises:
            BadExpression: `where` cannot be parsed, or contains a name that no session of the
                store has; the message marks the position.
            BadLocation: `status` is not a valid status.
        """
        if status is not None and status not in STATUSES:
            raise BadLocation(f"status={status!r}: give one of {STATUSES}")
        self._refresh()
        fits = _condition(where, list(self._fold.sessions.values()))
        return Sessions(
            session
            for session in self._listed(experiment, model, children=children)
            if (status is None or session.status == status)
            and (tag is None or tag in session.tags)
            and fits(session)
        )

    def _listed(
        self, experiment: str | None, model: str | None, *, children: bool
    ) -> list[SessionView]:
        """Return the sessions of an experiment and model.

        A child whose parent is not among them, such as an imported run of another model, is not
        left out.
        """
        experiments = {self._experiment, experiment} - {None}
        models = {self._model, model} - {None}
        own = {
            name: session
            for name, session in self._fold.sessions.items()
            if experiments <= {session.experiment} and models <= {session.model}
        }
        listed = (each for each in own.values() if children or each.parent_id not in own)
        return sorted(listed, key=attrgetter("started"))

    def session(self, session_id: str) -> SessionView | None:
        """Return the session with this id, or None if it does not exist."""
        self._refresh()
        return self._fold.sessions.get(session_id)

    def __getitem__(self, name: str) -> SessionView:
        """Return a session by its id, the beginning of its id or its name; `@last` is the latest.

        Raises:
            NoSuchSession: no session, or more than one, is meant; a subclass of `KeyError`.
        """
        return find(self.sessions(children=True), name, self.location)

    def to_pandas(
        self,
        table: Table = "sessions",
        *,
        where: Where = None,
        experiment: str | None = None,
        model: str | None = None,
        status: str | None = None,
        tag: str | None = None,
        latest: bool = False,
        children: bool = False,
    ) -> pd.DataFrame:
        """Return a pandas DataFrame with flat columns: `params.lr`, `meta.commit`, metrics by name.

        Args:
            table: the entities to return as rows: `"sessions"` (with `last.` metrics),
                `"epochs"`, `"batches"` or `"results"` (each with its session and its params).
            where: a condition, as for `sessions`.
            experiment: the id of the experiment.
            model: the id of the model.
            status: the status of the sessions.
            tag: a tag of the session or of its experiment.
            latest: return a row per epoch or batch with the latest value of each metric, instead
                of a row per call.
            children: return the children of other sessions, too; the column `parent` contains the
                ids of their parents.

        Raises:
            MissingDependency: pandas is not installed.
            BadExpression, BadLocation: an argument is not valid, as for `sessions`.
        """
        from casket.reading import frames

        chosen = self.sessions(experiment, model, status, tag, where, children=children)
        return frames.to_pandas(chosen, table, latest=latest)

    def to_polars(
        self,
        table: Table = "sessions",
        *,
        where: Where = None,
        experiment: str | None = None,
        model: str | None = None,
        status: str | None = None,
        tag: str | None = None,
        latest: bool = False,
        children: bool = False,
    ) -> pl.DataFrame:
        """Return a polars DataFrame; see `to_pandas` for its columns and for the arguments.

        Raises:
            MissingDependency: polars is not installed.
            BadExpression, BadLocation: an argument is not valid, as for `sessions`.
        """
        from casket.reading import frames

        chosen = self.sessions(experiment, model, status, tag, where, children=children)
        return frames.to_polars(chosen, table, latest=latest)

    def group_by(
        self,
        *names: str,
        where: Where = None,
        experiment: str | None = None,
        model: str | None = None,
        status: str | None = None,
        tag: str | None = None,
        children: bool = False,
    ) -> Groups:
        """Group sessions by equal values, as `casket ls --group-by` does.

        Args:
            names: the names to group by, as in a condition, such as `params.lr`.
            where: a condition, as for `sessions`.
            experiment: the id of the experiment.
            model: the id of the model.
            status: the status of the sessions that count; by default completed, others are counted
                beside them.
            tag: a tag of the session or of its experiment.
            children: group the children of other sessions, too.

        Raises:
            BadExpression: no session has one of the names.
            BadLocation: `status` is not a valid status.
        """
        from casket.reading.grouping import groups

        chosen = self.sessions(experiment, model, status, tag, where, children=children)
        return groups(chosen, names, self.names(), status or "completed")

    def best(
        self,
        metric: str,
        mode: Mode | None = None,
        where: Where = None,
        top: int = 10,
        *,
        children: bool = False,
    ) -> Ranking:
        """Return the sessions with the best values of a metric, best first, as `casket best` does.

        Args:
            metric: the flat name of the metric, such as `val_loss`.
            mode: `"min"` or `"max"`; by default, as implied by the name of the metric.
            where: a condition, as for `sessions`.
            top: the number of sessions.
            children: rank the children of other sessions, too.

        Raises:
            BadExpression: no session has the metric, or `where` is not valid.
            UnknownMode: no mode is given, and the name of the metric does not imply one.
        """
        from casket.reading.ranking import rank

        sessions = self.sessions(where=where, children=children)
        self.names().check_metric(metric)
        return rank(sessions, metric, mode, top)

    def diff(
        self,
        a: Compared,
        b: Compared,
        *,
        all: bool = False,  # noqa: A002 - as the option is called
        children: bool = False,
    ) -> Difference:
        """Return the differences between two sessions or groups of sessions, as `casket diff` does.

        Args:
            a: a session, or its id, the beginning of its id or its name; or a condition as for
                `sessions`, or a list, for a group of sessions.
            b: what to compare it with, in the same way.
            all: return equal values, too.
            children: whether conditions select the children of other sessions, too.

        Raises:
            NoSuchSession: no session, or more than one, is meant, or no session fits a condition.
            BadExpression: a condition is not valid.
        """
        from casket.reading.difference import difference

        one, other = (self._side(each, children=children) for each in (a, b))
        return difference(one, other, all=all)

    def _side(self, compared: Compared, *, children: bool) -> Side:
        from casket.reading.difference import Side

        if isinstance(compared, str):
            compared = self._named(compared) or compared
        if isinstance(compared, SessionView):
            return Side(f"{compared.id[:8]} {compared.name}", [compared], is_group=False)
        if isinstance(compared, Sequence) and not isinstance(compared, str):
            return Side(f"{len(compared)} sessions", compared, is_group=True)
        if not isinstance(compared, str) and not callable(compared):
            raise TypeError(f"{compared!r}: give a session, its id or name, or a condition")
        title = compared if isinstance(compared, str) else "condition"
        sessions = self.sessions(where=compared, children=children)
        if not sessions:
            raise NoSuchSession(title, self.location, [])
        return Side(title, sessions, is_group=True)

    def _named(self, text: str) -> SessionView | None:
        """Return the session that a text means, or None if the text is a condition."""
        try:
            return self[text]
        except NoSuchSession as error:
            if error.matching or not is_condition(text):
                raise
        return None

    def names(self) -> Names:
        """Return the names that the sessions of the store have, for use in conditions."""
        self._refresh()
        return Names(self._fold.sessions.values())

    def follow(
        self,
        poll: float = 0.2,
        timeout: float | None = None,
        on_idle: Callable[[], object] | None = None,
    ) -> Iterator[Record]:
        """Yield new records as they are appended.

        Args:
            poll: the polling interval in seconds.
            timeout: stop after this many seconds without a new record; None to never stop.
            on_idle: called whenever there is no new record, before waiting.
        """
        self._refresh()
        follower = _Follower()
        self._followers.add(follower)
        return self._follow(follower, poll, timeout, on_idle or (lambda: None))

    def _follow(
        self,
        follower: _Follower,
        poll: float,
        timeout: float | None,
        on_idle: Callable[[], object],
    ) -> Iterator[Record]:
        silent_since = time.monotonic()
        while True:
            self._refresh()
            while follower.waiting:
                yield self._shown(follower.waiting.popleft())
                silent_since = time.monotonic()
            on_idle()
            if timeout is not None and time.monotonic() - silent_since >= timeout:
                return
            time.sleep(poll)

    def _shown(self, record: Record) -> Record:
        if "extended" not in record or not is_intact(record):
            return record
        return {**record, "body": restore(record["body"], self._files.load_array)}

    @property
    def _fold(self) -> Fold:
        return self.reader.fold

    def _refresh(self) -> None:
        """Read the records appended since the last call."""
        with self._refreshing, garbage.paused():
            followers = list(self._followers)
            for new in self.reader.chunks():
                for follower in followers:
                    follower.waiting.extend(new)


class _Follower:
    """The records that a `follow` iterator has not yielded yet."""

    def __init__(self) -> None:
        self.waiting: deque[Record] = deque()


def _condition(where: Where, sessions: Collection[SessionView]) -> Condition:
    if where is None:
        return lambda _: True
    if callable(where):
        return where
    fits, names = compile_where(where), Names(sessions)
    names.check(fits.names, where)
    return lambda session: fits(lambda name: names.value(session, name))
