"""Sweeps without a server: each set of params runs once, over all processes that share the store.

The claims of the store decide who runs a set (`docs/decisions/0003-claims.md`). A sweep adds the
order, what is passed over, and what is tried again.
"""

from __future__ import annotations

import logging
import secrets
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from threading import Event
from typing import Any, Literal, NamedTuple

from casket.errors import BadSpace, CasketWarning
from casket.format.records import Record, utc_now
from casket.writing import starting, sweep_conditions
from casket.writing.capture.choices import Plan
from casket.writing.log import SessionLog
from casket.writing.outcome import is_pruning
from casket.writing.refusal import ExistingParamsException
from casket.writing.runs import Runs
from casket.writing.session import Session
from casket.writing.spaces import AnySpace, Search, Suggestion, space_of
from casket.writing.starting import SessionsModel

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two looks at what other processes run."""

_WIDEST = 256.0
"""The largest number of sets to choose from."""


OnError = Literal["raise", "continue"]


@dataclass(frozen=True)
class Options:
    """The options of a sweep; `Model.sweep` describes them."""

    retries: int = 1
    shuffle: bool | int = False
    wait: bool = False
    where: str | Callable[[Mapping[str, Any]], bool] | None = None
    until: str | None = None
    on_error: OnError = "raise"


class SweepSession(Session):
    """A session of a sweep, whose block may leave by an exception without ending the sweep."""

    def __init__(
        self,
        model: SessionsModel,
        log: SessionLog,
        plan: Plan,
        suggestion: Suggestion,
        on_error: OnError,
    ) -> None:
        super().__init__(model, log, plan)
        self._suggestion, self._on_error = suggestion, on_error
        suggestion.start(self)

    def should_prune(self) -> bool:
        """Return whether the pruner of the sweep ends the session, by what was logged so far."""
        return self._suggestion.should_prune(self)

    def __exit__(self, kind: Any, exc: BaseException | None, trace: Any) -> bool | None:  # type: ignore[override]
        super().__exit__(kind, exc, trace)
        if exc is not None and is_pruning(exc):
            return True
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


class _Set(NamedTuple):
    """A set of params of the space."""

    position: int
    suggestion: Suggestion
    claim: str


class Sweep:
    """A sweep in this process; iterating over it yields the sessions to run.

    Args:
        model: the model of the sessions.
        space: the sets of params, as for `Model.sweep`.
        options: the options.
        stopping: once it is set, the sweep ends, also while it waits for other processes.

    Raises:
        BadSpace: as for `Model.sweep`.
        BadExpression: as for `Model.sweep`.
    """

    def __init__(
        self,
        model: SessionsModel,
        space: AnySpace,
        options: Options = Options(),
        stopping: Event | None = None,
    ) -> None:
        if options.retries < 0:
            raise BadSpace(f"retries={options.retries}: give 0 or more")
        self._model, self._options = model, options
        self._space = space_of(space, options.shuffle)
        self._where = sweep_conditions.params_condition(options.where, self._space)
        self._until = sweep_conditions.until_condition(options.until, model)
        self._stopping = stopping or Event()
        self._runs = Runs(model.backend.store, model.experiment_id)
        self._elsewhere: list[_Set] = []
        self._choice = _Choice(is_open=self._space.search is None and self._space.size is not None)
        self._claims: set[str] | None = None
        self._runs.read_on()
        self._began = self._began_with_others()

    def __iter__(self) -> Iterator[SweepSession]:
        self._runs.read_on()
        for one in self._in_turn():
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
        return done == size or self._until()

    def _began_with_others(self) -> str:
        """Return when the processes that are at work together began."""
        at_work = filter(self._is_own, self._runs.running())
        others: list[str] = [start["body"]["meta"]["sweep"]["began"] for start in at_work]
        return min([utc_now(), *others])

    def _is_own(self, start: Record) -> bool:
        """Return whether a session was started by this sweep, in any process."""
        parent = self._model.parent
        body = start["body"]
        owner = (start["model"], body.get("parent"))
        sweep = body.get("meta", {}).get("sweep") or {}
        return owner == (self._model.id, parent and parent.id) and sweep.get("id") == self.id

    def _sets(self) -> Iterator[_Set]:
        for position, suggestion in enumerate(self._suggestions()):
            if self._where(suggestion.params):
                claim = starting.claim_of(self._model, suggestion.params)
                yield _Set(position, suggestion, claim)

    def _in_turn(self) -> Iterator[_Set]:
        """Yield the sets to run, in order as long as no other process is quicker."""
        sets, near = self._sets(), list[_Set]()
        while not self._is_over():
            near = list(self._free(near))
            near += islice(self._free(sets), max(0, self._choice.width - len(near)))
            if not near:
                return
            yield near.pop(self._choice.of(len(near)))

    def _suggestions(self) -> Iterator[Suggestion]:
        if self._space.search is None:
            return map(Suggestion, self._space.sets)
        return self._searched(self._space.search)

    def _searched(self, search: Search) -> Iterator[Suggestion]:
        """Yield what a search chooses, until all processes together have run enough."""
        suggestions = search.suggestions(self._model, self.id)
        pauses = _Pauses(self._stopping)
        while not self._is_over():
            self._runs.look_again()
            claims = self._runs.claims_of(self._is_own)
            if sum(map(self._is_taken, claims)) < search.trials:
                suggestion = next(suggestions, None)
                if suggestion is None:
                    return
                yield suggestion
                pauses = _Pauses(self._stopping)
            elif self._options.wait and any(map(self._is_running, claims)):
                pauses.wait()
            else:
                return

    def _is_taken(self, claim: str) -> bool:
        return self._runs.state(claim) != "free" or self._is_given_up(claim)

    def _is_running(self, claim: str) -> bool:
        return self._runs.state(claim) == "running"

    def _free(self, sets: Iterable[_Set]) -> Iterator[_Set]:
        """Yield the sets that are to be run, as far as was read, and pass over the others."""
        for one in sets:
            if self._is_taken(one.claim):
                self._pass(one)
            else:
                yield one

    def _run(self, one: _Set) -> Iterator[SweepSession]:
        """Yield the tries of a set, unless others run it or have completed it."""
        while session := self._start(one):
            try:
                yield session
            except GeneratorExit:
                session.end("failed", error="the loop over the sweep was left")
                raise
            session.end()
            self._runs.read_on()

    def _is_over(self) -> bool:
        return self._stopping.is_set() or self._until()

    def _start(self, one: _Set) -> SweepSession | None:
        """Start a session of a set; return None if it is not to be run here and now."""
        if self._is_taken(one.claim):
            self._pass(one)
        elif not self._is_over():
            try:
                session = self._session(one)
            except ExistingParamsException:
                self._choice.was_refused()
                self._runs.read_on()
                self._pass(one)
            else:
                self._choice.was_first()
                return session
        return None

    def _pass(self, one: _Set) -> None:
        """Pass over a set, which is looked at again at the end if others run it now."""
        is_open = self._runs.state(one.claim) != "completed" and not self._is_given_up(one.claim)
        if is_open and self._space.search is None:  # a search chooses another set instead
            self._elsewhere.append(one)

    def _is_given_up(self, claim: str) -> bool:
        return self._runs.tries(claim, self._began) > self._options.retries

    def _session(self, one: _Set) -> SweepSession:
        sweep = {
            "id": self.id,
            "size": self._space.size,
            "position": one.position,
            "began": self._began,
        }
        params, meta = one.suggestion.params, {**one.suggestion.meta, "sweep": sweep}
        plan = self._model.plan()
        log = starting.start(self._model, params, ensure_unique=True, meta=meta)
        return SweepSession(self._model, log, plan, one.suggestion, self._options.on_error)

    def _run_what_others_left(self) -> Iterator[SweepSession]:
        """Take over what other processes ran when it was passed, and left since."""
        pauses = _Pauses(self._stopping)
        while self._elsewhere and not self._is_over():
            self._runs.look_again()
            waiting, self._elsewhere = self._elsewhere, []
            for one in waiting:
                yield from self._run(one)
            if not self._options.wait or not self._elsewhere:
                return
            if len(self._elsewhere) < len(waiting):
                pauses = _Pauses(self._stopping)
            pauses.wait()


class _Choice:
    """Chooses among the next free sets: the first, as long as no other process is quicker.

    Processes that all try the first free set lose the same race again and again, so each refusal
    doubles the number of sets to choose from, and each start reduces it by an eighth.

    Args:
        is_open: whether sets after the first may be chosen.
    """

    def __init__(self, *, is_open: bool) -> None:
        self._is_open, self._width = is_open, 1.0

    @property
    def width(self) -> int:
        """The number of sets to choose from."""
        return int(self._width)

    def of(self, count: int) -> int:
        """Return the index of the chosen set among `count`."""
        # Of the system: a seed set by the script would make all processes choose alike.
        return secrets.randbelow(min(count, self.width))

    def was_refused(self) -> None:
        """Note that another process was quicker."""
        if self._is_open:
            self._width = min(2 * self._width, _WIDEST)

    def was_first(self) -> None:
        """Note that the chosen set was started."""
        self._width = max(self._width * 7 / 8, 1.0)


class _Pauses:
    """Pauses between two looks at what other processes run, each twice as long as the last."""

    def __init__(self, stopping: Event) -> None:
        self._stopping, self._seconds = stopping, _FIRST_PAUSE

    def wait(self) -> None:
        """Wait, unless the sweep is to stop."""
        logging.getLogger("casket").debug("the sweep waits for sets that other processes run")
        self._stopping.wait(self._seconds)
        self._seconds = min(2 * self._seconds, _LONGEST_PAUSE)
