"""How the folds of a search are seen as they come.

Every search of scikit-learn hands its folds to a `parallel` that only its closure knows. A
`Watched` one takes its place while the search runs: joblib computes the folds as before, but the
main process is given each when it is done, and logs it. What an earlier fit has computed is not
computed again. Where the closure has no such `parallel`, nothing is replaced.
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
"""What scikit-learn's closure calls that which computes the folds."""

_AT_ONCE = (
    "this joblib backend gives all folds at once: candidates are logged when all are done, "
    "and a search that is killed before has logged none"
)


@contextmanager
def watched(search: Any, log: SearchLog, evaluate: Callable[..., Any]) -> Iterator[None]:
    """See to it that the folds which `evaluate` computes in the `with` block are logged."""
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
    """Computes folds, or finds them stored, and logs them; called as scikit-learn calls joblib.

    Args:
        original: what it takes the place of; called with tasks that are not as casket knows them.
        parallel: computes tasks, and gives their outcomes in any order.
        log: the log of the fit.
    """

    def __init__(self, original: Any, parallel: Any, log: SearchLog) -> None:
        self._original = original
        self._parallel = parallel
        self._log = log
        self._candidates = 0

    def __call__(self, tasks: Iterable[Task]) -> list[Outcome]:
        """Return the outcomes of tasks, in their order."""
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
                this.take(number, outcome)
        finally:
            if hasattr(computed, "close"):
                computed.close()
        this.take_stored()
        self._log.end_round()


class _Round:
    """The folds that are computed at one time: of a halving search those of one iteration.

    Args:
        log: the log of the fit.
        task: the first task.
        before: how many candidates there were before.

    Attributes:
        candidates: how many there are.
        outcomes: of the folds that are done, by number.
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
        """Yield the tasks that must be computed; joblib may ask for them in a thread of its own."""
        for number, (function, arguments, named) in enumerate(tasks):
            # What scikit-learn wraps around a function is for joblib; `delayed` does it again.
            task = getattr(function, "__wrapped__", function), arguments, named
            key, outcome = self._log.stored(task)
            candidate, split = named["candidate_progress"][0], named["split_progress"][0]
            self._folds[number] = candidate, split, named["parameters"], key
            if outcome is None:
                yield _task(number, *task)
            else:
                self._stored.append((number, outcome))

    def take(self, number: int, outcome: Outcome) -> None:
        """Take and log what was computed."""
        self.take_stored()
        candidate, split, _, key = self._folds[number]
        self._computed.add(candidate)
        if key is not None:
            place = {"candidate": self._before + candidate, "split": split}
            count = place["candidate"] * self._n_splits + split
            self._log.fold(count, {"fingerprint": key, **place}, outcome)
        self._add(number, outcome)

    def take_stored(self) -> None:
        """Take what was found stored up to now."""
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
    """Compute a fold in a worker, and say which one it was."""
    return number, function(*arguments, **named)


_task = delayed(numbered)


def _cell(evaluate: Callable[..., Any]) -> CellType | None:
    """Return where the closure keeps its `parallel`; None if it is not as casket knows it."""
    code, cells = getattr(evaluate, "__code__", None), getattr(evaluate, "__closure__", None)
    if code is None or not cells:
        return None
    cell: CellType | None = dict(zip(code.co_freevars, cells, strict=True)).get(HIDDEN)
    return cell if cell is not None and callable(cell.cell_contents) else None


def _is_known(task: Any) -> bool:
    """Tell whether a task says of itself what casket logs of it."""
    wanted = {"parameters", "candidate_progress", "split_progress"}
    return isinstance(task, tuple) and len(task) == 3 and wanted <= set(task[2])


@contextmanager
def _unordered(search: Any, log: SearchLog, original: Any) -> Iterator[Any]:
    """Give what computes tasks as the search would, but hands each over when it is done."""
    named = {"n_jobs": search.n_jobs, "pre_dispatch": search.pre_dispatch}
    try:
        parallel = Parallel(**named, return_as="generator_unordered")
    except ValueError:
        log.notice(_AT_ONCE)
        yield original
        return
    with parallel:
        yield parallel
