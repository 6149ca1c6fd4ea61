"""Log the folds of a search as soon as they are computed.

Every scikit-learn search passes its folds to a `parallel` object in a closure. It is replaced by a
`Watched` object while the search runs: joblib still computes the folds, but the main process
receives and logs each fold when it is done. Folds computed by an earlier fit are not computed
again. If the closure has no `parallel`, nothing is replaced.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from types import CellType
from typing import Any

from sklearn.utils.parallel import Parallel, delayed  # type: ignore[import-untyped]  # has no types

from casket_integrations.sklearn.log import SearchLog
from casket_integrations.sklearn.stored import Outcome, Task

HIDDEN = "parallel"
"""The name of the object that computes the folds in scikit-learn's closure."""

_AT_ONCE = (
    "this joblib backend returns all folds together: the candidates are logged when the last fold "
    "is done, and a search that is killed earlier has logged none"
)


@contextmanager
def watched(search: Any, log: SearchLog, evaluate: Callable[..., Any]) -> Iterator[None]:
    """Log the folds that `evaluate` computes in the `with` block."""
    cell = _cell(evaluate)
    if cell is None:
        yield
        return
    original = cell.cell_contents
    with _unordered(search, log, original) as parallel:
        cell.cell_contents = Watched(original, parallel, log)
        try:
            yield
        finally:
            cell.cell_contents = original


class Watched:
    """Computes folds or reads them from the store, and logs them; replaces `joblib.Parallel`.

    Args:
        original: the replaced object, which receives tasks of unknown form.
        parallel: computes tasks and yields their outcomes in any order.
        log: the log of the fit.
    """

    def __init__(self, original: Any, parallel: Any, log: SearchLog) -> None:
        self._original = original
        self._parallel = parallel
        self._log = log
        self._candidates = 0

    def __call__(self, tasks: Iterable[Task]) -> list[Outcome]:
        """Return the outcomes of tasks in the order of the tasks."""
        tasks = iter(tasks)
        first = next(tasks, None)
        if first is None or not _is_known(first):
            outcomes: list[Outcome] = self._original(chain([first] if first else [], tasks))
            return outcomes
        this = _Round(self._log, first, self._candidates)
        self._compute(this, chain([first], tasks))
        self._candidates += this.candidates
        return [this.outcomes[number] for number in range(len(this.outcomes))]

    def _compute(self, this: _Round, tasks: Iterable[Task]) -> None:
        self._log.begin_round(this.candidates)
        computed = self._parallel(this.missing(tasks))
        try:
            for number, outcome in computed:
                this.add_computed(number, outcome)
        finally:
            if hasattr(computed, "close"):
                computed.close()
        this.add_stored()
        self._log.end_round()


class _Round:
    """The folds of a single call: all folds, or those of an iteration of a halving search.

    Args:
        log: the log of the fit.
        task: the first task.
        before: the number of candidates in earlier rounds.

    Attributes:
        candidates: the number of candidates.
        outcomes: the outcomes of the completed folds by number.
    """

    def __init__(self, log: SearchLog, task: Task, before: int) -> None:
        self.candidates: int = task[2]["candidate_progress"][1]
        self.outcomes: dict[int, Outcome] = {}
        self._log = log
        self._n_splits: int = task[2]["split_progress"][1]
        self._before = before
        self._folds: dict[int, tuple[int, int, Any, str | None]] = {}
        self._stored: deque[tuple[int, Outcome]] = deque()
        self._done: defaultdict[int, dict[int, Outcome]] = defaultdict(dict)
        self._computed: set[int] = set()

    def missing(self, tasks: Iterable[Task]) -> Iterator[Any]:
        """Yield the tasks that must be computed; joblib may iterate in a separate thread."""
        for number, (function, arguments, named) in enumerate(tasks):
            # Remove scikit-learn's wrapper for joblib, which `delayed` adds again.
            task = getattr(function, "__wrapped__", function), arguments, named
            key, outcome = self._log.stored(task)
            candidate, split = named["candidate_progress"][0], named["split_progress"][0]
            self._folds[number] = candidate, split, named["parameters"], key
            if outcome is None:
                yield _task(number, *task)
            else:
                self._stored.append((number, outcome))

    def add_computed(self, number: int, outcome: Outcome) -> None:
        """Add and log a computed fold."""
        self.add_stored()
        candidate, split, _, key = self._folds[number]
        self._computed.add(candidate)
        if key is not None:
            place = {"candidate": self._before + candidate, "split": split}
            count = place["candidate"] * self._n_splits + split
            self._log.fold(count, {"fingerprint": key, **place}, outcome)
        self._add(number, outcome)

    def add_stored(self) -> None:
        """Add the folds read from the store so far."""
        while self._stored:
            self._add(*self._stored.popleft())

    def _add(self, number: int, outcome: Outcome) -> None:
        self.outcomes[number] = outcome
        candidate, split, params, _ = self._folds.pop(number)
        folds = self._done[candidate]
        folds[split] = outcome
        if len(folds) == self._n_splits:
            outcomes = [folds[i] for i in sorted(folds)]
            is_reused = candidate not in self._computed
            self._log.candidate(self._before + candidate, params, outcomes, is_reused=is_reused)


def numbered(
    number: int, function: Callable[..., Outcome], arguments: Any, named: Any
) -> tuple[int, Outcome]:
    """Compute a fold in a worker and return it with its number."""
    return number, function(*arguments, **named)


_task = delayed(numbered)


def _cell(evaluate: Callable[..., Any]) -> CellType | None:
    """Return the closure's cell that holds `parallel`; None if there is no such cell."""
    code, cells = getattr(evaluate, "__code__", None), getattr(evaluate, "__closure__", None)
    if code is None or not cells:
        return None
    cell: CellType | None = dict(zip(code.co_freevars, cells, strict=True)).get(HIDDEN)
    return cell if cell is not None and callable(cell.cell_contents) else None


def _is_known(task: Any) -> bool:
    """Return whether a task has the arguments that casket logs."""
    wanted = {"parameters", "candidate_progress", "split_progress"}
    return isinstance(task, tuple) and len(task) == 3 and wanted <= set(task[2])


@contextmanager
def _unordered(search: Any, log: SearchLog, original: Any) -> Iterator[Any]:
    """Yield a `Parallel` with the settings of the search that returns each task when it is done."""
    named = {"n_jobs": search.n_jobs, "pre_dispatch": search.pre_dispatch}
    try:
        parallel = Parallel(**named, return_as="generator_unordered")
    except ValueError:
        log.notice(_AT_ONCE)
        yield original
        return
    with parallel:
        yield parallel
