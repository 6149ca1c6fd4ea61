"""`suggest`: Optuna chooses the sets of a sweep, by the sessions of all processes."""

import signal
import warnings
from importlib.util import find_spec
from itertools import zip_longest

import pytest
from click.testing import CliRunner

from casket import BadSpace, CasketWarning, Experiment
from casket.cli.app import app
from casket.reading.sweeps import sweeps_of

optuna = pytest.importorskip("optuna")

from optuna.distributions import FloatDistribution, IntDistribution  # noqa: E402
from optuna.samplers import (  # noqa: E402
    BruteForceSampler,
    GridSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)

from casket_integrations.optuna import suggest  # noqa: E402

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
]

SPACE = {
    "lr": FloatDistribution(1e-5, 1.0, log=True),
    "units": IntDistribution(8, 64),
    "optimizer": ["adam", "sgd"],
}


@pytest.fixture(params=["memory", "json"])
def model(request, tmp_path):
    url = ":memory:" if request.param == "memory" else tmp_path / "runs.json"
    return Experiment.use(url, exp_id="exp").model("net")


@pytest.fixture
def memory():
    return Experiment.use(":memory:", exp_id="exp").model("net")


def loss_of(params):
    return (params["lr"] - 0.1) ** 2 + params["units"] / 64 + (params["optimizer"] == "sgd")


def run(sweep, loss=loss_of):
    """Run all sets of a sweep; return their params."""
    done = []
    for session in sweep:
        with session:
            session.add_epoch(1, {"val_loss": loss(session.params)})
            done.append(session.params)
    return done


def test_a_seed_repeats_the_search_of_optuna_itself(model):
    def objective(trial):
        params = {
            "lr": trial.suggest_float("lr", 1e-5, 1.0, log=True),
            "units": trial.suggest_int("units", 8, 64),
            "optimizer": trial.suggest_categorical("optimizer", ["adam", "sgd"]),
        }
        return loss_of(params)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(sampler=TPESampler(seed=1, multivariate=True))
        study.optimize(objective, 15)
        sampler = TPESampler(seed=1, multivariate=True)
    done = run(model.sweep(suggest(SPACE, trials=15, sampler=sampler)))
    assert done == [trial.params for trial in study.trials]


def test_a_dict_may_hold_lists_of_any_values(memory):
    space = {"layers": [[8, 8], [16]], "depth": range(1, 4), "seed": 0, "act": {"b", "a"}}
    done = run(memory.sweep(suggest(space, trials=8)), lambda params: params["depth"])
    assert all(params["layers"] in ([8, 8], [16]) and params["seed"] == 0 for params in done)
    assert {params["depth"] for params in done} <= {1, 2, 3}


def conditional(trial):
    if trial.suggest_categorical("kind", ["linear", "tree"]) == "linear":
        return {"model": {"kind": "linear", "c": trial.suggest_float("c", 0, 1)}}
    return {"model": {"kind": "tree", "depth": trial.suggest_int("depth", 1, 9)}, "fixed": True}


def test_a_function_of_the_trial_returns_the_params(memory):
    space = suggest(conditional, "acc", "max", trials=12, sampler=TPESampler(seed=0))
    for session in memory.sweep(space):
        with session:
            session.add_result({"acc": session.params["model"].get("depth", 0)})
    done = [view.params for view in memory.sessions()]
    assert len(done) == 12
    assert {"fixed" in params for params in done} == {True, False}
    best = max(params["model"].get("depth", 0) for params in done)
    assert best >= 7


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"mode": "lowest"}, "mode='lowest'"),
        ({"trials": 0}, "trials=0"),
        ({"space": [1, 2]}, "list"),
        ({"space": {"lr": []}}, "'lr'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, named):
    with pytest.raises(BadSpace, match=named):
        suggest(**{"space": SPACE, **arguments})


def test_a_function_that_returns_no_params_and_a_shuffled_search_are_refused(memory):
    with pytest.raises(BadSpace, match="NoneType"):
        next(memory.sweep(suggest(lambda _: None)))
    with pytest.raises(BadSpace, match="shuffle"):
        memory.sweep(suggest(SPACE), shuffle=True)


def test_trials_count_over_all_starts_and_more_of_them_go_on(model):
    assert len(run(model.sweep(suggest(SPACE, trials=4)))) == 4
    assert run(model.sweep(suggest(SPACE, trials=4))) == []
    assert len(run(model.sweep(suggest(SPACE, trials=6)))) == 2
    assert len({view.meta["sweep"]["id"] for view in model.sessions()}) == 1
    assert len(run(model.sweep(suggest(SPACE, "val_acc", trials=1)))) == 1  # another search


class Watching(RandomSampler):
    """Notes the trials that the sampler sees at each choice."""

    def __init__(self):
        super().__init__(seed=0)
        self.seen = []

    def before_trial(self, study, trial):
        trials = [each for each in study.trials if each.number != trial.number]
        self.seen.append([(each.state.name, each.value, each.params) for each in trials])


def test_the_sampler_sees_what_all_processes_have_run_and_run(model):
    first, second = (
        model.sweep(suggest(SPACE, trials=6, sampler=RandomSampler(seed=seed))) for seed in (1, 2)
    )
    with next(first) as done:
        done.add_epoch(1, {"val_loss": 0.5})
        done.add_epoch(2, {"val_loss": 0.75})
    running = next(second)
    with pytest.raises(ZeroDivisionError), next(first) as failed:
        raise ZeroDivisionError
    watching = Watching()
    third = model.sweep(suggest(SPACE, trials=6, sampler=watching))
    next(third)
    assert watching.seen == [
        [
            ("COMPLETE", 0.5, done.params),
            ("RUNNING", None, running.params),
            ("FAIL", None, failed.params),
        ]
    ]
    for sweep in (first, second, third):
        sweep.close()  # their file is gone when they are collected


def test_a_removed_session_is_not_pending_for_ever(tmp_path):
    path = tmp_path / "runs.json"
    model = Experiment.use(path, exp_id="exp").model("net")
    other = model.sweep(suggest(SPACE, trials=9))
    elsewhere = next(other)
    watching = Watching()
    sweep = model.sweep(suggest(SPACE, trials=9, sampler=watching))
    own = next(sweep)
    own.add_result({"val_loss": 1})
    gone = CliRunner().invoke(app, ["rm", elsewhere.id, "--file", str(path), "--yes", "--force"])
    assert gone.exit_code == 0, gone.output
    next(sweep)
    assert [[state for state, *_ in seen] for seen in watching.seen] == [
        ["RUNNING"],
        ["FAIL", "COMPLETE"],
    ]
    sweep.close()  # its file is gone when it is collected
    other.close()


SAMPLERS = [
    RandomSampler,
    TPESampler,
    QMCSampler,
    lambda **seed: NSGAIISampler(population_size=4, **seed),
    lambda **seed: TPESampler(multivariate=True, group=True, n_startup_trials=2, **seed),
]
if find_spec("cmaes"):
    SAMPLERS.append(lambda **seed: optuna.samplers.CmaEsSampler(n_startup_trials=2, **seed))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_two_processes_with_any_sampler_and_seed_run_each_set_once(memory, sampler):
    space = {"x": FloatDistribution(0, 1), "n": IntDistribution(0, 9), "y": FloatDistribution(0, 1)}
    sweeps = [memory.sweep(suggest(space, trials=12, sampler=sampler(seed=3))) for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for pair in zip_longest(*sweeps):
            for session in filter(None, pair):
                with session:
                    session.add_epoch(1, {"val_loss": session.params["x"]})
    done = [view.params for view in memory.sessions()]
    assert len(done) in (12, 13)
    assert all(done.count(params) == 1 for params in done)
    [sweep] = sweeps_of(memory.sessions())
    assert (sweep.done, sweep.size) == (len(done), 12)


def test_a_space_without_further_sets_ends_the_sweep(memory):
    with pytest.warns(CasketWarning, match="no others seem to be left"):
        done = run(memory.sweep(suggest({"n": [1, 2]})), lambda params: params["n"])
    assert sorted(params["n"] for params in done) == [1, 2]


GRID = {"n": [1, 2], "m": [0, 1]}


@pytest.mark.parametrize("sampler", [lambda: GridSampler(GRID, seed=0), BruteForceSampler])
def test_a_sampler_that_ends_by_itself_ends_the_sweep(memory, sampler, recwarn):
    done = run(memory.sweep(suggest(GRID, sampler=sampler())), lambda params: params["n"])
    assert len(done) == 4
    assert not [each for each in recwarn if each.category is CasketWarning]


def test_a_set_that_fails_is_tried_again_and_counts_once(memory):
    space = suggest(SPACE, trials=3, sampler=RandomSampler(seed=0))
    tried = []
    for session in memory.sweep(space, on_error="continue"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CasketWarning)
            with session:
                tried.append(session.params)
                raise ValueError
    assert [tried.count(params) for params in tried] == [2] * 6
    again = run(memory.sweep(suggest(SPACE, trials=3, sampler=RandomSampler(seed=0))))
    assert len(again) == 3  # a mended script tries again


def test_a_session_without_the_metric_is_named_once(memory, recwarn):
    for session in memory.sweep(suggest(SPACE, trials=3)):
        session.add_epoch(1, {"loss": 0.5})
    [warning] = [each for each in recwarn if each.category is CasketWarning]
    assert "val_loss" in str(warning.message)


def test_where_and_until_hold_for_searches(memory):
    space = suggest(SPACE, trials=30, sampler=RandomSampler(seed=0))
    done = run(memory.sweep(space, where="units > 30", until="best.val_loss < 0.7"))
    assert all(params["units"] > 30 for params in done)
    assert [loss_of(params) < 0.7 for params in done] == [False] * (len(done) - 1) + [True]


# Pruning


def curve(x):
    return [x + 1 / (step + 1) for step in range(6)]


def test_a_pruner_ends_what_it_would_end_in_optuna(model):
    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        for step, value in enumerate(curve(x)):
            trial.report(value, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    def pruner():
        return optuna.pruners.MedianPruner(n_startup_trials=3)

    study = optuna.create_study(sampler=RandomSampler(seed=4), pruner=pruner())
    study.optimize(objective, 12)
    space = suggest(
        {"x": FloatDistribution(0, 1)}, trials=12, sampler=RandomSampler(seed=4), pruner=pruner()
    )
    for session in model.sweep(space):
        with session:
            for step, value in enumerate(curve(session.params["x"])):
                session.add_epoch(step, {"val_loss": value})
                if session.should_prune():
                    raise optuna.TrialPruned
    views = model.sessions()
    pruned = [trial.state.name == "PRUNED" for trial in study.trials]
    assert True in pruned
    assert [view.meta.get("pruned", False) for view in views] == pruned
    assert [len(view.epochs) for view in views] == [
        len(t.intermediate_values) for t in study.trials
    ]
    assert {view.status for view in views} == {"completed"}


def test_what_a_pruner_notes_is_seen_by_other_processes(memory):
    space = {"x": FloatDistribution(0, 1)}

    def of(seed):
        pruner = optuna.pruners.SuccessiveHalvingPruner(1, reduction_factor=2)
        return memory.sweep(suggest(space, sampler=RandomSampler(seed=seed), pruner=pruner))

    for seed, sweep in enumerate([of(0), of(1)]):
        session = next(sweep)
        session.add_epoch(1, {"val_loss": float(seed)})
        assert session.should_prune() == (seed == 1)  # the second is worse than the first
        session.end()
    assert "completed_rung_0" in memory.sessions()[0].meta["optuna"]["system_attrs"]


def test_without_a_pruner_nothing_is_pruned(memory):
    sweep = memory.sweep(suggest(SPACE))
    session = next(sweep)
    session.add_batch(1, {"val_loss": 9})
    assert session.should_prune() is False


def test_pruning_by_steps(memory):
    pruner = optuna.pruners.ThresholdPruner(upper=1.0)
    sweep = memory.sweep(suggest(SPACE, pruner=pruner))
    session = next(sweep)
    session.log({"val_loss": 0.5})
    assert session.should_prune() is False
    session.log({"val_loss": 1.5})
    assert session.should_prune() is True


# Several processes

PROCESS = """
import os, signal, sys
from optuna.distributions import FloatDistribution
from optuna.samplers import TPESampler
from casket import Experiment
from casket_integrations.optuna import suggest

model = Experiment.use("runs.json", exp_id="exp").model("net")
space = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}
sweep = model.sweep(suggest(space, trials=10, sampler=TPESampler(seed=0, n_startup_trials=3)))
for number, session in enumerate(sweep):
    with session:
        if "die" in sys.argv and number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        session.add_result({"val_loss": session.params["x"]})
"""


def test_processes_make_one_search_and_replace_the_trial_of_a_killed_one(tmp_path, fork_server):
    script = tmp_path / "search.py"
    script.write_text(PROCESS)
    fork_server.load("optuna", "casket_integrations.optuna")
    fork_server.wait(fork_server.start(script, "die"), expecting=-signal.SIGKILL)
    for pid in [fork_server.start(script) for _ in range(2)]:
        fork_server.wait(pid)
    views = Experiment.use(tmp_path / "runs.json", exp_id="exp").sessions()
    done = [view.params for view in views if view.status == "completed"]
    assert len(done) in (10, 11)  # less than the number of processes more
    assert all(done.count(params) == 1 for params in done)
    assert [view.status for view in views].count("killed") == 1
    assert len({view.meta["sweep"]["id"] for view in views}) == 1
