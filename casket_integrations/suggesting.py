"""Optuna as the sampler of a sweep: `model.sweep(suggest({"units": [32, 64]}))`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from casket.errors import BadSpace, CasketWarning, NoSuchMetric, missing
from casket.format.values import Encoder
from casket.reading.fold import Fold
from casket.reading.reader import Reader
from casket.reading.views import SessionView
from casket.writing.session import Session
from casket.writing.spaces import Search, Suggestion, values_of
from casket.writing.starting import SessionsModel

try:
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        distribution_to_json,
        json_to_distribution,
    )
    from optuna.trial import Trial, TrialState
except ModuleNotFoundError as error:
    raise missing(error, "optuna", "optuna") from error

Space = Mapping[str, Any] | Callable[[Trial], Mapping[str, Any]]
Outcome = tuple[TrialState, float | None]

META = "optuna"
"""The member of the meta that holds the params as Optuna knows them."""

REPEATED = 100
"""Known sets suggested in a row, besides one for each known trial, after which a search ends."""


def suggest(
    space: Space,
    metric: str = "val_loss",
    mode: Literal["min", "max"] = "min",
    trials: int = 200,
    sampler: optuna.samplers.BaseSampler | None = None,
    pruner: optuna.pruners.BasePruner | None = None,
) -> Search:
    """Return a space for `Model.sweep` in which Optuna chooses each set of params.

    Before each choice the sessions of all processes are read, so that all of them make a single
    search: completed sessions with their value, running ones as trials that are running.

    Args:
        space: a dict of the values of each param, as a list or as a distribution of Optuna; or a
            function that gets a trial, calls its `suggest_*` methods, and returns the params.
        metric: the metric to optimize; the best value of a session over its epochs counts.
        mode: `"min"` or `"max"`.
        trials: the number of sets that all processes together run.
        sampler: the sampler, by default Optuna's TPE; a seed repeats the search of one process.
        pruner: decides in `session.should_prune()`; by default it is always False.

    Raises:
        BadSpace: an argument has no valid value.
    """
    if mode not in ("min", "max"):
        raise BadSpace(f"mode={mode!r}: give 'min' or 'max'")
    if trials < 1:
        raise BadSpace(f"trials={trials}: give 1 or more")
    if sampler is None:
        with warnings.catch_warnings():
            # Experimental in Optuna 4, the default in Optuna 5.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(constant_liar=True)
    return _OptunaSearch(space, metric, mode, trials, sampler, pruner or optuna.pruners.NopPruner())


class _OptunaSearch(Search):
    """The arguments of `suggest`."""

    def __init__(
        self,
        space: Space,
        metric: str,
        mode: Literal["min", "max"],
        trials: int,
        sampler: optuna.samplers.BaseSampler,
        pruner: optuna.pruners.BasePruner,
    ) -> None:
        self.metric, self.mode, self.trials = metric, mode, trials
        self.sampler, self.pruner = sampler, pruner
        self.params_of: Callable[[Trial], Mapping[str, Any]]
        if callable(space):
            self.distributions, self.params_of = {}, space
            named: Any = getattr(space, "__qualname__", type(space).__qualname__)
        elif isinstance(space, Mapping):
            choices = {name: _Choice(name, given) for name, given in space.items()}
            self.distributions = {name: choice.distribution for name, choice in choices.items()}
            self.params_of = lambda trial: {
                name: choice.value(trial.params[name]) for name, choice in choices.items()
            }
            named = _as_json(self.distributions)
        else:
            raise BadSpace(
                f"{type(space).__name__} is no space of suggest: give a dict, or a function of the "
                "trial that returns the params"
            )
        self.identity = [named, metric, mode]

    def suggestions(self, model: SessionsModel, sweep: str) -> Iterator[Suggestion]:
        """Yield sets for ever, or until the sampler suggests known ones only."""
        return iter(_Asking(self, _Study(self, model, sweep)))


class _Choice:
    """The values of a param, as a distribution of Optuna."""

    def __init__(self, name: str, given: Any) -> None:
        self._by_label: dict[Any, Any] = {}
        if isinstance(given, BaseDistribution):
            self.distribution = given
            return
        for value in Encoder(names=True).encode(values_of(name, given), name):
            # Optuna's choices are scalars.
            is_scalar = value is None or isinstance(value, bool | int | float | str)
            self._by_label[value if is_scalar else json.dumps(value)] = value
        self.distribution = CategoricalDistribution(list(self._by_label))

    def value(self, label: Any) -> Any:
        """Return the value that Optuna has chosen."""
        return self._by_label.get(label, label)


class _Suggested(Suggestion):
    """A set of params of a trial."""

    def __init__(self, params: Mapping[str, Any], trial: Trial, study: _Study) -> None:
        super().__init__(params, {META: study.meta_of(trial)})
        self.trial, self._study = trial, study
        self.was_run = False

    def start(self, session: Session) -> None:
        """Note a session of the trial; each try of a set that failed is a trial of its own."""
        self._study.adopt(session, None if self.was_run else self.trial)
        self.was_run = True

    def should_prune(self, session: Session) -> bool:
        """Ask the pruner with what all processes have logged."""
        return self._study.should_prune(session)


class _Asking:
    """The suggestions of a study, one at a time."""

    def __init__(self, search: _OptunaSearch, study: _Study) -> None:
        self._search, self._study = search, study

    def __iter__(self) -> Iterator[_Suggested]:
        repeated = 0
        while not self._study.is_exhausted:
            suggested = self._ask()
            yield suggested
            self._study.read_on()
            repeated = 0 if suggested.was_run else repeated + 1
            if suggested.was_run:
                continue
            self._study.pass_over(suggested.trial)
            if repeated > REPEATED + self._study.known:
                warnings.warn(
                    f"the sampler suggested {repeated} sets in a row that were run already or are "
                    "left out by `where`; the sweep ends, since no others seem to be left",
                    CasketWarning,
                    stacklevel=2,
                )
                return

    def _ask(self) -> _Suggested:
        self._study.read_on()
        trial = self._study.ask()
        params = self._search.params_of(trial)
        if not isinstance(params, Mapping):
            raise BadSpace(
                f"the function given to suggest returned {type(params).__name__}: return the "
                "params as a dict"
            )
        return _Suggested(params, trial, self._study)


class _Study:
    """A study in memory with the sessions of all processes, which are read before each use.

    Attributes:
        is_exhausted: whether the sampler has visited its whole space.
    """

    def __init__(self, search: _OptunaSearch, model: SessionsModel, sweep: str) -> None:
        self._search, self._model, self._sweep = search, model, sweep
        self._storage = optuna.storages.InMemoryStorage()
        with _without_messages():
            self._study = optuna.create_study(
                storage=self._storage,
                sampler=search.sampler,
                pruner=search.pruner,
                study_name=sweep,
                direction="minimize" if search.mode == "min" else "maximize",
            )
        self._id = self._storage.get_study_id_from_name(sweep)
        # Samplers that visit a space once call it, which raises an error outside of `optimize`.
        self._study.stop = self._stop  # type: ignore[method-assign]
        backend = model.backend
        self._reader = Reader(
            backend.store, lambda: Fold(backend.files), experiment=model.experiment_id
        )
        self._trials: dict[str, int] = {}
        self._running: dict[str, None] = {}
        self._own: dict[str, Trial | None] = {}
        self._is_shared = self._has_warned = self.is_exhausted = False

    @property
    def known(self) -> int:
        """The number of sessions of the search."""
        return len(self._trials)

    def ask(self) -> Trial:
        """Return a new trial."""
        return self._study.ask(self._search.distributions)

    def meta_of(self, trial: Trial) -> dict[str, Any]:
        """Return a trial as other processes read it."""
        return self._meta(self._id_of(trial))

    def adopt(self, session: Session, trial: Trial | None) -> None:
        """Note a session of this process, and the trial that was asked for it."""
        self._own[session.id] = trial
        if trial is not None:
            self._trials[session.id] = self._id_of(trial)
            self._running[session.id] = None

    def pass_over(self, trial: Trial) -> None:
        """End a trial that was not run, with the value of its params if it is known."""
        states = (TrialState.COMPLETE,)
        others = self._study.get_trials(deepcopy=False, states=states)
        same = next((other.value for other in others if other.params == trial.params), None)
        self._study.tell(trial, same, TrialState.FAIL if same is None else TrialState.COMPLETE)

    def should_prune(self, session: Session) -> bool:
        """Ask the pruner; what it notes in the trial is kept for other processes."""
        self.read_on()
        number = self._trials[session.id]
        before = self._storage.get_trial_system_attrs(number)
        is_pruned = self._study.pruner.prune(self._study, self._storage.get_trial(number))
        if self._storage.get_trial_system_attrs(number) != before:
            session.add_meta({META: self._meta(number)})
        return is_pruned

    def read_on(self) -> None:
        """Add what all processes have logged since."""
        grown = {record.get("session") for record in self._reader.read_on()}
        sessions = self._reader.fold.sessions
        for key in [key for key in self._running if key not in sessions]:
            self._end(key, (TrialState.FAIL, None))  # it was removed
        changed = [key for key in sessions if key in grown or key in self._running]
        for key in changed:
            if self._is_of_search(sessions[key]):
                self._update(sessions[key])

    def _is_of_search(self, view: SessionView) -> bool:
        parent = self._model.parent
        sweep = view.meta.get("sweep")
        owner = (view.model, view.parent_id)
        return (
            owner == (self._model.id, parent.id if parent else None)
            and isinstance(sweep, Mapping)
            and sweep.get("id") == self._sweep
            and META in view.meta
        )

    def _update(self, view: SessionView) -> None:
        if view.id not in self._trials:
            self._add(view)
        if view.id not in self._running:
            return  # a session that is continued after its end
        number = self._trials[view.id]
        for step, value in _values_by_step(view, self._search.metric):
            self._storage.set_trial_intermediate_value(number, step, value)
        for name, value in view.meta[META]["system_attrs"].items():
            self._storage.set_trial_system_attr(number, name, value)
        if view.status != "running":
            self._end(view.id, self._outcome(view))

    def _add(self, view: SessionView) -> None:
        noted = view.meta[META]
        distributions = {
            name: json_to_distribution(json.dumps(each))
            for name, each in noted["distributions"].items()
        }
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING, params=noted["params"], distributions=distributions
        )
        self._trials[view.id] = self._storage.create_new_trial(self._id, template)
        self._running[view.id] = None
        if view.id not in self._own and not self._is_shared:
            # Otherwise, processes with the same seed would suggest the same sets.
            self._search.sampler.reseed_rng()
            self._is_shared = True

    def _end(self, session: str, outcome: Outcome) -> None:
        del self._running[session]
        state, value = outcome
        trial = self._own.get(session)
        if trial is not None:
            self._study.tell(trial, value, state)
            return
        number = self._trials[session]
        if state == TrialState.PRUNED:  # its value is the last one, as in `Study.tell`
            frozen = self._storage.get_trial(number)
            value = (
                None if frozen.last_step is None else frozen.intermediate_values[frozen.last_step]
            )
        self._storage.set_trial_state_values(number, state, None if value is None else [value])

    def _outcome(self, view: SessionView) -> Outcome:
        if view.status != "completed":
            return TrialState.FAIL, None
        if view.meta.get("pruned"):
            return TrialState.PRUNED, None
        try:
            return TrialState.COMPLETE, float(view.best(self._search.metric, self._search.mode))
        except NoSuchMetric:
            if not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"session {view.id} is completed without a number named "
                    f"{self._search.metric!r}, so that the sampler ignores it: log one, or give "
                    "another metric to suggest",
                    CasketWarning,
                    stacklevel=2,
                )
            return TrialState.FAIL, None

    def _meta(self, number: int) -> dict[str, Any]:
        trial = self._storage.get_trial(number)
        return {
            "params": trial.params,
            "distributions": _as_json(trial.distributions),
            "system_attrs": trial.system_attrs,
        }

    def _id_of(self, trial: Trial) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, trial.number)

    def _stop(self) -> None:
        self.is_exhausted = True


def _values_by_step(view: SessionView, metric: str) -> Iterator[tuple[int, float]]:
    """Yield the values of a metric by the number of the epoch, or else of the batch."""
    for kind, number in (("epoch", "epoch_num"), ("batch", "batch_num")):
        logged = view.logged(kind)  # type: ignore[arg-type]
        pairs = zip(logged.numbers[number], logged.values(metric), strict=False)
        values = [(step, float(value)) for step, value in pairs if isinstance(value, int | float)]
        if values:
            yield from values
            return


def _as_json(distributions: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    return {name: json.loads(distribution_to_json(each)) for name, each in distributions.items()}


@contextmanager
def _without_messages() -> Iterator[None]:
    """Silence Optuna's message of a new study, which is none that the user has made."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
