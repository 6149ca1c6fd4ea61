"""What holds for the adapters of all frameworks, in real trainings: see `scenarios`."""

import json
import signal
from importlib import import_module
from importlib.util import find_spec

import pytest

import casket
from casket import Experiment
from tests.integrations.scenarios import do_nothing

pytestmark = [
    pytest.mark.frameworks,
    # Those of transformers and torch.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

FRAMEWORKS = [
    "accelerate",
    "catboost",
    "hydra",
    "ignite",
    "lightgbm",
    "optuna",
    "skorch",
    "transformers",
    "xgboost",
]
NEEDED = {"transformers": "accelerate"}
LOOPS = {"accelerate"}
"""The frameworks that run no training themselves: an exception is known when the script ends."""

SCRIPT = """
import os, signal, sys
from pathlib import Path
from tests.integrations.scenarios import run
from tests.waiting import eventually

{interrupt}

run({name!r}, {url!r}, interrupt)
"""
KILL = """
def interrupt():
    os.kill(os.getpid(), signal.SIGKILL)
"""
RAISE = """
def interrupt():
    raise ValueError("no more")
"""
MEET = """
def interrupt():
    Path(sys.argv[0] + ".here").touch()
    eventually(lambda: len(list(Path().glob("*.here"))) == 2)
"""


def has(name):
    return find_spec(name) and find_spec(NEEDED.get(name, name))


@pytest.fixture(scope="module", params=FRAMEWORKS)
def name(request):
    if not has(request.param):
        pytest.skip(f"not installed: {request.param}")
    return request.param


@pytest.fixture(scope="module")
def scenario(name):
    return import_module(f"tests.integrations.scenarios.{name}")


@pytest.fixture(scope="module")
def server(fork_server, name):
    # transformers imports its Trainer when it is used.
    fork_server.load("transformers.trainer" if name == "transformers" else name)
    return fork_server


@pytest.fixture
def start(server, name, tmp_path):
    """Start the training of a framework in another process; return the script's path and pid."""

    def start(url, interrupt, script="train.py"):
        path = tmp_path / script
        path.write_text(SCRIPT.format(interrupt=interrupt, name=name, url=str(url)))
        return path, server.start(path)

    return start


def new_model():
    return Experiment.use(":memory:", exp_id="exp").model("net")


@pytest.fixture(scope="module")
def trained(scenario):
    """The sessions of two trainings with the same hook, and the framework's own records."""
    model = new_model()
    hook = scenario.Hook(model, {"mine": 1})
    records = [scenario.train(hook, do_nothing) for _ in range(2)]
    return model.sessions(), records


def rows_of(session, table):
    """The rows of a table of a session, without their times and without missing values."""
    return [
        {name: value for name, value in row.items() if name != "timestamp" and value is not None}
        for row in getattr(session, table)
    ]


def check(session, record):
    """Compare a session with the framework's own record, value by value."""
    table, rows, params = record
    assert rows_of(session, table) == rows
    assert len(rows) >= 4
    assert params.items() <= session.params.items()
    assert session.status == "completed"


def test_two_trainings_are_two_sessions_that_equal_the_frameworks_own_record(trained):
    sessions, records = trained
    assert len(sessions) == 2
    for session, record in zip(sessions, records, strict=True):
        check(session, record)
        assert session.params["mine"] == 1


def test_a_training_left_by_an_exception_reads_failed_while_it_is_held(name, scenario, trained):
    if name in LOOPS:
        pytest.skip("learns of an exception at the end of the script")
    model = new_model()

    def interrupt():
        raise ValueError("no more")

    with pytest.raises(Exception, match="no more") as held:
        scenario.train(scenario.Hook(model), interrupt)
    (session,) = model.sessions()
    assert session.status == "failed"
    assert "ValueError: no more" in session.error
    _, (record, _) = trained
    kept = rows_of(session, record.table)
    assert 0 < len(kept) < len(record.rows)
    assert held.tb is not None


class Pruned(Exception):
    casket_status = "completed"


def test_a_training_that_is_pruned_is_completed(name, scenario):
    if name in LOOPS | {"catboost"}:
        pytest.skip("is not given the exception")
    model = new_model()

    def interrupt():
        raise Pruned

    with pytest.raises(Pruned):
        scenario.train(scenario.Hook(model), interrupt)
    (session,) = model.sessions()
    assert (session.status, session.meta["pruned"], session.error) == ("completed", True, None)


def test_a_script_left_by_an_exception_reads_failed_with_what_it_logged(
    start, server, trained, tmp_path
):
    _, pid = start(tmp_path / "runs.json", RAISE)
    server.wait(pid, expecting=1)
    with casket.open(tmp_path / "runs.json") as runs:
        (session,) = runs.sessions()
        assert session.status == "failed"
        assert "ValueError: no more" in session.error
        assert 0 < len(getattr(session, trained[1][0].table)) < len(trained[1][0].rows)


def test_a_training_that_is_killed_reads_killed_with_what_it_logged(
    start, server, trained, file_url
):
    _, pid = start(file_url, KILL)
    server.wait(pid, expecting=-signal.SIGKILL)
    with casket.open(file_url) as runs:
        (session,) = runs.sessions()
        assert session.status == "killed"
        assert 0 < len(getattr(session, trained[1][0].table)) < len(trained[1][0].rows)


def test_two_processes_log_to_one_file_at_once(start, server, file_url):
    processes = [start(file_url, MEET, f"train{i}.py") for i in range(2)]
    for _, pid in processes:
        server.wait(pid)
    with casket.open(file_url) as runs:
        sessions = runs.sessions()
        assert len(sessions) == 2
        for path, _ in processes:
            table, rows, params = json.loads(path.with_suffix(".py.record").read_text())
            equal = [each for each in sessions if rows_of(each, table) == rows]
            assert equal
            assert {each.status for each in sessions} == {"completed"}
            assert params.items() <= equal[0].params.items()
