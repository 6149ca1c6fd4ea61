"""`casket import` and `casket merge`; the sources are tested in tests/imports."""

import gzip
import re
from pathlib import Path

import pytest

import casket
from casket import Experiment
from casket.testing import start_process

DATA = Path(__file__).parents[1] / "imports" / "data"


def ids(path):
    with casket.open(path) as runs:
        return {session.id for session in runs.sessions()}


def test_importing_counts_what_came_over_and_twice_adds_nothing(run, tmp_path):
    source, target = tmp_path / "mlflow.db", tmp_path / "runs.json"
    source.write_bytes(gzip.decompress((DATA / "mlflow" / "mlflow.db.gz").read_bytes()))
    shown = run("import", source, target)
    assert "runs read" in shown
    assert "epoch" in shown
    assert "added: nothing" in run("import", source, target)
    with casket.open(target) as runs:
        assert runs.sessions()


def test_imported_runs_are_filed_where_the_user_says(run, tmp_path):
    target = tmp_path / "runs.sqlite"
    run(
        "import",
        DATA / "keras" / "training.csv",
        target,
        "--experiment",
        "old",
        "--model",
        "cnn",
    )
    with casket.open(target) as runs:
        assert {(s.experiment, s.model) for s in runs.sessions()} == {("old", "cnn")}


def test_what_cannot_be_imported_is_told(run, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    said = run.error("import", tmp_path / "notes.txt", tmp_path / "runs.json")
    assert "holds no runs of" in said
    assert not (tmp_path / "runs.json").exists()
    assert "does not exist" in run.error("import", tmp_path / "nowhere", tmp_path / "runs.json")


def test_merging_takes_any_order_and_any_number_of_times(run, filled, tmp_path):
    other = tmp_path / "other.json"
    session = Experiment.use(other, exp_id="digits").model("net").session({"lr": 99})
    session.add_artifact("a.txt", b"kept")
    session.end()
    for name, files in (("x.json", [filled, other]), ("y.sqlite", [other, filled, other])):
        target = tmp_path / name
        assert "5 session" in run("merge", *files, "-o", target)
        assert "added to" in run("merge", *reversed(files), "-o", target)
        assert "nothing" in run("merge", *files, "-o", target)
        assert ids(target) == ids(filled) | ids(other)
        with casket.open(target) as merged, casket.open(filled) as runs:
            assert merged.session(session.id).artifacts["a.txt"].load() == b"kept"
            for one in runs.sessions():
                assert merged.session(one.id).epochs == one.epochs or one.status == "failed"


def test_a_file_that_is_lost_is_named_and_the_rest_is_merged(run, tmp_path):
    source = tmp_path / "a.json"
    session = Experiment.use(source, exp_id="x").model("m").session()
    session.add_artifact("lost.bin", b"lost")
    session.end()
    (lost,) = (tmp_path / "a.json.files").iterdir()
    lost.unlink()
    assert "1 session" in run("merge", source, "-o", tmp_path / "b.json")
    assert ids(tmp_path / "b.json") == {session.id}


def test_a_source_that_is_not_there_changes_nothing(run, filled, tmp_path):
    assert "nowhere.json" in run.error(
        "merge", filled, tmp_path / "nowhere.json", "-o", tmp_path / "c.json"
    )
    run.error("merge", tmp_path / "nowhere.json", "-o", tmp_path / "d.json")
    assert not (tmp_path / "d.json").exists()


def log(url, seed):
    with Experiment.use(url, exp_id="digits").model("net").session({"seed": seed}) as session:
        for epoch in range(200):
            session.add_epoch(epoch, {"loss": epoch / 7})


@pytest.mark.parametrize("target", ["into.json", "into.sqlite"])
def test_merging_while_eight_processes_write_to_both_loses_nothing(run, filled, tmp_path, target):
    target = tmp_path / target
    writers = [start_process(log, str(filled), seed) for seed in range(100, 104)]
    writers += [start_process(log, str(target), seed) for seed in range(200, 204)]
    while any(writer.is_alive() for writer in writers):
        run("merge", filled, "-o", target)
    assert [writer.exitcode for writer in writers] == [0] * 8
    run("merge", filled, "-o", target)
    with casket.open(target) as merged:
        seeds = {
            s.params["seed"]: len(s.epochs) for s in merged.sessions() if s.params["seed"] >= 100
        }
    assert seeds == dict.fromkeys([*range(100, 104), *range(200, 204)], 200)


def test_an_import_shows_how_far_it_is_in_a_terminal(terminal, tmp_path):
    code, shown = terminal("import", DATA / "lightning", tmp_path / "runs.json")
    assert code == 0
    assert re.search(r"reading runs of lightning.*100%", shown, re.DOTALL)
    assert "4 runs read" in shown


def test_merge_with_a_source_that_is_missing_or_no_caskets_creates_no_target(run, filled, tmp_path):
    (tmp_path / "foreign.json").write_text('{"a": 1}')
    for source in (tmp_path / "nowhere.json", tmp_path / "foreign.json"):
        for target in ("all.json", "all.sqlite"):
            assert str(source) in run.error("merge", filled, source, "-o", tmp_path / target)
            assert not (tmp_path / target).exists()
