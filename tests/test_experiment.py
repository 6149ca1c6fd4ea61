"""Experiments and models: identity, tags, facts, handles."""

import copy
import inspect
import multiprocessing
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
from tinydb import where

import casket
from casket import Experiment as E


def test_use_creates_and_joins(url):
    exp = E.use(url, exp_id="digits", tags=("svm",), dataset="digits", n=1797)
    assert exp.exists()
    assert (exp.id, exp.exp_id) == ("digits", "digits")
    assert exp.tags == ("svm",)


def test_joining_adds_the_tags_and_facts_that_are_new(file_url):
    E.use(file_url, exp_id="x", tags=("a",), owner="me").close()
    E.use(file_url, exp_id="x").close()
    E.use(file_url, exp_id="x", tags=("a", "b"), owner="you", place="here").close()
    with casket.open(file_url) as runs:
        (seen,) = runs.experiments
    assert seen.tags == ("a", "b")
    assert seen.facts == {"owner": "you", "place": "here"}


def test_joining_with_what_is_there_already_writes_nothing(tmp_path):
    path = tmp_path / "runs.json"
    E.use(path, exp_id="x", tags=("a",), owner="me").model("m", {"k": 1}).add_result({"r": 1})
    before = path.read_bytes()
    E.use(path, exp_id="x", tags=("a",), owner="me").model("m", {"k": 1})
    E.use(path, exp_id="x").model("m")
    assert path.read_bytes() == before


@pytest.mark.parametrize("value", [float("nan"), np.zeros(100_000), {"$a": 1}])
def test_facts_and_configs_that_are_there_already_are_not_written_again(tmp_path, value):
    path = tmp_path / "runs.json"
    for _ in range(2):
        E.use(path, exp_id="x", fact=value).model("m", {"w": value})
    assert len(path.read_text().splitlines()) == 4


def test_new_refuses_an_experiment_that_is_there(file_url):
    E.new(file_url, exp_id="x")
    with pytest.raises(casket.ExistingExperimentError, match=r"'x'.*runs.*Experiment\.use"):
        E.new(file_url, exp_id="x")
    E.new(file_url, exp_id="y")


def test_of_many_that_create_an_experiment_at_once_one_does(file_url):
    outcomes = []
    barrier = threading.Barrier(8)

    def create():
        barrier.wait()
        try:
            E.new(file_url, exp_id="x")
            outcomes.append("created")
        except casket.ExistingExperimentError:
            outcomes.append("refused")

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["created"] + ["refused"] * 7


def test_without_an_id_a_random_one_is_given(url):
    assert E.use(url).id != E.use(url).id


def test_an_overridden_get_id_wins(url):
    class Mine(E):
        def get_id(self):
            return Path(inspect.getsourcefile(type(self))).name

    assert Mine.use(url, exp_id="other").id == "test_experiment.py"


@pytest.mark.parametrize(("given", "expected"), [(0, "0"), (False, "False"), (7, "7"), ("0", "0")])
@pytest.mark.parametrize("overrides", [False, True])
def test_every_id_but_none_is_an_id(file_url, given, expected, overrides):
    class Mine(E):
        def get_id(self):
            return given

    for make in (E.new, E.use):
        exp = Mine.use(file_url) if overrides else make(file_url, exp_id=given)
        assert exp.id == expected
        exp.model("m").add_result({"acc": 0.5})
        exp.close()
    with casket.open(file_url) as runs:
        assert [view.id for view in runs.experiments] == [expected]
        assert len(runs.sessions(experiment=expected)) == 2


def test_a_get_id_that_returns_none_leaves_the_given_id(url):
    class Mine(E):
        def get_id(self):
            return None

    assert Mine.use(url, exp_id=0).id == "0"
    assert len(Mine.use(url).id) == 16


@pytest.mark.parametrize("overrides", [False, True])
def test_an_empty_id_is_refused_by_name(tmp_path, overrides):
    class Mine(E):
        def get_id(self):
            return ""

    for name in ("runs.json", "runs.sqlite"):
        with pytest.raises(casket.UnstorableValue, match="exp_id"):
            (Mine.use(tmp_path / name) if overrides else E.use(tmp_path / name, exp_id=""))
        assert not (tmp_path / name).exists()


def test_a_tag_that_is_not_unicode_is_refused_by_name(url):
    exp = E.use(url, exp_id="x")
    for call in (exp.add_tag, exp.remove_tag, lambda tag: E.use(url, exp_id="y", tags=[tag])):
        with pytest.raises(casket.UnstorableValue, match="tags"):
            call("\ud800")


def test_a_held_tinydb_answers_from_what_is_stored_now(file_url):
    exp = E.use(file_url, exp_id="x")
    database, epochs = exp.db, where("kind") == "epoch"
    losses = where("body").result.loss
    with exp.model("m").session() as session:
        assert database.search(epochs) == []
        session.add_epoch(1, {"loss": float("nan")})
        session.add_epoch(2, {"loss": 0.5})
        session.add_epoch(3, {"loss": float("-inf"), "at": [float("nan")]})
        assert len(database.search(epochs)) == 3
        low = database.search(losses < 0.7)
        assert [record["body"]["epoch_num"] for record in low] == [2, 3]
        session.add_epoch(4, {"loss": 0.6})
        assert len(database.search(epochs)) == database.count(epochs) == 4
        assert len(database.table("_default").search(losses < 0.7)) == 3


def test_tags_are_added_and_removed(url):
    exp = E.use(url, exp_id="x", tags="single")
    exp.add_tag("b")
    exp.add_tag("b")
    exp.remove_tag("single")
    exp.remove_tag("never there")
    assert exp.tags == ("b",)
    exp.model("m").add_result({"a": 1})
    assert exp.sessions()[0].tags == ("b",)
    assert exp.sessions(tag="b")
    assert not exp.sessions(tag="single")


@pytest.mark.parametrize("tags", [(1,), [None], [["a"]]])
def test_a_tag_that_is_no_text_is_refused(url, tags):
    with pytest.raises(casket.UnstorableValue, match="tags"):
        E.use(url, exp_id="x", tags=tags)


def test_models_are_listed_in_order_and_keep_their_config(url):
    exp = E.use(url, exp_id="x")
    exp.model("b", {"layers": (3, 4)})
    exp.model("a", model_config={"k": 1})
    exp.model("b")
    assert [model.id for model in exp.get_models()] == ["b", "a"]
    assert [model.model_id for model in exp.get_models()] == ["b", "a"]
    assert exp.model("b").config == {"layers": [3, 4]}
    assert exp.model("new").config == {}


def test_a_session_keeps_the_config_its_model_had(url):
    exp = E.use(url, exp_id="x")
    exp.model("m", {"version": 1}).add_result({"a": 1})
    exp.model("m", {"version": 2}).add_result({"a": 2})
    assert [s.config for s in exp.sessions()] == [{"version": 1}, {"version": 2}]


def test_an_experiment_shows_its_own_sessions_only(url):
    exp = E.use(url, exp_id="x")
    exp.model("m").add_result({"a": 1})
    exp.model("n").add_result({"a": 2})
    assert [s.model for s in exp.sessions()] == ["m", "n"]
    assert [s.model for s in exp.sessions(model="n")] == ["n"]
    assert [s.last["a"] for s in exp.model("m").sessions()] == [1]
    assert len(exp.sessions(where="a > 1")) == 1
    assert list(exp.to_pandas()["last.a"]) == [1, 2]
    assert exp.to_polars().height == 2
    assert list(exp.model("n").to_pandas("results")["a"]) == [2]
    assert exp.model("n").to_polars("results").height == 1


def test_two_experiments_in_one_file_keep_apart(file_url):
    first, second = E.use(file_url, exp_id="1"), E.use(file_url, exp_id="2")
    first.model("m").add_result({"a": 1}, {"p": 1})
    with second.model("m").session({"p": 1}):
        pass
    assert len(first.sessions()) == len(second.sessions()) == 1
    with casket.open(file_url) as runs:
        assert [e.id for e in runs.experiments] == ["1", "2"]
        assert len(runs.sessions()) == 2


def test_nearest_lists_the_sessions_whose_params_differ_least(url):
    model = E.use(url, exp_id="x").model("m")
    for params in (
        {"lr": 0.1, "n": 1},
        {"lr": 0.2, "n": 1},
        {"lr": 0.9, "n": 2},
        {"lr": 0.3, "n": 1},
    ):
        model.add_result({"a": params["lr"]}, params)
    near = model.nearest({"lr": 0.21, "n": 1}, n=3)
    assert [each.session.params["lr"] for each in near] == [0.2, 0.3, 0.1]
    assert near[0].difference == {"lr": (0.2, 0.21)}
    assert near[0].session.last["a"] == 0.2
    assert model.nearest({"lr": 0.1, "n": 1}, n=1)[0].difference == {}


def test_db_queries_the_records_as_a_tinydb(url):
    exp = E.use(url, exp_id="x")
    with exp.model("m").session({"lr": 1}) as session:
        session.add_epoch(1, {"loss": 0.5})
        session.add_epoch(2, {"loss": 0.25})
    epochs = exp.db.search((where("kind") == "epoch") & (where("body").result.loss < 0.3))
    assert [record["body"]["epoch_num"] for record in epochs] == [2]
    with pytest.raises(casket.CasketError, match="only"):
        exp.db.insert({"a": 1})
    assert len(exp.sessions()) == 1


def test_handles_pickle_and_go_on_elsewhere(file_url):
    exp = E.use(file_url, exp_id="x", sync="always")
    model = pickle.loads(pickle.dumps(exp.model("m", {"k": 1})))
    model.add_result({"a": 1})
    again = pickle.loads(pickle.dumps(exp))
    assert again.id == "x"
    assert again.backend.options.sync == "always"
    assert [s.last["a"] for s in again.sessions()] == [1]


def log_one(model):
    model.add_result({"a": 1}, {"who": multiprocessing.current_process().name})


@pytest.mark.filterwarnings("ignore:os.fork")  # JAX, if another test has imported it
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_handles_go_on_in_other_processes(file_url, method):
    model = E.use(file_url, exp_id="x").model("m")
    context = multiprocessing.get_context(method)
    processes = [context.Process(target=log_one, args=(model,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(model.sessions()) == 3


def test_handles_copy(url):
    model = copy.deepcopy(E.use(url, exp_id="x").model("m"))
    copy.copy(model).add_result({"a": 1})
    assert len(model.sessions()) == 1


def test_a_store_in_memory_says_that_it_cannot_be_sent():
    with pytest.raises(casket.CasketError, match="memory"):
        pickle.dumps(E.use(":memory:", exp_id="x"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "names no location"),
        ("http://example.org/runs", "no such store"),
        ("nonsense://user:hunter2@host/db", r"nonsense://user:\*\*\*@host"),
        (b"runs.json", "names no location"),
    ],
)
def test_what_is_no_place_is_refused_by_name(path, message):
    with pytest.raises(casket.BadLocation, match=message) as caught:
        E.use(path, exp_id="x")
    assert isinstance(caught.value, ValueError)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("option", [{"sync": "never"}, {"offline": "maybe"}, {"flush_timeout": -1}])
def test_a_store_option_that_does_not_exist_is_refused_by_name(url, option):
    with pytest.raises(casket.BadLocation, match=next(iter(option))):
        E.use(url, exp_id="x", **option)


def test_a_new_file_takes_its_kind_from_its_name_an_old_one_from_what_it_holds(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    names = ["runs.json", "runs.db", "runs.sqlite", "runs.sqlite3", "runs", "~/home.json"]
    for name in [*names, f"sqlite:///{tmp_path}/absolute", "sqlite:///relative"]:
        E.use(name, exp_id="x").close()
    magic = b"SQLite format 3\0"
    kinds = {p.name: p.read_bytes().startswith(magic) for p in tmp_path.iterdir() if p.is_file()}
    assert kinds == {
        "runs.json": False, "runs.db": True, "runs.sqlite": True, "runs.sqlite3": True,
        "runs": False, "home.json": False, "absolute": True, "relative": True,
    }  # fmt: skip
    (tmp_path / "runs.json").rename(tmp_path / "moved.db")
    (tmp_path / "runs.db").rename(tmp_path / "moved.json")
    for name in ("moved.db", "moved.json"):
        assert E.use(name, exp_id="x").exists()
        with casket.open(name) as runs:
            assert [e.id for e in runs.experiments] == ["x"]


def test_facts_that_cannot_be_stored_are_refused_and_nothing_is_created(tmp_path):
    with pytest.raises(casket.UnstorableValue, match="made_by"):
        E.use(tmp_path / "runs.json", exp_id="x", made_by=object())
    assert list(tmp_path.iterdir()) == []


def test_exists_turns_false_when_the_experiment_is_removed(file_url):
    from casket.format.records import deletion

    exp = E.use(file_url, exp_id="x")
    exp.model("m").add_result({"a": 1})
    exp.backend.store.prune(deletion(exp.backend.writer, experiments=["x"]))
    assert not exp.exists()
    assert exp.sessions() == []
    E.new(file_url, exp_id="x").model("m").add_result({"a": 2})
    assert [s.last["a"] for s in exp.sessions()] == [2]
