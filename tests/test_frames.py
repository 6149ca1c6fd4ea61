"""Tables: sessions, epochs, batches and results in pandas and polars."""

import math
from datetime import UTC, datetime
from decimal import Decimal

import pytest

import casket
from casket import BadLocation, Experiment

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

TABLES = ("sessions", "epochs", "batches", "results")
OWN = {
    "sessions": [
        "session",
        "parent",
        "experiment",
        "model",
        "name",
        "group",
        "status",
        "started",
        "ended",
        "duration",
        "tags",
        "error",
    ],
    "epochs": ["session", "parent", "experiment", "model", "epoch_num", "timestamp"],
    "batches": ["session", "parent", "experiment", "model", "batch_num", "epoch", "timestamp"],
    "results": ["session", "parent", "experiment", "model", "index", "timestamp"],
}
TIMES = {"sessions": ["started", "ended"]}


@pytest.fixture
def exp(url):
    experiment = Experiment.use(url, exp_id="exp", tags=("t",))
    yield experiment
    experiment.close()


@pytest.fixture(params=["pandas", "polars"])
def table(request, exp):
    """Read a table of the store as columns of plain values, through pandas or polars."""

    def read(name, **options):
        if request.param == "polars":
            return exp.to_polars(name, **options).to_dict(as_series=False)
        frame = exp.to_pandas(name, **options)
        return {
            column: [None if is_missing(value) else value for value in frame[column].tolist()]
            for column in frame.columns
        }

    return read


def is_missing(value):
    return value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


# Their content.


def test_sessions_have_flat_columns(exp, table):
    model = exp.model("SVM", {"kernel": {"name": "rbf"}})
    with model.session({"lr": 0.1, "opt": {"name": "adam"}}) as session:
        session.add_epoch(1, {"val_loss": 0.5, "acc": {"top5": 0.9}})
        session.add_meta({"gpu": {"name": "none"}})
    columns = table("sessions")
    (view,) = exp.sessions()
    assert list(columns)[: len(OWN["sessions"])] == OWN["sessions"]
    row = {name: values[0] for name, values in columns.items()}
    assert row["session"] == session.id
    assert (row["experiment"], row["model"], row["status"]) == ("exp", "SVM", "completed")
    assert (row["name"], row["group"]) == (view.name, None)
    assert row["params.lr"] == 0.1
    assert row["params.opt.name"] == "adam"
    assert row["config.kernel.name"] == "rbf"
    assert row["meta.gpu.name"] == "none"
    assert row["meta.pid"] == view.meta["pid"]
    assert "meta.commit" in row
    assert row["last.val_loss"] == 0.5
    assert row["last.acc.top5"] == 0.9
    assert row["tags"] == ["t"]
    assert row["error"] is None
    assert row["duration"] == view.duration.total_seconds()
    assert (row["started"], row["ended"]) == (view.started, view.ended)


def test_a_running_session_has_no_end(exp, table):
    session = exp.model("net").session()
    assert table("sessions")["ended"] == [None]
    session.end()


def test_epochs_have_their_session_params_metrics_and_time(exp, table):
    model = exp.model("net")
    ids = []
    for lr in (0.1, 0.2):
        with model.session({"lr": lr, "opt": {"name": "adam"}}) as session:
            ids += [session.id] * 2
            for number in (1, 2):
                session.add_epoch(number, {"loss": lr / number, "acc": number})
    columns = table("epochs")
    times = [row["timestamp"] for view in exp.sessions() for row in view.epochs]
    assert columns == {
        "session": ids,
        "parent": [None] * 4,
        "experiment": ["exp"] * 4,
        "model": ["net"] * 4,
        "params.lr": [0.1, 0.1, 0.2, 0.2],
        "params.opt.name": ["adam"] * 4,
        "epoch_num": [1, 2, 1, 2],
        "loss": [0.1, 0.05, 0.2, 0.1],
        "acc": [1, 2, 1, 2],
        "timestamp": [datetime.fromisoformat(time) for time in times],
    }


def test_batches_have_their_number_and_epoch(exp, table):
    with exp.model("net").session() as session:
        session.add_batch(1, {"loss": 0.5}, epoch=1)
        session.add_batch(2, {"loss": 0.4}, epoch=1)
    columns = table("batches")
    assert columns["batch_num"] == [1, 2]
    assert columns["epoch"] == [1, 1]
    assert columns["loss"] == [0.5, 0.4]


def test_results_have_their_index_and_are_flat(exp, table):
    model = exp.model("net")
    with model.session() as session:
        session.add_result({"acc": 0.9, "scores": {"dev": {"mean": 0.8, "splits": [0.7, 0.9]}}})
        session.add_result({"acc": 0.8}, index_by="test")
    columns = table("results")
    assert columns["index"] == [None, "test"]
    assert columns["acc"] == [0.9, 0.8]
    assert columns["scores.dev.mean"] == [0.8, None]
    assert columns["scores.dev.splits"] == [[0.7, 0.9], None]


def test_what_a_session_does_not_have_is_missing(exp, table):
    model = exp.model("net")
    with model.session({"lr": 0.1}) as session:
        session.add_epoch(1, {"loss": 0.5})
    with model.session({"depth": 3, "opt": {"name": "sgd"}}) as session:
        session.add_epoch(1, {"acc": 0.9, "deep": {"f1": 0.1}})
        session.add_epoch(2, {"loss": 0.4})
    with model.session():
        pass
    with model.session({"lr": 0.2}) as session:
        session.add_epoch(1, {"loss": 0.3})
    epochs, sessions = table("epochs"), table("sessions")
    assert epochs["params.lr"] == [0.1, None, None, 0.2]
    assert epochs["params.depth"] == [None, 3, 3, None]
    assert epochs["loss"] == [0.5, None, 0.4, 0.3]
    assert epochs["acc"] == [None, 0.9, None, None]
    assert epochs["deep.f1"] == [None, 0.1, None, None]
    assert sessions["params.opt.name"] == [None, "sgd", None, None]
    assert sessions["last.loss"] == [0.5, 0.4, None, 0.3]


def test_a_metric_that_comes_later_in_a_session_is_there(exp, table):
    sessions = [
        [{"loss": 0.5}, {"loss": 0.4, "acc": 0.9}],
        [{"loss": 0.3, "acc": 0.8}, {"loss": 0.2}],
        [{"acc": 0.7}, {}],
        [{}, {"loss": 0.1}],
    ]
    for number, results in enumerate(sessions):
        with exp.model("net").session({"n": number}) as session:
            for result in results:
                session.add_epoch(1, result)
    columns = table("epochs")
    assert columns["loss"] == [0.5, 0.4, 0.3, 0.2, None, None, None, 0.1]
    assert columns["acc"] == [None, 0.9, 0.8, None, 0.7, None, None, None]


def test_a_metric_called_as_another_column_gets_a_prefix(exp, table):
    clash = {
        "session": "s",
        "timestamp": 5,
        "params": {"lr": 1},
        "epoch_num": 9,
        "index": 8,
        "result": {"session": "t"},
        "started": "never",
    }
    model = exp.model("net")
    with model.session({"lr": 0.5}) as session:
        session.add_epoch(1, clash)
    with model.session({"other": 0.5}) as session:
        session.add_epoch(2, clash)
        session.add_result(clash)
    columns = table("epochs")
    assert columns["epoch_num"] == [1, 2]
    assert columns["metric.epoch_num"] == [9, 9]
    assert columns["metric.timestamp"] == [5, 5]
    assert columns["params.lr"] == [0.5, None]
    assert columns["metric.params.lr"] == [1, 1]
    assert columns["metric.session"] == ["s", "s"]
    assert columns["result.session"] == ["t", "t"]
    assert columns["started"] == ["never", "never"]
    assert columns["index"] == [8, 8]
    assert columns["timestamp"][0] < datetime.now(UTC)
    assert table("results")["metric.index"] == [8]
    assert {len(values) for values in columns.values()} == {2}


def test_frames_of_the_latest_have_a_row_per_number_with_the_latest_of_each_metric(exp, table):
    with exp.model("net").session({"lr": 0.5}) as session:
        session.add_epoch(1, {"loss": 0.9})
        session.add_epoch(1, {"val": {"loss": 0.8}})
        session.add_epoch(2, {"loss": 0.7})
        session.add_epoch(2, {"loss": 0.6, "note": "again"})
        for epoch in (2, 1):
            for batch in (1, 0):
                session.add_batch(batch, {"loss": epoch + batch / 10}, epoch=epoch)
        session.add_result({"acc": 0.1})
        session.add_result({"acc": 0.2})
    epochs, batches = table("epochs", latest=True), table("batches", latest=True)
    assert epochs["epoch_num"] == [1, 2]
    assert epochs["loss"] == [0.9, 0.6]
    assert epochs["val.loss"] == [0.8, None]
    assert epochs["note"] == [None, "again"]
    assert epochs["params.lr"] == [0.5, 0.5]
    assert list(zip(batches["epoch"], batches["batch_num"], batches["loss"], strict=True)) == [
        (1, 0, 1.0),
        (1, 1, 1.1),
        (2, 0, 2.0),
        (2, 1, 2.1),
    ]
    assert table("results", latest=True)["acc"] == [0.1, 0.2]
    assert len(table("epochs")["loss"]) == 4


@pytest.mark.parametrize("name", TABLES)
def test_an_empty_store_has_tables_without_rows(exp, name):
    for frame in (exp.to_pandas(name), exp.to_polars(name)):
        assert list(frame.columns) == OWN[name]
        assert len(frame) == 0
    for column in TIMES.get(name, ["timestamp"]):
        assert str(exp.to_pandas(name)[column].dtype) == "datetime64[us, UTC]"
        assert exp.to_polars(name)[column].dtype == pl.Datetime("us", "UTC")


@pytest.mark.parametrize("name", ["epochs", "batches", "results"])
def test_sessions_without_records_have_no_rows(exp, name):
    with exp.model("net").session({"lr": 0.1}):
        pass
    assert len(exp.to_pandas(name)) == len(exp.to_polars(name)) == 0


def test_times_are_utc(exp):
    with exp.model("net").session() as session:
        session.add_epoch(1, {"loss": 0.5})
        session.add_epoch(2, {"loss": 0.5}, timestamp=False)
        session.add_result({"acc": 1})
    running = exp.model("net").session({"runs": True})
    for name in ("sessions", "epochs", "results"):
        for column in TIMES.get(name, ["timestamp"]):
            assert str(exp.to_pandas(name)[column].dtype) == "datetime64[us, UTC]"
            assert exp.to_polars(name)[column].dtype == pl.Datetime("us", "UTC")
    running.end()


def test_a_time_that_is_not_to_be_shown_is_missing(exp, table):
    with exp.model("net").session() as session:
        session.add_epoch(1, {"loss": 0.5}, timestamp=False)
        session.add_epoch(2, {"loss": 0.5})
    hidden, shown = table("epochs")["timestamp"]
    assert hidden is None
    assert shown is not None


def test_values_json_lacks_are_in_the_tables(exp, table):
    moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
    with exp.model("net").session({"x": math.inf, "when": moment}) as session:
        session.add_epoch(1, {"loss": math.inf, "$cost": Decimal("0.5")})
    columns = table("epochs")
    assert columns["params.x"] == [math.inf]
    assert columns["params.when"] == [moment]
    assert columns["loss"] == [math.inf]
    assert columns["$cost"] == [Decimal("0.5")]


# Columns of several types.

MIXED = {
    "numbers": ([1, 2.5, None], [1.0, 2.5, None], pl.Float64),
    "text and numbers": (["a", 1, None], ["a", "1", None], pl.String),
    "bools and numbers": ([True, 1, 0.5], ["True", "1", "0.5"], pl.String),
    "bools": ([True, None, False], [True, None, False], pl.Boolean),
    "nothing": ([None, None, None], [None, None, None], pl.Null),
    "lists": ([[1], [2, 3], []], [[1], [2, 3], []], pl.List(pl.Int64)),
    "lists of numbers": ([[1], [2.5], None], [[1.0], [2.5], None], pl.List(pl.Float64)),
    "lists of lists": (
        [[[1]], [[2], []], None],
        [[[1]], [[2], []], None],
        pl.List(pl.List(pl.Int64)),
    ),
    "lists of all sorts": ([[1], ["a"], [None]], ["[1]", "['a']", "[None]"], pl.String),
    "lists and numbers": ([[1], 2, None], ["[1]", "2", None], pl.String),
    "lists of dicts": (
        [[{"a": 1}], [{"b": 2}], None],
        ["[{'a': 1}]", "[{'b': 2}]", None],
        pl.String,
    ),
    "an empty dict": ([{}, 1, None], ["{}", "1", None], pl.String),
    "empty dicts": ([{}, {}, {}], ["{}", "{}", "{}"], pl.String),
    "huge numbers": ([10**60, 1, None], [str(10**60), "1", None], pl.String),
    "lists of huge numbers": ([[10**60], [1], None], [str([10**60]), "[1]", None], pl.String),
    "large numbers": ([2**64, 1, None], [2**64, 1, None], pl.Int128),
    "text": (["a", "", None], ["a", "", None], pl.String),
}


@pytest.mark.parametrize(("logged", "expected", "dtype"), MIXED.values(), ids=MIXED)
def test_polars_takes_columns_of_several_types(memory, logged, expected, dtype):
    with memory.session() as session:
        for number, value in enumerate(logged):
            session.add_epoch(number, {"x": value})
    column = memory.to_polars("epochs")["x"]
    assert column.to_list() == expected
    assert column.dtype == dtype


@pytest.mark.parametrize("logged", [case[0] for case in MIXED.values()], ids=MIXED)
def test_pandas_takes_columns_of_several_types(memory, logged):
    with memory.session() as session:
        for number, value in enumerate(logged):
            session.add_epoch(number, {"x": value})
    column = memory.to_pandas("epochs")["x"].tolist()
    assert [None if is_missing(value) else value for value in column] == logged


def test_params_of_several_types_are_taken(memory):
    for depth in (1, "auto", None, [1]):
        memory.add_result({"acc": 1}, params={"depth": depth})
    assert memory.to_polars("results")["params.depth"].to_list() == ["1", "auto", None, "[1]"]
    assert memory.to_polars("sessions")["params.depth"].to_list() == ["1", "auto", None, "[1]"]
    assert memory.to_pandas("results")["params.depth"].tolist()[1:] == ["auto", None, [1]]


def test_large_arrays_are_in_the_tables(memory):
    np = pytest.importorskip("numpy")
    array = np.zeros(50_000)
    with memory.session({"w": array}) as session:
        session.add_epoch(1, {"w": array})
    for name, column in (("sessions", "params.w"), ("epochs", "w"), ("epochs", "params.w")):
        assert len(memory.to_pandas(name)[column][0]) == 50_000
        assert len(memory.to_polars(name)[column][0]) == 50_000


# How they are asked for.


def test_a_table_that_does_not_exist_is_refused(exp):
    for read in (exp.to_pandas, exp.to_polars):
        with pytest.raises(BadLocation, match=r"'steps'.*sessions.*results"):
            read("steps")


def test_experiments_models_and_readers_give_the_same_tables(tmp_path):
    path = tmp_path / "runs.json"
    exp = Experiment.use(path, exp_id="exp")
    for model in ("a", "b"):
        exp.model(model).add_result({"acc": 1})
    Experiment.use(path, exp_id="other").model("c").add_result({"acc": 2})
    with casket.open(path) as runs:
        assert runs.to_pandas("results")["model"].tolist() == ["a", "b", "c"]
        assert runs.to_polars()["model"].to_list() == ["a", "b", "c"]
    assert exp.to_pandas("results")["model"].tolist() == ["a", "b"]
    assert exp.to_polars()["model"].to_list() == ["a", "b"]
    assert exp.model("b").to_pandas()["model"].tolist() == ["b"]
    assert exp.model("b").to_polars("results")["model"].to_list() == ["b"]


def test_tables_of_random_results_have_every_value_in_its_row(memory):
    import random

    source = random.Random(0)
    logged = []
    for number in range(30):
        with memory.session({"n": number}) as session:
            names = source.sample("abcdef", 3)
            for epoch in range(source.randrange(4)):
                if source.random() < 0.2:
                    names = source.sample("abcdef", 2)
                result = {name: source.random() for name in names}
                session.add_epoch(epoch, result)
                logged.append({"params.n": number, "epoch_num": epoch, **result})
    for rows in (
        memory.to_pandas("epochs").to_dict("records"),
        memory.to_polars("epochs").to_dicts(),
    ):
        own = {"session", "parent", "experiment", "model", "timestamp"}
        counts = [
            {k: v for k, v in row.items() if k not in own and not is_missing(v)} for row in rows
        ]
        assert counts == logged


# Without the libraries.


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_library_that_is_not_installed_is_named_with_its_extra(run_python, library):
    message = run_python(
        f"""
        import casket
        model = casket.Experiment.use(":memory:", exp_id="exp").model("net")
        model.add_result({{"acc": 1}})
        try:
            model.to_{library}()
        except ImportError as error:
            print(type(error).__name__, error)
        """,
        without=(library,),
    )
    expected = f"MissingDependency {library} is not installed: pip install 'casket[{library}]'"
    assert message == expected


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize(
    ("fault", "shown"),
    [
        ("import a_part_that_is_missing", "ModuleNotFoundError No module named 'a_part"),
        ("raise ImportError('libfast.so: cannot open')", "ImportError libfast.so: cannot open"),
    ],
)
def test_a_library_that_is_broken_shows_its_own_error(run_python, tmp_path, library, fault, shown):
    (tmp_path / f"{library}.py").write_text(fault)
    message = run_python(
        f"""
        import sys
        sys.path.insert(0, "")
        import casket
        try:
            casket.Experiment.use(":memory:", exp_id="exp").to_{library}()
        except ImportError as error:
            print(type(error).__name__, error)
        """
    )
    assert message.startswith(shown)


def test_reading_needs_no_pandas(run_python):
    loaded = run_python("""
        import sys
        import casket
        model = casket.Experiment.use("runs.json", exp_id="exp").model("net")
        model.add_result({"acc": 1})
        with casket.open("runs.json") as runs:
            runs.sessions(where="acc == 1")[0].summary()
        print([name for name in ("numpy", "pandas", "polars", "tinydb") if name in sys.modules])
    """)
    assert loaded == "[]"
