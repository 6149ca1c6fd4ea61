"""Sessions: the promises of the contract's table under Writing, a test per rule."""

import json
import math
import os
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import orjson
import pytest

import casket
from casket import Experiment as E
from casket.stores.base import LOOK_INTERVAL
from casket.writing.session import Session


@pytest.fixture
def model(url):
    return E.use(url, exp_id="digits").model("SVM", {"kernel": "rbf"})


def test_what_is_logged_reads_back_in_order(model):
    with model.session({"lr": 0.1}) as session:
        session.add_epoch(1, {"loss": 0.3, "acc": 0.9}, timestamp=True)
        session.add_batch(17, {"loss": 0.31}, epoch=1)
        session.add_epoch(2, {"loss": 0.2, "acc": 0.95}, timestamp=False)
        session.add_result({"test_acc": 0.97}, index_by="test")
        session.add_result({"auc": 0.5})
        session.add_meta({"gpu": "none"})
    (seen,) = model.sessions()
    assert seen.id == session.id
    assert (seen.experiment, seen.model) == ("digits", "SVM")
    assert seen.params == session.params == {"lr": 0.1}
    assert seen.config == {"kernel": "rbf"}
    assert seen.meta["gpu"] == "none"
    first, second = seen.epochs
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first.pop("timestamp"))
    assert first == {"epoch_num": 1, "loss": 0.3, "acc": 0.9}
    assert second == {"epoch_num": 2, "loss": 0.2, "acc": 0.95}
    (batch,) = seen.batches
    assert batch.pop("timestamp")
    assert batch == {"batch_num": 17, "epoch": 1, "loss": 0.31}
    assert seen.results("test") == [{"test_acc": 0.97}]
    assert seen.results() == [{"auc": 0.5}]
    assert seen.indexes == ["test"]
    assert seen.status == "completed"


METRICS = [
    {"loss": 0.3, "acc": 1e-300},
    {"loss": 1e308, "acc": 1e308},
    {"loss": float("nan")},
    {"loss": 1.0, "gap": float("-inf")},
    {"loss": 0.5, "seen": 2**63 - 1, "name": "größer", "flag": True, "missing": None},
    {"count": 2**63, "less": -(2.0**63)},
    {"$loss": 0.3},
    {"price": "$3"},
    {"ß": 0.5, "": 1},
    {"loss": np.float64(0.1), "acc": np.float32(0.1), "n": np.int64(3)},
    {"nested": {"a": [1.5, None]}},
    {},
]


def test_a_json_file_holds_the_bytes_that_a_store_of_records_is_given(tmp_path):
    texts = {}
    for name in ("runs.json", "runs.sqlite"):
        with E.use(tmp_path / name, exp_id="e").model("m").session() as session:
            for number, metrics in enumerate(METRICS):
                session.add_epoch(number, metrics)
                session.add_epoch(number, metrics, timestamp=False)
                session.add_batch(number, metrics)
                session.add_batch(number, metrics, epoch=3)
                session.add_result(metrics, index_by="test")
            records = list(session._log.backend.store.records(kinds={"epoch", "batch", "result"}))
            ids = (session.id, session._log.writer.id)
        for _, record in records:
            assert (record["session"], record["writer"]) == ids
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", record["time"])
            record |= {"session": "s", "writer": "w", "time": "t", "n": 0, "crc": ""}
        texts[name] = [orjson.dumps(record) for _, record in records]
    assert texts["runs.json"] == texts["runs.sqlite"]
    assert len(texts["runs.json"]) == 5 * len(METRICS)
    for line in (tmp_path / "runs.json").read_bytes().splitlines()[1:-1]:
        text = line.rstrip(b",").split(b":", 1)[1].strip()
        assert orjson.dumps(orjson.loads(text)) == text


def test_two_sessions_that_take_turns_lose_nothing(tmp_path):
    one, other = (E.use(tmp_path / "runs.json", exp_id="e").model(name) for name in "ab")
    with one.session() as first, other.session() as second:
        for number in range(50):
            first.add_epoch(number, {"loss": 0.5})
            second.add_epoch(number, {"loss": 0.25})
            second.add_epoch(-number, {"loss": 0.25})
    document = json.loads((tmp_path / "runs.json").read_text())["_default"]
    assert [int(number) for number in document] == list(range(1, len(document) + 1))
    assert [len(s.epochs) for s in casket.open(tmp_path / "runs.json").sessions()] == [50, 100]


def test_an_epoch_logged_again_is_kept_and_the_latest_is_offered(model):
    with model.session() as session:
        for number, loss in ((1, 0.9), (2, 0.8), (3, 0.7), (2, 0.6), (1, 0.5)):
            session.add_epoch(number, {"loss": loss})
    epochs = model.sessions()[0].epochs
    assert [row["loss"] for row in epochs] == [0.9, 0.8, 0.7, 0.6, 0.5]
    assert [(row["epoch_num"], row["loss"]) for row in epochs.latest] == [
        (1, 0.5),
        (2, 0.6),
        (3, 0.7),
    ]


@pytest.mark.parametrize("index", ["test", 1, 0.5, True, "", "null", np.int64(3), np.float64(0.25)])
def test_any_json_scalar_files_a_result(model, index):
    with model.session() as session:
        session.add_result({"x": 1}, index_by=index)
        session.add_result({"x": 2})
    (seen,) = model.sessions()
    assert seen.results(index_by=index) == [{"x": 1}]
    assert seen.results() == [{"x": 2}]


@pytest.mark.parametrize("index", [["test"], {"a": 1}, float("nan"), object(), b"x", 10**30])
def test_an_index_that_is_no_json_scalar_is_refused(model, index):
    with model.session() as session, pytest.raises(casket.UnstorableValue, match="index_by"):
        session.add_result({"x": 1}, index_by=index)
    assert model.sessions()[0].results() == []


def test_true_and_one_are_different_indexes_one_and_one_point_zero_are_not(model):
    with model.session() as session:
        session.add_result({"x": "true"}, index_by=True)
        session.add_result({"x": "one"}, index_by=1)
        session.add_result({"x": "one point zero"}, index_by=1.0)
    (seen,) = model.sessions()
    assert seen.results(True) == [{"x": "true"}]
    assert seen.results(1) == [{"x": "one"}, {"x": "one point zero"}]
    assert seen.indexes == [True, 1]


@pytest.mark.parametrize("number", [1.5, "1", None, float("nan")])
def test_an_epoch_number_that_is_not_whole_is_refused_by_name(model, number):
    with model.session() as session:
        with pytest.raises(casket.UnstorableValue, match="epoch_num"):
            session.add_epoch(number, {"loss": 1.0})
        with pytest.raises(casket.UnstorableValue, match="batch_num"):
            session.add_batch(number, {"loss": 1.0})


def test_several_batches_are_written_together_each_with_its_time_or_none_is(model):
    with model.session() as session:
        session.add_batches([(1, {"loss": 0.5}, None, 0.25), (2, {"loss": float("nan")}, 1, 1.0)])
        with pytest.raises(casket.UnstorableValue, match="loss"):
            session.add_batches([(3, {"loss": 0.5}, 1, 2.0), (4, {"loss": object()}, 1, 3.0)])
        session.add_batches([])
    first, second = model.sessions()[0].batches
    assert first == {
        "batch_num": 1, "epoch": None, "loss": 0.5, "timestamp": "1970-01-01T00:00:00.250000Z",
    }  # fmt: skip
    assert math.isnan(second["loss"])
    assert second["timestamp"] == "1970-01-01T00:00:01.000000Z"


def test_numpy_numbers_count_as_whole_numbers(model):
    with model.session() as session:
        session.add_epoch(np.int32(3), {"loss": np.float32(0.1)})
        session.add_epoch(4.0, {"loss": 0.1})
    assert [row["epoch_num"] for row in model.sessions()[0].epochs] == [3, 4]


@pytest.mark.parametrize("result", [None, [1], "loss", 3, {(1,): 2}, {"a": object()}])
def test_what_cannot_be_stored_is_refused_before_anything_is_written(model, result):
    with model.session() as session:
        for log in (
            lambda: session.add_epoch(1, result),
            lambda: session.add_batch(1, result),
            lambda: session.add_result(result),
            lambda: session.add_meta(result),
        ):
            with pytest.raises(casket.UnstorableValue):
                log()
    (seen,) = model.sessions()
    assert (seen.epochs, seen.batches, seen.results()) == ([], [], [])


def test_a_number_beyond_64_bits_is_refused_by_name(model):
    with model.session() as session, pytest.raises(casket.UnstorableValue, match="epoch_num"):
        session.add_epoch(10**30, {})


def test_the_handles_params_are_what_the_user_gave(model):
    with model.session({"lr": float("inf"), "$key": (1, 2)}) as session:
        assert session.params == {"lr": float("inf"), "$key": [1, 2]}


# Uniqueness


def test_params_that_completed_are_refused_with_what_exists_and_how_to_go_on(model):
    with model.session({"lr": 0.1, "opt": {"name": "adam"}}) as session:
        session.add_epoch(1, {"val_loss": 0.25})
    with model.session({"lr": 0.2, "opt": {"name": "adam"}}):
        pass
    with pytest.raises(casket.ExistingParamsException) as caught:
        model.session({"lr": 0.1, "opt": {"name": "adam"}}, ensure_unique=True)
    message = str(caught.value)
    assert session.id in message
    assert "completed" in message
    assert f"{model.sessions()[0].started:%Y-%m-%d}" in message
    assert "val_loss=0.25" in message
    assert "ensure_unique=False" in message
    assert "casket clean" in message
    assert "lr=0.2 (asked for: 0.1)" in message
    assert caught.value.session.id == session.id
    assert isinstance(caught.value, ValueError)


LARGE_PARAMS = [
    {f"name_{i}": i for i in range(5_000)},
    {"text": "x" * 100_000, "list": list(range(10_000))},
    {"n" * 50_000: 1},
]


@pytest.mark.parametrize("params", LARGE_PARAMS)
def test_a_refusal_of_large_params_is_short_and_says_what_differs_and_how_to_go_on(model, params):
    with model.session(params) as session:
        session.add_epoch(1, {"val_loss": 0.25})
    for seed in range(4):
        with model.session({**params, "seed": seed}):
            pass
    for seed in range(3):
        with model.session({"other": "y" * 100_000, "seed": seed}):
            pass
    with pytest.raises(casket.ExistingParamsException) as caught:
        model.session(params)
    message = str(caught.value)
    assert len(message) <= 2_000
    assert message.startswith(f"session {session.id} of model 'SVM'")
    assert "val_loss=0.25" in message
    assert "seed=0 (asked for: None)" in message
    assert message.endswith("(`casket clean` removes killed sessions).")
    with pytest.raises(casket.ExistingParamsException) as caught:
        model.session({"other": "y" * 100_000, "seed": 1})
    assert len(str(caught.value)) <= 2_000
    assert "seed=2 (asked for: 1)" in str(caught.value)


def test_no_message_is_long(model):
    for number in range(300):
        model.add_result({f"metric_{number}": 0.5, "acc": 0.5}, params={"n": number})
    (first, *_) = model.sessions()
    calls = [
        lambda: model.session({"k" * 10_000: {"a": object()}}),
        lambda: model.resume(""),
        lambda: E.use("x://" + "y" * 10_000),
        lambda: first.best("z" * 10_000),
    ]
    for call in calls:
        with pytest.raises(casket.CasketError) as caught:
            call()
        assert len(str(caught.value)) <= 2_000
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_params_that_are_not_a_number_are_the_same_params_and_no_difference(model):
    with model.session({"a": float("nan"), "b": 1}):
        pass
    with pytest.raises(casket.ExistingParamsException):
        model.session({"a": float("nan"), "b": 1})
    assert model.nearest({"a": float("nan"), "b": 2})[0].difference == {"b": (1, 2)}


def test_params_that_run_are_refused(model):
    with model.session({"lr": 0.1}), pytest.raises(casket.ExistingParamsException, match="running"):
        model.session({"lr": 0.1})


def test_unique_is_the_default_and_is_asked_for_each_model_alone(url):
    exp = E.use(url, exp_id="x")
    with exp.model("a").session({"lr": 1}), exp.model("b").session({"lr": 1}):
        pass
    with pytest.raises(casket.ExistingParamsException):
        exp.model("a").session({"lr": 1})


def test_params_are_equal_as_json_values(model):
    with model.session({"a": (1, 2), "b": np.float64(0.5), "c": {"x": 1, "y": 2.0}}):
        pass
    same = {"c": {"y": np.int8(2), "x": True + 0}, "b": 0.5, "a": [np.int64(1), 2.0]}
    with pytest.raises(casket.ExistingParamsException):
        model.session(same)
    with model.session({**same, "b": "0.5"}):
        pass


def test_a_session_that_failed_keeps_what_it_logged_and_does_not_block_its_params(model):
    session = model.session({"lr": 1})
    session.add_epoch(1, {"loss": 0.5})
    with pytest.raises(ZeroDivisionError), session:
        raise ZeroDivisionError("division by nought")
    (seen,) = model.sessions()
    assert seen.status == "failed"
    assert seen.error == "ZeroDivisionError: division by nought"
    assert len(seen.epochs) == 1
    with model.session({"lr": 1}) as again:
        assert again.id != session.id


def test_secrets_in_the_error_of_a_session_are_hidden(model):
    messages = ("no answer: https://me:hush@host/x?sig=hush", "401\nAuthorization: Bearer hush")
    for n, message in enumerate(messages):
        with pytest.raises(ValueError, match="hush"), model.session({"n": n}):
            raise ValueError(message)
    session = model.session({"n": 2})
    session.end("failed", error="exit code 1: train --api-key hush")
    assert [view.error for view in model.sessions()] == [
        "ValueError: no answer: https://me:***@host/x?sig=***",
        "ValueError: 401\nAuthorization: ***",
        "exit code 1: train --api-key ***",
    ]


class Stopped(Exception):
    casket_status = "completed"


class Other(Exception):
    casket_status = "failed"


# Optuna recognizes its exception by the class; here a class of its name stands for it.
TrialPruned = type("TrialPruned", (Exception,), {"__module__": "optuna.exceptions"})


@pytest.mark.parametrize(
    ("error", "status", "is_pruned"),
    [
        (SystemExit(), "completed", None),
        (SystemExit(0), "completed", None),
        (SystemExit(3), "failed", None),
        (SystemExit("no data"), "failed", None),
        (Stopped("no progress"), "completed", True),
        (TrialPruned(), "completed", True),
        (type("Mine", (TrialPruned,), {})(), "completed", True),
        (Other(), "failed", None),
    ],
)
def test_the_exception_that_leaves_the_block_decides_the_status(model, error, status, is_pruned):
    def train():
        with model.session() as session:
            session.add_epoch(1, {"loss": 0.5})
            raise error

    with pytest.raises(type(error)):
        train()
    (view,) = model.sessions()
    assert (view.status, view.meta.get("pruned")) == (status, is_pruned)
    assert (view.error is None) is (status == "completed")
    assert len(view.epochs) == 1
    if status == "completed":
        with pytest.raises(casket.ExistingParamsException):
            model.session()


def test_tags_and_notes_are_changed_by_the_handle_while_it_runs_and_afterwards(model):
    with model.session({"lr": 0.1}) as session:
        session.add_tag("baseline")
        session.add_tag("baseline")
        session.note("a first try")
        (view,) = model.sessions()
        assert (view.tags, view.note, view.status) == (("baseline",), "a first try", "running")
        session.add_epoch(1, {"loss": 0.5})
    ended = model.sessions()[0].ended
    session.add_tag("paper")
    session.remove_tag("baseline")
    session.remove_tag("missing")
    session.note("größer")
    (view,) = model.sessions(tag="paper")
    assert (view.tags, view.note, view.status) == (("paper",), "größer", "completed")
    assert view.ended == ended
    session.note("")
    assert model.sessions()[0].note == ""
    assert model.sessions(tag="baseline") == []


@pytest.mark.parametrize("text", [1, None, b"x", ["a"], "\ud800"])
def test_a_tag_or_note_that_is_no_text_is_refused_before_anything_is_written(model, text):
    with model.session() as session:
        before = len(list(session._log.backend.store.records()))
        for call in (session.add_tag, session.remove_tag, session.note):
            with pytest.raises(casket.UnstorableValue):
                call(text)
        assert len(list(session._log.backend.store.records())) == before


def test_an_interrupt_fails_the_session(model):
    with pytest.raises(KeyboardInterrupt), model.session():
        raise KeyboardInterrupt
    assert (model.sessions()[0].status, model.sessions()[0].error) == (
        "failed",
        "KeyboardInterrupt",
    )


def test_without_unique_the_last_session_of_those_params_goes_on(model):
    with model.session({"lr": 1}) as first:
        first.add_epoch(1, {"loss": 0.5})
    with model.session({"lr": 1}, ensure_unique=False) as second:
        second.add_epoch(2, {"loss": 0.4})
        assert model.sessions()[0].status == "running"
    assert second.id == first.id
    (seen,) = model.sessions()
    assert [row["epoch_num"] for row in seen.epochs] == [1, 2]
    assert seen.status == "completed"


def test_without_unique_a_failed_session_goes_on_and_completes(model):
    with pytest.raises(RuntimeError), model.session({"lr": 1}) as first:
        raise RuntimeError
    with model.session({"lr": 1}, ensure_unique=False) as second:
        pass
    assert second.id == first.id
    assert model.sessions()[0].status == "completed"
    with pytest.raises(casket.ExistingParamsException):
        model.session({"lr": 1})


def test_without_unique_and_without_a_session_one_begins(model):
    with model.session({"lr": 1}, ensure_unique=False) as session:
        session.add_epoch(1, {"loss": 1})
    assert [s.id for s in model.sessions()] == [session.id]


def test_many_sessions_of_one_model_may_be_open_at_once(model):
    sessions = [model.session({"seed": seed}) for seed in range(5)]
    for epoch in (1, 2):
        for seed, session in enumerate(sessions):
            session.add_epoch(epoch, {"loss": seed + epoch})
    for session in sessions:
        session.end()
    for seed, seen in enumerate(model.sessions()):
        assert [row["loss"] for row in seen.epochs] == [seed + 1, seed + 2]
        assert seen.status == "completed"


# The life of a session


def test_a_killed_session_reads_killed_and_does_not_block_its_params(file_url):
    script = """
import os, signal, sys
from casket import Experiment as E
session = E.use(sys.argv[1], exp_id="x").model("m").session({"lr": 1})
session.add_epoch(1, {"loss": 0.5})
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script, file_url], check=False)
    assert done.returncode == -9
    model = E.use(file_url, exp_id="x").model("m")
    (killed,) = model.sessions()
    assert killed.status == "killed"
    assert killed.ended == killed.last_seen
    assert len(killed.epochs) == 1
    with model.session({"lr": 1}, ensure_unique=True) as again:
        pass
    assert [s.status for s in model.sessions()] == ["killed", "completed"]
    assert again.id != killed.id


def test_logging_outside_a_session_shows_the_with_line(model):
    for log in (model.add_epoch, model.add_batch):
        with pytest.raises(casket.NotInASession, match=r"with model\.session\(params\) as session"):
            log(1, {"loss": 1})
    with model.session() as session:
        pass
    for log in (
        lambda: session.add_epoch(1, {}),
        lambda: session.add_batch(1, {}),
        lambda: session.add_result({}),
        lambda: session.add_meta({}),
        lambda: session.add_artifact("a", b""),
    ):
        with pytest.raises(casket.NotInASession, match="had ended"):
            log()


def test_ending_twice_changes_nothing(model):
    session = model.session()
    session.end()
    session.end("failed", error="late")
    with session:
        pass
    assert model.sessions()[0].status == "completed"


def test_add_result_on_a_model_is_a_session_of_its_own_each_time(model):
    model.add_result({"accuracy": 0.97})
    model.add_result({"accuracy": 0.98}, params={"C": 10})
    model.add_result({"accuracy": 0.99}, {"C": 10}, index_by="test")
    assert [s.status for s in model.sessions()] == ["completed"] * 3
    assert [s.params for s in model.sessions()] == [{}, {"C": 10}, {"C": 10}]
    assert model.sessions()[0].last["accuracy"] == 0.97
    assert model.sessions()[2].results("test") == [{"accuracy": 0.99}]
    with pytest.raises(casket.ExistingParamsException):
        model.session({"C": 10})


def test_every_session_says_where_it_came_from(model):
    with model.session():
        pass
    meta = model.sessions()[0].meta
    assert meta.keys() >= {
        "commit", "branch", "dirty", "user", "host", "pid",
        "platform", "python", "command_line", "start",
    }  # fmt: skip
    assert meta["pid"] == os.getpid()
    assert meta["python"] == ".".join(map(str, sys.version_info[:3]))


def test_a_session_knows_whether_the_working_copy_was_changed(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True
        )

    script = tmp_path / "train.py"
    script.write_text(
        "import sys\nfrom casket import Experiment as E\n"
        "with E.use(sys.argv[1], exp_id='x').model('m').session(): pass\n"
    )
    git("init", "-b", "trunk")
    git("add", "train.py")
    git("commit", "-m", "first")
    subprocess.run([sys.executable, script, "clean.json"], cwd=tmp_path, check=True)
    script.write_text(script.read_text() + "# changed\n")
    subprocess.run([sys.executable, script, "changed.json"], cwd=tmp_path, check=True)
    metas = []
    for name in ("clean.json", "changed.json"):
        with casket.open(tmp_path / name) as runs:
            metas.append(runs.sessions()[0].meta)
    assert [meta["dirty"] for meta in metas] == [False, True]
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=tmp_path, text=True).strip()
    assert [(meta["commit"], meta["branch"]) for meta in metas] == [(head, "trunk")] * 2


def test_a_callers_dicts_are_never_changed(model):
    params, result = {"a": (1, np.float64(2))}, {"loss": 0.5}
    with model.session(params) as session:
        session.add_epoch(1, result)
        session.add_result(result)
        session.add_batch(1, result)
    assert params == {"a": (1, np.float64(2))}
    assert isinstance(params["a"], tuple)
    assert result == {"loss": 0.5}


def test_a_failed_end_does_not_hide_the_users_exception(tmp_path):
    path = tmp_path / "runs.json"
    session = E.use(path, exp_id="x").model("m").session()
    path.unlink()
    path.mkdir()
    time.sleep(2 * LOOK_INTERVAL)
    with (
        pytest.warns(casket.CasketWarning, match=r"runs\.json"),
        pytest.raises(ZeroDivisionError),
        session,
    ):
        1 / 0  # noqa: B018 - the error is what is wanted


def test_a_session_cannot_be_pickled_by_mistake(file_url):
    session = E.use(file_url, exp_id="x").model("m").session()
    with pytest.raises(casket.CasketError, match="send the model"):
        pickle.dumps(session)


def test_a_session_is_made_by_its_model(model):
    with model.session({"a": 1}) as session:
        assert isinstance(session, Session)
        assert session.id in repr(session)


def test_each_record_is_one_line_of_strict_json(tmp_path: Path):
    path = tmp_path / "runs.json"
    with E.use(path, exp_id="x").model("m").session({"note": "two\nlines"}) as session:
        session.add_epoch(1, {"loss": float("nan"), "text": "ünï\n\u2028"})
    document = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert len(path.read_text().split("\n")) == len(document["_default"]) + 3
