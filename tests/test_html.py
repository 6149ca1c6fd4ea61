"""Sessions, lists of sessions and stores in a notebook: small tables with curves."""

import re
from html.parser import HTMLParser

import pytest

import casket
from casket import Experiment
from casket.reading.views import Sessions

HOSTILE = "<script>alert(1)</script>\" onload='x' &amp; \x1b[31m\u202e\x00\n\ud800 "


class Page(HTMLParser):
    """Collects the elements, their attributes and the text of HTML; checks that it is balanced."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text, self._open = [], {}, "", []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.setdefault(tag, []).append(dict(attrs))
        if tag != "path":
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.setdefault(tag, []).append(dict(attrs))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data

    @property
    def paths(self):
        return [each["d"] for each in self.attributes.get("path", [])]


def shown(thing):
    return Page(thing._repr_html_())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A store with 100 short sessions of two models, and a long one."""
    url = tmp_path_factory.mktemp("html") / "runs.json"
    experiment = Experiment.use(url, exp_id="digits")
    for i in range(100):
        experiment.model("net").add_result({"acc": i / 100}, params={"lr": i, "same": 1})
    with experiment.model("deep").session({"lr": 0.5, "same": 1}) as session:
        session.add_batches((n, {"loss": 1 / n}, None, float(n)) for n in range(1, 5001))
    with casket.open(url) as opened:
        yield opened


def test_a_store_shows_its_counts_and_its_first_and_last_sessions(runs):
    page = shown(runs)
    assert page.text.startswith("runs.json experiments 1, models 2, sessions 101 (101 completed)")
    assert page.tags.count("tr") == 1 + 20 + 1
    assert "… and 81 more …" in page.text
    sessions = runs.sessions()
    for session in (sessions[0], sessions[9], sessions[-10], sessions[-1]):
        assert session.id[:8] in page.text
    assert sessions[10].id[:8] not in page.text


def test_a_path_of_the_machine_is_not_shown(runs):
    assert "/" in runs.location
    assert runs.location.rpartition("/")[0] not in runs._repr_html_()


def test_the_plain_text_beside_it_shows_no_path_either(runs, tmp_path):
    pretty = pytest.importorskip("IPython.lib.pretty").pretty
    assert pretty(runs) == "<casket runs.json>"
    experiment = Experiment.use(tmp_path / "new.json", exp_id="exp")
    assert pretty(experiment) == "<experiment 'exp' in new.json>"
    assert pretty(experiment.model("net")) == "<model 'net' of experiment 'exp'>"
    assert str(tmp_path) in repr(experiment)


def test_sessions_are_a_list_that_shows_what_varies(runs):
    sessions = runs.sessions(model="net")
    assert isinstance(sessions, list)
    assert type(sessions[2:5]) is Sessions
    page = shown(sessions[2:5])
    assert page.tags.count("tr") == 1 + 3
    assert "lr" in page.text
    assert "same" not in page.text
    assert "model" not in page.text
    assert "0.03" in page.text


def test_an_empty_list_and_an_empty_store(tmp_path):
    assert shown(Sessions()).text == "sessions 0"
    experiment = Experiment.use(tmp_path / "runs.json", exp_id="exp")
    assert shown(experiment).text == "runs.json / exp sessions 0"
    assert shown(experiment.model("net")).text == "runs.json / exp / net sessions 0"


def test_a_session_shows_params_metrics_and_curves(runs):
    session = runs.sessions(model="deep")[0]
    page = shown(session)
    assert page.text.startswith(f"{session.name} {session.id[:8]} ● completed digits / deep")
    assert "lr0.5" in page.text
    assert "loss0.0002" in page.text
    (path,) = page.paths
    points = re.findall(r"[ML]([\d.]+) ([\d.]+)", path)
    assert 20 < len(points) <= 48
    assert points[0] == ("2.0", "2.0")  # the highest value is at the top left
    assert points[-1] == ("118.0", "20.0")
    assert "from 1 to 0.0002" in page.attributes["svg"][0]["aria-label"]


def test_what_is_shown_is_small(runs):
    assert len(runs._repr_html_()) < 25_000
    assert len(runs.sessions(model="deep")[0]._repr_html_()) < 3_000


def test_long_and_many_values_are_cut(memory):
    with memory.session({f"p{i}": "x" * 10_000 for i in range(500)}) as session:
        for epoch in (1, 2):
            session.add_epoch(epoch, {f"m{i}": float(i + epoch) for i in range(500)})
        session.note("n" * 10_000)
    (view,) = memory.sessions()
    assert len(view._repr_html_()) < 20_000
    assert shown(view).text.count("… and 480 more …") == 2
    assert len(memory.sessions()._repr_html_()) < 5_000


def test_texts_of_a_file_are_escaped_everywhere(tmp_path):
    experiment = Experiment.use(tmp_path / "runs.json", exp_id="e<b>", tags=["t<b>"])
    for i in (1, 2):
        session = experiment.model(HOSTILE[:-2]).session({f"p{HOSTILE[:-2]}": f"{i}<i>", "i": i})
        session.add_epoch(1, {f"m{HOSTILE[:-2]}": 1.0, "s": "<u>"})
        session.add_epoch(2, {f"m{HOSTILE[:-2]}": 2.0})
        session.note(HOSTILE[:-2])
        session.end("failed", error=HOSTILE[:-2])
    with casket.open(tmp_path / "runs.json") as runs:
        for thing in (runs, runs.sessions(), runs.sessions()[0], experiment):
            html = thing._repr_html_()
            assert set(Page(html).tags) <= {
                *("div", "b", "span", "table", "thead", "tbody", "tr", "th", "td", "svg", "path")
            }
            assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", html)
            assert not any(
                name.startswith("on")
                for attributes in Page(html).attributes.values()
                for each in attributes
                for name in each
            )
            html.encode()
    assert "<script>alert(1)" in shown(experiment.sessions()[0]).text


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ([1.0, float("nan"), 2.0, 3.0], "M2.0 20.0M79.3 11.0L118.0 2.0"),
        ([5.0, 5.0, 5.0], "M2.0 11.0L60.0 11.0L118.0 11.0"),
        ([-1.7e308, 1.7e308], "M2.0 20.0L118.0 2.0"),
        ([10**400, 1, 2], "M60.0 20.0L118.0 2.0"),
        ([1, True, "x", 2], "M2.0 20.0L118.0 2.0"),
    ],
)
def test_curves_of_any_values(memory, values, path):
    with memory.session() as session:
        for epoch, value in enumerate(values):
            session.add_epoch(epoch, {"loss": value})
    assert shown(memory.sessions()[0]).paths == [path]


def test_a_parent_counts_its_children(memory):
    with memory.session() as parent:
        for fold in (1, 2):
            parent.child({"fold": fold}).end()
        parent.child({"fold": 3}).end("failed")
    assert "children 3 (2 completed, 1 failed)" in shown(memory.sessions()[0]).text
    assert shown(memory.sessions()).text.startswith("sessions 1 (1 completed)")


def test_a_curve_without_two_points_is_not_drawn(memory):
    with memory.session() as session:
        session.add_epoch(1, {"loss": 1.0})
        session.add_epoch(2, {"loss": float("nan")})
    assert "svg" not in shown(memory.sessions()[0]).tags


def test_a_resumed_curve_has_the_latest_value_of_each_epoch(memory):
    with memory.session() as session:
        for epoch, loss in ((1, 4.0), (2, 9.0), (2, 3.0), (3, 2.0)):
            session.add_epoch(epoch, {"loss": loss})
    assert shown(memory.sessions()[0]).paths == ["M2.0 2.0L60.0 11.0L118.0 20.0"]
