"""Sessions in a notebook: the live widget, and the example in a real kernel."""

import math
import re
import threading
from pathlib import Path

import pytest

import casket
from casket import Experiment, NotFound
from casket.format.names import two_words
from tests.waiting import eventually

anywidget = pytest.importorskip("anywidget")

from casket_integrations import notebook  # noqa: E402 - after the check
from casket_integrations.notebook import live  # noqa: E402

EXAMPLE = Path(__file__).parents[2] / "examples" / "notebook.ipynb"


# Wait in the kernel until the widget shows how the training ended.
WAIT = """
import gc, time
from casket_integrations.notebook import Live

(widget,) = (each for each in gc.get_objects() if isinstance(each, Live))
while [each["status"] for each in widget.picture["sessions"]] != ["completed"] * 3:
    time.sleep(0.01)
widget.send_state("picture")  # its own message may come after the end of this cell
"""


def threads():
    return [each for each in threading.enumerate() if each.name == "casket-live"]


@pytest.fixture
def follow():
    """Return a widget that looks often; it is closed at the end, and its thread is gone."""
    widgets = []

    def start(*arguments, **options):
        widget = live(*arguments, every=0.005, **options)
        widgets.append(widget)
        return widget

    yield start
    for widget in widgets:
        widget.close()
    eventually(lambda: not threads())


def lengths(widget, metric):
    (chart,) = (each for each in widget.picture["charts"] if each["metric"] == metric)
    return [len(line["xs"]) for line in chart["lines"]]


def test_a_widget_follows_sessions_while_they_run(model, follow):
    first = model.session({"lr": 0.1})
    first.add_epoch(1, {"loss": 0.5, "acc": 0.1})
    widget = follow(model)
    assert lengths(widget, "loss") == [1]
    (shown,) = widget.picture["sessions"]
    assert shown == {"name": two_words(first.id), "params": "", "status": "running"}
    first.add_epoch(2, {"loss": 0.4, "acc": 0.2})
    eventually(lambda: lengths(widget, "loss") == [2])
    first.end()
    with model.session({"lr": 0.2}) as second:
        second.add_epoch(1, {"loss": math.nan, "acc": 0.3})
    eventually(lambda: lengths(widget, "acc") == [2, 1])
    expected = [
        {"name": two_words(first.id), "params": "lr=0.1", "status": "completed"},
        {"name": two_words(second.id), "params": "lr=0.2", "status": "completed"},
    ]
    eventually(lambda: widget.picture["sessions"] == expected)
    loss = next(each for each in widget.picture["charts"] if each["metric"] == "loss")
    assert [line["ys"] for line in loss["lines"]] == [[0.5, 0.4], [None]]


def test_a_model_shows_its_own_sessions(file_url, follow):
    experiment = Experiment.use(file_url, exp_id="exp")
    for name in ("one", "two"):
        with experiment.model(name).session() as session:
            session.add_epoch(1, {"loss": 1.0})
    assert len(follow(experiment.model("one")).picture["sessions"]) == 1
    assert len(follow(experiment).picture["sessions"]) == 2
    assert len(follow(file_url, where="model == 'two'").picture["sessions"]) == 1


def test_metrics_are_chosen_and_limited(memory, follow):
    with memory.session() as session:
        session.add_epoch(1, {"fit_time": 1.0, "a": 1.0, "b": 1.0, "c": 1.0, "val_loss": 1.0})
        session.add_batch(1, {"loss": 2.0})
    names = [each["metric"] for each in follow(memory).picture["charts"]]
    assert len(names) == 4
    assert names[:2] == ["val_loss", "loss"]
    charts = follow(memory, metrics=["fit_time", "loss"]).picture["charts"]
    assert [(each["metric"], each["lines"][0]["unit"]) for each in charts] == [
        ("fit_time", "epoch"),
        ("loss", "batch"),
    ]


def test_of_many_sessions_those_that_run_and_the_newest_are_drawn(memory, follow):
    running = memory.session({"i": -1}, name="the <first>")
    for i in range(20):
        memory.add_result({"x": 1}, params={"i": i})
    picture = follow(memory).picture
    assert picture["sessions"][0]["params"] == "i=-1"
    assert picture["sessions"][0]["name"] == "the <first>"
    assert len(picture["sessions"]) == 8
    assert picture["sessions"][-1]["params"] == "i=19"
    assert picture["more"] == 13
    running.end()


def test_what_is_sent_is_small(memory, follow):
    for i in range(10):
        with memory.session({"i": i, "text": "x" * 1000}) as session:
            session.add_batches(
                (n, {f"m{j}": math.sin(n * j / 7) for j in range(6)}, None, float(n))
                for n in range(2000)
            )
    picture = follow(memory).picture
    assert len(str(picture)) < 150_000
    assert max(len(line["xs"]) for chart in picture["charts"] for line in chart["lines"]) <= 150


def test_texts_of_a_file_stay_texts(memory, follow):
    for i in (1, 2):
        with memory.session({"p": f"{i}<b>\x1b\u202e"}) as session:
            session.add_epoch(1, {"<i>\x00": 1.0})
    picture = follow(memory).picture
    assert picture["charts"][0]["metric"] == "<i>␀"
    assert picture["sessions"][0]["params"] == "p=1<b>␛\ufffd"
    script = notebook.Live._esm
    assert not re.search(
        r"innerHTML|insertAdjacent|document\.write|eval|http(?!://www\.w3)", script
    )


def test_a_widget_that_is_closed_by_the_notebook_ends_its_thread(memory):
    widget = live(memory, every=0.005)
    assert threads()
    widget.comm.close()
    eventually(lambda: not threads())
    widget.close()


def test_a_store_that_cannot_be_read_is_said_and_read_again(tmp_path, follow):
    path = tmp_path / "runs.json"
    model = Experiment.use(path, exp_id="exp").model("net")
    model.add_result({"x": 1})
    widget = follow(path)
    content = path.read_bytes()
    path.write_bytes(b'{"other": "format"}')
    eventually(lambda: "runs.json" in widget.picture["problem"])
    path.write_bytes(content)
    eventually(lambda: widget.picture["sessions"] and not widget.picture["problem"])


def test_a_store_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(NotFound):
        live(tmp_path / "runs.json")
    assert not threads()


def test_without_anywidget_the_extra_is_named(run_python):
    code = """
        try:
            import casket_integrations.notebook
        except ImportError as error:
            print(type(error).__name__, error)
    """
    assert run_python(code, without=("anywidget",)) == (
        "MissingDependency anywidget is not installed: pip install 'casket[notebook]'"
    )


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The example, executed by a real kernel in an empty folder."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    pytest.importorskip("sklearn")
    folder = tmp_path_factory.mktemp("notebook")
    book = nbformat.read(EXAMPLE, as_version=4)
    book.cells.append(nbformat.v4.new_code_cell(WAIT))
    client = nbclient.NotebookClient(book, resources={"metadata": {"path": str(folder)}})
    client.execute()
    return folder, book


def outputs(book):
    """Return the outputs by media type, of all cells in order."""
    for cell in book.cells:
        for output in cell.get("outputs", []):
            assert output["output_type"] != "stream", output
            yield from output.get("data", {}).items()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_example_runs_in_a_kernel_and_shows_its_sessions(executed):
    folder, book = executed
    with casket.open(folder / "runs.json") as runs:
        sessions = runs.sessions(status="completed")
        assert [session.params["lr"] for session in sessions] == [0.001, 0.01, 0.3]
        assert sessions[1].best("val_acc", "max") > 0.9
    tables = [text for kind, text in outputs(book) if kind == "text/html"]
    assert len(tables) == 4
    assert tables[0].count("<svg") == 9
    assert "large learning rate" in tables[1] or sessions[2].best("val_loss") > 0
    assert tables[2].startswith('<div style="overflow-x:auto"><div><b>runs.json</b>')


def test_the_widget_of_the_example_has_followed_the_training(executed):
    _, book = executed
    (view,) = (data for kind, data in outputs(book) if kind.endswith("widget-view+json"))
    states = book.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    picture = states[view["model_id"]]["state"]["picture"]
    assert len(picture["sessions"]) == 3
    assert {each["metric"] for each in picture["charts"]} == {"loss", "val_loss", "val_acc"}


def test_the_example_shows_no_paths_of_the_machine(executed):
    folder, book = executed
    texts = str(list(outputs(book)))
    for path in (str(folder), str(Path.home()), str(EXAMPLE.parents[1]), "/tmp"):
        assert path not in texts


def test_the_example_is_kept_without_outputs():
    nbformat = pytest.importorskip("nbformat")
    book = nbformat.read(EXAMPLE, as_version=4)
    assert all(cell.get("outputs", []) == [] for cell in book.cells)
    assert not any(cell.get("execution_count") for cell in book.cells)
