"""Threads, forks and handles that travel: nothing is lost, nothing hangs."""

from __future__ import annotations

import copy
import signal
from collections import defaultdict
from pathlib import Path

import pytest

import casket
from casket import SessionView
from tests.crash import scenarios
from tests.crash.scenarios import CHILDREN, EPOCHS_OF_CHILD, EPOCHS_OF_THREAD, TASKS, THREADS
from tests.crash.scripts import run_python, run_scenario


def sessions(runs: Path) -> list[SessionView]:
    with casket.open(runs) as opened:
        return opened.sessions()


def epochs_by_writer(view: SessionView) -> dict[str, list[int]]:
    numbers_by = defaultdict(list)
    for epoch in view.epochs:
        numbers_by[epoch["of"]].append(epoch["epoch_num"])
    return numbers_by


def up_to(number: int) -> list[int]:
    return list(range(1, number + 1))


@pytest.mark.parametrize(
    "scenario", ["fork_while_threads_log", "fork_by_multiprocessing_while_threads_log"]
)
def test_threads_and_forked_children_log_into_one_session_that_only_the_parent_ends(
    runs: Path, scenario: str
) -> None:
    run_scenario(scenario, runs)
    (view,) = sessions(runs)
    assert view.status == "completed"
    assert view.error is None
    assert view.results() == [{"done": True}]
    assert epochs_by_writer(view) == {
        **{f"thread {i}": up_to(EPOCHS_OF_THREAD) for i in range(THREADS)},
        **{f"child {i}": up_to(EPOCHS_OF_CHILD) for i in range(CHILDREN)},
    }


def test_children_forked_while_threads_begin_sessions_begin_their_own(runs: Path) -> None:
    run_scenario("fork_while_threads_begin_sessions", runs)
    views = sessions(runs)
    assert {view.status for view in views} == {"completed"}
    assert all(len(view.epochs) == 1 for view in views)
    names = [f"thread {i}" for i in range(4)] + [f"child {i}" for i in range(6)]
    begun = [(view.params["of"], view.params["k"]) for view in views]
    assert sorted(begun) == sorted((name, k) for name in names for k in range(TASKS))


def test_a_child_forked_while_a_thread_begins_the_first_session_begins_one(runs: Path) -> None:
    run_scenario("fork_while_a_thread_imports", runs)
    views = sessions(runs)
    assert sorted(view.params["task"] for view in views) == list(range(6))
    assert {view.status for view in views} == {"completed"}


def test_what_a_child_logs_after_its_parent_has_closed_the_file_is_kept(runs: Path) -> None:
    run_scenario("child_outlives_parent", runs)
    assert epochs_by_writer(sessions(runs)[0]) == {"parent": [1], "child": up_to(4)}


def test_what_a_child_logs_that_was_forked_amid_reading_is_kept(runs: Path) -> None:
    run_scenario("fork_while_following", runs)
    assert epochs_by_writer(sessions(runs)[0]) == {
        "parent": up_to(2),
        "child": up_to(4),
        "parent afterwards": up_to(2),
    }


@pytest.mark.filterwarnings("ignore:.*hold no whole record:casket.CasketWarning")
def test_a_process_killed_while_it_logs_leaves_no_lock_with_its_children(runs: Path) -> None:
    for i in range(6):
        done = runs.with_name(f"done-{i}")
        try:
            die = f"die_logging_with_children as play; play({str(runs)!r}, {str(done)!r})"
            died = run_python(f"from tests.crash.scenarios import {die}", runs.parent)
            assert died.returncode == -signal.SIGKILL
            write = f"model as open; open({str(runs)!r}).add_result({{}})"
            run_python(f"from tests.crash.scenarios import {write}", runs.parent, patience=15)
        finally:
            done.touch()


@pytest.mark.parametrize(
    ("scenario", "tasks"),
    [
        ("pool_of_forks", TASKS),
        ("pool_of_forks_that_inherit_the_handle", TASKS),
        ("spawned_workers", 2),
        ("loky_workers", TASKS),
    ],
)
def test_handles_work_in_other_processes_beside_the_one_that_sent_them(
    runs: Path, scenario: str, tasks: int
) -> None:
    run_scenario(scenario, runs)
    views = sessions(runs)
    assert {(view.experiment, view.model, view.status) for view in views} == {
        ("e", "m", "completed")
    }
    (own,) = (view for view in views if "a" in view.params)
    assert epochs_by_writer(own) == {"parent": up_to(EPOCHS_OF_THREAD)}
    others = {view.params["task"]: view for view in views if view is not own}
    assert sorted(others) == list(range(tasks))
    assert len(views) == tasks + 1
    for task, view in others.items():
        assert epochs_by_writer(view) == {f"task {task}": up_to(3)}
        assert view.meta["pid"] != own.meta["pid"]


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copied_handle_logs_beside_the_original(runs: Path, duplicate: object) -> None:
    model = scenarios.model(str(runs))
    with model.session({"of": "original"}) as original:
        copied = duplicate([model, model.experiment])  # type: ignore[operator]
        with copied[0].session({"of": "copy"}) as other:
            scenarios.log(original, "original", 3)
            scenarios.log(other, "copy", 3)
        copied[1].model("m").add_result({"a": 1})
        with pytest.raises(casket.ExistingParamsException):
            copied[0].session({"of": "original"})
    views = sessions(runs)
    assert [view.status for view in views] == ["completed"] * 3
    assert [epochs_by_writer(view) for view in views[:2]] == [
        {"original": up_to(3)},
        {"copy": up_to(3)},
    ]
    assert copied[0].id == model.id
    assert copied[1].id == model.experiment.id


FORKS_OF_THREADS = """
import os, sys, threading
from casket.system.background import Background

sys.setswitchinterval(1e-5)
work = Background(threading.Event.wait, "work")

def fork():
    for _ in range(40):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)

def working():
    return [thread for thread in threading.enumerate() if thread.name == "work"]

forking = [threading.Thread(target=fork) for _ in range(3)]
for thread in forking: thread.start()
for thread in forking: thread.join()
assert len(working()) == 1, working()
work.end()
for thread in working(): thread.join()
"""


def test_threads_that_fork_at_once_leave_one_thread_of_background_work(tmp_path: Path) -> None:
    done = run_python(FORKS_OF_THREADS, tmp_path, patience=20.0)
    assert done.returncode == 0, done.stdout
    assert "Exception ignored" not in done.stdout
