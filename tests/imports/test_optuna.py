"""Optuna's storages, as Optuna's own `Study` reads them."""

import pytest

from casket.imports import load
from casket.imports.parsing import parse_time
from tests.imports.sources import read, sessions

STORES = {"optuna": "optuna_db", "optuna journal": "optuna_journal"}


@pytest.fixture(params=STORES)
def trials(request, imported, expected):
    """The sessions of each storage, and their trials according to Optuna."""
    sessions = {(s.experiment, s.meta["number"]): s for s in imported(request.param)}
    said = expected[STORES[request.param]]
    assert sessions.keys() == {(trial["study"], trial["number"]) for trial in said}
    return [(sessions[trial["study"], trial["number"]], trial) for trial in said]


def test_params_and_attributes(trials):
    for session, trial in trials:
        assert session.params == trial["params"]
        assert [type(v) for v in session.params.values()] == [
            type(trial["params"][name]) for name in session.params
        ]
        assert session.meta.get("user_attrs", {}) == trial["user_attrs"]
    assert trials[0][0].meta["study"] == {"owner": "someone"}
    assert trials[0][0].meta["directions"] == ["minimize"]


def test_values(trials):
    for session, trial in trials:
        steps = [(epoch["epoch_num"], epoch["intermediate_value"]) for epoch in session.epochs]
        assert steps == [(step, read(value)) for step, value in trial["intermediate"]]
        values = [read(value) for value in trial["values"] or ()]
        assert [v for result in session.results() for v in result.values()] == values
    assert trials[-1][0].results() == [
        {"loss": trials[-1][0].params["x"], "accuracy": float("inf")}
    ]


def test_states_and_times(trials):
    statuses = {"COMPLETE": "completed", "PRUNED": "completed", "FAIL": "failed"}
    for session, trial in trials:
        assert session.meta["imported"]["status"] == trial["state"]
        assert session.started == parse_time(trial["started"])
        assert session.meta.get("pruned", False) is (trial["state"] == "PRUNED")
        if trial["state"] == "RUNNING":
            assert session.open_writers
        else:
            assert session.status == statuses[trial["state"]]
            assert session.ended == parse_time(trial["ended"])


@pytest.mark.parametrize("name", ["studies.db", "studies.log"])
def test_waiting_trials_are_counted(name, data, target):
    assert load(data / "optuna" / name, target).left_out == {"waiting trials": 1}


def test_torn_and_unknown_lines_of_a_journal_are_reported(data, target):
    journal = data / "optuna" / "studies.log"
    lines = journal.read_text().splitlines(keepends=True)
    middle = len(lines) // 2
    torn = [lines[0], '{"op_code":7,"trial', "\n", '{"op_code":7,"trial_id":99}\n', *lines[1:]]
    journal.write_text("".join(torn))
    first, second = load(journal, target).problems
    assert "line 2" in first.what
    assert "not valid" in second.why
    assert len(sessions(target)) == 7
    assert middle


def test_a_journal_that_grew_adds_the_new_trials(data, target):
    journal = data / "optuna" / "studies.log"
    content = journal.read_text()
    lines = content.splitlines(keepends=True)
    journal.write_text("".join(lines[:20]))
    load(journal, target)
    before = {session.id for session in sessions(target)}
    journal.write_text(content)
    load(journal, target)
    assert before < {session.id for session in sessions(target)}
    assert len(sessions(target)) == 7
