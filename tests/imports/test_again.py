"""Importing again: sources that have grown or are damaged, and runs that were removed."""

import contextlib
import csv
import json
import random
import shutil
import sqlite3
import struct
from pathlib import Path

import pytest

import casket
from casket import Experiment
from casket.format.records import Writer, deletion
from casket.imports import load, protobuf, tfevents
from casket.stores.jsonfile.store import JsonStore
from tests.imports.sources import PLACES, sessions


@pytest.mark.parametrize("name", PLACES)
def test_twice_adds_nothing(name, data, target):
    first = load(data / PLACES[name], target)
    stored = target.read_bytes()
    second = load(data / PLACES[name], target)
    assert first.counts.added
    assert not second.counts.added
    assert not first.problems or name == "lightning"
    records = first.counts.added.total() - first.counts.added["experiment"]
    assert second.counts.held == records - first.counts.added["model"]
    assert target.read_bytes() == stored


@pytest.mark.parametrize("name", PLACES)
def test_a_copy_of_the_source_adds_nothing(name, data, target, tmp_path):
    load(data / PLACES[name], target)
    place = Path(PLACES[name])
    shutil.copytree(data, tmp_path / "elsewhere" / "data")
    for path in (tmp_path / "elsewhere").rglob("*"):
        path.touch()
    assert not load(tmp_path / "elsewhere" / "data" / place, target).counts.added


@pytest.mark.parametrize("part", ["tensorboard/deep", "tensorboard/deep/x", "lightning/fabric"])
def test_a_part_of_a_tree_adds_nothing(part, data, target):
    load(data / part.partition("/")[0], target)
    assert not load(data / part, target).counts.added
    with casket.open(target) as runs:
        assert "deep" not in [experiment.id for experiment in runs.experiments]


def test_both_stores_of_one_tracker_are_different_runs(data, target):
    load(data / PLACES["mlflow"], target)
    assert load(data / PLACES["mlflow files"], target).counts.held == 0


@pytest.mark.parametrize("name", ["experiment", "model"])
def test_an_empty_name_is_refused_and_zero_is_a_name(name, data, target):
    with pytest.raises(casket.UnstorableValue, match=name):
        load(data / PLACES["keras"], target, **{name: ""})
    assert not target.exists()
    load(data / PLACES["keras"], target, **{name: 0})
    with casket.open(target) as runs:
        assert {getattr(session, name) for session in runs.sessions()} == {"0"}


def test_under_another_name_it_is_another_import(data, target):
    load(data / PLACES["keras"], target)
    load(data / PLACES["keras"], target, experiment="again")
    assert [session.experiment for session in sessions(target)] == ["keras", "again"]


@pytest.mark.parametrize("name", ["runs.json", "runs.sqlite"])
def test_killed_in_the_middle_it_goes_on(name, data, tmp_path, run_python):
    killed, whole = tmp_path / name, tmp_path / "whole.json"
    said = run_python(
        """
        import os, sys
        import casket.maintenance.merging
        from casket.imports import load
        casket.maintenance.merging.GROUP = 4
        def kill_after_two(report):
            if report.runs == 2:
                os._exit(0)  # as a kill: nothing is cleaned up
        load(*sys.argv[1:], progress=kill_after_two)
        print("not killed")
        """,
        data / "sacred",
        killed,
    )
    assert said == ""
    before = len(sessions(killed))
    assert before
    load(data / "sacred", killed)
    load(data / "sacred", whole)
    shown = [
        [(s.id, s.status, s.epochs, s.artifacts.keys()) for s in sessions(path)]
        for path in (killed, whole)
    ]
    assert shown[0] == shown[1]


# Sources that grew.


def test_mlflow_grew(data, target):
    place = data / PLACES["mlflow"]
    load(place, target)
    with sqlite3.connect(place) as database:
        (run,) = database.execute("SELECT run_uuid FROM runs WHERE name = 'running'").fetchone()
        rows = [("loss", 2.125, 2), ("val", 1.5, 1)]
        database.executemany(
            "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) "
            f"VALUES (?, ?, 1895434968000, '{run}', ?, 0)",
            rows,
        )
        database.execute(
            "UPDATE runs SET status = 'FINISHED', end_time = 1895434969000 WHERE run_uuid = ?",
            (run,),
        )
        database.execute(
            "INSERT INTO params (key, value, run_uuid) VALUES ('lr', '0.5', ?)", (run,)
        )
    database.close()
    report = load(place, target)
    # The start comes again with its params and its claim, epoch 1 with the metric it has got.
    assert report.counts.added == {"session": 1, "epoch": 2, "end": 1}
    session = next(s for s in sessions(target) if s.model == "running")
    assert (session.status, session.params) == ("completed", {"lr": 0.5})
    values = [(e["epoch_num"], e.get("loss"), e.get("val")) for e in session.epochs]
    assert values == [(0, 2.5, None), (1, 2.25, None), (1, None, 1.5), (2, 2.125, None)]


def test_mlflow_files_grew(data, target):
    place = data / PLACES["mlflow files"]
    load(place, target)
    (metric,) = place.glob("*/*/metrics/odd")  # of the run "svm"
    with (metric.parent / "loss").open("a") as file:
        file.write("1895434968000 0.0625 5\n")
    assert load(place, target).counts.added == {"epoch": 1, "end": 1}


def test_tensorboard_grew(data, target):
    place = data / "tensorboard"
    (file,) = (place / "deep").rglob("*tfevents*")
    whole = file.read_bytes()
    cuts = ends_of_records(whole)
    file.write_bytes(whole[: cuts[3]])
    first = load(place, target)
    file.write_bytes(whole)
    report = load(place, target)
    assert not [*first.problems, *report.problems]
    assert report.counts.added == {"epoch": 2, "result": 1, "end": 1}
    session = next(s for s in sessions(target) if s.model == "deep/x")
    assert [epoch["epoch_num"] for epoch in session.epochs] == [0, 100, 200, 300, 400]


def test_a_resumed_tensorboard_run_has_another_file(data, target):
    place = data / "tensorboard"
    (resumed,) = place.rglob("*.resumed")
    resumed.rename(data / "aside")
    load(place, target)
    shutil.move(data / "aside", resumed)
    report = load(place, target)
    assert report.counts.added == {"epoch": 2, "end": 1}


def test_sacred_grew(data, target):
    place = data / "sacred/2"
    run = json.loads((place / "run.json").read_text())
    metrics = json.loads((place / "metrics.json").read_text())
    (place / "run.json").write_text(json.dumps({**run, "status": "RUNNING", "stop_time": None}))
    shorter = {name: {k: v[:1] for k, v in metric.items()} for name, metric in metrics.items()}
    (place / "metrics.json").write_text(json.dumps(shorter))
    load(data / "sacred", target)
    (place / "run.json").write_text(json.dumps(run))
    (place / "metrics.json").write_text(json.dumps(metrics))
    load(data / "sacred", target)
    whole = target.with_name("whole.json")
    load(data / "sacred", whole)
    for session, other in zip(sessions(target), sessions(whole), strict=True):
        assert (session.status, session.error) == (other.status, other.error)
        assert [dict(e) for e in session.epochs.latest] == [dict(e) for e in other.epochs.latest]


def test_trackio_grew(data, target):
    place = data / "trackio/digits.db"
    load(place, target)
    with sqlite3.connect(place) as database:
        database.execute(
            "INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) "
            "SELECT run_id, '2030-01-01T00:00:00+00:00', run_name, 10, '{\"loss\": 0.5}' "
            "FROM metrics LIMIT 1"
        )
    database.close()
    assert load(place, target).counts.added == {"epoch": 1, "end": 1}
    assert str(sessions(target)[0].ended) == "2030-01-01 00:00:00+00:00"


def test_a_table_of_lightning_with_a_new_column_adds_the_new_rows_only(data, target):
    table = data / "lightning/fabric/version_0/metrics.csv"
    load(data / "lightning", target)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["acc", "loss", "step"])
        writer.writeheader()
        writer.writerows([*rows, {"step": 5, "acc": 0.5}])
    assert load(data / "lightning", target).counts.added == {"batch": 1, "end": 1}


def test_keras_grew(data, target):
    table = data / "keras/training.csv"
    text = table.read_text()
    table.write_text("".join(text.splitlines(keepends=True)[:3]))
    load(table, target)
    table.write_text(text)
    assert load(table, target).counts.added == {"epoch": 2, "end": 1}
    assert [epoch["epoch_num"] for epoch in sessions(target)[0].epochs] == [0, 1, 2, 3]


# Sources that are damaged.


def test_a_tensorboard_file_cut_anywhere_gives_its_whole_events(data, target):
    (file,) = (data / "tensorboard/deep").rglob("*tfevents*")
    whole = file.read_bytes()
    cuts = ends_of_records(whole)
    for cut in [*cuts, *random.Random(0).sample(range(1, len(whole)), 40)]:
        file.write_bytes(whole[:cut])
        events = list_until_torn(file)
        before = sum(end <= cut for end in cuts)
        assert len(events) == max(before - 1, 0)  # the first is the version only


def test_a_torn_tensorboard_file_is_reported_and_comes_later(data, target):
    (file,) = (data / "tensorboard/deep").rglob("*tfevents*")
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    (problem,) = load(data / "tensorboard", target).problems
    assert problem.what.endswith(file.name)
    assert "truncated" in problem.why
    file.write_bytes(whole)
    assert not load(data / "tensorboard", target).problems
    (deep,) = [
        session for session in sessions(target) if "deep" in session.meta["imported"]["name"]
    ]
    assert len(deep.epochs) == 5


def test_a_damaged_tensorboard_file_is_read_up_to_the_damage(data, target):
    (file,) = (data / "tensorboard/deep").rglob("*tfevents*")
    whole = bytearray(file.read_bytes())
    at = ends_of_records(whole)[2]
    whole[at + 14] ^= 1
    file.write_bytes(whole)
    (problem,) = load(data / "tensorboard/deep", target).problems
    assert f"the record at byte {at} is damaged" in problem.why
    assert len(sessions(target)[0].epochs) == 2


def test_event_files_without_values_are_no_run(data, target):
    (file,) = (data / "tensorboard/deep").rglob("*tfevents*")
    file.write_bytes(file.read_bytes()[: ends_of_records(file.read_bytes())[0]])
    report = load(data / "tensorboard", target)
    assert (report.runs, report.problems) == (3, [])


def test_noise_in_a_tensorboard_file_is_a_problem_and_no_crash(data, target):
    (file,) = (data / "tensorboard/deep").rglob("*tfevents*")
    noise = random.Random(1)
    for _ in range(50):
        message = noise.randbytes(noise.randrange(1, 60))
        try:
            for _ in protobuf.fields(message):
                pass
        except protobuf.Damage:
            continue
    file.write_bytes(noise.randbytes(500))
    assert load(data / "tensorboard/deep", target).problems


def test_rows_that_are_no_rows_are_reported(data, target):
    table = data / "keras/training.csv"
    with table.open("a") as file:
        file.write("4,0.5\n\n5,1,2,3,4\n" + "6," + "x" * 200_000 + ",1,1,1\n")
    first, second = load(table, target).problems
    assert (first.what, first.why[:8]) == (f"{table}, line 6", "2 fields")
    assert "field larger" in second.why
    assert [epoch["epoch_num"] for epoch in sessions(target)[0].epochs] == [0, 1, 2, 3, 5]


def test_a_table_cut_off_gives_its_whole_lines(data, target):
    table = data / "keras/training.csv"
    text = table.read_text()
    table.write_text(text[:-9])
    (problem,) = load(table, target).problems
    assert "truncated" in problem.why
    assert len(sessions(target)[0].epochs) == 3
    table.write_text(text)
    assert load(table, target).counts.added == {"epoch": 1, "end": 1}


@pytest.mark.parametrize("content", ["a: [", "- just\n- a list\n", "\x00", "a: &a *b"])
def test_params_that_cannot_be_read_are_reported(content, data, target):
    folder = data / "lightning/lightning_logs/version_0"
    (folder / "hparams.yaml").write_text(content)
    (problem,) = load(folder, target).problems
    assert problem.what.endswith("hparams.yaml")
    assert sessions(target)[0].params == {}
    assert len(sessions(target)[0].epochs) == 3


def test_yaml_makes_no_objects(data, target):
    folder = data / "lightning/lightning_logs/version_0"
    (folder / "hparams.yaml").write_text(
        "a: !!python/object/apply:os.system ['touch broken']\n"
        "b: !!python/name:torch.nn.ReLU ''\n"
        "c: !own {x: 1}\n"
        "d: 2024-01-01\n"
    )
    load(folder, target)
    params = {"a": ["touch broken"], "b": "torch.nn.ReLU", "c": {"x": 1}, "d": "2024-01-01"}
    assert sessions(target)[0].params == params


def test_a_value_that_cannot_be_stored_is_reported(data, target):
    folder = data / "lightning/lightning_logs/version_0"
    (folder / "hparams.yaml").write_text("lr: 1\nblob: !!binary aGFsbG8=\n")
    (problem,) = load(folder, target).problems
    assert "blob" in problem.what
    assert sessions(target)[0].params == {"lr": 1}


@pytest.mark.parametrize("name", ["metrics.json", "config.json", "info.json"])
def test_a_torn_file_of_sacred_is_reported(name, data, target):
    path = data / "sacred/1" / name
    path.write_text(path.read_text()[:-20])
    report = load(data / "sacred", target)
    assert [problem.what for problem in report.problems] == [str(path)]
    assert report.runs == 3


def test_a_run_of_sacred_that_cannot_be_told_is_left_out(data, target):
    (data / "sacred/1/run.json").write_text("{")
    (data / "sacred/2/config.json").unlink()
    (data / "sacred/3/metrics.json").write_text(
        '{"a": {"steps": [0.5, 1], "values": [1, 2], "timestamps": [null]}}'
    )
    report = load(data / "sacred", target)
    assert report.runs == 2
    assert len(report.problems) == 4
    assert sessions(target)[0].params == {}


def test_what_is_damaged_of_mlflows_folder_is_reported(data, target):
    place = data / PLACES["mlflow files"]
    losses = sorted(place.glob("*/*/metrics/loss"))
    losses[0].write_text(losses[0].read_text().rstrip("\n"))
    with losses[1].open("a") as file:
        file.write("nonsense\n")
    (losses[2].parents[1] / "meta.yaml").write_text("a: [")
    (losses[3].parents[1] / "meta.yaml").unlink()
    report = load(place, target)
    assert len(report.problems) == 4
    assert report.runs >= 2


def test_a_damaged_database_gives_what_can_be_read(data, target):
    place = data / PLACES["mlflow"]
    with sqlite3.connect(place) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'params'")
        (size,) = database.execute("PRAGMA page_size").fetchone()
    database.close()
    with place.open("r+b") as file:
        file.seek((page[0] - 1) * size)
        file.write(bytes(size))
    report = load(place, target)
    assert any("table params" in problem.what for problem in report.problems)
    assert report.runs == 6
    assert len(next(s for s in sessions(target) if s.model == "svm").epochs) == 6


def test_an_artifact_that_is_gone_is_reported(data, target):
    (data / "sacred/1/confusion.txt").unlink()
    (problem,) = load(data / "sacred", target).problems
    assert "confusion.txt" in problem.what


def test_reading_changes_nothing_in_the_source(data, target):
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    for place in PLACES.values():
        load(data / place, target)
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


# Runs that were removed in the target.


def test_what_was_removed_does_not_come_back(data, target):
    load(data / PLACES["mlflow"], target)
    gone = next(s.id for s in sessions(target) if s.model == "svm")
    JsonStore(target).prune(deletion(Writer(), sessions=[gone]))
    report = load(data / PLACES["mlflow"], target)
    assert not report.counts.added
    assert report.counts.removed
    assert gone not in {session.id for session in sessions(target)}
    assert "deleted here" in str(report)


def test_an_experiment_that_was_removed_with_its_sessions_does_not_come_back(data, target):
    load(data / PLACES["keras"], target)
    everything = [session.id for session in sessions(target)]
    JsonStore(target).prune(deletion(Writer(), sessions=everything, experiments=["keras"]))
    assert not load(data / PLACES["keras"], target).counts.added
    with casket.open(target) as runs:
        assert not runs.experiments
    load(data / PLACES["keras"], target, experiment="again")
    assert len(sessions(target)) == 1


def test_casket_goes_on_in_what_was_imported(data, target):
    load(data / PLACES["lightning"], target)
    model = Experiment.use(target, exp_id="lightning_logs").model("version_0")
    params = model.sessions()[0].params
    with model.session(params, ensure_unique=False) as session:
        session.add_epoch(3, {"val_loss": 0.01})
    assert [epoch["epoch_num"] for epoch in model.sessions()[0].epochs] == [0, 1, 2, 3]


def test_the_report_says_what_came_and_what_did_not(data, target):
    lines = load(data / "tensorboard", target).lines()
    assert lines[0].endswith("tensorboard (tensorboard): 4 runs read")
    assert lines[1] == "added: 1 experiment, 4 model, 4 session, 24 epoch, 4 result, 4 end"
    assert lines[-1] == "not imported: 1 histograms"


def ends_of_records(content):
    ends, at = [], 0
    while at < len(content):
        at += struct.unpack_from("<Q", content, at)[0] + 16
        ends.append(at)
    return ends


def list_until_torn(file):
    seen = []
    with contextlib.suppress(protobuf.Damage):
        for value in tfevents.values(file):
            seen.append(value)
    return seen
