"""The common parts of all adapters, without any framework."""

import copy
import math
import os
import pickle
import sys
import threading
import time
import types
from argparse import Namespace
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

import casket
from casket import CasketWarning, Experiment, UnstorableValue
from casket_integrations.ranks import is_rank_zero
from casket_integrations.recorder import Recorder
from tests.stores.files import mounted
from tests.waiting import eventually


class Unstorable:
    pass


@pytest.fixture
def failing(memory, monkeypatch):
    """A switch: while it is on, the store of `memory` takes nothing."""
    store, append = memory.backend.store, memory.backend.store.append
    switch = types.SimpleNamespace(on=False)

    def append_or_fail(records, /, **claims):
        if switch.on:
            raise casket.StoreFull("runs", "make room")
        return append(records, **claims)

    monkeypatch.setattr(store, "append", append_or_fail)
    return switch


def only(model):
    (session,) = model.sessions()
    return session


def numbers(session):
    return [row["epoch_num"] for row in session.epochs]


def losses(session):
    return [row["loss"] for row in session.epochs]


# A training


def test_a_training_is_a_session(model):
    recorder = Recorder(model, {"lr": 0.1})
    assert recorder.session is None
    assert recorder.start() is True
    recorder.batch(7, {"loss": 0.6}, epoch=1)
    recorder.epoch(1, {"loss": 0.5})
    recorder.result({"acc": 0.9}, index_by="test")
    recorder.meta({"gpu": "none"})
    recorder.artifact("notes.txt", b"good")
    assert recorder.session.id == only(model).id
    assert only(model).status == "running"
    recorder.end()
    assert recorder.session is None
    session = only(model)
    assert (session.status, session.params) == ("completed", {"lr": 0.1})
    assert {"epoch_num": 1, "loss": 0.5}.items() <= session.epochs[0].items()
    assert {"batch_num": 7, "epoch": 1, "loss": 0.6}.items() <= session.batches[0].items()
    assert session.results("test") == [{"acc": 0.9}]
    assert session.meta["gpu"] == "none"
    assert session.artifacts["notes.txt"].path.read_bytes() == b"good"


def test_several_trainings_are_several_sessions(memory):
    recorder = Recorder(memory)
    for lr in (0.1, 0.2):
        recorder.params = {"lr": lr}
        recorder.start()
        recorder.epoch(1, {"loss": lr})
        recorder.end()
    assert [(s.params["lr"], losses(s)) for s in memory.sessions()] == [(0.1, [0.1]), (0.2, [0.2])]


def test_starting_in_a_training_and_ending_twice_do_nothing(memory):
    recorder = Recorder(memory)
    recorder.end()
    recorder.start()
    assert recorder.start() is False
    recorder.end()
    recorder.end("too late")
    assert only(memory).status == "completed"


def test_nothing_is_logged_before_the_start_and_after_the_end(memory):
    recorder = Recorder(memory)
    recorder.epoch(1, {"loss": 1.0})
    recorder.late_result({"acc": 1.0})
    assert memory.sessions() == []
    recorder.start()
    recorder.end()
    recorder.epoch(1, {"loss": 1.0})
    recorder.batch(1, {"loss": 1.0})
    assert not only(memory).epochs
    assert not only(memory).batches


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no"), "ValueError: no"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        ("left", "left"),
    ],
)
def test_a_training_that_failed_names_what_it_failed_of(memory, error, said):
    recorder = Recorder(memory)
    recorder.start()
    recorder.epoch(1, {"loss": 0.5})
    recorder.end(error)
    assert (only(memory).status, only(memory).error) == ("failed", said)
    assert losses(only(memory)) == [0.5]


@pytest.mark.parametrize("given", [0, False])
def test_every_experiment_id_but_none_is_an_id(tmp_path, given):
    recorder = Recorder(str(tmp_path / "runs.json"), exp_id=given, model_id=0)
    assert (recorder.model.experiment.id, recorder.model.id) == (str(given), "0")
    with pytest.raises(UnstorableValue, match="exp_id"):
        Recorder(str(tmp_path / "runs.json"), exp_id="")


def test_a_url_names_a_store_and_two_names_the_rest(file_url):
    recorder = Recorder(file_url, {"a": 1}, exp_id="exp", model_id="net")
    recorder.start()
    recorder.end()
    Recorder(Path(file_url), exp_id="exp")
    with casket.open(file_url) as runs:
        (session,) = runs.sessions()
        assert (session.experiment, session.model) == ("exp", "net")
        assert [m.id for m in runs.models()] == ["net", "model"]


@dataclass
class Settings:
    lr: float = 0.1


@pytest.mark.parametrize(
    "params", [Namespace(lr=0.1), types.SimpleNamespace(lr=0.1), Settings(), {"lr": 0.1}]
)
def test_params_may_be_given_as_a_namespace_or_a_dataclass(memory, params):
    recorder = Recorder(memory, params)
    recorder.start()
    recorder.end()
    assert only(memory).params == {"lr": 0.1}


def test_arguments_that_make_no_sense_are_refused(memory):
    with pytest.raises(ValueError, match="'warn' or 'raise'"):
        Recorder(memory, on_error="ignore")
    with pytest.raises(ValueError, match="1 or more"):
        Recorder(memory, freq=0)
    with pytest.raises(TypeError, match="int: give a casket Model, or a URL"):
        Recorder(7)
    with pytest.raises(TypeError, match="params is a int: give a dict, a Namespace"):
        Recorder(memory, 7)


# Epochs


def test_freq_keeps_every_so_many_epochs(memory):
    recorder = Recorder(memory, freq=2)
    recorder.start()
    asked = []
    for number in range(1, 7):
        recorder.epoch(number, {"loss": number}, also=lambda: {"asked": asked.append(1)})
    assert numbers(only(memory)) == [2, 4, 6]
    assert len(asked) == 3


def test_what_is_added_never_replaces_a_metric(memory):
    recorder = Recorder(memory)
    recorder.start()
    recorder.epoch(1, {"loss": 1.0}, also=lambda: {"loss": 2.0, "lr": 0.1})
    (row,) = only(memory).epochs
    assert list(row) == ["epoch_num", "loss", "lr", "timestamp"]
    assert (row["loss"], row["lr"]) == (1.0, 0.1)


def test_an_epoch_without_metrics_gets_the_means_of_its_batches(memory):
    recorder = Recorder(memory)
    recorder.start()
    for loss in (1.0, 2.0):
        recorder.count_batch({"loss": loss})
    recorder.count_batch({"loss": 6.0, "acc": 0.5})
    recorder.count_batch(None)
    recorder.epoch(1, {})
    recorder.count_batch({"loss": 4.0})
    recorder.epoch(2, None)
    recorder.count_batch({"loss": 9.0})
    recorder.epoch(3, {"val_loss": 7.0})
    first, second, third = only(memory).epochs
    assert (first["loss"], first["acc"]) == (3.0, 0.5)
    assert second["loss"] == 4.0
    assert "acc" not in second
    assert "loss" not in third


@pytest.mark.parametrize("value", ["text", [1, 2], None])
@pytest.mark.parametrize("on_error", ["warn", "raise"])
def test_an_epoch_gets_the_latest_of_what_has_no_mean_and_the_means_of_the_rest(
    memory, value, on_error
):
    recorder = Recorder(memory, on_error=on_error)
    recorder.start()
    for number, loss in enumerate((1.0, 2.0)):
        recorder.count_batch({"note": value if number else "first", "loss": loss})
    recorder.epoch(1, None, also=lambda: {"lr": 0.1})
    (row,) = only(memory).epochs
    assert (row["note"], row["loss"], row["lr"]) == (value, 1.5, 0.1)


def test_batches_left_of_an_earlier_training_count_no_more(memory):
    recorder = Recorder(memory, ensure_unique=False)
    recorder.start()
    recorder.count_batch({"loss": 9.0})
    recorder.end("left")
    recorder.start()
    recorder.count_batch({"loss": 1.0})
    recorder.epoch(1, None)
    assert [losses(session) for session in memory.sessions()] == [[], [1.0]]


def test_means_of_batches_that_are_not_finite(memory):
    recorder = Recorder(memory)
    recorder.start()
    for loss in (math.inf, -math.inf):
        recorder.count_batch({"loss": loss})
    recorder.epoch(1, None)
    assert math.isnan(losses(only(memory))[0])


def test_threads_count_batches(memory):
    recorder = Recorder(memory)
    recorder.start()

    def count(first):
        for loss in range(first, 2000, 4):
            recorder.count_batch({"loss": loss})

    threads = [threading.Thread(target=count, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.epoch(1, None)
    assert losses(only(memory)) == [999.5]


def test_steps_are_batches_and_the_latest_of_each_epoch(memory):
    recorder = Recorder(memory, ensure_unique=False)
    recorder.step(9, {"loss": 9.0}, epoch=9)
    recorder.start()
    for number, (epoch, metrics) in enumerate([(1, "ab"), (1, "b"), (2, "a"), (2, "a")]):
        recorder.step(number, dict.fromkeys(metrics, number), epoch)
    assert numbers(only(memory)) == [1]
    recorder.end(ValueError("no"))
    recorder.step(9, {"loss": 9.0}, epoch=9)
    recorder.late_result({"acc": 1.0})
    session = only(memory)
    rows = [(row["epoch_num"], row["a"], row.get("b")) for row in session.epochs]
    assert rows == [(1, 0, 1), (2, 3, None)]
    assert [(row["batch_num"], row["epoch"]) for row in session.batches] == [
        (0, 1), (1, 1), (2, 2), (3, 2),
    ]  # fmt: skip


# Quick batches


@pytest.fixture
def long_wait(monkeypatch):
    """Let them wait for an hour: a busy machine takes a quarter of a second for nothing."""
    monkeypatch.setattr("casket_integrations.batches.GATHER", 3600)


def waiting(recorder, model, *, first=1):
    """Log a batch, which is written, and two that wait; return the written batches."""
    for number in range(first, first + 3):
        recorder.quick_batch(number, {"loss": 1 / number}, epoch=1)
        time.sleep(0.001)
    return [row["batch_num"] for row in only(model).batches]


def test_quick_batches_wait_for_each_other_and_keep_their_own_times(model, long_wait):
    recorder = Recorder(model)
    recorder.start()
    assert waiting(recorder, model) == [1]
    recorder.epoch(1, {"loss": 0.1})
    rows = only(model).batches
    assert [(row["batch_num"], row["epoch"], row["loss"]) for row in rows] == [
        (1, 1, 1.0), (2, 1, 1 / 2), (3, 1, 1 / 3),
    ]  # fmt: skip
    times = [row["timestamp"] for row in rows]
    assert times == sorted(set(times))
    assert times[-1] <= only(model).epochs[0]["timestamp"]
    recorder.end()


@pytest.mark.parametrize("error", [None, KeyboardInterrupt()])
def test_batches_that_wait_are_written_when_the_training_ends(memory, error):
    recorder = Recorder(memory)
    recorder.start()
    waiting(recorder, memory)
    recorder.end(error)
    assert len(only(memory).batches) == 3


def test_after_a_while_the_next_batch_writes_all(memory, long_wait, monkeypatch):
    recorder = Recorder(memory)
    recorder.start()
    waiting(recorder, memory)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3601)
    recorder.quick_batch(4, {"loss": 0.25}, epoch=1)
    assert len(only(memory).batches) == 4
    monkeypatch.setattr(time, "time", lambda: now - 60)  # the clock is set back
    recorder.quick_batch(5, {"loss": 0.2}, epoch=1)
    assert len(only(memory).batches) == 5
    recorder.end()


def test_batches_that_wait_are_written_though_the_training_falls_silent(memory):
    recorder = Recorder(memory)
    recorder.start()
    for number in range(50):
        recorder.quick_batch(number, {"loss": 0.5}, epoch=1)
    eventually(lambda: len(only(memory).batches) == 50)
    recorder.end()
    assert [row["batch_num"] for row in only(memory).batches] == list(range(50))


@pytest.mark.parametrize("error", [None, ValueError("no")])
def test_no_thread_outlives_the_training(memory, error):
    before = set(threading.enumerate())
    recorder = Recorder(memory)
    recorder.start()
    waiting(recorder, memory)
    assert len(set(threading.enumerate()) - before) == 1
    recorder.end(error)
    assert set(threading.enumerate()) <= before


def test_an_end_inside_a_write_does_not_wait_for_the_thread_that_waits_for_it(memory, monkeypatch):
    monkeypatch.setattr("casket_integrations.batches.GATHER", 0.001)
    recorder = Recorder(memory)
    recorder.start()
    for number in range(3):
        recorder.quick_batch(number, {"loss": 0.5}, epoch=1)
    with recorder._batches._lock:  # as a signal handler that interrupts a write
        time.sleep(0.01)  # in which the thread tries to write
        recorder.end()
    assert len(only(memory).batches) == 3


def test_both_threads_write_each_batch_once_and_in_order(model, monkeypatch):
    monkeypatch.setattr("casket_integrations.batches.GATHER", 0.002)
    recorder = Recorder(model)
    recorder.start()
    for number in range(2000):
        recorder.quick_batch(number, {"loss": 0.5}, epoch=1)
        if number % 100 == 99:
            recorder.epoch(number, {"loss": 0.5})
            assert len(only(model).batches) == number + 1
    recorder.end()
    assert [row["batch_num"] for row in only(model).batches] == list(range(2000))


def test_a_quick_batch_that_cannot_be_stored_takes_no_other_with_it(memory, one_warning):
    recorder = Recorder(memory)
    recorder.start()
    with one_warning("loss"):
        waiting(recorder, memory)
        recorder.quick_batch(4, {"loss": Unstorable(), "acc": 0.5}, epoch=1)
        recorder.end()
    assert [row["batch_num"] for row in only(memory).batches] == [1, 2, 3, 4]
    assert only(memory).batches[-1]["acc"] == 0.5


def test_a_forked_child_writes_none_of_the_batches_that_wait(run_python, file_url):
    code = """
    import os, sys
    from casket import Experiment
    from casket_integrations.recorder import Recorder
    recorder = Recorder(Experiment.use(sys.argv[1], exp_id="exp").model("net"))
    recorder.start()
    for number in (1, 2, 3):
        recorder.quick_batch(number, {"loss": 0.5}, epoch=1)
    pid = os.fork()
    if pid == 0:
        recorder.quick_batch(9, {"loss": 0.5}, epoch=1)
        recorder.epoch(1, {"loss": 0.5})
        os._exit(0)
    os.waitpid(pid, 0)
    recorder.end()
    """
    run_python(code, file_url)
    with casket.open(file_url) as runs:
        (session,) = runs.sessions()
    assert sorted(row["batch_num"] for row in session.batches) == [1, 2, 3, 9]


def test_before_the_start_and_after_the_end_no_batch_waits(memory):
    recorder = Recorder(memory)
    recorder.quick_batch(1, {}, epoch=1)
    recorder.start()
    recorder.end()
    recorder.quick_batch(2, {}, epoch=1)
    recorder.start(resumes=True)
    recorder.end()
    assert not only(memory).batches


def test_the_callers_dicts_stay_as_they_were(memory):
    params, metrics = {"a": 1}, {"loss": 1.0, "bad": Unstorable()}
    before = dict(metrics)
    recorder = Recorder(memory, params)
    recorder.start()
    with pytest.warns(CasketWarning):
        recorder.epoch(1, metrics, also=lambda: {"lr": 0.1})
    recorder.count_batch({"loss": 1.0})
    assert (params, metrics) == ({"a": 1}, before)


# The same params again


def test_params_that_were_run_are_refused_and_other_ones_then_run(memory):
    memory.session({"a": 1}).end()
    recorder = Recorder(memory, {"a": 1})
    with pytest.raises(casket.ExistingParamsException):
        recorder.start()
    recorder.epoch(1, {"loss": 1.0})
    assert not only(memory).epochs
    recorder.params = {"a": 2}
    recorder.start()
    recorder.end()
    assert [s.params["a"] for s in memory.sessions()] == [1, 2]


def repeats(model):
    return [session.meta.get("repeat") for session in model.sessions()]


def test_without_ensure_unique_each_training_is_a_session(model):
    recorder = Recorder(model, {"a": 1}, ensure_unique=False)
    for number, each in enumerate([recorder, recorder, Recorder(model, {"a": 1}, ensure_unique=0)]):
        each.start()
        each.epoch(number, {"loss": 1.0})
        each.end()
    assert [numbers(session) for session in model.sessions()] == [[0], [1], [2]]
    assert repeats(model) == [None, 1, 2]


def test_trainings_that_run_at_once_share_no_session(model):
    recorders = [Recorder(model, {"a": 1}, ensure_unique=False) for _ in range(3)]
    recorders.append(Recorder(model, {"a": 1}))
    for recorder in recorders[:3]:
        recorder.start()
    recorders[3].start(resumes=True)
    for number in range(2):
        for recorder in recorders:
            recorder.epoch(number, {"loss": 1.0})
    assert [numbers(session) for session in model.sessions()] == [[0, 1]] * 4
    for recorder in recorders:
        recorder.end()
    assert len(model.sessions()) == 4


@pytest.mark.parametrize("error", [None, "left"])
@pytest.mark.parametrize("is_own", [True, False])
def test_a_resumed_training_continues_its_session_whatever_ensure_unique_says(model, error, is_own):
    recorder = Recorder(model, {"a": 1}, ensure_unique=True)
    recorder.start()
    recorder.epoch(1, {"loss": 1.0})
    recorder.end(error)
    again = recorder if is_own else Recorder(model, {"a": 1}, ensure_unique=True)
    again.start(resumes=True)
    again.epoch(2, {"loss": 0.5})
    again.end()
    assert numbers(only(model)) == [1, 2]
    assert only(model).status == "completed"


def test_a_recorder_that_resumes_continues_its_own_session(model):
    one, two = (Recorder(model, {"a": 1}, ensure_unique=False) for _ in range(2))
    for number, (recorder, resumes) in enumerate([(one, False), (two, False), (one, True)]):
        recorder.start(resumes=resumes)
        recorder.epoch(number, {"loss": 1.0})
        recorder.end()
    assert [numbers(session) for session in model.sessions()] == [[0, 2], [1]]
    one.params = {"a": 2}
    one.start(resumes=True)
    one.end()
    assert len(model.sessions()) == 3


def test_a_recorder_does_not_resume_its_own_session_while_another_one_runs_it(model):
    one, two = (Recorder(model, {"a": 1}) for _ in range(2))
    one.start()
    one.end()
    two.start(resumes=True)
    one.start(resumes=True)
    for recorder in (one, two):
        recorder.epoch(1, {"loss": 1.0})
        recorder.end()
    assert [numbers(session) for session in model.sessions()] == [[1], [1]]


def test_a_session_that_is_named_is_continued(model):
    for _ in range(2):
        model.session({"a": 1}, repeat=True).end()
    first = model.sessions()[0]
    recorder = Recorder(model, {"a": 1})
    recorder.start(session_id=first.id)
    assert recorder.session_id == first.id
    recorder.epoch(1, {"loss": 1.0})
    recorder.end()
    assert [numbers(session) for session in model.sessions()] == [[1], []]


# A training that fails before it starts


def test_a_training_that_was_expected_and_fails_is_a_failed_session(model):
    recorder = Recorder(model, {"a": 1})
    recorder.expect()
    assert model.sessions() == []
    recorder.end(ValueError("no"))
    recorder.end(ValueError("another one"))
    assert (only(model).status, only(model).error) == ("failed", "ValueError: no")


def test_a_training_that_was_expected_and_never_fails_is_no_session(memory):
    recorder = Recorder(memory)
    recorder.expect()
    recorder.expect()
    recorder.end()
    recorder.end(ValueError("no training's"))
    assert memory.sessions() == []


def test_a_training_that_was_resumed_and_fails_before_it_starts_fails_its_session(memory):
    memory.session({"a": 1}).end()
    recorder = Recorder(memory, {"a": 1})
    recorder.expect(resumes=True)
    recorder.end(ValueError("no"))
    assert only(memory).status == "failed"


def test_what_an_expected_training_fails_of_hides_nothing(memory, failing, recwarn):
    memory.session({"a": 1}).end()
    recorder = Recorder(memory, {"a": 1}, on_error="raise")
    recorder.expect()
    recorder.end(ValueError("of params that were run"))
    assert not recwarn.list
    assert only(memory).status == "completed"
    recorder.params = {"a": 2}
    recorder.expect()
    failing.on = True
    with pytest.warns(CasketWarning, match="make room"):
        recorder.end(ValueError("while the disk is full"))
    recorder.expect()
    recorder.end(casket.ExistingParamsException(only(memory), []))
    assert len(memory.sessions()) == 1


def test_a_training_that_begins_ends_the_one_before_it(memory):
    recorder = Recorder(memory, ensure_unique=False)
    recorder.start()
    recorder.expect()
    recorder.start()
    recorder.end()
    assert [session.status for session in memory.sessions()] == ["failed", "completed"]


# A result that comes after the training


def test_a_late_result_is_added_to_the_session_that_ended(memory):
    recorder = Recorder(memory, {"a": 1})
    recorder.start()
    recorder.late_result({"acc": 0.1}, index_by="evaluate")
    recorder.end()
    for accuracy in (0.9, 0.8):
        recorder.late_result({"acc": accuracy}, index_by="evaluate")
    assert only(memory).results("evaluate") == [{"acc": 0.9}, {"acc": 0.8}]
    assert only(memory).status == "completed"


def test_a_late_result_of_a_training_that_failed_leaves_it_failed(memory):
    recorder = Recorder(memory, {"a": 1})
    recorder.start()
    recorder.end(ValueError("no"))
    with pytest.warns(CasketWarning, match="bad"):
        recorder.late_result({"acc": 0.9, "bad": Unstorable()})
    session = only(memory)
    assert session.results() == [{"acc": 0.9}]
    assert (session.status, session.error) == ("failed", "ValueError: no")


def test_a_late_result_that_is_raised_about_ends_the_session_all_the_same(memory):
    recorder = Recorder(memory, on_error="raise")
    recorder.start()
    recorder.end()
    with pytest.raises(casket.UnstorableValue):
        recorder.late_result({"bad": Unstorable()})
    assert recorder.session is None
    assert only(memory).status == "completed"


# When logging fails


def test_a_metric_that_cannot_be_stored_is_left_out_with_one_warning(memory, one_warning):
    recorder = Recorder(memory)
    recorder.start()
    with one_warning("the training continues: UnstorableValue: bad"):
        for number in (1, 2):
            recorder.epoch(number, {"loss": 0.5, "bad": Unstorable(), 3: 4})
            recorder.batch(number, {"loss": 0.5, "bad": Unstorable()})
        recorder.result({"acc": 0.9, "bad": Unstorable()}, index_by="test")
        recorder.meta({"gpu": "none", "bad": Unstorable()})
    session = only(memory)
    assert losses(session) == [0.5, 0.5]
    assert [row["loss"] for row in session.batches] == [0.5, 0.5]
    assert session.results("test") == [{"acc": 0.9}]
    assert session.meta["gpu"] == "none"


def test_each_training_has_a_warning_of_its_own(memory):
    recorder = Recorder(memory, ensure_unique=False)
    for _ in range(2):
        recorder.start()
        with pytest.warns(CasketWarning):
            recorder.epoch(1, {"bad": Unstorable()})
        recorder.end()


def test_on_error_raise_raises_and_still_writes_the_rest(memory):
    recorder = Recorder(memory, on_error="raise")
    recorder.start()
    with pytest.raises(casket.UnstorableValue, match="bad"):
        recorder.epoch(1, {"loss": 0.5, "bad": Unstorable()})
    with pytest.raises(AttributeError):
        recorder.count_batch("much")
    assert losses(only(memory)) == [0.5]


@pytest.mark.parametrize("metrics", [7, [("loss",)], "loss"])
def test_metrics_that_are_no_dict_are_one_warning(memory, metrics, one_warning):
    recorder = Recorder(memory)
    recorder.start()
    with one_warning("could not log"):
        recorder.batch(1, metrics)
        recorder.count_batch(metrics)
        recorder.epoch(1, metrics)
    assert numbers(only(memory)) == [1]


def test_an_epoch_is_kept_when_what_is_added_cannot_be_read(memory):
    recorder = Recorder(memory)
    recorder.start()
    with pytest.warns(CasketWarning, match="ZeroDivisionError"):
        recorder.epoch(1, {"loss": 0.5}, also=lambda: 1 / 0)
    assert losses(only(memory)) == [0.5]


def test_params_that_cannot_be_stored_are_kept_as_text(memory):
    recorder = Recorder(memory, {"lr": 0.1, "loss": Unstorable(), "deep": {"f": print}})
    with pytest.warns(CasketWarning, match="loss"):
        recorder.start()
    recorder.epoch(1, {"loss": 0.5})
    recorder.end()
    params = only(memory).params
    assert params["lr"] == 0.1
    assert "Unstorable" in params["loss"]
    assert "print" in params["deep"]["f"]
    again = Recorder(memory, {"lr": 0.1, "loss": Unstorable(), "deep": {"f": print}})
    with pytest.warns(CasketWarning), pytest.raises(casket.ExistingParamsException):
        again.start()


def test_params_that_cannot_be_stored_are_raised_about_if_asked_for(memory):
    recorder = Recorder(memory, {"loss": Unstorable()}, on_error="raise")
    with pytest.raises(casket.UnstorableValue):
        recorder.start()
    recorder.epoch(1, {"loss": 0.5})
    assert memory.sessions() == []


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small file system")
@pytest.mark.parametrize("name", ["runs.json", "runs.sqlite"])
def test_a_disk_that_was_full_and_has_room_again_takes_the_later_records(
    tmp_path, name, one_warning
):
    with mounted(tmp_path, "size=256k"):
        model = Experiment.use(tmp_path / name, exp_id="exp").model("net")
        recorder = Recorder(model)
        recorder.start()
        recorder.epoch(1, {"loss": 0.1})
        ballast = tmp_path / "ballast"
        with one_warning("Store"):
            fill_up(ballast)
            for number in range(2, 400):
                recorder.epoch(number, {"loss": 0.1, "text": "x" * 200})
        ballast.unlink()
        recorder.epoch(400, {"loss": 0.2})
        recorder.end()
        session = only(model)
        steps = numbers(session)
        assert session.status == "completed"
        assert (steps[0], steps[-1]) == (1, 400)
        assert steps == sorted(steps)
        assert len(steps) < 400
        model.experiment.close()


def fill_up(path):
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            pass


def test_a_store_that_fails_at_the_start_is_tried_again(memory, failing, one_warning):
    recorder = Recorder(memory, {"a": 1})
    failing.on = True
    with one_warning("make room"):
        assert recorder.start() is True
        recorder.epoch(1, {"loss": 0.1})
    failing.on = False
    recorder.epoch(2, {"loss": 0.2})
    recorder.end()
    assert numbers(only(memory)) == [2]
    assert only(memory).status == "completed"


def test_a_store_that_fails_all_along_leaves_no_session(memory, failing, one_warning):
    recorder = Recorder(memory, {"a": 1})
    failing.on = True
    with one_warning("could not log"):
        recorder.start()
        recorder.epoch(1, {"loss": 0.1})
        recorder.end()
    failing.on = False
    recorder.late_result({"acc": 1.0})
    assert memory.sessions() == []


def test_params_that_another_process_ran_meanwhile_stop_no_training(memory, failing):
    recorder = Recorder(memory, {"a": 1})
    failing.on = True
    with pytest.warns(CasketWarning, match="make room"):
        recorder.start()
    failing.on = False
    memory.session({"a": 1}).end()
    recorder.epoch(1, {"loss": 0.1})
    recorder.epoch(2, {"loss": 0.1})
    recorder.end()
    assert not only(memory).epochs


@pytest.mark.parametrize("then", ["end", "start", "late_result"])
def test_an_end_that_could_not_be_written_is_written_later(memory, failing, then):
    recorder = Recorder(memory, {"a": 1}, ensure_unique=False)
    recorder.start()
    failing.on = True
    with pytest.warns(CasketWarning, match="make room"):
        recorder.end()
    failing.on = False
    assert recorder.session is None
    assert only(memory).status == "running"
    if then == "late_result":
        recorder.late_result({"acc": 1.0})
    elif then == "end":
        recorder.end("this is not how it ended")
    else:
        recorder.start()
        recorder.end()
    assert {session.status for session in memory.sessions()} == {"completed"}
    assert len(memory.sessions()) == (2 if then == "start" else 1)


def test_a_session_whose_end_is_never_written_takes_nothing_of_the_next_training(memory, failing):
    recorder = Recorder(memory, {"a": 1})
    recorder.start()
    failing.on = True
    with pytest.warns(CasketWarning, match="make room"):
        recorder.end()
    recorder.params = {"a": 2}
    with pytest.warns(CasketWarning, match="make room"):
        recorder.start()
    failing.on = False
    recorder.epoch(1, {"loss": 0.5})
    recorder.end()
    outcomes = {s.params["a"]: (s.status, numbers(s)) for s in memory.sessions()}
    assert outcomes == {1: ("running", []), 2: ("completed", [1])}


def test_a_failing_end_hides_no_exception_that_is_on_its_way(memory, failing):
    recorder = Recorder(memory, on_error="raise")
    recorder.start()
    failing.on = True
    with pytest.warns(CasketWarning, match="make room"):
        recorder.end(ValueError("the training's own"))
    failing.on = False
    recorder.end()
    assert only(memory).error == "ValueError: the training's own"


def test_a_failing_start_and_end_are_raised_if_asked_for(memory, failing):
    recorder = Recorder(memory, on_error="raise")
    failing.on = True
    with pytest.raises(casket.StoreFull):
        recorder.start()
    failing.on = False
    recorder.start()
    failing.on = True
    with pytest.raises(casket.StoreFull):
        recorder.end()


# Distributed training


@pytest.mark.parametrize(
    ("world_size", "rank", "is_zero"),
    [(None, None, True), ("1", "0", True), ("2", "0", True), ("2", "1", False), (None, "3", True)],
)
def test_the_rank_is_read_from_the_environment(monkeypatch, world_size, rank, is_zero):
    monkeypatch.setitem(sys.modules, "torch.distributed", None)
    monkeypatch.setitem(sys.modules, "jax", None)
    for name, value in (("WORLD_SIZE", world_size), ("RANK", rank)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert is_rank_zero() is is_zero


@pytest.mark.parametrize("rank", [0, 1])
def test_frameworks_that_know_the_rank_are_asked(monkeypatch, rank):
    def yes():
        return True

    def number():
        return rank

    torch = types.SimpleNamespace(is_available=yes, is_initialized=yes, get_rank=number)
    monkeypatch.setitem(sys.modules, "torch.distributed", torch)
    assert is_rank_zero() is (rank == 0)
    monkeypatch.setitem(sys.modules, "torch.distributed", None)
    initialized = types.SimpleNamespace(is_initialized=yes)
    jax = types.SimpleNamespace(distributed=initialized, process_index=number)
    monkeypatch.setitem(sys.modules, "jax", jax)
    assert is_rank_zero() is (rank == 0)


def test_a_process_of_another_rank_opens_and_writes_nothing(file_url):
    recorder = Recorder(file_url, {"a": 1}, is_logging=False)
    assert recorder.model is None
    assert recorder.start() is False
    recorder.epoch(1, {"loss": 1.0})
    recorder.count_batch({"loss": 1.0})
    recorder.result({"acc": 1.0})
    recorder.artifact("a.txt", b"")
    recorder.end()
    recorder.late_result({"acc": 1.0})
    assert not Path(file_url).exists()


# Copies, forks, exits


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
def test_a_copy_made_in_a_training_goes_on_with_its_session(file_url, how):
    model = Experiment.use(file_url, exp_id="exp").model("net")
    recorder = Recorder(model, {"a": 1})
    recorder.start()
    recorder.epoch(1, {"loss": 0.1})
    copied = how(recorder)
    copied.epoch(2, {"loss": 0.2})
    copied.end()
    assert only(model).status == "running"
    recorder.epoch(3, {"loss": 0.3})
    recorder.end()
    # By the start of their writers: the copy went on with the session later.
    assert numbers(only(model)) == [1, 3, 2]
    assert only(model).status == "completed"


def test_a_copy_in_another_process_is_refused_params_that_were_run(file_url):
    model = Experiment.use(file_url, exp_id="exp").model("net")
    recorder = Recorder(model, {"a": 1})
    sent = pickle.dumps(recorder)
    recorder.start()
    recorder.end()
    with pytest.raises(casket.ExistingParamsException):
        pickle.loads(sent).start()
    with pytest.raises(casket.ExistingParamsException):
        pickle.loads(pickle.dumps(recorder)).start()


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
def test_copies_for_several_trainings_do_not_refuse_each_other(model, how):
    recorder = Recorder(model, {"a": 1})
    for copied in (how(recorder), how(recorder), how(how(recorder))):
        copied.start()
        copied.epoch(1, {"loss": 1.0})
        copied.end()
    assert [numbers(session) for session in model.sessions()] == [[1]] * 3
    assert repeats(model) == [None, 1, 2]
    with pytest.raises(casket.ExistingParamsException):
        Recorder(model, {"a": 1}).start()


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
def test_copies_are_refused_params_that_were_run_before(model, how):
    model.session({"a": 1}).end()
    recorder = Recorder(model, {"a": 1})
    for _ in range(2):
        with pytest.raises(casket.ExistingParamsException):
            how(recorder).start()
    copied = how(recorder)
    copied.params = {"a": 2}
    copied.start()
    copied.end()
    with pytest.raises(casket.ExistingParamsException):
        copied.start()


LEFT_BEHIND = """
    import sys
    from casket_integrations.recorder import Recorder
    recorder = Recorder(sys.argv[1], {"how": sys.argv[2]}, exp_id="exp")
    recorder.start()
    recorder.epoch(1, {"loss": 0.5})
    if sys.argv[2] == "prompt":
        sys.ps1, sys.last_value = ">>> ", ValueError("long ago")
    if sys.argv[2] == "raise":
        raise ZeroDivisionError("at the end")
"""


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raise", "ZeroDivisionError: at the end"),
        ("end", "the process ended during the training"),
        ("prompt", "the process ended during the training"),
    ],
)
def test_a_training_that_the_process_leaves_behind_reads_failed(run_python, file_url, how, said):
    failing = pytest.raises(AssertionError, match="ZeroDivisionError: at the end")
    with failing if how == "raise" else nullcontext():
        run_python(LEFT_BEHIND, file_url, how)
    with casket.open(file_url) as runs:
        (session,) = runs.sessions()
        assert (session.status, session.error) == ("failed", said)
        assert losses(session) == [0.5]


FORKING = """
    import os, sys
    from casket_integrations.recorder import Recorder
    recorder = Recorder(sys.argv[1], exp_id="exp")
    recorder.start()
    recorder.epoch(1, {"loss": 0.1})
    child = os.fork()
    if child == 0:
        recorder.epoch(2, {"loss": 0.2})
        recorder.end(ValueError("the child's own"))
        sys.exit(3)
    os.waitpid(child, 0)
    recorder.epoch(3, {"loss": 0.3})
    recorder.end()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_that_leaves_does_not_end_the_session(run_python, file_url):
    run_python(FORKING, file_url)
    with casket.open(file_url) as runs:
        (session,) = runs.sessions()
        assert session.status == "completed"
        assert numbers(session) == [1, 2, 3]
