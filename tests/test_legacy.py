"""Files of the first casket: they open as they are, and take new sessions."""

import json
import math
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tinydb import TinyDB, where

import casket
from casket import ExistingExperimentError, ExistingParamsException, Experiment
from casket.format.records import deletion

ORIGINAL = Path(__file__).parent / "data" / "first_casket.json"
PARAMS = {
    "iters": 10,
    "validation_split": 0.2,
    "batch_size": 10,
    "item_length": 4,
    "nb_epoch": 10,
}


@pytest.fixture
def path(tmp_path):
    """A copy of a file the first casket wrote."""
    return Path(shutil.copy(ORIGINAL, tmp_path / "old.json"))


@pytest.fixture
def written(tmp_path):
    """Write documents as the first casket did, with TinyDB."""

    def write(*experiments):
        file = tmp_path / "shapes.json"
        file.write_text(json.dumps({"_default": dict(enumerate(experiments, 1))}))
        return file

    return write


def experiment(*models, **other):
    return {"id": "exp", "tags": [], "models": list(models), **other}


def model(*sessions, **other):
    return {"modelId": "net", "sessions": list(sessions), **other}


def session(result, params=None, **meta):
    return {"params": params or {"lr": 0.1}, "meta": meta, "result": result}


@pytest.fixture
def read(written):
    """Read the only session of an experiment with this result."""

    def read(result, **meta):
        file = written(experiment(model(session(result, **meta))))
        before = file.read_bytes()
        with casket.open(file) as runs:
            (view,) = runs.sessions()
        assert file.read_bytes() == before
        return view

    return read


# Reading.


def test_a_file_of_the_first_casket_is_read(path):
    with casket.open(path) as runs:
        (experiment,) = runs.experiments
        (net,) = runs.models()
        (view,) = runs.sessions()
    assert (experiment.id, experiment.tags, experiment.facts) == ("epoch_test.py", (), {})
    assert experiment.created == datetime(2016, 9, 15, 20, 35, 17, 70195, UTC)
    assert (net.id, net.experiment) == ("test-model", "epoch_test.py")
    assert [layer["name"] for layer in net.config["layers"]] == ["input_1", "gru_1", "dense_1"]
    assert view.config == net.config
    assert view.params == PARAMS
    assert view.meta["commit"] == "9ea8912"
    assert view.meta["run_time"] == 186.26751017570496
    assert view.status == "completed"
    assert view.started == datetime(2016, 9, 15, 20, 35, 17, 427855, UTC)
    assert view.duration == timedelta(seconds=186.26751)
    assert [row["epoch_num"] for row in view.epochs] == list(range(10))
    assert view.epochs[0] == {
        "epoch_num": 0,
        "loss": "2.16905",
        "timestamp": "2016-09-15T20:38:17.243583Z",
    }
    assert view.results() == [{"test_acc": "0.24918566644191742"}]
    assert view.last == {"test_acc": "0.24918566644191742", "loss": "1.85644"}
    assert view.indexes == []


def test_reading_leaves_the_file_as_it_was(path, tmp_path):
    os.utime(path, (1_500_000_000, 1_500_000_000))
    path.chmod(0o444)
    before, stat = path.read_bytes(), path.stat()
    with casket.open(path) as runs:
        runs.sessions(where="iters is None"), runs.experiments, runs.models(), runs.to_pandas()
        list(runs.follow(timeout=0))
    old = Experiment(path, exp_id="epoch_test.py")
    assert old.exists()
    assert len(old.get_models()) == len(old.sessions()) == 1
    assert len(old.db.all()) == 1
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == stat.st_mtime_ns
    assert path.stat().st_ino == stat.st_ino
    assert list(tmp_path.iterdir()) == [path]


def test_it_is_read_the_same_each_time(path):
    def seen():
        with casket.open(path) as runs:
            return [(view.id, view.epochs, view.started) for view in runs.sessions()]

    assert seen() == seen()


def test_it_is_a_table_too(path):
    pytest.importorskip("pandas")
    with casket.open(path) as runs:
        epochs, sessions = runs.to_pandas("epochs"), runs.to_pandas()
    assert epochs["loss"].tolist()[:2] == ["2.16905", "2.10051"]
    assert epochs["params.batch_size"].tolist() == [10] * 10
    assert sessions["last.test_acc"].tolist() == ["0.24918566644191742"]


# The shapes of results.


def test_a_plain_dict_is_a_result(read):
    view = read({"acc": 0.9, "scores": {"f1": 0.8}, "list": [1, 2], "none": []})
    assert view.results() == [{"acc": 0.9, "scores": {"f1": 0.8}, "list": [1, 2], "none": []}]
    assert view.epochs == []


def test_epochs_may_have_results_among_them(read):
    view = read({"epochs": [{"epoch_num": 1, "loss": 0.5}, {"acc": 0.9}, {"epoch_num": 2}]})
    assert view.epochs == [{"epoch_num": 1, "loss": 0.5}, {"epoch_num": 2}]
    assert view.results() == [{"acc": 0.9}]


def test_results_under_an_index_keep_it(read):
    view = read({"test": [{"acc": 0.9}, {"acc": 0.8}], "1": [{"acc": 0.7}]})
    assert view.indexes == ["test", "1"]
    assert view.results("test") == [{"acc": 0.9}, {"acc": 0.8}]
    assert view.results("1") == [{"acc": 0.7}]
    assert view.results() == []


def test_results_under_null_have_no_index(read):
    view = read({"null": [{"acc": 0.9}], "epochs": [{"epoch_num": 1, "loss": 0.5}]})
    assert view.results() == [{"acc": 0.9}]
    assert view.indexes == []
    assert len(view.epochs) == 1


def test_a_list_holds_results_without_an_index(read):
    assert read([{"acc": 0.9}, {"acc": 0.8}]).results() == [{"acc": 0.9}, {"acc": 0.8}]


@pytest.mark.parametrize("result", [{}, None, [], {"epochs": []}])
def test_an_empty_result_shows_nothing(read, result):
    view = read(result)
    assert (view.epochs, view.results(), view.status) == ([], [], "completed")


def test_a_plain_dict_may_hold_epochs(read):
    view = read({"epochs": [{"epoch_num": 1, "loss": 0.5}], "acc": 0.9})
    assert view.epochs == [{"epoch_num": 1, "loss": 0.5}]
    assert view.results() == [{"acc": 0.9}]


@pytest.mark.parametrize("epochs", [10, [1, 2], "ten", None])
def test_a_value_called_epochs_is_a_value(read, epochs):
    assert read({"epochs": epochs, "acc": 0.9}).results() == [{"epochs": epochs, "acc": 0.9}]


@pytest.mark.parametrize("result", [0.9, "good", [0.9, 0.8]])
def test_a_result_that_is_no_dict_is_called_result(read, result):
    assert read(result).results() == [{"result": result}]


def test_an_epoch_without_a_time_shows_none(read):
    view = read({"epochs": [{"epoch_num": 1}, {"epoch_num": 2, "timestamp": "yesterday"}]})
    assert view.epochs == [{"epoch_num": 1}, {"epoch_num": 2, "metric.timestamp": "yesterday"}]


def test_a_time_with_a_zone_is_taken_at_its_word(read):
    view = read({}, timestamp="2016-09-15 20:35:17+02:00")
    assert view.started == datetime(2016, 9, 15, 18, 35, 17, tzinfo=UTC)


@pytest.mark.parametrize("run_time", [None, "long", math.nan, math.inf, 1e300, -5])
def test_a_run_time_that_makes_no_sense_is_passed_over(read, run_time):
    view = read({"acc": 1}, timestamp="2016-09-15 20:35:17", run_time=run_time)
    assert view.duration == timedelta(0)


def test_values_json_lacks_are_read(read):
    view = read({"epochs": [{"epoch_num": 1, "loss": math.nan, "big": 10**30, "$date": "x"}]})
    (row,) = view.epochs
    assert math.isnan(row["loss"])
    assert row["big"] == 10**30
    assert row["$date"] == "x"


def test_sessions_that_are_alike_are_told_apart(written):
    file = written(experiment(model(session({"acc": 1}), session({"acc": 2}))))
    with casket.open(file) as runs:
        one, two = runs.sessions()
    assert one.id != two.id
    assert (one.results(), two.results()) == ([{"acc": 1}], [{"acc": 2}])


# The shapes of models.


@pytest.mark.parametrize(
    ("given", "config"),
    [
        ({"config": {"units": 8}}, {"units": 8}),
        ({"model_config": {"units": 8}}, {"units": 8}),
        ({"units": 8, "kind": "gru"}, {"units": 8, "kind": "gru"}),
        ({"config": {"units": 8}, "kind": "gru"}, {"units": 8, "kind": "gru"}),
        ({"config": None}, {}),
        ({"config": "a text"}, {"config": "a text"}),
        ({}, {}),
    ],
)
def test_the_config_of_a_model_is_found(written, given, config):
    with casket.open(written(experiment(model(session({}), **given)))) as runs:
        assert runs.models()[0].config == config
        assert runs.sessions()[0].config == config


@pytest.mark.parametrize("key", ["modelId", "model_id", "id"])
def test_the_id_of_a_model_is_found(written, key):
    with casket.open(written(experiment({key: "svm", "sessions": [session({})]}))) as runs:
        assert [view.id for view in runs.models()] == ["svm"]
        assert runs.models()[0].config == {}


def test_several_experiments_with_tags_and_facts_are_read(written):
    file = written(
        experiment(model(session({"acc": 1})), tags=["a"], corpus="brown"),
        {"id": "two", "models": []},
    )
    with casket.open(file) as runs:
        one, two = runs.experiments
        assert (one.tags, one.facts) == (("a",), {"corpus": "brown"})
        assert (two.id, two.tags) == ("two", ())
        assert len(runs.sessions(tag="a")) == 1


def test_a_model_without_sessions_is_read(written):
    with casket.open(written(experiment({"modelId": "net"}, model()))) as runs:
        assert [view.id for view in runs.models()] == ["net"]
        assert runs.sessions() == []


# Writing.


def old_model(path):
    return Experiment.use(path, exp_id="epoch_test.py").model("test-model")


def test_params_that_were_run_are_refused(path):
    with pytest.raises(ExistingParamsException) as refused:
        old_model(path).session(dict(reversed(PARAMS.items())))
    with casket.open(path) as runs:
        (view,) = runs.sessions()
    assert refused.value.session.id == view.id
    assert "2016-09-15 20:35:17" in str(refused.value)
    assert path.read_bytes() == ORIGINAL.read_bytes()


def test_params_with_values_json_lacks_are_refused_too(written):
    params = {"lr": math.nan, "seed": 10**30, "$k": 1}
    file = written(experiment(model(session({}, params))))
    with pytest.raises(ExistingParamsException):
        Experiment.use(file, exp_id="exp").model("net").session(params)


def test_an_old_experiment_is_there_already(path):
    with pytest.raises(ExistingExperimentError):
        Experiment.new(path, exp_id="epoch_test.py")


def test_an_old_file_takes_new_sessions(path):
    with old_model(path).session({**PARAMS, "iters": 20}) as new:
        new.add_epoch(1, {"loss": 0.5})
        new.add_result({"acc": 0.9}, index_by="test")
    with casket.open(path) as runs:
        assert len(runs.experiments) == len(runs.models()) == 1
        old, added = runs.sessions()
    assert added.id == new.id
    assert added.epochs[0]["loss"] == 0.5
    assert added.config == old.config
    assert len(old.epochs) == 10
    assert json.loads(path.read_text())["_default"]["1"] == first_document(ORIGINAL)


def first_document(file):
    return json.loads(Path(file).read_text())["_default"]["1"]


def test_an_old_session_can_be_continued(path):
    with old_model(path).session(PARAMS, ensure_unique=False) as continued:
        continued.add_epoch(10, {"loss": 1.5})
        with casket.open(path) as runs:
            assert runs.sessions()[0].status == "running"
    with casket.open(path) as runs:
        (view,) = runs.sessions()
    assert view.id == continued.id
    assert [row["epoch_num"] for row in view.epochs] == list(range(11))
    assert view.started == datetime(2016, 9, 15, 20, 35, 17, 427855, UTC)
    assert view.status == "completed"
    assert view.ended > datetime(2020, 1, 1, tzinfo=UTC)
    assert view.meta["commit"] == "9ea8912"
    assert [start["pid"] for start in view.meta["starts"]] == [os.getpid()]
    assert view.duration < view.span


def test_an_old_file_takes_tags_models_and_experiments(path):
    old = Experiment.use(path, exp_id="epoch_test.py", tags=("kept",), corpus="brown")
    old.add_tag("new")
    old.model("other", {"k": 1}).add_result({"acc": 1})
    Experiment.new(path, exp_id="another").model("m")
    assert old.tags == ("kept", "new")
    with casket.open(path) as runs:
        assert [view.id for view in runs.experiments] == ["epoch_test.py", "another"]
        assert runs.experiments[0].facts == {"corpus": "brown"}
        assert [view.id for view in runs.models()] == ["test-model", "other", "m"]
        assert len(runs.sessions(tag="new")) == 2


def test_what_was_read_before_goes_on_after_a_session_is_added(path):
    with casket.open(path) as runs:
        (view,) = runs.sessions()
        followed = runs.follow(poll=0.01, timeout=0)
        with old_model(path).session(PARAMS, ensure_unique=False) as continued:
            continued.add_epoch(10, {"loss": 1.5})
        assert runs.sessions() == [view]
        assert len(view.epochs) == 11
        kinds = [record["kind"] for record in followed]
        assert [kind for kind in kinds if kind != "meta"] == ["session", "epoch", "end"]


def test_tinydb_still_sees_the_old_document(path):
    old = first_document(ORIGINAL)
    Experiment.use(path, exp_id="epoch_test.py").model("net").add_result({"acc": 1})
    exp = Experiment.use(path, exp_id="epoch_test.py")
    for db in (exp.db, TinyDB(path)):
        (document,) = db.search(where("id") == "epoch_test.py")
        assert document == old
        (result,) = db.search(where("kind") == "result")
        assert result["body"]["result"] == {"acc": 1}
        db.close()


def test_exp_db_is_for_reading(path):
    exp = Experiment.use(path, exp_id="epoch_test.py")
    before = path.read_bytes()
    for change in (
        lambda: exp.db.insert({"a": 1}),
        lambda: exp.db.drop_tables(),
        lambda: exp.db.remove(where("id").exists()),
        lambda: exp.db.update({"id": "x"}),
    ):
        with pytest.raises(casket.CasketError, match=r"old\.json"):
            change()
    assert path.read_bytes() == before


def test_exp_db_works_on_every_store(url):
    exp = Experiment.use(url, exp_id="exp")
    exp.model("net").add_result({"acc": 1})
    assert len(exp.db.search(where("kind") == "result")) == 1
    assert len(exp.db.search(where("body").result.acc == 1)) == 1
    exp.close()


# Removing.


@pytest.fixture
def many(written):
    """A file with two old experiments of two models of two sessions each, and a new session."""
    models = [
        {
            "modelId": name,
            "sessions": [session({"acc": n}, {"n": n}) for n in (1, 2)],
        }
        for name in ("a", "b")
    ]
    file = written({"id": "one", "models": models}, {"id": "two", "models": models})
    Experiment.use(file, exp_id="one").model("a").add_result({"acc": 3}, params={"n": 3})
    return file


def remove(file, **what):
    with_writer = Experiment(file)
    with_writer.backend.store.prune(deletion(with_writer.backend.writer, **what))


def listed(file):
    with casket.open(file) as runs:
        return [
            (view.experiment, view.model, view.params["n"], view.results()[0]["acc"])
            for view in runs.sessions()
        ]


def listed_models(file):
    with casket.open(file) as runs:
        return [(view.experiment, view.id) for view in runs.models()]


ALL = [(exp, net, n, n) for exp in ("one", "two") for net in ("a", "b") for n in (1, 2)]
NEW = ("one", "a", 3, 3)


def test_an_old_session_can_be_removed(many):
    with casket.open(many) as runs:
        ids = [view.id for view in runs.sessions()]
        remove(many, sessions=[ids[0]])
        assert [view.id for view in runs.sessions()] == ids[1:]
    assert listed(many) == [*ALL[1:], NEW]
    with casket.open(many) as runs:
        assert [view.id for view in runs.sessions()] == ids[1:]
    assert [s["params"]["n"] for s in first_document(many)["models"][0]["sessions"]] == [2]
    with Experiment.use(many, exp_id="one").model("a").session({"n": 1}):
        pass
    with pytest.raises(ExistingParamsException):
        Experiment.use(many, exp_id="one").model("a").session({"n": 2})


def test_an_old_model_can_be_removed(many):
    remove(many, models=[("one", "a")])
    assert listed(many) == ALL[2:]
    assert listed_models(many) == [("one", "b"), ("two", "a"), ("two", "b")]


def test_an_old_experiment_can_be_removed(many):
    remove(many, experiments=["one"])
    assert listed(many) == ALL[4:]
    assert listed_models(many) == [("two", "a"), ("two", "b")]
    assert not Experiment(many, exp_id="one").exists()
    assert Experiment.new(many, exp_id="one").sessions() == []
    assert listed(many) == ALL[4:]


def test_an_old_session_with_values_json_lacks_can_be_removed(written):
    params = {"n": 1, "lr": math.nan, "seed": 10**30}
    file = written(
        experiment(model(session({"acc": 1}, params), session({"acc": 2}, {**params, "n": 2})))
    )
    Experiment.use(file, exp_id="exp").add_tag("written to")
    with casket.open(file) as runs:
        first, second = runs.sessions()
    remove(file, sessions=[first.id])
    assert listed(file) == [("exp", "net", 2, 2)]
    with casket.open(file) as runs:
        assert runs.sessions()[0].id == second.id
        assert math.isnan(runs.sessions()[0].params["lr"])
