"""Children: sessions within a session, such as the folds of a cross-validation."""

import copy
import math
import multiprocessing
import pickle
import statistics
import threading
from datetime import timedelta

import pytest
from click.testing import CliRunner

import casket
from casket import (
    ExistingParamsException,
    Experiment,
    NoSuchSession,
    NotInASession,
    SessionsRunning,
)
from casket.cli.app import app
from casket.format.records import Writer
from casket.maintenance import cleaning
from casket.maintenance.cleaning import Cleaner
from casket.stores.base import StoreOptions
from casket.stores.location import Location
from casket.system import processes

LOSSES = (0.5, 0.25, 0.375)


@pytest.fixture
def net(url):
    experiment = Experiment.use(url, exp_id="cv")
    yield experiment.model("net")
    experiment.close()


@pytest.fixture
def folds(net):
    """A completed session with three completed children."""
    with net.session({"lr": 0.1}) as session:
        for fold, loss in enumerate(LOSSES):
            with session.child({"fold": fold}) as child:
                child.add_epoch(1, {"loss": loss, "val": {"acc": 1 - loss}})
                child.add_result({"acc": 1 - loss}, index_by="test")
    return session.id


def test_a_child_is_a_session_of_the_same_model_with_the_parents_params(net, folds):
    (parent,) = net.sessions()
    assert (parent.id, parent.parent, parent.parent_id) == (folds, None, None)
    assert [child.params for child in parent.children] == [
        {"lr": 0.1, "fold": fold} for fold in range(3)
    ]
    for child in parent.children:
        assert child.parent is parent
        assert (child.parent_id, child.model, child.experiment) == (folds, "net", "cv")
        assert (child.status, child.children) == ("completed", [])


def test_sessions_leave_children_out_unless_asked_for_them(net, folds):
    exp = net.experiment
    for sessions in (net.sessions, exp.sessions):
        assert [view.id for view in sessions()] == [folds]
        assert len(sessions(children=True)) == 4
        assert sessions(where="fold == 1") == []
        assert [view.params["fold"] for view in sessions(where="fold == 1", children=True)] == [1]


def test_params_are_unique_within_their_parent(net, folds):
    with net.session({"lr": 0.1, "fold": 0}):
        pass  # not blocked by the child with these params
    with net.session({"lr": 0.2}) as other, other.child({"lr": 0.1, "fold": 0}):
        pass  # nor a child of another parent
    with net.session({"lr": 0.1}, ensure_unique=False) as parent:
        assert parent.id == folds
        with pytest.raises(ExistingParamsException) as refused:
            parent.child({"fold": 0})
    assert refused.value.session.parent_id == folds
    assert "session.child(params, ensure_unique=False)" in str(refused.value)
    assert [near.session.params["fold"] for near in refused.value.nearest] == [1, 2]


def test_a_refused_session_is_compared_with_sessions_only(net, folds):
    with pytest.raises(ExistingParamsException) as refused:
        net.session({"lr": 0.1})
    assert refused.value.nearest == []
    assert "model.session(params, ensure_unique=False)" in str(refused.value)
    assert [near.session.id for near in net.nearest({"lr": 0.1, "fold": 1})] == [folds]


def test_a_child_is_continued_and_repeated_like_any_session(net, folds):
    with net.resume(folds) as parent:
        with parent.child({"fold": 0}, ensure_unique=False) as child:
            assert child.is_continued
            assert child.last_epoch == 1
            child.add_epoch(2, {"loss": 0.1})
        for _ in range(2):
            with parent.child({"fold": 0}, repeat=True):
                pass
    (view,) = net.sessions()
    children = view.children
    assert [child.params["fold"] for child in children] == [0, 1, 2, 0, 0]
    assert [child.meta.get("repeat") for child in children] == [None, None, None, 1, 2]
    assert len(children[0].epochs) == 2


def test_a_child_resumed_by_its_id_stays_a_child(net, folds):
    child = net.sessions()[0].children[1]
    with net.resume(child.id) as resumed:
        resumed.add_epoch(2, {"loss": 0.2})
        with pytest.raises(ExistingParamsException):
            net.within(folds).session({"fold": 1})
    (view,) = net.sessions()
    assert [each.id for each in view.children][1] == child.id
    assert len(view.children[1].epochs) == 2


def test_a_failed_child_neither_blocks_its_params_nor_fails_its_parent(net):
    with net.session({"lr": 0.1}) as parent:
        with pytest.raises(ValueError, match="diverged"), parent.child({"fold": 0}):
            raise ValueError("diverged")
        with parent.child({"fold": 0}):
            pass
    (view,) = net.sessions()
    assert view.status == "completed"
    assert [child.status for child in view.children] == ["failed", "completed"]


def test_a_child_of_a_child_is_listed_under_it(net):
    with (
        net.session({"lr": 0.1}) as parent,
        parent.child({"fold": 0}) as child,
        child.child({"seed": 1}) as grandchild,
    ):
        assert grandchild.params == {"lr": 0.1, "fold": 0, "seed": 1}
    (view,) = net.sessions()
    assert [[each.id for each in one.children] for one in view.children] == [[grandchild.id]]
    assert view.children[0].children[0].parent.parent is view
    assert len(net.sessions(children=True)) == 3


def test_a_child_goes_on_when_its_parent_ends(net):
    with net.session({"lr": 0.1}) as parent:
        child = parent.child({"fold": 0})
    child.add_epoch(1, {"loss": 0.5})
    child.end()
    (view,) = net.sessions()
    assert (view.status, view.children[0].status) == ("completed", "completed")
    assert len(view.children[0].epochs) == 1
    for method in (lambda: parent.child({"fold": 1}), parent.summarize_children):
        with pytest.raises(NotInASession, match="after session"):
            method()


def _dead():
    """Return the description of a process that has exited."""
    return {**processes.this_process(), "started": 1.0}


def test_children_of_a_killed_parent_are_kept(file_url):
    model = Experiment.use(file_url, exp_id="cv").model("net")
    writer, owner = Writer(), {"experiment": "cv", "model": "net", "session": "b" * 16}
    body = {"params": {"lr": 0.1}, "meta": {}, "process": _dead()}
    model.backend.store.append([writer.record("session", body, **owner)])
    child = model.within("b" * 16).session({"fold": 0})
    (view,) = model.sessions()
    assert (view.status, [each.status for each in view.children]) == ("killed", ["running"])
    child.end()
    assert [each.status for each in model.sessions()[0].children] == ["completed"]


def _run_fold(model, parent, fold):
    with model.within(parent).session({"fold": fold}) as child:
        child.add_epoch(1, {"loss": LOSSES[fold]})


def test_children_run_in_other_processes(file_url):
    model = Experiment.use(file_url, exp_id="cv").model("net")
    spawn = multiprocessing.get_context("spawn")
    with model.session({"lr": 0.1}) as session:
        workers = [
            spawn.Process(target=_run_fold, args=(model, session.id[:8], fold)) for fold in (0, 1)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0]
        assert session.summarize_children()["loss"] == 0.375
    (view,) = model.sessions()
    assert sorted(child.params["fold"] for child in view.children) == [0, 1]
    assert {child.params["lr"] for child in view.children} == {0.1}


def test_of_children_that_race_for_the_same_params_one_wins(net):
    outcomes = []

    def start(parent):
        try:
            outcomes.append(parent.child({"fold": 0}))
        except ExistingParamsException as error:
            outcomes.append(error)

    with net.session({"lr": 0.1}) as parent:
        threads = [threading.Thread(target=start, args=(parent,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(isinstance(each, ExistingParamsException) for each in outcomes) == 3
        next(each for each in outcomes if not isinstance(each, Exception)).end()


def test_within_needs_a_session_of_the_model(net, folds):
    with pytest.raises(NoSuchSession):
        net.within("nothing")
    with pytest.raises(NoSuchSession):
        net.experiment.model("other").within(folds)


def test_a_summary_has_the_mean_and_deviation_of_each_metric(net, folds):
    with net.resume(folds) as session:
        means = session.summarize_children()
    (view,) = net.sessions()
    accuracies = [1 - loss for loss in LOSSES]
    assert view.last["loss"] == means["loss"] == statistics.mean(LOSSES)
    assert view.last["loss.std"] == pytest.approx(statistics.stdev(LOSSES))
    assert view.last["val.acc"] == view.last["test.acc"] == statistics.mean(accuracies)
    assert view.last["test.acc.std"] == pytest.approx(statistics.stdev(accuracies))
    assert view.results() == [means]


def test_only_completed_children_count_and_a_later_summary_replaces_an_earlier(net):
    with net.session({"lr": 0.1}) as session:
        assert session.summarize_children() == {}
        with session.child({"fold": 0}) as child:
            child.add_epoch(1, {"loss": 0.5})
            assert session.summarize_children() == {}
        first = session.summarize_children()
        assert first["loss"] == 0.5
        assert math.isnan(first["loss.std"])
        failed = session.child({"fold": 1})
        failed.add_epoch(1, {"loss": 100.0})
        failed.end("failed", error="RuntimeError: broken")
        with session.child({"fold": 2}) as child:
            child.add_epoch(1, {"loss": 0.25, "text": "no number"})
        session.summarize_children()
    (view,) = net.sessions()
    assert len(view.results()) == 2
    assert (view.last["loss"], "text" in view.last) == (0.375, False)


def test_a_summary_of_summaries_has_no_deviation_of_deviations(net):
    with net.session({"lr": 0.1}) as session:
        for fold in (0, 1):
            with session.child({"fold": fold}) as child:
                for seed in (0, 1):
                    with child.child({"seed": seed}) as grandchild:
                        grandchild.add_result({"acc": fold + seed / 4})
                child.summarize_children()
        assert session.summarize_children() == {
            "acc": 0.625,
            "acc.std": pytest.approx(math.sqrt(0.5)),
        }


def test_a_view_is_pickled_with_its_relatives_only(net, folds):
    with net.session({"lr": 0.2}):
        pass
    (parent, other) = net.sessions()
    for copied in (pickle.loads(pickle.dumps(parent)), copy.deepcopy(parent)):
        assert [child.params["fold"] for child in copied.children] == [0, 1, 2]
        assert copied.children[0].parent is copied
        assert copied._family.keys() == {parent.id, *(child.id for child in parent.children)}
    child = pickle.loads(pickle.dumps(parent.children[1]))
    assert (child.parent.id, len(child.parent.children)) == (folds, 3)
    assert pickle.loads(pickle.dumps(other)).children == []


def test_a_child_of_another_model_is_listed_with_its_model(file_url):
    """Nested runs of other trackers have names, and thus models, of their own."""
    store = Location.of(file_url).open(StoreOptions(), writing=True)
    writer = Writer()
    for model, parent in (("outer", {}), ("inner", {"parent": "outer"})):
        owner = {"experiment": "exp", "model": model, "session": model}
        body = {"params": {}, "meta": {}, "process": {}, **parent}
        store.append([writer.record("session", body, **owner)])
    store.close()
    with casket.open(file_url) as runs:
        assert [view.id for view in runs.sessions()] == ["outer"]
        assert [view.id for view in runs.sessions(model="inner")] == ["inner"]
        assert [view.id for view in runs.sessions(model="outer")] == ["outer"]


def test_a_child_whose_parent_is_not_there_is_listed_as_a_session(file_url):
    store = Location.of(file_url).open(StoreOptions(), writing=True)
    writer = Writer()
    starts = {"a": "gone", "b": "a", "c": "c2", "c2": "c"}  # c and c2: edited by hand
    for session, parent in starts.items():
        body = {"params": {"own": session}, "meta": {}, "process": {}, "parent": parent}
        owner = {"experiment": "exp", "model": "net", "session": session}
        store.append([writer.record("session", body, **owner)])
    store.close()
    with casket.open(file_url) as runs:
        assert [view.id for view in runs.sessions()] == ["a"]
        (view,) = runs.sessions()
        assert (view.parent, view.parent_id) == (None, "gone")
        assert [child.id for child in view.children] == ["b"]
        circle = runs["c2"]
        assert [circle.parent.id, circle.children[0].id] == ["c", "c"]
        assert len(pickle.loads(pickle.dumps(circle))._family) == 2


# Operations on a store with children.


@pytest.fixture
def family(file_url, monkeypatch):
    """A parent with two children and a grandchild, and a session beside them; ids by name."""
    monkeypatch.setattr(cleaning, "SETTLING", timedelta(0))  # nothing is waited for
    model = Experiment.use(file_url, exp_id="cv").model("net")
    with model.session({"lr": 0.1}) as parent:
        with parent.child({"fold": 0}) as first:
            first.add_artifact("w.bin", b"first")
        with parent.child({"fold": 1}) as second, second.child({"seed": 0}) as grandchild:
            grandchild.add_artifact("w.bin", b"grandchild")
    with model.session({"lr": 0.2}) as other:
        pass
    model.experiment.close()
    names = {"parent": parent, "first": first, "second": second, "grandchild": grandchild}
    return {**{name: session.id for name, session in names.items()}, "other": other.id}


def _ids(url):
    with casket.open(url) as runs:
        return {view.id for view in runs.sessions(children=True)}


def _named(family, *names):
    return {family[name] for name in names}


@pytest.mark.parametrize(
    ("removed", "kept"),
    [
        ("parent", ["other"]),
        ("second", ["parent", "first", "other"]),
        ("first", ["parent", "second", "grandchild", "other"]),
    ],
)
def test_children_are_removed_with_their_parent(family, file_url, removed, kept):
    with casket.open(file_url, writing=True) as runs:
        removal = runs.remove(family[removed])
    assert _ids(file_url) == _named(family, *kept)
    assert set(removal.sessions) == set(family.values()) - _named(family, *kept)
    files = Location.of(file_url).artifacts().path
    with casket.open(file_url) as runs:
        artifacts = [each for view in runs.sessions(children=True) for each in view.artifacts]
    assert len(list(files.iterdir())) == len(artifacts)


def test_a_parent_with_a_running_child_is_removed_by_force_only(family, file_url):
    model = Experiment.use(file_url, exp_id="cv").model("net")
    running = model.within(family["parent"]).session({"fold": 7})
    with casket.open(file_url, writing=True) as runs:
        with pytest.raises(SessionsRunning, match=running.id):
            runs.remove(family["parent"])
        assert len(_ids(file_url)) == 6
        runs.remove(family["parent"], force=True)
    assert _ids(file_url) == _named(family, "other")


def test_clean_removes_failed_sessions_with_their_children_unless_one_runs(file_url, monkeypatch):
    monkeypatch.setattr(cleaning, "SETTLING", timedelta(0))
    model = Experiment.use(file_url, exp_id="cv").model("net")
    failed, completed = model.session({"lr": 1}), model.session({"lr": 2})
    failed.child({"fold": 0}).end()
    bad_fold = completed.child({"fold": 0})
    bad_fold.end("failed")
    running = failed.child({"fold": 1})
    failed.end("failed")
    completed.end()

    def clean():
        cleaner = Cleaner(Location.of(file_url))
        return set(cleaner.remove(cleaner.cleanable(files=False)).sessions)

    assert clean() == {bad_fold.id}
    running.end()
    assert failed.id in clean()
    assert _ids(file_url) == {completed.id}


def test_a_parent_that_got_a_child_after_the_plan_is_kept(family, file_url):
    cleaner = Cleaner(Location.of(file_url))
    removal = cleaner.chosen(lambda view: view.id == family["parent"])
    model = Experiment.use(file_url, exp_id="cv").model("net")
    model.within(family["parent"]).session({"fold": 9}).end()
    removed = cleaner.remove(removal)
    assert set(removed.sessions) == _named(family, "first", "second", "grandchild")
    assert family["parent"] in _ids(file_url)


def test_merged_copied_and_compacted_children_stay_children(family, file_url, tmp_path):
    for command in (
        ("merge", "-o", tmp_path / "merged.json", file_url),
        ("backup", file_url, "-o", tmp_path / "copy.json"),
        ("compact", file_url, "--yes"),
        ("doctor", file_url),
    ):
        result = CliRunner().invoke(app, [*map(str, command)])
        assert result.exit_code == 0, result.output
    for path in (tmp_path / "merged.json", tmp_path / "copy.json", file_url):
        with casket.open(path) as runs:
            assert {view.id for view in runs.sessions()} == _named(family, "parent", "other")
            children = [child.id for child in runs[family["parent"]].children]
            assert children == [family["first"], family["second"]]
            assert runs[family["grandchild"]].parent.id == family["second"]
