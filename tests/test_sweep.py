"""Sweeps: which sets run, in which order, how often, and the share of each process."""

import subprocess
import sys
from itertools import count

import pytest
from click.testing import CliRunner

import casket
from casket import BadExpression, BadSpace, CasketWarning, Experiment
from casket.cli.app import app

GRID = {"lr": [0.1, 0.01], "seed": range(2)}
SETS = [{"lr": lr, "seed": seed} for lr in (0.1, 0.01) for seed in (0, 1)]


@pytest.fixture(params=["runs.json", "runs.sqlite", ":memory:"])
def model(request, tmp_path):
    url = request.param if request.param == ":memory:" else tmp_path / request.param
    return Experiment.use(url, exp_id="exp").model("net")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.json"


def fail_all(sweep, on=lambda params: True):
    """Run every set of a sweep and fail in some; return the params of all tries."""
    done = []
    for session in sweep:
        with session:
            done.append(session.params)
            if on(session.params):
                raise ZeroDivisionError
    return done


def run_all(sweep):
    """Run every set of a sweep; return the params."""
    done = []
    for session in sweep:
        with session:
            done.append(session.params)
    return done


def statuses(model):
    return [(view.params, view.status) for view in model.sessions()]


def test_each_set_of_a_grid_runs_once_in_order(model):
    assert run_all(model.sweep(GRID)) == SETS
    assert statuses(model) == [(params, "completed") for params in SETS]


def test_a_sweep_that_is_completed_runs_nothing_again(model):
    run_all(model.sweep(GRID))
    assert run_all(model.sweep(GRID)) == []


def test_a_sweep_within_a_session_runs_its_children_once(model):
    with model.session({"lr": 1}) as parent:
        for _ in range(2):
            for session in model.within(parent.id).sweep({"fold": [0, 1]}):
                with session:
                    session.add_result({"acc": session.params["fold"]})
    (view,) = model.sessions()
    assert [child.params for child in view.children] == [{"lr": 1, "fold": 0}, {"lr": 1, "fold": 1}]


@pytest.mark.parametrize(
    "space",
    [list, tuple, iter, lambda sets: (params for params in sets)],
    ids=["list", "tuple", "iterator", "generator"],
)
def test_a_space_is_any_iterable_of_sets(model, space):
    assert run_all(model.sweep(space(SETS))) == SETS


def test_the_values_of_a_grid_may_be_single_or_arrays(model):
    numpy = pytest.importorskip("numpy")
    grid = {"lr": numpy.array([0.5, 0.25]), "optimizer": "adam", "layers": [[8, 8]]}
    expected = [{"lr": lr, "optimizer": "adam", "layers": [8, 8]} for lr in (0.5, 0.25)]
    assert run_all(model.sweep(grid)) == expected


def test_an_infinite_space_is_read_lazily(model):
    asked = []

    def space():
        for seed in count():
            asked.append(seed)
            yield {"seed": seed}

    for session in model.sweep(space()):
        with session:
            pass
        if session.params["seed"] == 2:
            break
    assert asked == [0, 1, 2]
    assert [status for _, status in statuses(model)] == ["completed"] * 3


def test_shuffled_sets_all_run_and_a_seed_repeats_the_order(tmp_path):
    grid = {"seed": range(20)}
    first, second, plain = (
        run_all(Experiment.use(tmp_path / name, exp_id="e").model("m").sweep(grid, shuffle=shuffle))
        for name, shuffle in (("a.json", 3), ("b.json", 3), ("c.json", False))
    )
    assert first == second != plain
    assert sorted(first, key=str) == sorted(plain, key=str)


@pytest.mark.parametrize(
    ("space", "options", "named"),
    [
        (3, {}, "int"),
        ("lr", {}, "str"),
        ({"lr": []}, {}, "'lr'"),
        ((params for params in SETS), {"shuffle": True}, "shuffle"),
    ],
)
def test_what_is_no_space_is_refused_before_anything_is_written(model, space, options, named):
    with pytest.raises(BadSpace, match=named):
        model.sweep(space, **options)
    assert model.sessions() == []


def test_meta_says_which_sweep_and_position(model):
    run_all(model.sweep(GRID))
    sweeps = [view.meta["sweep"] for view in model.sessions()]
    assert [(sweep["size"], sweep["position"]) for sweep in sweeps] == [(4, n) for n in range(4)]
    assert len({sweep["id"] for sweep in sweeps}) == 1


def test_equal_spaces_have_equal_ids_and_others_do_not(model):
    run_all(model.sweep({"a": [1], "b": [2]}))
    run_all(model.sweep({"b": (2,), "a": range(1, 2)}))
    run_all(model.sweep({"a": [3], "b": [2]}))
    first, second = (view.meta["sweep"]["id"] for view in model.sessions())
    assert first != second


def test_where_skips_sets_by_their_params(model):
    assert run_all(model.sweep(GRID, where="lr > 0.05")) == SETS[:2]
    assert run_all(model.sweep(GRID, where=lambda params: params["seed"] == 1)) == SETS[3:]


def test_where_with_a_name_that_no_set_has_is_refused(model):
    with pytest.raises(BadExpression, match="lrr"):
        model.sweep(GRID, where="lrr > 0.05")


def test_until_ends_the_sweep_for_all(model):
    done = []
    for session in model.sweep({"n": range(10)}, until="best.loss < 0.3"):
        with session:
            session.add_epoch(1, {"loss": 1 / (session.params["n"] + 1)})
            done.append(session.params["n"])
    assert done == [0, 1, 2, 3]
    assert run_all(model.sweep({"n": range(10)}, until="best(loss) < 0.3")) == []


def test_an_exception_in_the_body_propagates_and_leaves_the_rest(model):
    with pytest.raises(ZeroDivisionError):
        fail_all(model.sweep(GRID))
    assert statuses(model) == [(SETS[0], "failed")]


def test_a_mended_script_tries_again_what_failed_before(model):
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            fail_all(model.sweep(GRID))
    assert run_all(model.sweep(GRID)) == SETS


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_failures_are_tried_again_up_to_retries(model, retries):
    sweep = model.sweep(GRID, retries=retries, on_error="continue")
    with pytest.warns(CasketWarning, match="ZeroDivisionError"):
        tries = fail_all(sweep, on=lambda params: params == SETS[1])
    assert tries == [SETS[0], *[SETS[1]] * (retries + 1), *SETS[2:]]


def test_ctrl_c_ends_the_sweep_also_with_on_error_continue(model):
    sweep = model.sweep(GRID, on_error="continue")
    with pytest.raises(KeyboardInterrupt), next(sweep):
        raise KeyboardInterrupt
    assert [status for _, status in statuses(model)] == ["failed"]


def test_a_session_that_is_open_when_the_loop_is_left_is_failed(model):
    sweep = model.sweep(GRID)
    next(sweep)
    sweep.close()
    assert statuses(model) == [(SETS[0], "failed")]
    assert run_all(model.sweep(GRID)) == SETS


def test_a_break_after_the_block_keeps_what_completed(model):
    for session in model.sweep(GRID):
        with session:
            pass
        break
    assert statuses(model) == [(SETS[0], "completed")]


def test_a_session_used_without_a_block_ends_with_the_turn(model):
    for session in model.sweep(GRID):
        session.add_epoch(1, {"loss": 0.1})
    assert [status for _, status in statuses(model)] == ["completed"] * 4


def test_what_runs_elsewhere_is_passed_over(model):
    with model.session(SETS[1]):
        assert run_all(model.sweep(GRID)) == [SETS[0], *SETS[2:]]


@pytest.mark.parametrize("is_listed", [True, False])
def test_after_lost_races_a_sweep_chooses_among_the_next_sets(path, is_listed):
    """Another process takes the first twenty sets just before this one starts them."""
    model = Experiment.use(path, exp_id="exp").model("net")
    others = []

    def where(params):
        if params["n"] < 20:
            others.append(model.session(params))
        return True

    space = [{"n": n} for n in range(50)]
    done = [
        params["n"]
        for params in run_all(model.sweep(space if is_listed else iter(space), where=where))
    ]
    assert sorted(done) == list(range(20, 50))
    # The next sets of a space without a length are not read before they are due.
    assert (done == sorted(done)) is not is_listed
    for session in others:
        session.end()


def test_until_ends_a_sweep_over_an_infinite_space(path):
    model = Experiment.use(path, exp_id="exp").model("net")
    sweep = model.sweep(({"n": n} for n in count()), until="loss < 0.5")
    for session in sweep:
        with session:
            session.add_result({"loss": 1 - session.params["n"] / 4})
    assert len(model.sessions()) == 4


def test_waiting_runs_what_fails_elsewhere(model):
    other = model.session(SETS[1])
    sweep = model.sweep(GRID, wait=True)
    done = []
    for session in sweep:
        with session:
            done.append(session.params)
        if session.params == SETS[3]:
            other.end("failed", "out of memory")
    assert done == [SETS[0], *SETS[2:], SETS[1]]


def test_a_sweep_does_not_repeat_what_was_tried_as_often_by_others_at_work(model):
    first = model.sweep({"n": [1]}, retries=0, on_error="continue")
    at_work = model.sweep({"n": [1]}, retries=0)
    with pytest.warns(CasketWarning), next(first):
        raise ValueError
    assert run_all(at_work) == []
    assert run_all(model.sweep({"n": [1]}, retries=0)) == [{"n": 1}]


KILLED = """
import os, sys, time
import casket
model = casket.Experiment.use(sys.argv[1], exp_id="exp").model("net")
for session in model.sweep({"n": range(3)}):
    with session:
        print("runs", session.params["n"], flush=True)
        time.sleep(600)
"""


def in_the_first_set(path):
    """Start a process that runs the first set and stays in it."""
    command = [sys.executable, "-c", KILLED, path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "runs 0\n"
    return process


def kill_in_the_first_set(path):
    with in_the_first_set(path) as process:
        process.kill()


def test_what_was_killed_is_run_by_the_next_start(path):
    kill_in_the_first_set(path)
    model = Experiment.use(path, exp_id="exp").model("net")
    assert [params["n"] for params in run_all(model.sweep({"n": range(3)}))] == [0, 1, 2]
    with casket.open(path) as runs:
        assert [view.status for view in runs.sessions()] == ["killed", *["completed"] * 3]


def test_waiting_takes_over_what_is_killed_elsewhere(path):
    model = Experiment.use(path, exp_id="exp").model("net")
    done = []
    with in_the_first_set(path) as process:
        for session in model.sweep({"n": range(3)}, wait=True):
            with session:
                done.append(session.params["n"])
            if done == [1, 2]:
                process.kill()
                process.wait()
    assert done == [1, 2, 0]


def test_a_removed_session_makes_its_set_free_again(path):
    model = Experiment.use(path, exp_id="exp").model("net")
    run_all(model.sweep({"n": [1]}))
    sweep = model.sweep({"n": [1]})
    [view] = model.sessions()
    result = CliRunner().invoke(app, ["rm", view.id, "--file", str(path), "--yes"])
    assert result.exit_code == 0, result.output
    assert run_all(sweep) == [{"n": 1}]


class TrialPruned(Exception):
    casket_status = "completed"


def test_a_pruned_set_is_completed_and_the_sweep_goes_on(model):
    for session in model.sweep(GRID):
        with session:
            assert session.should_prune() is False
            raise TrialPruned
    assert statuses(model) == [(params, "completed") for params in SETS]
    assert all(view.meta["pruned"] for view in model.sessions())


def test_only_sweeps_with_a_pruner_prune(model):
    with model.session({"n": 1}) as session:
        session.add_epoch(1, {"val_loss": 9})
        assert session.should_prune() is False
