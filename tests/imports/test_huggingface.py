"""States of Hugging Face's Trainer, as the Trainer itself held them."""

import math

import pytest

from casket.imports import load
from tests.imports.sources import sessions


@pytest.fixture
def trainings(imported, expected):
    sessions = {session.model: session for session in imported("transformers")}
    return {name: (sessions[name], said) for name, said in expected["transformers"].items()}


def test_rows_are_batches(trainings):
    for name, (session, said) in trainings.items():
        rows = [row for row in said["rows"] if "train_runtime" not in row]
        stored = [
            (row.pop("batch_num"), row.pop("epoch"), {n: row[n] for n in row if n != "timestamp"})
            for row in session.batches
        ]
        assert stored == [(row["step"], math.ceil(row["epoch"]), metrics(row)) for row in rows], (
            name
        )


def metrics(row):
    return {name: row[name] for name in row if name not in {"step", "epoch"}}


def test_epochs_hold_the_latest_of_each_metric(trainings):
    session, said = trainings["small"]
    latest = {}
    for row in said["rows"]:
        if "train_runtime" not in row:
            latest.setdefault(math.ceil(row["epoch"]), {}).update(metrics(row))
    assert session.epochs == [{"epoch_num": n, **latest[n]} for n in latest]
    assert list(latest) == [1, 2]


def test_the_end_of_the_training_is_a_result(trainings):
    session, said = trainings["small"]
    assert session.results("train") == [metrics(said["rows"][-1])]
    assert session.status == "completed"
    assert session.params == {"num_train_epochs": 2, "max_steps": 8, "train_batch_size": 2}
    assert session.meta["best_metric"] == said["best_metric"]


def test_of_several_checkpoints_the_last_counts(trainings):
    session, said = trainings["large"]
    assert session.batches[-1]["batch_num"] == said["max_steps"] == 12
    assert session.status == "completed"


def test_a_training_that_was_interrupted_is_running(data, target):
    folder = data / "transformers" / "large"
    (folder / "checkpoint-12" / "trainer_state.json").unlink()
    report = load(folder, target)
    (session,) = sessions(target)
    assert session.open_writers
    assert [epoch["epoch_num"] for epoch in session.epochs] == [1, 2]
    assert report.left_out == {"checkpoints": 2}


def test_a_torn_state_is_reported(data, target):
    state = data / "transformers" / "small" / "trainer_state.json"
    state.write_text(state.read_text()[:-30])
    report = load(data / "transformers", target)
    assert [problem.what for problem in report.problems] == [str(state)]
    assert report.runs == 2
