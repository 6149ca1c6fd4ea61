"""An experiment file that is removed, moved or replaced while a session logs into it."""

import shutil
import time

import pytest

import casket
from casket.errors import CasketWarning
from casket.stores.base import LOOK_INTERVAL


@pytest.fixture(params=["runs.json", "runs.sqlite"])
def path(request, tmp_path):
    return tmp_path / request.param


def remove(path):
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def move(path):
    for suffix in ("", "-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(path.with_name(f"moved-{path.name}{suffix}"))


def replace(path):
    other = path.with_name(f"other-{path.name}")
    casket.Experiment.use(other, exp_id="other").model("n").add_result({"acc": 1})
    remove(path)
    shutil.move(other, path)


def look():
    time.sleep(1.2 * LOOK_INTERVAL)


def warnings(path):
    return pytest.warns(CasketWarning, match=path.name)


@pytest.mark.parametrize("vanish", [remove, move, replace])
def test_a_session_goes_on_in_a_new_file_with_its_heads(path, vanish):
    model = casket.Experiment.use(path, exp_id="digits", tags=("kept",)).model("SVM", {"c": 1})
    with warnings(path) as warned, model.session({"lr": 0.1}) as session:
        session.add_epoch(1, {"loss": 0.3})
        look()
        vanish(path)
        for epoch in range(2, 6):
            session.add_epoch(epoch, {"loss": 0.2})
            look()
    assert len([w for w in warned if w.category is CasketWarning]) == 1
    with casket.open(path) as runs:
        (view,) = runs.sessions(experiment="digits")
        assert (view.id, view.params, view.config) == (session.id, {"lr": 0.1}, {"c": 1})
        assert view.status == "completed"
        assert [row["epoch_num"] for row in view.epochs][-4:] == [2, 3, 4, 5]
        assert view.meta["continued_from"]["session"] == session.id
        assert "kept" in view.tags


@pytest.mark.parametrize("vanish", [remove, move, replace])
def test_a_session_begins_in_a_new_file_with_its_model_and_experiment(path, vanish):
    model = casket.Experiment.use(path, exp_id="digits").model("SVM", {"c": 1})
    model.add_result({"acc": 1})
    look()
    vanish(path)
    with pytest.warns(CasketWarning, match=path.name), model.session({"lr": 0.1}):
        pass
    with casket.open(path) as runs:
        (view,) = runs.sessions(experiment="digits")
        assert view.config == {"c": 1}
        assert "continued_from" not in view.meta


@pytest.mark.parametrize("vanish", [remove, move, replace])
def test_a_reader_that_was_kept_open_shows_the_new_file(path, vanish):
    casket.Experiment.use(path, exp_id="digits").model("SVM").add_result({"acc": 1})
    with casket.open(path) as runs:
        assert [view.experiment for view in runs.sessions()] == ["digits"]
        following = runs.follow(poll=0.01, timeout=0.2)
        vanish(path)
        casket.Experiment.use(path, exp_id="later").model("SVM").add_result({"acc": 2})
        assert "later" in {view.experiment for view in runs.sessions()}
        assert "digits" not in {view.experiment for view in runs.sessions()}
        assert {record["experiment"] for record in following} >= {"later"}


def test_what_is_merged_of_both_files_is_one_session(tmp_path):
    path, moved = tmp_path / "runs.json", tmp_path / "moved-runs.json"
    model = casket.Experiment.use(path, exp_id="digits").model("SVM")
    with warnings(path), model.session({"lr": 0.1}) as session:
        session.add_epoch(1, {"loss": 0.3})
        look()
        move(path)
        session.add_epoch(2, {"loss": 0.2})
    seen = []
    for order in ((path, moved), (moved, path)):
        target = tmp_path / f"of-{order[0].name}"
        shutil.copy(order[0], target)
        merge(target, order[1])
        with casket.open(target) as runs:
            (view,) = runs.sessions()
            assert [row["epoch_num"] for row in view.epochs] == [1, 2]
            seen.append((view.status, view.meta, view.started, view.ended, dict(view.last)))
    assert seen[0] == seen[1]


def merge(target, source):
    from casket.maintenance.merging import add_missing
    from casket.stores.base import StoreOptions
    from casket.stores.location import Location

    reading = Location.of(source).open(StoreOptions(), writing=False)
    writing = Location.of(target).open(StoreOptions(), writing=True)
    add_missing(writing, (record for _, record in reading.records()))
    writing.close()
