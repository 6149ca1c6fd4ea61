"""Params that are known only after the session has started: `session.add_params`."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import casket
from casket import ExistingParamsException, Experiment, NotInASession, UnstorableValue
from casket.maintenance.doctor import examine
from casket.stores.location import Location
from casket.writing.provenance import ALWAYS, provenance
from tests.merging import merge


def test_before_anything_is_logged_they_change_the_identity(model):
    with model.session({"lr": 0.1}) as session:
        session.add_params({"width": 8})
        assert session.params == {"lr": 0.1, "width": 8}
        session.log({"loss": 1.0})
    (view,) = model.sessions()
    assert view.params == {"lr": 0.1, "width": 8}
    assert "width" not in view.meta
    assert [near.session.id for near in model.nearest({"lr": 0.1, "width": 8})] == [view.id]
    assert model.nearest({"width": 8, "lr": 0.1})[0].difference == {}
    with pytest.raises(ExistingParamsException) as refused:
        model.session({"lr": 0.1, "width": 8})
    assert refused.value.session.params == view.params


def test_the_claim_on_the_earlier_params_is_released(model):
    first = model.session({"lr": 0.1})
    first.add_params({"width": 8})
    second = model.session({"lr": 0.1})
    with pytest.raises(ExistingParamsException):
        model.session({"lr": 0.1})
    with pytest.raises(ExistingParamsException):
        model.session({"lr": 0.1, "width": 8})
    for session in (first, second):
        session.end()


@pytest.mark.parametrize("log", ["add_epoch", "add_batch", "add_result", "log"])
def test_after_something_was_logged_they_are_meta(model, log):
    with model.session({"lr": 0.1}) as session:
        getattr(session, log)(*([1] if log in {"add_epoch", "add_batch"} else []), {"loss": 1.0})
        session.add_params({"width": 8})
        assert session.params == {"lr": 0.1}
    (view,) = model.sessions()
    assert (view.params, view.meta["width"]) == ({"lr": 0.1}, 8)


def test_after_a_child_was_started_they_are_meta(model):
    with model.session({"lr": 0.1}) as session:
        with session.child({"fold": 1}):
            pass
        session.add_params({"width": 8})
        assert session.params == {"lr": 0.1}
        with pytest.raises(ExistingParamsException):
            session.child({"fold": 1})
    (view,) = model.sessions()
    assert (view.params, view.meta["width"]) == ({"lr": 0.1}, 8)


def test_known_params_are_refused_and_leave_the_session_as_it_was(model, url):
    with model.session({"lr": 0.1, "width": 8}):
        pass
    session = model.session({"lr": 0.1})
    with pytest.raises(ExistingParamsException):
        session.add_params({"width": 8})
    assert session.params == {"lr": 0.1}
    with pytest.raises(ExistingParamsException):
        model.session({"lr": 0.1})
    session.add_params({"width": 16})
    session.add_epoch(1, {"loss": 1.0})
    session.end()
    assert [view.params.get("width") for view in model.sessions()] == [8, 16]
    if url != ":memory:":
        assert examine(Location.of(url)).findings == []


def test_params_of_a_session_that_failed_or_was_killed_are_free(model):
    model.session({"lr": 0.1, "width": 8}).end("failed")
    with model.session({"lr": 0.1}) as session:
        session.add_params({"width": 8})
    assert [view.status for view in model.sessions()] == ["failed", "completed"]


def test_they_may_be_added_several_times_and_back_again(model):
    with model.session({"lr": 0.1}) as session:
        session.add_params({"width": 8})
        session.add_params({"depth": 2})
        session.add_params({"width": 8.0})  # nothing new
        session.add_params({"depth": 3})
    with model.session({"lr": 0.1}) as other:
        other.add_params({"width": 8})
        other.add_params({"width": 9})
        other.add_params({"width": 8})
    expected = [{"lr": 0.1, "width": 8, "depth": 3}, {"lr": 0.1, "width": 8}]
    assert [view.params for view in model.sessions()] == expected
    for params in expected:
        with pytest.raises(ExistingParamsException):
            model.session(params)


def test_a_repetition_is_numbered_among_its_new_params(model):
    for params in ({"lr": 1}, {"lr": 2}):
        with model.session(params):
            pass
    repeated = model.session({"lr": 1}, repeat=True)
    repeated.add_params({"lr": 2})
    repeated.end()
    with model.session({"lr": 1}, repeat=True) as alone:
        alone.add_params({"lr": 3})
    *_, second, third = model.sessions()
    assert (second.params, second.meta["repeat"]) == ({"lr": 2}, 1)
    assert (third.params, third.meta["repeat"]) == ({"lr": 3}, 0)
    with pytest.raises(ExistingParamsException):
        model.session({"lr": 3})


def test_a_session_that_has_moved_on_is_neither_continued_nor_counted(model):
    with model.session({"lr": 1}) as moved:
        moved.add_params({"width": 8})
    with model.session({"lr": 1}, ensure_unique=False) as session:
        assert session.id != moved.id
    with model.session({"lr": 1, "width": 8}, ensure_unique=False) as again:
        assert (again.id, again.params) == (moved.id, {"lr": 1, "width": 8})
    with model.session({"lr": 2}) as late:
        late.add_params({"width": 8})
    with model.session({"lr": 2}, repeat=True):
        pass
    assert "repeat" not in model.sessions()[-1].meta
    assert model.resume_last({"lr": 2}).id != late.id


def test_while_another_process_has_the_session_open_they_are_meta(file_url, run_python):
    model = Experiment.use(file_url, exp_id="e").model("m")
    with model.session({"lr": 1}) as session:
        run_python(
            """
            import sys
            from casket import Experiment
            model = Experiment.use(sys.argv[1], exp_id="e").model("m")
            with model.session({"lr": 1}, ensure_unique=False) as joined:
                joined.add_params({"width": 8})
                assert joined.params == {"lr": 1}
            """,
            file_url,
        )
        session.add_params({"depth": 2})
    (view,) = model.sessions()
    assert (view.params, view.meta["width"]) == ({"lr": 1, "depth": 2}, 8)


def test_in_a_forked_child_they_are_meta(model, url):
    if url == ":memory:":
        pytest.skip("a store in memory is not shared by processes")
    with model.session({"lr": 1}) as session:
        child = os.fork()
        if child == 0:
            try:
                session.add_params({"width": 8})
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        session.add_params({"depth": 2})
    (view,) = model.sessions()
    assert (view.params, view.meta["width"]) == ({"lr": 1, "depth": 2}, 8)


def test_a_resumed_session_keeps_its_new_params(model):
    with model.session({"lr": 1}) as session:
        session.add_params({"width": np.int64(8), "scale": np.arange(3)})
    with model.resume(session.id) as again:
        assert again.params["width"] == 8
        again.add_params({"depth": 2})
    (view,) = model.sessions()
    assert view.params["depth"] == 2
    assert view.params["scale"] == [0, 1, 2]
    assert view.meta["starts"]


def test_params_that_cannot_be_stored_change_nothing(model):
    with model.session({"lr": 1}) as session:
        with pytest.raises(UnstorableValue):
            session.add_params({1j: 1j})
        assert session.params == {"lr": 1}
    with pytest.raises(NotInASession):
        session.add_params({"width": 8})
    assert model.sessions()[0].params == {"lr": 1}


def test_of_many_that_add_the_same_params_one_succeeds(file_url):
    model = Experiment.use(file_url, exp_id="e").model("m")
    sessions = [model.session({"seed": seed}) for seed in range(6)]

    def add(session):
        try:
            session.add_params({"seed": "all"})
        except ExistingParamsException:
            return 0
        return 1

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(add, sessions)) == 1
    for session in sessions:
        session.end()
    seeds = [view.params["seed"] for view in model.sessions()]
    assert sorted(map(str, {*seeds})) == sorted({*map(str, seeds)})
    assert seeds.count("all") == 1


def test_they_survive_a_merge_in_either_order_and_a_cleaning(file_url, tmp_path):
    model = Experiment.use(file_url, exp_id="e").model("m")
    with model.session({"lr": 1}) as session:
        session.add_params({"width": 8})
    other = str(tmp_path / "other.json")
    merge(other, file_url)
    with Experiment.use(other, exp_id="e").model("m").resume(session.id) as again:
        again.add_params({"depth": 2})
    for target, sources in (("one.json", [file_url, other]), ("two.sqlite", [other, file_url])):
        merge(tmp_path / target, *sources)
        with casket.open(tmp_path / target) as runs:
            assert runs.sessions()[0].params == {"lr": 1, "width": 8, "depth": 2}
        copied = Experiment.use(tmp_path / target, exp_id="e").model("m")
        with pytest.raises(ExistingParamsException):
            copied.session({"lr": 1, "width": 8, "depth": 2})
        copied.session({"lr": 1, "width": 8}).end()


def test_a_session_of_a_file_that_was_replaced_keeps_its_new_params(tmp_path):
    path = tmp_path / "runs.json"
    model = Experiment.use(path, exp_id="e").model("m")
    with model.session({"lr": 1}) as session:
        session.add_params({"width": 8})
        path.unlink()
        while not path.exists():
            session.log({"loss": 1.0})
    (view,) = model.sessions()
    assert view.params == {"lr": 1, "width": 8}
    with pytest.raises(ExistingParamsException):
        model.session({"lr": 1, "width": 8})


def test_late_params_leave_the_provenance_of_casket(model):
    with model.session({"lr": 0.1}) as session:
        session.log({"loss": 1.0})
        session.add_params({"starts": 5, "host": "here", "dirty": True, "width": 8})
    (view,) = model.sessions()
    assert view.meta["width"] == 8
    assert view.meta["params.starts"] == 5
    assert view.meta["params.host"] == "here"
    assert view.meta["params.dirty"] is True
    assert view.meta["host"] != "here"
    assert "starts" not in view.meta


@pytest.mark.parametrize("starts", [5, [], [5], "x"])
def test_meta_of_any_form_has_no_restart(memory, starts):
    with memory.session({"lr": 0.1}) as session:
        session.add_meta({"starts": starts})
    assert memory.sessions()[0].restart == 0


def test_the_names_of_the_provenance_are_known():
    assert provenance().keys() - {"job"} == ALWAYS
