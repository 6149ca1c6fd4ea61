"""Ray Tune's trials, as Ray's own `Result` reads them."""

import math
from datetime import UTC, datetime

import pytest

from casket.imports import load
from tests.imports.sources import read, sessions

OWN = {"timestamp", "checkpoint_dir_name", "done", "training_iteration", "trial_id", "date"}


@pytest.fixture
def trials(imported, expected):
    sessions = {session.model: session for session in imported("ray")}
    return [(sessions[trial["folder"]], trial) for trial in expected["ray"]]


def test_reports_are_epochs(trials):
    for session, trial in trials:
        for epoch, row in zip(session.epochs, trial["rows"], strict=True):
            assert epoch["epoch_num"] == row["training_iteration"]
            time = datetime.fromisoformat(epoch["timestamp"])
            assert time == datetime.fromtimestamp(row["timestamp"], UTC)
            values = {name: read(row[name]) for name in row if name not in OWN}
            assert values.pop("nested/step") == epoch["nested"]["step"]
            for name, value in values.items():
                if not name.startswith("config/"):
                    assert epoch[name] == value or math.isnan(epoch[name])


def test_params_names_and_status(trials):
    (completed, first), (failed, second) = trials
    assert (completed.params, failed.params) == (first["config"], second["config"])
    assert {session.experiment for session, _ in trials} == {"digits"}
    assert (completed.status, failed.status) == ("completed", "failed")
    assert failed.error == second["error"] == "ValueError: diverged"
    assert [s.meta["trial_id"] for s, _ in trials] == [t["rows"][0]["trial_id"] for _, t in trials]


def test_a_failed_trial_alone_is_failed(data, target):
    (folder,) = (data / "ray" / "digits").glob("*lr=0.3*")
    trial = folder.rename(data / "trial")
    load(trial, target)
    (session,) = sessions(target)
    assert (session.status, session.error) == ("failed", "ValueError: diverged")
    assert session.params["lr"] == 0.3


def test_ray_comes_before_its_event_files(data, target):
    assert list((data / "ray").rglob("*tfevents*"))
    report = load(data / "ray", target)
    assert (report.source, report.problems) == ("ray", [])


def test_a_trial_without_a_known_end_is_running(data, target):
    for path in (data / "ray").rglob("e*"):
        if path.name == "error.txt" or path.name.startswith("experiment_state"):
            path.unlink()
    load(data / "ray", target)
    assert all(session.open_writers for session in sessions(target))


def test_a_trial_that_grew_adds_its_new_reports(data, target):
    (results,) = (data / "ray" / "digits").glob("*lr=0.1*/result.json")
    lines = results.read_text().splitlines(keepends=True)
    results.write_text("".join(lines[:2]) + lines[2][:9])
    assert "truncated" in load(data / "ray", target).problems[0].why
    results.write_text("".join(lines))
    assert load(data / "ray", target).counts.added["epoch"] == 1
