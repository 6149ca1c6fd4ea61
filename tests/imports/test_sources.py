"""Every source comes over value by value, as the tool itself reads it back."""

import json
import math
import shutil
import sqlite3
import struct
import sys
from datetime import UTC, date, datetime, timedelta

import pytest

import casket
from casket import Experiment
from casket.imports import load
from tests.imports.sources import DATA, PLACES, in_order, points, read, sessions

# MLflow.

STORES = {"mlflow": "mlflow_db", "mlflow files": "mlflow_files"}
# The infinities in MLflow's database.
LARGEST = {sys.float_info.max: math.inf, -sys.float_info.max: -math.inf}
STATUSES = {"FINISHED": "completed", "FAILED": "failed", "KILLED": "killed"}


@pytest.fixture(params=STORES)
def mlflow(request, imported, expected):
    """The sessions of each store of MLflow, and their runs according to MLflow."""
    sessions = {session.meta["run_id"]: session for session in imported(request.param)}
    runs = expected[STORES[request.param]]
    assert sessions.keys() == {run["run_id"] for run in runs}
    return [(sessions[run["run_id"]], run) for run in runs]


def test_mlflow_metrics(mlflow):
    for session, run in mlflow:
        results = [
            (name, 0, value) for result in session.results() for name, value in result.items()
        ]
        said = in_order(
            (name, i if name == "loss" and run["name"] == "no steps" else step, as_logged(value))
            for name, history in run["metrics"].items()
            for i, (step, value, _) in enumerate(history)
        )
        assert in_order([*points(session), *results]) == said


def as_logged(value):
    return LARGEST.get(value, read(value))


def test_mlflow_times_of_metrics(mlflow):
    for session, run in mlflow:
        times = {
            (name, as_logged(value), time)
            for name, history in run["metrics"].items()
            for _, value, time in history
        }
        for epoch in session.epochs:
            time = milliseconds(datetime.fromisoformat(epoch.pop("timestamp")))
            for name in epoch.keys() - {"epoch_num"}:
                assert any(
                    one[0] == name and same(one[1], epoch[name]) and 0 <= one[2] - time < 1000
                    for one in times
                )


def same(one, other):
    return repr(one) == repr(other) or one == other


def test_mlflow_metrics_without_a_step_are_results(mlflow):
    svm = mlflow[0][0]
    assert svm.results() == [{"test_acc": 0.97}]
    assert "test_acc" not in svm.epochs[0]
    assert svm.best("val/acc", "max") == 1 - 1e-7


def test_mlflow_params_are_numbers_and_truths_where_they_can_be(mlflow):
    assert mlflow[0][0].params == {
        "C": 1,
        "gamma": 0.001,
        "kernel": "rbf",
        "shrinking": True,
        "id": "007",
    }
    for session, run in mlflow:
        assert session.params.keys() == run["params"].keys()


@pytest.mark.parametrize(
    ("source", "is_named"),
    [("mlflow", True), ("trackio", True), ("keras", False), ("tensorboard", False)],
)
def test_a_name_that_a_run_was_given_is_that_of_the_session(data, target, source, is_named):
    load(data / PLACES[source], target)
    assert {session.named == session.model for session in sessions(target)} == {is_named}
    assert is_named or {session.named for session in sessions(target)} == {None}


def test_mlflow_names_tags_and_meta(mlflow):
    for session, run in mlflow:
        assert (session.experiment, session.model) == ("digits", run["name"])
        assert set(session.tags) == {f"{k}={v}" if v else k for k, v in run["tags"].items()}
        assert session.meta["user"] == "someone"
        assert session.meta["command"] == "train.py"
        assert session.meta["imported"]["status"] == run["status"]
    assert {session.model for session, _ in mlflow} >= {"svm", "fold 1", "diverged"}


def test_mlflow_status_and_times(mlflow):
    for session, run in mlflow:
        assert milliseconds(session.started) == run["start_time"]
        if run["status"] == "RUNNING":
            assert session.open_writers
            assert session.status in {"running", "killed"}
        else:
            assert session.status == STATUSES[run["status"]]
        if session.status in {"completed", "failed"}:
            assert milliseconds(session.ended) == run["end_time"]


def test_mlflow_artifacts(mlflow):
    for session, run in mlflow:
        assert sorted(session.artifacts) == run["artifacts"]
    svm = mlflow[0][0]
    assert svm.artifacts["reports/report.txt"].load() == b"a report\n"
    assert json.loads(svm.artifacts["about.json"].load()) == {"classes": 10}


def milliseconds(moment):
    return round(moment.timestamp() * 1000)


def test_mlflow_description_is_the_note(data, target):
    for tags in (data / PLACES["mlflow files"]).glob("*/*/tags"):
        (tags / "mlflow.note.content").write_text("as in the paper")
    load(data / PLACES["mlflow files"], target)
    assert {session.note for session in sessions(target)} == {"as in the paper"}


def test_mlflow_artifacts_are_found_where_the_run_says(data, target):
    (data / "mlflow/mlruns").rename(data / "mlflow/else where")
    place = data / PLACES["mlflow"]
    with sqlite3.connect(place) as database:
        where = (data / "mlflow").as_uri() + "/else%20where"
        change = "UPDATE runs SET artifact_uri = replace(artifact_uri, '/data/project/mlruns', ?)"
        database.execute(change, (where.removeprefix("file://"),))
    database.close()
    load(place, target)
    assert next(s for s in sessions(target) if s.model == "svm").artifacts


def test_a_killed_run_of_mlflow_keeps_its_end(mlflow):
    (killed,) = [(s, run) for s, run in mlflow if run["status"] == "KILLED"]
    assert milliseconds(killed[0].ended) == killed[1]["end_time"]


def test_a_nested_run_of_mlflow_is_a_child_of_its_parent(mlflow):
    by_id = {run["run_id"]: session for session, run in mlflow}
    nested = [(session, by_id[run["parent"]]) for session, run in mlflow if run["parent"]]
    assert nested
    for child, parent in nested:
        assert child.parent is parent
        assert child in parent.children
    assert sum(session.parent is not None for session, _ in mlflow) == len(nested)


def test_mlflow_metrics_without_steps_are_numbered_by_time(mlflow):
    session, run = next((s, run) for s, run in mlflow if run["name"] == "no steps")
    values = [value for _, value, _ in run["metrics"]["loss"]]
    assert [(epoch["epoch_num"], epoch["loss"]) for epoch in session.epochs] == [*enumerate(values)]
    assert len(values) == 5
    assert session.results() == [{"test_acc": 0.9}]


def test_mlflow_params_that_are_no_numbers_keep_their_spelling(mlflow):
    session, run = next((s, run) for s, run in mlflow if run["name"] == "no steps")
    assert {name: str(value) for name, value in session.params.items()} == run["params"]
    assert session.params["python"] == "3.10"


@pytest.mark.parametrize("name", STORES)
def test_both_stores_of_mlflow_count_what_is_not_imported(name, data, target):
    left_out = load(data / PLACES[name], target).left_out
    assert left_out == {"traces": 1, "logged models": 1, "datasets": 1, "deleted runs": 1}


# TensorBoard.


@pytest.fixture
def tensorboard(imported):
    return {session.model: session for session in imported("tensorboard")}


@pytest.mark.parametrize("name", ["torch", "deep/x", "tensors"])
def test_tensorboard_scalars(name, tensorboard, expected):
    said = expected["tensorboard"][name]
    values = in_order(
        (tag, step, as_single(read(value)))
        for tag, events in said["scalars"].items()
        for _, step, value in events
    )
    assert in_order((t, s, as_single(v)) for t, s, v in points(tensorboard[name])) == values
    assert tensorboard[name].experiment == "tensorboard"


@pytest.mark.parametrize("name", ["torch", "deep/x", "tensors"])
def test_tensorboard_times(name, tensorboard, expected):
    said = expected["tensorboard"][name]
    session = tensorboard[name]
    times = {round(t, 6) for events in said["scalars"].values() for t, _, _ in events}
    logged = {datetime.fromisoformat(epoch["timestamp"]).timestamp() for epoch in session.epochs}
    assert all(any(abs(time - one) < 2e-6 for one in times) for time in logged)
    assert abs(session.started.timestamp() - said["first"]) < 2e-6


def test_a_late_scalar_of_tensorboard_moves_no_other(tensorboard):
    first = [epoch for epoch in tensorboard["restarted"].epochs if epoch["epoch_num"] == 0]
    assert [(epoch.keys() - {"epoch_num"}, epoch["timestamp"][:19]) for epoch in first] == [
        ({"loss", "tokens", "timestamp"}, "2023-11-14T22:13:20"),
        ({"test_acc", "timestamp"}, "2023-11-14T22:28:20"),
    ]


def test_tensorboard_values_before_a_restart_are_kept_and_marked(tensorboard, expected):
    session = tensorboard["restarted"]
    shown = expected["tensorboard"]["restarted"]["scalars"]
    said = in_order((tag, step, as_single(v)) for tag in shown for _, step, v in shown[tag])
    stored = [(name, step, as_single(value)) for name, step, value in points(session)]
    assert in_order(p for p in stored if not p[0].startswith("purged/")) == said
    assert in_order(p for p in stored if p[0].startswith("purged/")) == [
        ("purged/loss", 3, as_single(0.2)),
        ("purged/loss", 4, as_single(1e-7)),
        ("purged/tokens", 3, 2**31 + 3 * 512),
        ("purged/tokens", 4, 2**31 + 4 * 512),
    ]
    assert session.indexes == ["purged/notes/text_summary"]


def test_tensorboard_whole_numbers_are_exact(tensorboard):
    tokens = [e["tokens"] for e in tensorboard["restarted"].epochs if "tokens" in e]
    assert tokens == [2**31, 2**31 + 512, 2**31 + 1024]


def test_tensorboard_values_are_shortest_decimals(tensorboard):
    losses = [epoch["loss"] for epoch in tensorboard["deep/x"].epochs]
    assert losses == [0.9, 0.5, 0.3, 0.2, 1e-7]


@pytest.mark.parametrize("name", ["torch", "deep/x"])
def test_tensorboard_texts_are_results(name, tensorboard, expected):
    for tag, events in expected["tensorboard"][name]["texts"].items():
        texts = [(r["step"], r["text"]) for r in tensorboard[name].results(tag)]
        assert texts == [(step, text) for _, step, text in events]
    assert tensorboard[name].indexes


def test_tensorboard_params_written_below_a_run_are_that_runs(tensorboard, expected):
    assert "torch/hparams" not in tensorboard
    session = tensorboard["torch"]
    assert session.params == expected["tensorboard"]["torch/hparams"]["hparams"]
    assert session.results("hparams") == [{"hparam/acc": 0.75}]


def test_what_tensorboard_has_besides_is_counted(data, target):
    assert load(data / "tensorboard", target).left_out == {"histograms": 1}


def test_tensorboard_takes_the_params_lightning_wrote_beside_it(data, target):
    (data / "tensorboard/tensors/hparams.yaml").write_text("lr: 0.5\n")
    load(data / "tensorboard", target)
    assert {"lr": 0.5} in [session.params for session in sessions(target)]


def as_single(value):
    return value if isinstance(value, str) else struct.unpack("<f", struct.pack("<f", value))[0]


# Sacred.


@pytest.fixture
def sacred(imported, expected):
    sessions = {session.meta["run_id"]: session for session in imported("sacred")}
    assert sessions.keys() == {run["id"] for run in expected["sacred"]}
    return [(sessions[run["id"]], run) for run in expected["sacred"]]


def test_sacred_runs(sacred):
    for session, run in sacred:
        assert session.params == run["config"]
        assert session.params["weights"] == [[2 * i, 2 * i + 1] for i in range(50)]
        assert (session.experiment, session.model) == ("digits", "train")
        assert {n: as_text(v) for n, v in session.meta["info"].items()} == run["info"]
        assert session.meta["host"] == "host"
        assert session.note == f"to be {session.params['fate']}"
        assert session.started == in_utc(run["started"])
        assert session.ended == in_utc(run["stopped"])


def as_text(value):
    """Return a value with dates and complex numbers as `expected.json` holds them."""
    if isinstance(value, list):
        return [as_text(item) for item in value]
    return str(value).removesuffix("+00:00") if isinstance(value, date) else value


def test_sacred_metrics(sacred):
    for session, run in sacred:
        said = [(n, s, read(v)) for n, history in run["metrics"].items() for s, v in history]
        assert points(session) == in_order(said)
        assert session.started <= datetime.fromisoformat(session.epochs[0]["timestamp"])


def test_sacred_status_result_and_files(sacred):
    (completed, run), (failed, _), (interrupted, _) = sacred
    assert completed.status == "completed"
    assert completed.results() == [run["result"]]
    assert run["result"] == {"acc": 0.97, "confusion": [[5, 1], [0, 4]]}
    assert completed.artifacts["confusion.txt"].load() == b"5 1\n0 4\n"
    assert completed.artifacts["digits.csv"].load() == b"1,2\n"
    assert b"Started run" in completed.artifacts["cout.txt"].load()
    assert (failed.status, failed.error) == ("failed", "ValueError: no data")
    assert (interrupted.status, interrupted.error) == ("failed", "INTERRUPTED")


def in_utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# Trackio.


@pytest.mark.parametrize("place", ["trackio", "trackio/digits.db"])
def test_trackio(place, data, target, expected):
    load(data / place, target)
    for session, run in zip(sessions(target), expected["trackio"], strict=True):
        assert (session.experiment, session.model) == ("digits", run["name"])
        assert session.params == run["config"]
        assert session.status == "completed"
        assert abs(session.started - datetime.fromisoformat(run["created"])) < timedelta(seconds=1)
        assert points(session) == in_order(
            (name, log["step"], read(value) if isinstance(value, str) else value)
            for log in run["logs"]
            for name, value in log.items()
            if name not in {"step", "timestamp"}
        )
        times = {datetime.fromisoformat(log["timestamp"]) for log in run["logs"]}
        assert {datetime.fromisoformat(epoch["timestamp"]) for epoch in session.epochs} <= times


def test_what_trackio_logged_at_one_step_is_one_epoch(imported):
    last = imported("trackio")[0].epochs[-1]
    assert (last["epoch_num"], last["val"]) == (9, 0.5)
    assert {"odd", "loss"} <= last.keys()


def test_trackio_before_runs_had_ids(data, target, expected):
    place = data / "trackio/digits.db"
    with sqlite3.connect(place) as database:
        for table in ("metrics", "configs"):
            indexes = (
                "SELECT name FROM sqlite_master WHERE tbl_name = ? AND sql LIKE 'CREATE%INDEX%'"
            )
            for (index,) in database.execute(indexes, (table,)).fetchall():
                database.execute(f"DROP INDEX {index}")
            kept = "id, run_name, " + {
                "metrics": "timestamp, step, metrics", "configs": "config, created_at"
            }[table]  # fmt: skip
            database.execute(f"CREATE TABLE old AS SELECT {kept} FROM {table}")
            database.execute(f"DROP TABLE {table}")
            database.execute(f"ALTER TABLE old RENAME TO {table}")
    database.close()
    load(place, target)
    pairs = [(session.model, session.params) for session in sessions(target)]
    assert pairs == [(run["name"], run["config"]) for run in expected["trackio"]]


def test_what_trackio_logged_besides_numbers_is_counted(data, target):
    place = data / "trackio/digits.db"
    with sqlite3.connect(place) as database:
        rows = ['{"picture": {"_type": "trackio.image", "file_path": "a.png"}}', "[1]", "{"]
        for row in rows:
            database.execute(
                "INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) "
                "SELECT run_id, timestamp, run_name, 11, ? FROM metrics LIMIT 1",
                (row,),
            )
    database.close()
    report = load(place, target)
    assert report.left_out == {"image": 1}
    assert len(report.problems) == 1


# Lightning and Keras.


def test_lightning_rows_are_batches(imported, expected):
    by_version = {(s.experiment, s.model): s for s in imported("lightning")}
    order = [
        ("lightning_logs", "version_0"),
        ("lightning_logs", "version_1"),
        ("monitored", "version_0"),
        ("fabric", "version_0"),
    ]
    assert by_version.keys() == set(order)
    for name, logged in zip(order, expected["lightning"], strict=True):
        rows = [
            (b["batch_num"], b["epoch"], {k: b[k] for k in b if k not in {"batch_num", "epoch"}})
            for b in by_version[name].batches
        ]
        following = [metrics.get("epoch") for _, metrics in logged]
        for i in range(len(following) - 2, -1, -1):
            following[i] = following[i + 1] if following[i] is None else following[i]
        assert rows == [
            (step, epoch, {name: metrics[name] for name in metrics if name != "epoch"})
            for epoch, (step, metrics) in zip(following, logged, strict=True)
        ]


def test_lightning_epochs_hold_the_latest_of_each_metric(imported, expected):
    session = next(s for s in imported("lightning") if s.model == "version_1")
    latest = {}
    for _, metrics in expected["lightning"][1]:
        epoch = latest.setdefault(metrics["epoch"], {"epoch_num": metrics["epoch"]})
        epoch.update({name: metrics[name] for name in metrics if name != "epoch"})
    assert session.epochs == list(latest.values())
    assert len(session.epochs) == 3


def test_lightning_epochs_have_the_learning_rate_and_tests_are_results(imported, expected):
    session = next(s for s in imported("lightning") if s.experiment == "monitored")
    assert [(epoch["epoch_num"], epoch["lr-SGD"]) for epoch in session.epochs] == [
        (0, 0.1),
        (1, 0.1),
        (2, 0.1),
    ]
    assert all({"loss_epoch", "val_loss"} <= epoch.keys() for epoch in session.epochs)
    (_, tested) = expected["lightning"][2][-1]
    assert session.results("test") == [{"accuracy": tested["accuracy"]}]


def test_lightning_params(imported):
    first = next(s for s in imported("lightning") if s.experiment == "lightning_logs")
    assert first.params == {
        "lr": 0.1,
        "betas": [0.9, 0.999],
        "opt": {"name": "sgd", "1": None},
        "where": "/data/project/data",
    }


def test_keras(imported, expected):
    (session,) = imported("keras")
    history = expected["keras"]["history"]
    assert (session.experiment, session.model, session.status) == ("keras", "training", "completed")
    assert session.epochs == [
        {"epoch_num": number, **{name: history[name][number] for name in history}}
        for number in expected["keras"]["epochs"]
    ]


def test_keras_metrics_that_were_not_computed_are_left_out(tmp_path, target):
    table = tmp_path / "log.csv"
    table.write_text("epoch;loss;val_loss\n0;0.5;NA\n1;nan;0.25\n")
    load(table, target)
    first, second = sessions(target)[0].epochs
    assert first == {"epoch_num": 0, "loss": 0.5}
    assert second["val_loss"] == 0.25
    assert second["loss"] != second["loss"]


# Casket's own.


def test_the_first_casket(target):
    path = DATA.parents[1] / "data" / "first_casket.json"
    report = load(path, target)
    assert (report.source, report.runs) == ("casket", 1)
    (session,), (original,) = sessions(target), sessions(path)
    assert session.params == original.params
    assert session.epochs == original.epochs
    assert not load(path, target).counts.added


def test_a_casket_file_brings_its_artifacts(tmp_path, target):
    source = tmp_path / "source.json"
    with Experiment.use(source, exp_id="e").model("m").session({"lr": 1}) as session:
        session.add_artifact("note.txt", b"a note")
    load(source, target)
    assert sessions(target)[0].artifacts["note.txt"].load() == b"a note"


# How it is called.


def test_names_can_be_given(data, target):
    load(data / PLACES["mlflow"], target, experiment="mine", model="net")
    with casket.open(target) as runs:
        assert [e.id for e in runs.experiments] == ["mine"]
        assert {s.model for s in runs.sessions()} == {"net"}


def test_an_experiment_takes_all_runs(data, target):
    experiment = Experiment.use(target, exp_id="mine")
    report = load(data / PLACES["sacred"], experiment)
    assert len(experiment.sessions()) == report.runs == 3


def test_progress_is_told_after_each_run(data, target):
    seen = []
    load(data / "lightning", target, progress=lambda report: seen.append(report.runs))
    assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize("place", PLACES.values())
def test_how_many_runs_there_are_is_known_before_they_are_read(place, data, target):
    totals = set()
    report = load(data / place, target, progress=lambda report: totals.add(report.total))
    (total,) = totals
    assert report.runs <= total <= report.runs + 2


def test_artifacts_may_stay_where_they_are(data, target):
    report = load(data / PLACES["sacred"], target, artifacts=False)
    assert report.left_out["artifacts"] == 3
    assert not target.with_name("imported.json.files").exists()


def test_imported_params_count_as_run(data, target):
    load(data / PLACES["mlflow"], target)
    model = Experiment.use(target, exp_id="digits").model("svm")
    params = {"C": 1, "gamma": 0.001, "kernel": "rbf", "shrinking": True, "id": "007"}
    with pytest.raises(casket.ExistingParamsException):
        model.session(params)
    Experiment.use(target, exp_id="digits").model("diverged").session({"lr": 0.001}).end()


def test_a_model_that_is_there_keeps_its_config(data, target):
    Experiment.use(target, exp_id="keras").model("training", {"layers": 2})
    load(data / PLACES["keras"], target)
    with casket.open(target) as runs:
        assert runs.models()[0].config == {"layers": 2}
        assert runs.sessions()[0].config == {"layers": 2}


@pytest.mark.parametrize("name", PLACES)
def test_every_source_is_recognized_as_what_it_is(name, data, target):
    assert load(data / PLACES[name], target).source == name.split()[0]


@pytest.mark.parametrize(
    "content",
    [b"", b"a,b\n1,2\n", b"{}", b'{"a": 1}', b"SQLite format 3\0" + bytes(100), b"epochs: 3"],
)
def test_what_is_no_source_is_refused_and_nothing_is_made(content, tmp_path, target):
    path = tmp_path / "other"
    path.write_bytes(content)
    for place in (path, tmp_path):
        with pytest.raises(casket.BadLocation, match="holds no runs of"):
            load(place, target)
    assert not target.exists()


def test_a_source_that_is_given_must_be_one(data, target):
    with pytest.raises(casket.BadLocation, match="runs of trackio"):
        load(data / PLACES["keras"], target, source="trackio")
    assert load(data / PLACES["keras"], target, source="keras").runs == 1


def test_what_others_wrote_in_the_same_folder_is_named(data, target):
    shutil.copytree(data / "tensorboard/tensors", data / "lightning/tensors")
    (problem, _) = load(data / "lightning", target).problems
    assert "source='tensorboard'" in problem.why
    assert load(data / "lightning", target, source="tensorboard").runs == 1


def test_event_files_of_guild_are_refused_by_name(data, target):
    place = data / "tensorboard" / "tensors"
    (place / ".guild").mkdir()
    (place / ".guild" / "opref").write_text("guildfile: train")
    with pytest.raises(casket.BadLocation, match="written by Guild AI"):
        load(place, target)
    report = load(data / "tensorboard", target)
    assert report.left_out["event files of Guild AI"] == 1
    assert report.runs == 3


def test_deleted_runs_of_guild_do_not_come_back(data, target):
    place = data / ".guild" / "trash" / "runs" / "4ab6"
    shutil.copytree(data / "tensorboard" / "tensors", place)
    with pytest.raises(casket.BadLocation, match="Guild AI"):
        load(data / ".guild", target)


def test_a_refusal_describes_the_source(tmp_path, target):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("epochs: 3\n")
    with pytest.raises(casket.BadLocation, match=r"a folder with a\.txt, b\.txt"):
        load(tmp_path, target)
    with pytest.raises(casket.BadLocation, match="a file that begins with 'epochs: 3'"):
        load(tmp_path / "a.txt", target)


def test_a_casket_file_keeps_its_names(tmp_path, target):
    source = tmp_path / "source.json"
    Experiment.use(source, exp_id="e")
    for to, names in ((target, {"model": "m"}), (Experiment.use(target, exp_id="x"), {})):
        with pytest.raises(casket.BadLocation, match="keep their experiments"):
            load(source, to, **names)


@pytest.mark.parametrize(
    ("place", "content"),
    [
        ("keras/training.csv", "epoch,loss\n"),
        ("keras/training.csv", "epoch,loss\nlast,0.5\n"),
        ("lightning/fabric/version_0/metrics.csv", "epoch,loss,step\n"),
        ("lightning/fabric/version_0/metrics.csv", "epoch,loss,step\n0,0.5,0.5\n"),
        ("tensorboard/tensors/events.out.tfevents.1.host", ""),
    ],
)
def test_what_holds_no_whole_row_is_no_run_yet(place, content, data, target):
    path = data / place
    (folder := path.parent).mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    path.write_text(content)
    report = load(path, target)
    assert report.problems
    assert report.runs == 0
    assert not sessions(target) if target.exists() else True


def test_what_is_not_there_is_named(tmp_path, target):
    with pytest.raises(casket.NotFound, match="nowhere"):
        load(tmp_path / "nowhere", target)


def test_an_unknown_kind_of_source_is_refused(data, target):
    with pytest.raises(casket.BadLocation, match="clearml"):
        load(data, target, source="clearml")


def test_without_yaml_the_extra_is_named(data, target, run_python):
    said = run_python(
        """
        import sys, casket
        from casket.imports import load
        try:
            load(sys.argv[1], sys.argv[2])
        except casket.MissingDependency as error:
            print(error)
        """,
        data / "lightning",
        target,
        without=("yaml",),
    )
    assert said == "yaml is not installed: pip install 'casket[import]'"


def test_no_source_needs_the_tool_that_wrote_it(data, target, run_python):
    tools = (
        "dvclive",
        "transformers",
        "optuna",
        "ray",
        "wandb",
        "mlflow",
        "tensorboard",
        "tensorboardX",
        "google",
        "sacred",
        "trackio",
        "lightning",
    )
    code = "import sys; from casket.imports import load; print(load(*sys.argv[1:]).runs)"
    for name, place in PLACES.items():
        without = (*tools, "keras", "torch", "numpy", "pandas")
        assert int(run_python(code, data / place, target, without=without)), name
