"""Sweeps without a server: each set of params runs once, over all processes that share the store.

The claims of the store decide who runs a set (`docs/decisions/0003-claims.md`). A sweep adds the
order, what is passed over, and what is tried again.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Event
from typing import Any, Literal, NamedTuple

from casket.errors import BadSpace, CasketWarning
from casket.format.records import utc_now
from casket.writing import starting, sweep_conditions
from casket.writing.capture.choices import Plan
from casket.writing.log import SessionLog
from casket.writing.refusal import ExistingParamsException
from casket.writing.runs import Runs
from casket.writing.session import Session
from casket.writing.spaces import Space, space_of
from casket.writing.starting import SessionsModel

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two looks at what other processes run."""


OnError = Literal["raise", "continue"]


class SweepSession(Session):
    """A session of a sweep, whose block may leave by an exception without ending the sweep."""

    def __init__(
        self, model: SessionsModel, log: SessionLog, plan: Plan, on_error: OnError
    ) -> None:
        super().__init__(model, log, plan)
        self._on_error = on_error

    def __exit__(self, kind: Any, exc: BaseException | None, trace: Any) -> bool | None:  # type: ignore[override]
        super().__exit__(kind, exc, trace)
        if self._on_error == "raise" or not isinstance(exc, Exception):
            return None
        warnings.warn(
            f"session {self.id} failed with {type(exc).__name__}: {exc}; the sweep goes on",
            CasketWarning,
            stacklevel=2,
        )
        return True

    def fail(self, error: str) -> None:
        """End the session as failed, even if an attached process has ended it as completed."""
        self.end("failed", error)
        starts = self._log.backend.store.records(session=self.id, kinds={"session"})
        *_, (_, start) = starts
        if start["writer"] != self._log.writer.id:
            Session(self._model, starting.resume(self._model, start)).end("failed", error)


class Options(NamedTuple):
    """The options of `Model.sweep`."""

    retries: int
    wait: bool
    where: Callable[[Mapping[str, Any]], bool] | None
    until: Callable[[], bool] | None
    on_error: OnError
    stopping: Event


class _Set(NamedTuple):
    """A set of params of the space."""

    position: int
    params: Mapping[str, Any]
    claim: str


def begin(
    model: SessionsModel,
    space: Mapping[str, Any] | Iterable[Mapping[str, Any]],
    *,
    retries: int = 1,
    shuffle: bool | int = False,
    wait: bool = False,
    where: str | Callable[[Mapping[str, Any]], bool] | None = None,
    until: str | None = None,
    on_error: OnError = "raise",
    stopping: Event | None = None,
) -> Sweep:
    """Begin a sweep; see `Model.sweep` for the arguments.

    Once `stopping` is set, the sweep ends, also while it waits for other processes.
    """
    if retries < 0:
        raise BadSpace(f"retries={retries}: give 0 or more")
    sets = space_of(space, shuffle)
    if isinstance(where, str):
        where = sweep_conditions.params_condition(where, sets)
    is_over = sweep_conditions.Until(model, until) if until is not None else None
    options = Options(retries, wait, where, is_over, on_error, stopping or Event())
    return Sweep(model, sets, options)


class Sweep:
    """A sweep in this process; iterating over it yields the sessions to run.

    Args:
        model: the model of the sessions.
        space: the sets of params.
        options: the options.
    """

    def __init__(self, model: SessionsModel, space: Space, options: Options) -> None:
        self._model, self._space, self._options = model, space, options
        self._runs = Runs(model.backend.store, model.experiment_id)
        self._elsewhere: list[_Set] = []
        self._claims: set[str] | None = None
        self._runs.read_on()
        self._began = self._began_with_others()

    def __iter__(self) -> Iterator[SweepSession]:
        self._runs.read_on()
        for one in self._sets():
            yield from self._run(one)
        yield from self._run_what_others_left()

    @property
    def id(self) -> str:
        """The id of the space, see `casket.writing.spaces.Space`."""
        return self._space.id

    def progress(self) -> tuple[int, int]:
        """Return how many sets are completed, whoever ran them, and how many there are."""
        self._runs.read_on()
        if self._claims is None:
            self._claims = {one.claim for one in self._sets()}
        done = sum(self._runs.state(claim) == "completed" for claim in self._claims)
        return done, len(self._claims)

    def is_complete(self) -> bool:
        """Return whether all sets are completed, or the condition `until` is met."""
        done, size = self.progress()
        until = self._options.until
        return done == size or (until is not None and until())

    def _began_with_others(self) -> str:
        """Return when the processes that are at work together began."""
        others: list[str] = [
            sweep["began"]
            for start in self._runs.running()
            if (sweep := start["body"].get("meta", {}).get("sweep"))
            and sweep.get("id") == self._space.id
        ]
        return min([utc_now(), *others])

    def _sets(self) -> Iterator[_Set]:
        where = self._options.where
        for position, params in enumerate(self._space.sets):
            if where is None or where(params):
                yield _Set(position, params, starting.claim_of(self._model, params))

    def _run(self, one: _Set) -> Iterator[SweepSession]:
        """Yield the tries of a set, unless others run it or have completed it."""
        while not self._is_over():
            session = self._start(one)
            if session is None:
                return
            try:
                yield session
            except GeneratorExit:
                session.end("failed", error="the loop over the sweep was left")
                raise
            session.end()

    def _is_over(self) -> bool:
        until, stopping = self._options.until, self._options.stopping
        return stopping.is_set() or (until is not None and until())

    def _start(self, one: _Set) -> SweepSession | None:
        self._refresh(one)
        if self._runs.state(one.claim) == "free" and not self._is_given_up(one):
            try:
                return self._session(one)
            except ExistingParamsException:
                self._runs.read_on()  # another process was quicker
        if self._runs.state(one.claim) != "completed" and not self._is_given_up(one):
            self._elsewhere.append(one)
        return None

    def _refresh(self, one: _Set) -> None:
        """Read on, unless the set is known to be out of reach."""
        if self._runs.state(one.claim) == "free":
            self._runs.read_on()

    def _is_given_up(self, one: _Set) -> bool:
        return self._runs.tries(one.claim, self._began) > self._options.retries

    def _session(self, one: _Set) -> SweepSession:
        sweep = {
            "id": self._space.id,
            "size": self._space.size,
            "position": one.position,
            "began": self._began,
        }
        plan = self._model.plan()
        log = starting.start(self._model, one.params, ensure_unique=True, meta={"sweep": sweep})
        return SweepSession(self._model, log, plan, self._options.on_error)

    def _run_what_others_left(self) -> Iterator[SweepSession]:
        """Take over what other processes ran when it was passed, and left since."""
        pause = _FIRST_PAUSE
        while self._elsewhere and not self._is_over():
            self._runs.look_again()
            waiting, self._elsewhere = self._elsewhere, []
            for one in waiting:
                yield from self._run(one)
            if not self._options.wait or not self._elsewhere:
                return
            pause = _FIRST_PAUSE if len(self._elsewhere) < len(waiting) else pause
            logging.getLogger("casket").debug(
                "the sweep waits for %d sets that other processes run", len(self._elsewhere)
            )
            self._options.stopping.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
