"""Reading: the views of `casket.open`, also of stores with odd content."""

import copy
import json
import os
import pickle
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import casket
from casket import BadExpression, BadLocation, CasketWarning, Experiment
from casket.errors import NoSuchMetric
from casket.format.records import Writer, claim_key, deletion
from casket.reading.rows import MetricLog
from casket.stores.base import StoreOptions
from casket.stores.location import Location
from casket.system import processes

ROOT = Path(__file__).parents[1]


@pytest.fixture
def exp(url):
    experiment = Experiment.use(url, exp_id="exp", tags=("svm",))
    yield experiment
    experiment.close()


class Raw:
    """Writes records as another process, host or version of casket would."""

    def __init__(self, path):
        self.path = path
        self.store = Location.of(path).open(StoreOptions(), writing=True)
        self.files = Location.of(path).artifacts()
        self.writer = Writer()

    def write(self, kind, body, **fields):
        changed = {name: fields.pop(name) for name in ("v", "n", "time") if name in fields}
        record = {**self.writer.record(kind, body, **fields), **changed}
        self.store.append([record])
        return record

    def start(self, session, process=None, params=None, **fields):
        body = {"params": params or {}, "meta": {}, "process": process or {}}
        return self.write("session", body, **owner(session), **fields)

    def epoch(self, session, number, result, **fields):
        return self.write(
            "epoch", {"epoch_num": number, "result": result}, **owner(session), **fields
        )

    def end(self, session, status, of=None, **body):
        body = {"status": status, "of": of or self.writer.id, **body}
        return self.write("end", body, **owner(session))


def owner(session):
    return {"experiment": "exp", "model": "net", "session": session}


@pytest.fixture
def raw(file_url):
    raw = Raw(file_url)
    yield raw
    raw.store.close()


@pytest.fixture
def read(file_url):
    """Read the store's current content with a new reader."""

    def read(**filters):
        with casket.open(file_url) as runs:
            return runs.sessions(**filters)

    return read


# The view of a session.


def test_a_session_shows_all_that_is_known_of_it(exp):
    before = datetime.now(UTC)
    model = exp.model("SVM", {"kernel": "rbf"})
    with model.session({"lr": 0.1, "opt": {"name": "adam"}}) as session:
        session.add_meta({"gpu": "none"})
    after = datetime.now(UTC)
    (view,) = exp.sessions()
    assert view.id == session.id
    assert (view.experiment, view.model) == ("exp", "SVM")
    assert view.params == {"lr": 0.1, "opt": {"name": "adam"}}
    assert view.config == {"kernel": "rbf"}
    assert view.meta["gpu"] == "none"
    assert view.meta["pid"] == os.getpid()
    assert view.status == "completed"
    assert before <= view.started <= view.ended <= after
    assert view.duration == view.ended - view.started
    assert view.tags == ("svm",)
    assert view.error is None


def test_a_failed_session_names_its_exception(exp):
    model = exp.model("net")
    with pytest.raises(ZeroDivisionError), model.session() as session:
        session.add_epoch(1, {"loss": 1 / len(session.params)})
    (view,) = exp.sessions()
    assert view.status == "failed"
    assert view.error == "ZeroDivisionError: division by zero"
    assert view.ended is not None


def test_epochs_are_dicts_with_their_number_and_time(exp):
    with exp.model("net").session() as session:
        session.add_epoch(1, {"loss": 0.5}, timestamp=True)
        session.add_epoch(2, {"loss": 0.4}, timestamp=False)
        session.add_epoch(3, {"loss": 0.3, "timestamp": "mine", "epoch_num": 9, "epoch": 8})
        session.add_batch(4, {"batch_num": 7, "epoch": 6, "timestamp": 5}, epoch=3, timestamp=False)
    [view] = exp.sessions()
    first, second, third = view.epochs
    assert list(first) == ["epoch_num", "loss", "timestamp"]
    assert datetime.fromisoformat(first["timestamp"]) <= datetime.now(UTC)
    assert second == {"epoch_num": 2, "loss": 0.4}
    assert datetime.fromisoformat(third.pop("timestamp")) <= datetime.now(UTC)
    assert third == {
        "epoch_num": 3,
        "loss": 0.3,
        "epoch": 8,
        "metric.epoch_num": 9,
        "metric.timestamp": "mine",
    }
    own = {"metric.batch_num": 7, "metric.epoch": 6, "metric.timestamp": 5}
    assert view.batches == [{"batch_num": 4, "epoch": 3, **own}]


def test_batches_are_dicts_with_their_number_their_epoch_and_time(exp):
    with exp.model("net").session() as session:
        session.add_batch(17, {"loss": 0.5}, epoch=2)
        session.add_batch(18, {"loss": 0.4}, timestamp=False)
    first, second = exp.sessions()[0].batches
    assert list(first) == ["batch_num", "epoch", "loss", "timestamp"]
    assert (first["batch_num"], first["epoch"]) == (17, 2)
    assert second == {"batch_num": 18, "epoch": None, "loss": 0.4}


def test_results_are_listed_by_index(exp):
    with exp.model("net").session() as session:
        session.add_result({"acc": 1})
        session.add_result({"acc": 2}, index_by="test")
        session.add_result({"acc": 3}, index_by=1)
        session.add_result({"acc": 4}, index_by=True)
        session.add_result({"acc": 5}, index_by=0.5)
        session.add_result({"acc": 6}, index_by="test")
        session.add_result({"acc": 7})
    (view,) = exp.sessions()
    assert view.results() == [{"acc": 1}, {"acc": 7}]
    assert view.results("test") == [{"acc": 2}, {"acc": 6}]
    assert view.results(1) == view.results(1.0) == [{"acc": 3}]
    assert view.results(True) == [{"acc": 4}]
    assert view.results(0.5) == [{"acc": 5}]
    assert view.results("none of these") == view.results(False) == []
    assert view.indexes == ["test", 1, True, 0.5]
    assert view.results().latest == view.results()


def test_changing_what_was_read_changes_nothing(exp):
    with exp.model("net").session() as session:
        session.add_epoch(1, {"loss": 0.5})
        session.add_result({"acc": 1})
    (view,) = exp.sessions()
    view.epochs[0]["loss"] = view.results()[0]["acc"] = "changed"
    view.artifacts["new"] = None
    assert view.epochs[0]["loss"] == 0.5
    assert view.results()[0]["acc"] == 1
    assert view.artifacts == {}


def test_epochs_keep_the_order_they_were_logged_in_and_those_logged_again(exp):
    with exp.model("net").session() as session:
        for number, loss in [(1, 0.5), (2, 0.4), (3, 0.3), (2, 0.45), (0, 0.9), (3, 0.35)]:
            session.add_epoch(number, {"loss": loss})
    epochs = exp.sessions()[0].epochs
    assert [row["epoch_num"] for row in epochs] == [1, 2, 3, 2, 0, 3]
    assert [(row["epoch_num"], row["loss"]) for row in epochs.latest] == [
        (0, 0.9),
        (1, 0.5),
        (2, 0.45),
        (3, 0.35),
    ]
    assert exp.sessions()[0].epochs == epochs


def test_results_under_an_index_are_metrics(exp):
    with exp.model("net").session() as session:
        session.add_epoch(1, {"loss": 0.5, "acc": 0.7})
        session.add_result({"test_acc": 0.9, "acc": 0.8}, index_by="test")
        session.add_result({"test_acc": 0.95, "confusion": {"tp": 5}}, index_by="test")
        session.add_result({"only": 1.0, "twice": 2}, index_by="dev")
        session.add_result({"twice": 3, "only": 0.5}, index_by=7)
        session.add_result({"final": 4})
    [view] = exp.sessions()
    assert view.last == {
        "final": 4,
        "loss": 0.5,
        "acc": 0.7,
        "test.test_acc": 0.95,
        "test.acc": 0.8,
        "test.confusion.tp": 5,
        "dev.only": 1.0,
        "dev.twice": 2,
        "7.twice": 3,
        "7.only": 0.5,
    }
    assert view.last["test_acc"] == view.last["test.test_acc"] == 0.95
    assert view.last["confusion.tp"] == 5
    assert view.last["acc"] == 0.7
    assert "twice" not in view.last
    with pytest.raises(KeyError):
        view.last["twice"]
    assert view.best("test_acc", "max") == view.best("test.test_acc", "max") == 0.95
    assert view.best("test.test_acc", "min") == 0.9
    assert view.best("acc", "max") == 0.7
    with pytest.raises(NoSuchMetric):
        view.best("twice", "max")
    frame = exp.to_pandas()
    assert frame["last.test.test_acc"].tolist() == [0.95]


@pytest.mark.parametrize(
    "where",
    [
        "test_acc > 0.8",
        "test.test_acc > 0.8",
        "last['test.test_acc'] > 0.8",
        "best.test_acc > 0.8",
        "best.test.test_acc > 0.8",
    ],
)
def test_conditions_know_results_under_an_index(where, exp):
    for seed, accuracy in enumerate([0.7, 0.9]):
        with exp.model("net").session({"seed": seed}) as session:
            session.add_result({"test_acc": accuracy}, index_by="test")
    assert [view.params["seed"] for view in exp.sessions(where=where)] == [1]


def test_of_a_search_the_best_score_of_each_scorer_is_a_metric(exp):
    with exp.model("net").session() as session:
        for candidate, mean in enumerate([0.5, 0.9, 0.7]):
            row = {
                "candidate": candidate,
                "grid_search_params": {"C": candidate, "none": None},
                "dev_scores": {"mean": mean, "std": 0.0, "splits": [mean]},
                "fit_time": 1.0,
                "score_time": 1.0,
            }
            session.add_result(row, index_by="accuracy")
        best = {"best_params": {"C": 1}, "best_score": 0.9, "best_index": 1, "ranks": [3, 1, 2]}
        session.add_result(best, index_by="accuracy")
    [view] = exp.sessions()
    assert view.last == {"accuracy.best_score": 0.9}
    assert view.last["best_score"] == 0.9
    assert len(exp.to_pandas("results")) == 4


def test_the_latest_of_an_epoch_has_the_latest_of_each_metric(exp):
    with exp.model("net").session() as session:
        session.add_epoch(1, {"loss": 0.5, "val": {"loss": 0.7}})
        session.add_epoch(1, {"val": {"acc": 0.9}})
        session.add_epoch(1, {"loss": 0.4, "lr": None})
        session.add_epoch(1, {"loss": None, "lr": 0.1}, timestamp=False)
    [view] = exp.sessions()
    [latest] = view.epochs.latest
    time = view.epochs[2]["timestamp"]
    assert latest == {
        "epoch_num": 1,
        "loss": 0.4,
        "val": {"loss": 0.7, "acc": 0.9},
        "lr": 0.1,
        "timestamp": time,
    }
    assert view.epochs[0]["val"] == {"loss": 0.7}


def test_the_latest_of_batches_keeps_each_epoch_and_goes_by_epoch_and_number(exp):
    with exp.model("net").session() as session:
        for epoch, number, loss in [(2, 0, 5), (1, 1, 2), (1, 0, 1), (None, 0, 0), (1, 1, 3)]:
            session.add_batch(number, {"loss": loss}, epoch=epoch)
    latest = exp.sessions()[0].batches.latest
    assert [(row["epoch"], row["batch_num"], row["loss"]) for row in latest] == [
        (None, 0, 0),
        (1, 0, 1),
        (1, 1, 3),
        (2, 0, 5),
    ]


def test_the_latest_of_batches_goes_by_their_number(exp):
    with exp.model("net").session() as session:
        for number, loss in [(20, 1), (10, 2), (20, 3)]:
            session.add_batch(number, {"loss": loss})
    latest = exp.sessions()[0].batches.latest
    assert [(row["batch_num"], row["loss"]) for row in latest] == [(10, 2), (20, 3)]


def test_the_last_value_of_a_metric_is_the_one_logged_last(exp):
    with exp.model("net").session() as session:
        session.add_batch(1, {"loss": 9, "only_in_batches": 1, "deep": {"a": 1}})
        session.add_batch(2, {"loss": 8})
        session.add_epoch(1, {"loss": 0.5, "acc": 0.1, "rare": 1})
        session.add_epoch(2, {"loss": 0.4, "acc": 0.2})
        session.add_result({"acc": 0.9, "test": {"f1": {"macro": 0.7}}})
        session.add_result({"acc": "indexed"}, index_by="other")
    last = exp.sessions()[0].last
    assert last == {
        "acc": 0.9,
        "test.f1.macro": 0.7,
        "loss": 0.4,
        "rare": 1,
        "only_in_batches": 1,
        "deep.a": 1,
        "other.acc": "indexed",
    }
    assert last["loss"] == 0.4
    assert json.loads(json.dumps(last)) == last
    with pytest.raises(KeyError):
        last["none"]


def test_the_last_values_follow_what_is_logged(exp):
    session = exp.model("net").session()
    reader = exp._read()
    (view,) = reader.sessions()
    assert view.last == {}
    session.add_epoch(1, {"loss": 0.5})
    reader.sessions()
    assert view.last == {"loss": 0.5}
    session.add_epoch(2, {"loss": 0.4})
    reader.sessions()
    assert view.last == {"loss": 0.4}
    session.end()


def test_the_best_value_is_the_lowest_or_highest(exp):
    with exp.model("net").session() as session:
        for number, loss in enumerate([float("nan"), 0.5, 0.2, None, "0.1", True, 0.3]):
            session.add_epoch(number, {"loss": loss, "deep": {"acc": number}})
        session.add_batch(1, {"step": 7, "loss": -1})
        session.add_result({"f1": 0.8})
        session.add_result({"f1": 0.9})
        session.add_result({"f1": 1.0}, index_by="other")
    (view,) = exp.sessions()
    assert view.best("loss") == 0.2
    assert view.best("loss", mode="max") == 0.5
    assert view.best("deep.acc", "max") == 6
    assert view.best("step") == 7
    assert view.best("f1", mode="max") == 0.9
    assert view.epochs.best("loss")["epoch_num"] == 2
    assert view.epochs.best("deep.acc", "max")["epoch_num"] == 6
    assert view.epochs.best("none") is None


def test_the_best_of_what_was_never_logged_is_an_error_that_lists_what_was(exp):
    with exp.model("net").session() as session:
        session.add_epoch(1, {"loss": 0.5, "name": "x"})
    (view,) = exp.sessions()
    for metric in ("val_loss", "name"):
        with pytest.raises(KeyError) as error:
            view.best(metric)
        assert isinstance(error.value, casket.CasketError)
        assert str(error.value).startswith(f"session {view.id} has no numbers named {metric!r}")
        assert "'loss'" in str(error.value)


def test_a_mode_that_does_not_exist_is_refused(exp):
    with exp.model("net").session() as session:
        session.add_epoch(1, {"loss": 0.5})
    (view,) = exp.sessions()
    for best in (view.best, view.epochs.best):
        with pytest.raises(BadLocation, match=r"'lowest'.*min.*max"):
            best("loss", mode="lowest")


def test_views_say_in_a_line_what_they_are(exp):
    with exp.model("net").session({"lr": 1}) as session:
        session.add_epoch(1, {"loss": 0.123456789})
        session.add_epoch(1, {"loss": 0.12345678})
        session.add_result({"n": 1234567890, "huge": 10**400, "name": "x"})
        running = exp._read().sessions()[0].summary()
    reader = exp._read()
    (view,) = reader.sessions()
    assert repr(view) == f"<session {session.id} of exp/net: completed>"
    assert repr(reader.experiments[0]) == "<experiment 'exp'>"
    assert repr(reader.models()[0]) == "<model 'net' of experiment 'exp'>"
    assert repr(reader) == f"<casket {exp.backend.location}>"
    started = f"started {view.started:%Y-%m-%d %H:%M:%S} UTC"
    assert view.summary().startswith(f"{started}, is completed; 1 epoch; n=1234567890, huge=1000")
    assert view.summary().endswith(", loss=0.123457")
    assert running.startswith(f"{started}, is running; on {view.meta['host']}, last record 0 s ago")


def test_the_summary_of_an_empty_session_ends_with_its_status(exp):
    with exp.model("net").session():
        pass
    assert exp.sessions()[0].summary().endswith("is completed")


# Finding sessions.


@pytest.fixture
def runs(tmp_path):
    """A store of two experiments, three models and five sessions."""
    path = tmp_path / "runs.json"
    first = Experiment.use(path, exp_id="first", tags=("svm",))
    second = Experiment.use(path, exp_id="second", owner="me")
    for lr in (0.1, 0.01):
        with first.model("a", {"kernel": "rbf"}).session({"lr": lr, "opt": {"name": "adam"}}) as s:
            for epoch in range(3):
                s.add_epoch(epoch, {"val_loss": lr * epoch})
    with pytest.raises(RuntimeError), first.model("b").session({"lr": 0.1}):
        raise RuntimeError("stop")
    second.model("a").add_result({"acc": 0.5, "test": {"f1": 0.25}})
    open_session = second.model("a").session({"lr": 0.5})
    with casket.open(path) as reader:
        yield reader
    open_session.end()


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"experiment": "first"}, [0, 1, 2]),
        ({"model": "a"}, [0, 1, 3, 4]),
        ({"experiment": "first", "model": "a"}, [0, 1]),
        ({"experiment": "none"}, []),
        ({"status": "completed"}, [0, 1, 3]),
        ({"status": "failed"}, [2]),
        ({"status": "running"}, [4]),
        ({"status": "killed"}, []),
        ({"tag": "svm"}, [0, 1, 2]),
        ({"tag": "none"}, []),
        ({"where": lambda s: s.params.get("lr") == 0.1}, [0, 2]),
        ({"where": "params.lr < 0.1"}, [1]),
        ({"where": "params.lr < 0.1 and val_loss < 0.3"}, [1]),
        ({"where": "val_loss >= 0.02"}, [0, 1]),
        ({"where": "last.val_loss >= 0.02"}, [0, 1]),
        ({"where": "test.f1 == 0.25"}, [3]),
        ({"where": "params.opt.name == 'adam'"}, [0, 1]),
        ({"where": "config.kernel == 'rbf'"}, [0, 1]),
        ({"where": "config.kernel is None"}, [2, 3, 4]),
        ({"where": "meta.pid > 0"}, [0, 1, 2, 3, 4]),
        ({"where": "not params"}, [3]),
        ({"where": "'svm' in tags"}, [0, 1, 2]),
        ({"where": "status == 'failed'"}, [2]),
        ({"where": "'stop' in error"}, [2]),
        ({"where": "experiment == 'second' and model == 'a'"}, [3, 4]),
        ({"where": "epochs == 3"}, [0, 1]),
        ({"where": "duration >= 0 and age < 3600"}, [0, 1, 2, 3, 4]),
        ({"where": "started > '2026-01-01' and ended is None"}, [4]),
        ({"where": "id == 'none' or acc == 0.5"}, [3]),
        (
            {"experiment": "first", "status": "completed", "tag": "svm", "where": "val_loss < 0.1"},
            [1],
        ),
    ],
    ids=lambda value: str(value) if "lambda" not in str(value) else "where a function says so",
)
def test_sessions_are_found_by_what_they_are(runs, filters, expected):
    ids = [view.id for view in runs.sessions()]
    assert [ids.index(view.id) for view in runs.sessions(**filters)] == expected


def test_params_with_flat_names_are_found_by_them(memory):
    memory.add_result({"val.loss": 0.5}, params={"opt.name": "adam", "a": {"b.c": 1}})
    for where in ("params.opt.name == 'adam'", "val.loss == 0.5", "params['a']['b.c'] == 1"):
        assert len(memory.sessions(where=where)) == 1
    with pytest.raises(BadExpression, match=r"did you mean params\.opt\.name"):
        memory.sessions(where="params.opt.none == 'adam'")


def test_a_name_that_no_session_has_is_refused_with_the_nearest(memory):
    memory.add_result({"val_loss": 0.5, "val/acc": 0.9}, params={"lr": 0.1})
    memory.add_result({"loss": 0.5}, params={"lr": 0.2})
    for where, hint in [
        ("val_lss < 1", "no session has val_lss; did you mean val_loss"),
        ("params.lrr < 1", "did you mean params.lr?"),
        ("val/acc > 0.5", "did you mean `val/acc`?"),
        ("completely_other < 1", "there are val_loss, `val/acc`, loss"),
    ]:
        with pytest.raises(BadExpression) as caught:
            memory.sessions(where=where)
        assert hint in str(caught.value)
    for where, count in [
        ("val_loss < 1", 1),
        ("`val/acc` > 0.5", 1),
        ("lr > 0", 2),
        ("age > 0", 2),
    ]:
        assert len(memory.sessions(where=where)) == count
    assert memory.sessions(where="meta.clash is not None") == []


def test_without_sessions_every_name_is_known_and_without_metrics_every_metric(memory):
    assert memory.sessions(where="val_loss < 1 and params.lr > 0 and meta.x == 1") == []
    with memory.session({"lr": 0.1}):
        assert memory.sessions(where="val_loss < 1 or last.x > 0 or best.val_loss > 0") == []
        with pytest.raises(BadExpression, match=r"did you mean params\.lr"):
            memory.sessions(where="params.lrr > 0")


def test_a_bare_name_is_a_param_only_if_no_session_has_a_metric_of_that_name(memory):
    memory.add_result({"loss": 0.5}, params={"lr": 0.1})
    assert len(memory.sessions(where="lr == 0.1")) == 1
    memory.add_result({"lr": 0.7}, params={"lr": 0.2})
    assert len(memory.sessions(where="lr == 0.7")) == 1
    assert memory.sessions(where="lr == 0.1 or lr == 0.2") == []
    assert len(memory.sessions(where="params.lr == 0.1")) == 1


def test_the_best_value_of_a_metric_is_found_where_its_name_tells_which_way(memory):
    with memory.session({"a": 1}) as session:
        for epoch, (loss, speed) in enumerate(((0.2, 1), (0.1, 3), (0.3, 2))):
            session.add_epoch(epoch, {"test": {"loss": loss}, "speed": speed})
    assert len(memory.sessions(where="best.test.loss == 0.1 and test.loss == 0.3")) == 1
    with pytest.raises(BadExpression, match="did you mean speed"):
        memory.sessions(where="best.speed > 0")
    memory.add_result({"best.speed": 7}, params={"b": 1})
    assert len(memory.sessions(where="best.speed == 7")) == 1


def test_a_status_that_does_not_exist_is_refused(runs):
    with pytest.raises(BadLocation, match=r"'done'.*running.*completed"):
        runs.sessions(status="done")


def test_an_expression_that_cannot_be_read_is_refused(runs):
    with pytest.raises(BadExpression):
        runs.sessions(where="params.lr <")


def test_an_error_in_a_condition_of_the_user_is_theirs(runs):
    with pytest.raises(ZeroDivisionError):
        runs.sessions(where=lambda view: 1 / 0)


def test_experiments_and_models_are_listed_in_order(runs):
    assert [view.id for view in runs.experiments] == ["first", "second"]
    assert [view.facts for view in runs.experiments] == [{}, {"owner": "me"}]
    assert runs.experiments[0].created <= runs.experiments[1].created
    assert [(view.experiment, view.id) for view in runs.models()] == [
        ("first", "a"),
        ("first", "b"),
        ("second", "a"),
    ]
    assert [view.id for view in runs.models("second")] == ["a"]
    assert runs.models()[0].config == {"kernel": "rbf"}


def test_a_condition_may_ask_the_reader_again(runs):
    best = runs.sessions(where=lambda view: view in runs.sessions(experiment="second"))
    assert len(best) == 2


def test_a_session_has_the_tags_of_its_experiment_and_its_own(raw, read):
    raw.write("experiment", {"tags": ["a"], "facts": {}}, experiment="exp")
    raw.start("s1")
    raw.write("tag", {"add": ["b", "a"]}, **owner("s1"))
    raw.write("tag", {"add": ["c"]}, experiment="exp")
    assert read()[0].tags == ("a", "c", "b")
    assert read(tag="b")
    raw.write("tag", {"remove": ["b"]}, **owner("s1"))
    assert read()[0].tags == ("a", "c")


def test_a_path_without_anything_is_not_found_and_nothing_is_made(file_url, tmp_path):
    with pytest.raises(casket.NotFound) as error:
        casket.open(file_url)
    assert isinstance(error.value, FileNotFoundError)
    assert file_url in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_store_in_memory_is_read_through_its_experiment(memory):
    with pytest.raises(BadLocation, match=r"exp\.sessions\(\)"):
        casket.open(":memory:")
    memory.add_result({"acc": 1})
    assert len(memory.experiment.sessions()) == 1


def test_reading_changes_no_byte_and_makes_no_file(file_url, tmp_path):
    model = Experiment.use(file_url, exp_id="exp").model("net")
    model.add_result({"a": 1})
    model.experiment.close()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with casket.open(file_url) as runs:
        (view,) = runs.sessions()
        view.last, view.epochs, view.summary(), runs.to_pandas(), runs.experiments, runs.models()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_views_stay_usable_after_closing(file_url):
    with Experiment.use(file_url, exp_id="exp").model("net").session({"lr": 1}) as session:
        session.add_epoch(1, {"loss": 0.5})
        session.add_artifact("a.txt", b"1")
    with casket.open(file_url) as runs:
        (view,) = runs.sessions()
    Path(file_url).unlink()
    assert view.epochs[0]["loss"] == view.last["loss"] == view.best("loss") == 0.5
    assert view.params == {"lr": 1}
    assert view.artifacts["a.txt"].load() == b"1"
    assert view.status == "completed"


def test_views_pickle_and_copy(file_url):
    with Experiment.use(file_url, exp_id="exp", a=1).model("net").session({"lr": 1}) as session:
        session.add_epoch(1, {"loss": float("inf")})
        session.add_artifact("a.txt", b"1")
    with casket.open(file_url) as runs:
        originals = (*runs.sessions(), *runs.experiments, *runs.models())
    for make in (lambda view: pickle.loads(pickle.dumps(view)), copy.deepcopy):
        session, experiment, model = map(make, originals)
        assert session.epochs == originals[0].epochs
        assert session.epochs.latest == session.epochs
        assert (session.params, session.status) == ({"lr": 1}, "completed")
        assert session.artifacts["a.txt"].load() == b"1"
        assert experiment.facts == {"a": 1}
        assert model.config == {}


def test_a_reader_shows_what_was_added_since(file_url):
    model = Experiment.use(file_url, exp_id="exp").model("net")
    with casket.open(file_url) as runs:
        assert runs.sessions() == []
        with model.session() as session:
            (view,) = runs.sessions()
            session.add_epoch(1, {"loss": 0.5})
            assert runs.sessions() == [view]
            assert len(view.epochs) == 1
            model.experiment.model("other")
            assert len(runs.models()) == 2


def test_a_reader_may_be_asked_by_several_threads(file_url):
    model = Experiment.use(file_url, exp_id="exp").model("net")
    stop, counts = threading.Event(), []

    def ask():
        is_last = False
        while not is_last:
            is_last = stop.is_set()
            counts.extend(len(view.epochs) for view in reader.sessions(where="epochs >= 0"))

    with casket.open(file_url) as reader:
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(20):
            with model.session({"n": number}) as session:
                for epoch in range(10):
                    session.add_epoch(epoch, {"loss": 0.5})
        stop.set()
        for thread in threads:
            thread.join()
        assert [len(view.epochs) for view in reader.sessions()] == [10] * 20
    assert max(counts) == 10


# Odd content of a store.


def test_a_copy_of_a_record_is_dropped(raw, read):
    start = raw.start("s1")
    epoch = raw.epoch("s1", 1, {"loss": 0.5})
    raw.epoch("s1", 2, {"loss": 0.4})
    other = Raw(raw.path)
    other.epoch("s1", 1, {"loss": 0.5})  # alike, but not the same record
    for again in (epoch, start, epoch):
        raw.store.append([again])
    (view,) = read()
    assert [row["epoch_num"] for row in view.epochs] == [1, 2, 1]


def test_copies_are_dropped_in_whatever_order_they_come(raw, read):
    raw.start("s1")
    for n in (5, 3, 4, 3, 5, 2, 4, 7, 6, 7):
        raw.epoch("s1", n, {"loss": 0.5}, n=n)
    assert [row["epoch_num"] for row in read()[0].epochs] == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("kind", "version", "said"),
    [("epoch", 2, "format version 2"), ("hologram", 1, "kind 'hologram'")],
)
def test_records_of_a_newer_casket_are_named_once_and_skipped(raw, read, kind, version, said):
    raw.start("s1")
    raw.epoch("s1", 1, {"loss": 0.5})
    for number in range(3):
        body = {"epoch_num": number, "result": {"loss": "new"}}
        raw.write(kind, body, v=version, **owner("s1"))
    raw.epoch("s1", 2, {"loss": 0.4})
    with pytest.warns(CasketWarning) as warned:
        (view,) = read()
    assert [row["loss"] for row in view.epochs] == [0.5, 0.4]
    (warning,) = warned
    assert said in str(warning.message)
    assert "pip install -U casket" in str(warning.message)


def test_a_session_whose_start_is_missing_shows_what_is_there(raw, read):
    raw.epoch("s1", 1, {"loss": 0.5})
    raw.write("batch", {"batch_num": 1, "epoch": 1, "result": {"a": 1}}, **owner("s1"))
    raw.write("result", {"index": None, "result": {"acc": 1}}, **owner("s1"))
    raw.write("meta", {"gpu": "none"}, **owner("s1"))
    raw.write("tag", {"add": ["t"]}, **owner("s1"))
    (view,) = read()
    assert (view.params, view.config, view.meta) == ({}, {}, {"gpu": "none"})
    assert view.last == {"acc": 1, "loss": 0.5, "a": 1}
    assert view.status == "killed"
    assert view.duration >= timedelta(0)
    assert view.summary()
    raw.end("s1", "failed", of="unknown", error="ValueError: x")
    (view,) = read()
    assert (view.status, view.error) == ("failed", "ValueError: x")


def test_a_tag_of_an_experiment_that_is_missing_is_no_matter(raw, read):
    raw.write("tag", {"add": ["t"]}, experiment="gone")
    raw.start("s1")
    assert read()[0].tags == ()


def test_what_is_deleted_is_not_shown(raw, file_url):
    for experiment in ("exp", "other"):
        raw.write("experiment", {"tags": [], "facts": {}}, experiment=experiment)
        for model in ("net", "tree"):
            raw.write("model", {"config": {}}, experiment=experiment, model=model)
            for n in (1, 2):
                body = {"params": {}, "meta": {}, "process": {}}
                place = {"experiment": experiment, "model": model}
                raw.write("session", body, **place, session=f"{experiment}-{model}-{n}")

    def shown(reader):
        return [view.id for view in reader.sessions()]

    with casket.open(file_url) as reader:
        assert len(shown(reader)) == 8
        # The tombstone alone, as a reader meets it that read the rest before.
        raw.store.append([deletion(raw.writer, sessions=["exp-net-1"])])
        assert "exp-net-1" not in shown(reader)
        raw.store.append([deletion(raw.writer, models=[("exp", "net")])])
        assert shown(reader) == ["exp-tree-1", "exp-tree-2", *shown(reader)[2:]]
        assert [view.id for view in reader.models("exp")] == ["tree"]
        raw.store.append([deletion(raw.writer, experiments=["exp"])])
        assert shown(reader) == ["other-net-1", "other-net-2", "other-tree-1", "other-tree-2"]
        assert [view.id for view in reader.experiments] == ["other"]
        assert {view.experiment for view in reader.models()} == {"other"}
        with casket.open(file_url) as fresh:
            assert shown(fresh) == shown(reader)


def test_a_deleted_session_may_begin_again(raw, read):
    raw.start("s1")
    raw.store.append([deletion(raw.writer, sessions=["s1"])])
    assert read() == []
    raw.start("s1", params={"again": True})
    assert [view.params for view in read()] == [{"again": True}]


# How a session stands.


def elsewhere(**changes):
    return {**processes.this_process(), "host": "elsewhere", **changes}


def ago(**age):
    moment = datetime.now(UTC) - timedelta(**age)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def test_a_session_whose_process_lives_is_running(raw, read):
    raw.start("s1", processes.this_process(), time=ago(days=30))
    (view,) = read()
    assert view.status == "running"
    assert view.ended is None
    assert view.duration >= timedelta(days=29)


def test_a_session_whose_process_is_gone_was_killed(file_url, tmp_path, read):
    code = """
import os, sys, casket
session = casket.Experiment.use(sys.argv[1], exp_id="exp").model("net").session()
session.add_epoch(1, {"loss": 0.5})
os.kill(os.getpid(), 9)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, file_url], cwd=tmp_path, env=environment)
    assert done.returncode == -9
    (view,) = read(status="killed")
    assert view.error is None
    assert view.ended == view.last_seen == datetime.fromisoformat(view.epochs[0]["timestamp"])
    assert len(view.epochs) == 1


def test_a_session_of_another_host_runs_until_it_was_silent_for_a_day(raw, read):
    raw.start("old", elsewhere(), time=ago(days=3))
    raw.epoch("old", 1, {}, time=ago(hours=25))
    raw.start("new", elsewhere(), time=ago(days=3))
    raw.epoch("new", 1, {}, time=ago(hours=23))
    old, new = read()
    assert (old.status, new.status) == ("killed", "running")
    assert timedelta(hours=22, minutes=59) < new.age < timedelta(hours=23, minutes=1)
    assert "last record 23 h ago" in new.summary()
    assert old.ended == old.last_seen
    assert not old.is_surely_over


@pytest.mark.parametrize(
    ("age", "text"),
    [
        ({"days": 2}, "2 d"),
        ({"hours": 3}, "3 h"),
        ({"minutes": 5}, "5 min"),
        ({"hours": -1}, "0 s"),
    ],
)
def test_the_age_of_a_running_session_is_said_in_words(raw, read, age, text):
    raw.start("s1", processes.this_process(), time=ago(**age))
    assert f"last record {text} ago" in read()[0].summary()


def test_an_end_noted_for_a_killed_session_moves_neither_its_end_nor_its_age(raw, read):
    start = raw.start("s1", elsewhere(), time=ago(days=5))
    raw.epoch("s1", 1, {}, time=ago(days=4))
    Raw(raw.path).end("s1", "killed", of=start["writer"])
    raw.write("tag", {"add": ["bad"]}, **owner("s1"))
    (view,) = read()
    assert view.status == "killed"
    assert view.age > timedelta(days=3)
    assert view.ended == view.last_seen
    assert view.duration < timedelta(days=2)


def test_a_tag_added_later_does_not_move_the_end(raw, read):
    raw.start("s1", time=ago(days=5))
    raw.end("s1", "completed")
    ended = read()[0].ended
    raw.write("tag", {"add": ["good"]}, **owner("s1"))
    assert read()[0].ended == ended


def test_a_continued_session_stands_as_its_last_writer_does(raw, read):
    first, second = raw, Raw(raw.path)
    first.start("s1", processes.this_process())
    first.end("s1", "failed", error="ValueError: x")
    (view,) = read()
    assert (view.status, view.error) == ("failed", "ValueError: x")
    second.start("s1", processes.this_process())
    (view,) = read()
    assert (view.status, view.error, view.ended) == ("running", None, None)
    second.end("s1", "completed")
    (view,) = read()
    assert (view.status, view.error) == ("completed", None)
    assert len(read()) == 1


def test_of_several_writers_one_that_lives_keeps_a_session_running(raw, read):
    gone = {**processes.this_process(), "started": 1}
    first, second, third = raw, Raw(raw.path), Raw(raw.path)
    first.start("s1", gone)
    second.start("s1", processes.this_process())
    third.start("s1", gone)
    assert read()[0].status == "running"
    assert not read()[0].is_surely_over
    assert read()[0].open_writers == [first.writer.id, second.writer.id, third.writer.id]
    third.end("s1", "failed", error="ValueError: x")
    assert (read()[0].status, read()[0].error) == ("running", None)
    second.end("s1", "completed")
    assert (read()[0].status, read()[0].error) == ("failed", "ValueError: x")
    assert read()[0].is_surely_over
    assert read()[0].open_writers == [first.writer.id]


def test_a_session_whose_last_writer_is_gone_without_an_end_was_killed(raw, read):
    first, second = raw, Raw(raw.path)
    for writer in (first, second):
        writer.start("s1", {**processes.this_process(), "started": 1})
    first.end("s1", "completed")
    assert read()[0].status == "killed"


def test_a_writer_that_begins_again_is_the_last_to_have_begun(raw, read):
    first, second = raw, Raw(raw.path)
    for writer in (first, second, first):
        writer.start("s1")
    second.end("s1", "failed")
    first.end("s1", "completed")
    assert read()[0].status == "completed"


# Following.


def test_following_yields_what_another_process_adds_and_stops_after_silence(file_url, tmp_path):
    Experiment.use(file_url, exp_id="exp").model("net").add_result({"before": 1})
    code = """
import sys, time, casket
model = casket.Experiment.use(sys.argv[1], exp_id="exp").model("net")
with model.session({"lr": float("inf")}) as session:
    for number in range(5):
        session.add_epoch(number, {"loss": float("nan")})
        time.sleep(0.02)
"""
    with casket.open(file_url) as runs:
        followed = runs.follow(poll=0.01, timeout=60)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        child = subprocess.Popen([sys.executable, "-c", code, file_url], env=environment)
        records = []
        while not records or records[-1]["kind"] != "end":
            records.append(next(followed))
        assert child.wait() == 0
        assert list(runs.follow(poll=0.01, timeout=0.1)) == []
    kinds = [record["kind"] for record in records if record["kind"] != "meta"]
    assert kinds == ["session", *["epoch"] * 5, "end"]
    assert records[0]["body"]["params"] == {"lr": float("inf")}
    losses = [r["body"]["result"]["loss"] for r in records if r["kind"] == "epoch"]
    assert all(loss != loss for loss in losses)


def test_following_begins_when_it_is_asked_for(raw, file_url):
    raw.start("s1")
    with casket.open(file_url) as runs:
        raw.epoch("s1", 1, {})
        followed = runs.follow(poll=0.01, timeout=0)
        raw.epoch("s1", 2, {})
        raw.epoch("s1", 3, {})
        assert [record["body"]["epoch_num"] for record in followed] == [2, 3]


def test_asking_while_following_takes_nothing_from_it(raw, file_url):
    raw.start("s1")
    seen = []
    with casket.open(file_url) as runs:
        followers = [runs.follow(poll=0.01, timeout=0) for _ in range(2)]
        for number in range(4):
            raw.epoch("s1", number, {})
        for record in followers[0]:
            seen.append(record["body"]["epoch_num"])
            (view,) = runs.sessions()
            assert len(view.epochs) >= len(seen)
            if len(seen) == 2:
                raw.epoch("s1", 4, {})
        assert seen == [0, 1, 2, 3, 4]
        assert [record["body"]["epoch_num"] for record in followers[1]] == [0, 1, 2, 3, 4]


def test_copies_are_not_yielded_to_who_follows(raw, file_url):
    start = raw.start("s1")
    with casket.open(file_url) as runs:
        followed = runs.follow(poll=0.01, timeout=0)
        raw.store.append([start])
        raw.epoch("s1", 1, {})
        assert [record["kind"] for record in followed] == ["epoch"]


class Clock:
    """A clock that goes on while one sleeps; after so many sleeps something happens."""

    def __init__(self, at):
        self._now, self._sleeps, self._at = 0.0, 0, at

    def monotonic(self):
        return self._now

    def sleep(self, seconds):
        self._now += seconds
        self._sleeps += 1
        self._at.get(self._sleeps, lambda: None)()


def test_silence_is_counted_from_the_last_record(raw, file_url, monkeypatch):
    raw.start("s1")
    with casket.open(file_url) as runs:
        clock = Clock(at={15: lambda: raw.epoch("s1", 1, {})})
        monkeypatch.setattr("casket.reading.casket.time", clock)
        assert len(list(runs.follow(poll=0.02, timeout=0.5))) == 1
        assert clock.monotonic() == pytest.approx(0.3 + 0.5, abs=0.05)


# Sessions that come near.


@pytest.fixture
def tried(memory):
    for params in (
        {"lr": 0.1, "opt": {"name": "adam"}, "layers": [64, 32]},
        {"lr": 0.2, "opt": {"name": "adam"}, "layers": [64, 32]},
        {"lr": 0.9, "opt": {"name": "adam"}, "layers": [64, 32]},
        {"lr": 0.1, "opt": {"name": "sgd"}, "layers": [64]},
        {"lr": 0.1, "opt": {"name": "adam"}, "layers": [64, 32], "drop": 0.5},
    ):
        memory.add_result({}, params=params)
    return memory


WANTED = {"lr": 0.11, "opt": {"name": "adam"}, "layers": [64, 32]}


def test_the_nearest_sessions_differ_in_the_fewest_params_then_by_the_least(tried):
    near = tried.nearest(WANTED, n=5)
    assert [each.session.params["lr"] for each in near] == [0.1, 0.2, 0.9, 0.1, 0.1]
    assert [each.difference for each in near] == [
        {"lr": (0.1, 0.11)},
        {"lr": (0.2, 0.11)},
        {"lr": (0.9, 0.11)},
        {"lr": (0.1, 0.11), "drop": (0.5, None)},
        {"lr": (0.1, 0.11), "opt.name": ("sgd", "adam"), "layers": ([64], [64, 32])},
    ]
    assert len(tried.nearest(WANTED)) == 3
    assert tried.nearest(WANTED, n=0) == []


def test_near_says_in_a_line_what_differs(tried):
    near = tried.nearest({"lr": 0.1, "layers": [64], "opt": {"name": "adam"}}, n=5)
    session = near[0].session
    assert (
        near[0].summary() == f"session {session.id}, completed: layers=[64, 32] (asked for: [64])"
    )
    (same, *_) = tried.nearest({"lr": 0.1, "layers": [64], "opt": {"name": "sgd"}})
    assert same.summary().endswith(": the same")


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("theirs", "ours", "are_equal"),
    [
        (1, 1.0, True),
        (True, 1, False),
        ([True], [1], False),
        ({"a": [{}]}, {"a": [{}]}, True),
        (NAN, NAN, True),
        (INF, INF, True),
        (INF, -INF, False),
        (NAN, 1, False),
        (10**400, 0.5, False),
        (0, 0.0, True),
        ("1", 1, False),
        (None, 0, False),
    ],
)
def test_params_are_compared_as_they_are_where_they_must_be_unique(memory, theirs, ours, are_equal):
    memory.add_result({}, params={"a": theirs})
    memory.add_result({}, params={"a": "far"})
    near = memory.nearest({"a": ours}, n=2)
    assert (near[0].difference == {}) is are_equal
    assert near[1].difference


def test_the_nearest_of_infinite_numbers_are_still_in_order(memory):
    for value in (INF, NAN, 3, 10**400, 2):
        memory.add_result({}, params={"a": value})
    near = memory.nearest({"a": 1}, n=5)
    assert [each.session.params["a"] for each in near][:2] == [2, 3]


def test_params_with_large_arrays_are_compared(memory):
    np = pytest.importorskip("numpy")
    array = np.zeros(100_000)
    memory.add_result({}, params={"w": array, "lr": 1})
    (near,) = memory.nearest({"w": array, "lr": 2})
    assert near.difference == {"lr": (1, 2)}
    (near,) = memory.nearest({"w": array + 1, "lr": 1})
    assert list(near.difference) == ["w"]
    (near,) = memory.nearest({"w": array[:-1], "lr": 1})
    assert list(near.difference) == ["w"]


def test_claims_of_sessions_read_are_those_they_were_begun_with(exp):
    model = exp.model("net")
    params = {"a": NAN, "b": [1, (2,)], "$c": 10**30}
    model.add_result({}, params=params)
    (view,) = exp.sessions()
    encoded, _ = exp.backend.encode(view.params, "params")
    (_, start), *_ = exp.backend.store.records(kinds={"session"})
    assert start["claim"] == claim_key("exp", "net", encoded)


def test_ctrl_c_in_the_midst_of_reading_loses_no_record(file_url, monkeypatch):
    experiment = Experiment.use(file_url, exp_id="exp")
    model = experiment.model("net")
    with casket.open(file_url) as runs, model.session() as session:
        session.add_batches((i, {"loss": 0.5}, None, 0.0) for i in range(1000))
        added, add = [], MetricLog.add

        def interrupted(logged, records):
            added.append(records)
            if len(added) == 3:
                raise KeyboardInterrupt
            add(logged, records)

        monkeypatch.setattr(MetricLog, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            runs.sessions()
        (view,) = runs.sessions()
        assert [row["batch_num"] for row in view.batches] == list(range(1000))
