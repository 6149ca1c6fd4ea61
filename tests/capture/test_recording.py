"""Capture of code and packages: which sessions have it, and that it fails nothing."""

import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

import casket
from casket import Experiment
from casket.cli.app import app
from casket.writing.capture import collecting, recording
from tests.capture.conftest import git
from tests.waiting import IN_TIME, eventually

BOTH = ["code.patch", "packages.txt"]


@pytest.fixture
def changed(repository, monkeypatch):
    """A repository with an uncommitted change, and capture as users have it."""
    monkeypatch.delenv("CASKET_CAPTURE")
    (repository / "train.py").write_text("changed = 'marker'\n")
    return repository


@pytest.fixture
def model(changed, url):
    experiment = Experiment.use(url, exp_id="exp")
    yield experiment.model("net")
    experiment.close()


@pytest.fixture
def fake_git(changed, tmp_path, monkeypatch):
    """Return how to replace git by a shell script, in which `$git` is the real one."""

    def replace(script: str) -> None:
        (tmp_path / "bin").mkdir()
        real = f'git() {{ exec {shutil.which("git")} "$@"; }}\n'
        (tmp_path / "bin" / "git").write_text(f"#!/bin/sh\n{real}{script}\n")
        (tmp_path / "bin" / "git").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    return replace


def capture_threads():
    return [each for each in threading.enumerate() if each.name.startswith("casket-")]


def test_every_session_has_its_code_and_packages_and_the_store_keeps_one_of_each(model):
    for n in range(5):
        with model.session({"n": n}) as session:
            session.add_epoch(1, {"loss": 0.5})
    model.add_result({"acc": 0.9}, params={"n": 5})
    views = model.sessions()
    assert [sorted(view.artifacts) for view in views] == [BOTH] * 6
    assert all(view.captured == view.artifacts for view in views)
    assert b"marker" in views[0].artifacts["code.patch"].load()
    assert b"\npsutil==" in views[5].artifacts["packages.txt"].load()
    assert len(list(model.backend.files.path.iterdir())) == 2
    assert not any("capture" in view.meta for view in views)
    eventually(lambda: not capture_threads())


def test_a_continued_session_is_captured_again(model, changed, monkeypatch):
    monkeypatch.setattr(collecting, "_SHORTEST_USE", 0.0)
    monkeypatch.setattr(collecting, "_SHARE", 0.0)
    with model.session({"n": 1}) as session:
        session.add_epoch(1, {"loss": 0.5})
    (changed / "train.py").write_text("changed = 'again'\n")
    with model.resume(session.id) as session:
        session.add_epoch(2, {"loss": 0.5})
    (view,) = model.sessions()
    assert b"again" in view.artifacts["code.patch"].load()
    assert sorted(view.artifacts) == BOTH


def test_git_is_asked_once_for_many_sessions(fake_git, model, tmp_path, monkeypatch):
    monkeypatch.setattr(collecting, "_SHORTEST_USE", 60.0)
    fake_git(f'echo "$*" >> {tmp_path}/asked; git "$@"')
    for n in range(30):
        model.session({"n": n}).end()
    asked = (tmp_path / "asked").read_text()
    assert asked.count("ls-files") == asked.count("diff HEAD") == 1


def test_the_session_wins_over_the_experiment_and_that_over_the_environment(changed, monkeypatch):
    def captured(experiment=None, session=None):
        exp = Experiment.use(":memory:", exp_id="exp", capture=experiment)
        with exp.model("net").session(capture=session):
            pass
        return sorted(exp.sessions()[0].artifacts)

    assert captured() == BOTH
    monkeypatch.setenv("CASKET_CAPTURE", " packages ,")
    assert captured() == ["packages.txt"]
    assert captured(experiment=["code"]) == ["code.patch"]
    assert captured(experiment=["code"], session="packages") == ["packages.txt"]
    assert captured(experiment=["code"], session=()) == []
    monkeypatch.setenv("CASKET_CAPTURE", "")
    assert captured() == []


def test_an_unknown_part_is_refused_before_anything_is_written(model, monkeypatch):
    with pytest.raises(casket.BadLocation, match="'cod' cannot be captured; give any of"):
        model.session({"n": 1}, capture=["cod", "packages"])
    with pytest.raises(casket.BadLocation, match="'cod'"):
        Experiment.use(":memory:", capture="cod")
    monkeypatch.setenv("CASKET_CAPTURE", "code,everything")
    with pytest.raises(casket.BadLocation, match=r"\$CASKET_CAPTURE: 'everything'"):
        model.session({"n": 1})
    assert model.sessions() == []


def test_the_scripts_own_artifact_of_that_name_wins(model, tmp_path):
    (tmp_path / "code.patch").write_bytes(b"mine")
    with model.session() as session:
        session.add_artifact("code.patch", tmp_path / "code.patch")
    (view,) = model.sessions()
    assert view.artifacts["code.patch"].load() == b"mine"
    assert list(view.captured) == ["packages.txt"]


def test_a_folder_that_cannot_be_written_fails_nothing(changed, file_url):
    Path(f"{file_url}.files").write_text("in the way")
    model = Experiment.use(file_url, exp_id="exp").model("net")
    with model.session() as session:
        session.add_epoch(1, {"loss": 0.5})
    (view,) = model.sessions()
    assert (view.status, view.artifacts) == ("completed", {})
    assert sorted(view.meta["capture"]) == ["code", "packages"]
    assert f"{file_url}.files" in view.meta["capture"]["code"]


def test_without_git_the_packages_are_there(model, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with model.session():
        pass
    (view,) = model.sessions()
    assert list(view.artifacts) == ["packages.txt"]
    assert "git" in view.meta["capture"]["code"]


def test_the_end_does_not_wait_for_a_slow_git(fake_git, model, monkeypatch):
    monkeypatch.setattr(recording, "PATIENCE", 0.5)
    fake_git('case "$*" in *diff*) exec sleep 600;; esac; git "$@"')
    with model.session() as session:
        session.add_epoch(1, {"loss": 0.5})
        begun = time.monotonic()
    assert time.monotonic() - begun < IN_TIME
    (view,) = model.sessions()
    assert view.status == "completed"
    late = "not collected within 0.5 s of the end"
    assert view.meta["capture"] == {"code": late, "packages": late}
    eventually(lambda: not capture_threads())


def test_a_fork_interrupts_the_collection_and_it_goes_on(fake_git, changed, tmp_path):
    go = tmp_path / "go"
    fake_git(f'while [ ! -e {go} ]; do sleep 0.01; done; git "$@"')
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    with model.session() as session:
        pid = os.fork()
        if pid == 0:
            session.add_epoch(1, {"loss": 0.5})
            os._exit(len(capture_threads()))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert [thread.daemon for thread in capture_threads()] == [True]
        go.touch()
        eventually(lambda: model.sessions()[0].captured)
    (view,) = model.sessions()
    assert sorted(view.captured) == BOTH
    assert len(view.epochs) == 1


def test_a_child_that_begins_a_session_captures_for_itself(changed, tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    with model.session({"n": 1}):
        pid = os.fork()
        if pid == 0:
            with model.session({"n": 2}):
                pass
            os._exit(0)
        os.waitpid(pid, 0)
    assert [sorted(view.captured) for view in model.sessions()] == [BOTH, BOTH]


def test_anonymous_exports_leave_out_what_was_captured(changed, tmp_path, capsys):
    model = Experiment.use("runs.json", exp_id="exp").model("net")
    with model.session({"n": 1}, system_metrics=0.01) as session:
        session.add_artifact("own.txt", b"own")
        eventually(lambda: model.sessions()[0].system)
    for form in ("jsonl", "json", "csv", "html"):
        app(["export", "runs.json", "--format", form, "--anonymous"], standalone_mode=False)
        exported = capsys.readouterr().out
        assert "packages.txt" not in exported
        assert "code.patch" not in exported
    app(["export", "runs.json", "--format", "jsonl"], standalone_mode=False)
    exported = json.loads(capsys.readouterr().out)
    kinds = {each["name"]: each.get("captured") for each in exported["artifacts"]}
    assert kinds == {"code.patch": "code", "packages.txt": "packages", "own.txt": None}


def test_what_was_captured_is_shown_apart(changed, capsys):
    model = Experiment.use("runs.json", exp_id="exp").model("net")
    with model.session({"n": 1}) as session:
        session.add_artifact("own.txt", b"own")
    app(["show", "runs.json"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    artifacts, captured = lines.index("artifacts"), lines.index("captured")
    assert [line.split()[0] for line in lines[artifacts + 1 : captured - 1]] == ["own.txt"]
    assert [line.split()[0] for line in lines[captured + 1 : captured + 3]] == BOTH


def test_a_clean_copy_has_packages_only(changed, url):
    git(changed, "checkout", "-q", "train.py")
    experiment = Experiment.use(url, exp_id="exp")
    with experiment.model("net").session():
        pass
    (view,) = experiment.sessions()
    assert list(view.artifacts) == ["packages.txt"]
    assert "capture" not in view.meta
