"""Alerts of a session: records that every reader shows."""

import json
import re

import pytest
from click import unstyle
from click.testing import CliRunner

import casket
from casket import Experiment, NotInASession, UnstorableValue
from casket.cli.app import app
from casket.cli.tail import _lines
from casket.cli.terminal import rendered
from casket.format.intact import problem_of
from tests.test_html import shown


@pytest.fixture
def alerted(file_url):
    """A file with a running session that has three alerts."""
    session = Experiment.use(file_url, exp_id="exp").model("net").session({"lr": 1})
    session.alert("started")
    session.alert("loss is high", "it is 12\nand rising", level="error")
    session.alert("<b>bold</b> \x1b[31m", level="info")
    yield file_url
    session.end()


def run(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_alerts_are_read_in_order_from_every_store(model):
    with model.session() as session:
        session.add_epoch(1, {"loss": 0.5})
        session.alert("one", "text", level="info")
        session.alert("two")
    (view,) = model.sessions()
    assert [(alert.title, alert.text, alert.level) for alert in view.alerts] == [
        ("one", "text", "info"),
        ("two", "", "warning"),
    ]
    assert view.started < view.alerts[0].time <= view.alerts[1].time <= view.ended
    assert len(view.epochs) == 1


def test_an_alert_that_is_none_is_refused(memory):
    session = memory.session()
    with pytest.raises(UnstorableValue, match=r"level .*'loud'; give one of info, warning, error"):
        session.alert("title", level="loud")
    with pytest.raises(UnstorableValue, match="title cannot be stored: int; give text"):
        session.alert(3)
    session.end()
    with pytest.raises(NotInASession, match="alert came after session"):
        session.alert("late")
    assert memory.sessions()[0].alerts == []


def test_a_damaged_alert_is_named_and_skipped(tmp_path):
    path = tmp_path / "runs.json"
    with Experiment.use(path, exp_id="exp").model("net").session() as session:
        session.alert("good", "text")
        session.alert("bad", "text")
    edited = path.read_text().replace('"title":"bad"', '"title":12345')
    path.write_text(re.sub(r',"crc":\d+', "", edited))
    with pytest.warns(casket.CasketWarning, match="title is a int"), casket.open(path) as runs:
        (view,) = runs.sessions()
    assert [alert.title for alert in view.alerts] == ["good"]
    record = {"kind": "alert", "v": 1, "writer": "w", "n": 1, "time": "2026-01-01", "body": {}}
    assert problem_of(record) == "has no 'title'"


def test_show_lists_alerts(alerted):
    text = run("show", "@last", alerted)
    assert "warning started" in text
    assert "error loss is high: it is 12\n  and rising" in text
    assert "info <b>bold</b> ␛[31m" in text
    alerts = json.loads(run("show", "@last", alerted, "--json"))["alerts"]
    assert [alert["level"] for alert in alerts] == ["warning", "error", "info"]
    assert set(alerts[0]) == {"title", "text", "level", "time"}


def test_tail_shows_an_alert_when_it_is_logged(file_url):
    session = Experiment.use(file_url, exp_id="exp").model("net").session()
    with casket.open(file_url) as runs:
        following = runs.follow(timeout=0.0)
        session.alert("loss is high", "it is 12")
        lines = [unstyle(rendered(line)) for record in following for line in _lines(runs, record)]
    session.end()
    assert [line.partition(" net ")[2] for line in lines] == [
        "alert warning loss is high: it is 12"
    ]


def test_a_notebook_shows_alerts(alerted):
    with casket.open(alerted) as runs:
        page = shown(runs.sessions()[0])
    assert "error" in page.text
    assert "loss is high it is 12 and rising" in page.text
    assert "<b>bold</b> ␛[31m" in page.text


def test_alerts_are_merged_and_cleaned_with_their_session(alerted, tmp_path):
    merged = tmp_path / "merged.json"
    run("merge", alerted, "-o", merged)
    with casket.open(merged) as runs:
        assert len(runs.sessions()[0].alerts) == 3
    run("rm", "@last", merged, "--force", "--yes")
    with casket.open(merged) as runs:
        assert runs.sessions() == []
