"""Names of sessions on the command line: shown, accepted as SESSION, changed by `casket rename`."""

import pytest

import casket
from casket.format.names import two_words


@pytest.fixture
def ids(filled):
    with casket.open(filled) as runs:
        return [session.id for session in runs.sessions()]


def test_every_listing_shows_names(run, filled, ids):
    names = [two_words(each) for each in ids]
    assert [name in run("ls", filled) for name in names] == [True] * 4
    assert names[1] in run("best", "loss", filled)
    assert names[0] in run("show", ids[0], filled).splitlines()[0]
    shown = run("diff", ids[0], ids[1], filled, code=1)
    assert names[0] in shown
    assert names[1] in shown
    assert [each["name"] for each in run.json("ls", filled)] == names
    assert run.json("show", ids[0], filled)["name"] == names[0]


@pytest.mark.parametrize("command", ["show", "diff", "tag", "rm"])
def test_a_name_is_a_session(run, filled, ids, command):
    run("rename", ids[0], "warm start", "-f", filled)
    more = {"diff": [two_words(ids[1])], "tag": ["t"], "rm": ["--yes"]}.get(command, [])
    file = ["-f", filled] if command in {"tag", "rm"} else [filled]
    shown = run(command, "warm start", *more, *file, code=1 if command == "diff" else 0)
    if command in {"show", "diff"}:
        assert "warm start" in shown
    with casket.open(filled) as runs:
        assert (ids[0] in {s.id for s in runs.sessions()}) == (command != "rm")
        tagged = [s.id for s in runs.sessions(tag="t")]
        assert tagged == ([ids[0]] if command == "tag" else [])


def test_an_ambiguous_name_is_refused_with_the_ids(run, filled, ids):
    for each in ids[:2]:
        run("rename", each, "same", "-f", filled)
    message = run.error("show", "same", filled)
    assert ids[0] in message
    assert ids[1] in message


def test_ids_and_their_beginnings_win_over_names(run, filled, ids):
    run("rename", ids[0], ids[1], "-f", filled)
    run("rename", ids[2], ids[3][:6], "-f", filled)
    assert run.json("show", ids[1], filled)["id"] == ids[1]
    assert run.json("show", ids[3][:6], filled)["id"] == ids[3]


def test_a_name_is_removed(run, filled, ids):
    run("rename", "@last", "warm start", "-f", filled)
    run("rename", "warm start", "", "-f", filled)
    assert run.json("show", ids[-1], filled)["name"] == two_words(ids[-1])


def test_groups_have_a_column_only_if_there_are_some(run, filled):
    assert "group" not in run("ls", filled).splitlines()[1].split()
    model = casket.Experiment.use(filled, exp_id="digits").model("net")
    with model.session({"lr": 5.0}, group="first tries"):
        pass
    assert "group" in run("ls", filled).splitlines()[1].split()
    assert "first tries" in run("ls", filled)
    assert len(run.json("ls", filled, "--where", "group == 'first tries'")) == 1


def test_tail_shows_the_name_of_a_running_session(run, file_url):
    model = casket.Experiment.use(file_url, exp_id="e").model("m")
    with model.session({"lr": 1}, name="warm start"):
        assert "warm start" in run("tail", file_url)
