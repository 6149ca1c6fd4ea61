"""`casket rm`, `casket clean` and `casket compact`."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

import casket
from casket import Experiment
from casket.maintenance import cleaning
from tests.stores.files import strict_json, traces


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    monkeypatch.setattr(cleaning, "SETTLING", timedelta(0))


def sessions(file):
    with casket.open(file) as runs:
        return runs.sessions()


def log(file, exp_id="digits", name="net", status="completed", **params):
    experiment = Experiment.use(file, exp_id=exp_id)
    session = experiment.model(name).session(params)
    session.add_artifact("a.bin", f"{exp_id} {name} {params}".encode())
    session.end(status)
    experiment.close()
    return session.id


def artifacts(file):
    return sorted(path.name for path in Path(f"{file}.files").iterdir())


# rm


def test_rm_removes_the_sessions_it_is_given(run, filled):
    first, second, third, last = [session.id for session in sessions(filled)]
    said = run("rm", first[:6], "@last", second, "--file", filled, "--yes")
    assert "removed 3 sessions" in said
    for gone in (first, second, last):
        assert f"session {gone} of digits/net: started" in said
    assert [session.id for session in sessions(filled)] == [third]


def test_rm_removes_the_artifacts_nothing_else_names(run, file_url):
    first, _ = log(file_url, lr=1), log(file_url, lr=2)
    assert len(artifacts(file_url)) == 2
    said = run("rm", first, "-f", file_url, "-y")
    assert "1 file of" in said
    assert "removed 1 session and 1 file" in said
    assert len(artifacts(file_url)) == 1


def test_rm_removes_models_and_experiments(run, file_url):
    log(file_url, "a", "net")
    log(file_url, "a", "svm")
    log(file_url, "b", "svm")
    assert "give --experiment" in run.error("rm", "--model", "svm", "-f", file_url, "-y")
    run("rm", "--model", "svm", "--experiment", "a", "-f", file_url, "-y")
    assert [(s.experiment, s.model) for s in sessions(file_url)] == [("a", "net"), ("b", "svm")]
    said = run("rm", "--model", "svm", "-f", file_url, "-y")
    assert "model svm of experiment b" in said
    said = run("rm", "--experiment", "a", "-f", file_url, "-y")
    assert "removed 1 session, 1 model, 1 experiment and 1 file" in said
    with casket.open(file_url) as runs:
        assert [one.id for one in runs.experiments] == ["b"]
        assert runs.models() == runs.sessions() == []


def test_rm_of_what_is_not_there_is_exit_code_1(run, filled):
    said = run.error("rm", "zz", "-f", filled, "-y", code=1)
    assert f"no session of {filled} matches 'zz'" in said
    assert "no model 'zz'" in run.error("rm", "--model", "zz", "-f", filled, "-y", code=1)
    said = run.error("rm", "--model", "net", "--experiment", "zz", "-f", filled, "-y", code=1)
    assert "in experiment zz" in said
    assert "no experiment" in run.error("rm", "--experiment", "zz", "-f", filled, "-y", code=1)
    assert len(sessions(filled)) == 4


def test_rm_of_nothing_or_of_many_that_begin_alike_is_bad_use(run, filled):
    assert "nothing to remove" in run.error("rm", "-f", filled)
    assert "is ambiguous: give the id, one of" in run.error("rm", "", "-f", filled, "-y")
    assert "does not exist" in run.error("rm", "@last", "-f", f"{filled}.nothing", "-y")


def test_rm_removes_what_runs_only_by_force(run, file_url):
    experiment = Experiment.use(file_url, exp_id="digits")
    session = experiment.model("net").session({"lr": 1})
    assert "may still be running" in run.error("rm", session.id, "-f", file_url, "-y")
    assert "may still be running" in run.error("rm", "--experiment", "digits", "-f", file_url)
    assert len(sessions(file_url)) == 1
    run("rm", session.id, "-f", file_url, "-y", "--force")
    assert sessions(file_url) == []
    session.end()
    experiment.close()


@pytest.mark.parametrize(
    "command", [["rm", "@last", "-f"], ["clean"], ["compact"]], ids=lambda command: command[0]
)
def test_a_dry_run_and_a_no_change_nothing(run, filled, command):
    before = traces(Path(filled).parent)
    dry, refused = run(*command, filled, "--dry-run"), run(*command, filled, input="n\n")
    assert "nothing was changed" in dry
    assert dry.splitlines()[0] == refused.splitlines()[0]
    assert traces(Path(filled).parent) == before
    assert traces(Path(filled).parent) == before
    run(*command, filled, input="y\n")
    assert traces(Path(filled).parent) != before


# clean


def test_clean_removes_what_failed_and_what_is_empty_then(run, filled):
    log(filled, "other", status="failed")
    Experiment.use(filled, exp_id="void").close()
    said = run("clean", filled, "--yes")
    assert "removed 2 sessions, 1 model, 2 experiments and 1 file" in said
    assert [session.status for session in sessions(filled)] == ["completed"] * 3
    assert "nothing to clean" in run.error("clean", filled, "--yes", code=1)


@pytest.mark.parametrize(
    ("option", "removed"),
    [
        ("--failed", "1 session"),
        ("--killed", None),
        ("--empty", "1 experiment"),
        ("--artifacts", "1 file"),
    ],
)
def test_clean_looks_for_what_it_is_asked_for_only(run, filled, option, removed):
    experiment = Experiment.use(filled, exp_id="void")
    experiment.backend.files.put("lost", b"lost")
    experiment.close()
    if removed is None:
        run.error("clean", filled, option, "--yes", code=1)
    else:
        said = run("clean", filled, option, "--yes").splitlines()[-1]
        assert said.partition(":")[0] == f"removed {removed}"


def test_clean_leaves_what_is_younger_than_it_is_told(run, filled):
    assert "nothing to clean" in run.error("clean", filled, "--older-than", "30d", "-y", code=1)
    assert "is not a duration" in run.error("clean", filled, "--older-than", "soon")
    assert "removed 1 session" in run("clean", filled, "--older-than", "0.001s", "-y")


def test_clean_names_twenty_sessions_and_counts_the_rest(run, tmp_path):
    file = tmp_path / "runs.json"
    for lr in range(23):
        log(file, status="failed", lr=lr)
    lines = run("clean", file, "--dry-run").splitlines()
    assert sum(line.startswith("session ") for line in lines) == 20
    assert "... and 3 sessions more" in lines


# compact


def test_compact_tidies_up_and_says_the_sizes(run, tmp_path):
    file = tmp_path / "runs.json"
    log(file, lr=1)
    before = strict_json(file)
    file.write_text(json.dumps(before, indent=8))
    assert ", before " in run("compact", file, "--yes")
    assert strict_json(file) == before
    assert file.read_text().count("\n") == len(before["_default"]) + 2


def test_compacting_what_is_not_there_or_not_caskets_is_exit_code_2(run, tmp_path):
    assert "does not exist" in run.error("compact", tmp_path / "runs.json", "--yes")
    other = tmp_path / "other.json"
    other.write_text('{"a": 1}')
    result = run("compact", other, "--yes", code=2)
    assert "will be rewritten" in result
    assert other.read_text() == '{"a": 1}'


def test_compact_shows_how_far_it_is_in_a_terminal_only(run, terminal, tmp_path):
    file = tmp_path / "runs.json"
    log(file, lr=1)
    code, shown = terminal("compact", file, "--yes")
    assert code == 0
    assert "rewriting runs.json" in shown
    assert "100%" in shown
    assert "rewriting" not in run("compact", file, "--yes")


def test_rm_where_removes_what_matches(run, filled):
    shown = run("rm", "--where", "status == 'failed'", "-f", filled, "--dry-run")
    assert "is failed" in shown
    assert shown.count("session ") == 1
    run("rm", "--where", "status == 'failed'", "-f", filled, "--yes")
    assert {each["status"] for each in run.json("ls", filled)} == {"completed"}
    assert "no session matches" in run.error("rm", "--where", "lr > 99", "-f", filled, code=1)
