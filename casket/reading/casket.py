"""Reading an experiment file: `casket.open` and what it gives."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterator
from operator import attrgetter
from types import TracebackType
from typing import TYPE_CHECKING, get_args

from casket.errors import BadLocation
from casket.format.artifacts import ArtifactFolder
from casket.format.records import Record
from casket.format.values import restore
from casket.reading.fold import Fold
from casket.reading.query import Names
from casket.reading.reader import Reader
from casket.reading.views import ExperimentView, ModelView, SessionView, Status
from casket.reading.where import compile_where
from casket.stores.base import Store
from casket.system import forks

if TYPE_CHECKING:
    import os

    import pandas as pd
    import polars as pl

    from casket.reading.frames import Table

STATUSES = get_args(Status)


class Casket:
    """A store opened to read: it never creates, locks or changes anything.

    Everything asked of it shows what is in the store at that moment; views already given go on
    to show what was read since. Use it in a `with` block, or close it.

    Args:
        store: the store.
        files: its artifacts.
        place: what to call it.
        experiment: show this experiment only.
        model: show this model only.

    Attributes:
        place: what to call it.
    """

    def __init__(
        self,
        store: Store,
        files: ArtifactFolder,
        place: str,
        experiment: str | None = None,
        model: str | None = None,
    ) -> None:
        self._store = store
        self._files = files
        self.place = place
        self._experiment = experiment
        self._model = model
        self._reader = Reader(store, lambda: Fold(files))
        self._followers: weakref.WeakSet[_Follower] = weakref.WeakSet()
        self.after_fork()
        forks.renew_in_children(self)
        self._refresh()

    def after_fork(self) -> None:
        """Take a lock of its own."""
        self._refreshing = threading.Lock()

    def __enter__(self) -> Casket:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<casket {self.place}>"

    def close(self) -> None:
        """Free the file; views stay readable."""
        self._store.close()

    @property
    def experiments(self) -> list[ExperimentView]:
        """The experiments, in the order they were created."""
        self._refresh()
        return [
            view
            for view in sorted(self._fold.experiments.values(), key=attrgetter("created"))
            if self._experiment in {None, view.id}
        ]

    def models(self, experiment: str | None = None) -> list[ModelView]:
        """Return the models, in the order they were added; of one experiment, if it is named."""
        self._refresh()
        wanted = {self._experiment, experiment} - {None}
        return [view for view in self._fold.models.values() if wanted <= {view.experiment}]

    def sessions(
        self,
        experiment: str | None = None,
        model: str | None = None,
        status: str | None = None,
        tag: str | None = None,
        where: str | Callable[[SessionView], bool] | None = None,
    ) -> list[SessionView]:
        """Return the sessions that fit, in the order they began.

        Args:
            experiment: the id of their experiment.
            model: the id of their model.
            status: `running`, `completed`, `failed` or `killed`.
            tag: a tag of theirs or of their experiment.
            where: a function of a session, or an expression such as
                `"params.lr < 0.1 and val_loss < 0.3 or 'svm' in tags"`; `docs/where.md` is its
                reference. A bare name is the latest value of a metric, or a param if no metric
                has that name; `params.`, `config.`, `meta.`, `last.` and `best.` (of metrics
                whose name implies which way is better) state where to look; id, experiment,
                model, status, tags, started, ended, duration (seconds), age (seconds), error,
                note and epochs (how many) are the session's own.

        Raises:
            BadExpression: `where` cannot be read, or no session of the store has a name in it;
                points at the mistake.
            BadLocation: there is no such status.
        """
        if status is not None and status not in STATUSES:
            raise BadLocation(f"status={status!r}: give one of {STATUSES}")
        self._refresh()
        fits = _condition(where, list(self._fold.sessions.values()))
        experiments = {self._experiment, experiment} - {None}
        models = {self._model, model} - {None}
        return [
            session
            for session in sorted(self._fold.sessions.values(), key=attrgetter("started"))
            if experiments <= {session.experiment}
            and models <= {session.model}
            and (status is None or session.status == status)
            and (tag is None or tag in session.tags)
            and fits(session)
        ]

    def session(self, session_id: str) -> SessionView | None:
        """Return the session of an id; None if it is not there."""
        self._refresh()
        return self._fold.sessions.get(session_id)

    def to_pandas(self, table: Table = "sessions") -> pd.DataFrame:
        """Return a frame with flat columns: `params.lr`, `meta.commit`, metrics by name.

        Args:
            table: a row for each of these: `"sessions"` (with `last.` metrics), `"epochs"`,
                `"batches"` or `"results"` (each with its session and its params).

        Raises:
            MissingDependency: pandas is not installed.
        """
        from casket.reading import frames

        return frames.to_pandas(self.sessions(), table)

    def to_polars(self, table: Table = "sessions") -> pl.DataFrame:
        """Return the same as a polars frame.

        Raises:
            MissingDependency: polars is not installed.
        """
        from casket.reading import frames

        return frames.to_polars(self.sessions(), table)

    def follow(self, poll: float = 0.2, timeout: float | None = None) -> Iterator[Record]:
        """Yield what is added from now on, as records, as soon as it is there.

        Args:
            poll: seconds between two looks.
            timeout: stop after so many seconds without a record; None: never.
        """
        self._refresh()
        follower = _Follower()
        self._followers.add(follower)
        return self._follow(follower, poll, timeout)

    def _follow(self, follower: _Follower, poll: float, timeout: float | None) -> Iterator[Record]:
        silent_since = time.monotonic()
        while True:
            self._refresh()
            while follower.waiting:
                yield self._shown(follower.waiting.popleft())
                silent_since = time.monotonic()
            if timeout is not None and time.monotonic() - silent_since >= timeout:
                return
            time.sleep(poll)

    def _shown(self, record: Record) -> Record:
        if "extended" not in record:
            return record
        return {**record, "body": restore(record["body"], self._files.load_array)}

    @property
    def _fold(self) -> Fold:
        return self._reader.fold

    def _refresh(self) -> None:
        """Read what was added since the last time."""
        with self._refreshing:
            followers = list(self._followers)
            for new in self._reader.chunks():
                for follower in followers:
                    follower.waiting.extend(new)


class _Follower:
    """What one `follow` has still to yield."""

    def __init__(self) -> None:
        self.waiting: deque[Record] = deque()


def open_to_read(url: str | os.PathLike[str]) -> Casket:
    """Open a store to read; nothing is created, locked or changed.

    Args:
        url: a path or URL.

    Raises:
        NotFound: it does not exist.
        NotACasketFile: it holds something else.
        StoreUnavailable: it cannot be read.
        BadLocation: `url` names no place.
    """
    from casket.stores.base import StoreOptions
    from casket.stores.location import locate

    place = locate(url)
    if place.kind == "memory":
        raise BadLocation(
            ":memory: cannot be opened a second time; ask the experiment: exp.sessions()"
        )
    return Casket(place.open(StoreOptions(), writing=False), place.artifacts(), str(place))


Condition = Callable[[SessionView], bool]


def _condition(where: str | Condition | None, sessions: Collection[SessionView]) -> Condition:
    if where is None:
        return lambda _: True
    if callable(where):
        return where
    fits, names = compile_where(where), Names(sessions)
    names.check(fits.names, where)
    return lambda session: fits(lambda name: names.value(session, name))
