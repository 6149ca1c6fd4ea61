"""Fixtures that several test files use."""

import multiprocessing
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from casket import Experiment
from casket.writing import leaving
from tests.services.aws import CREDENTIALS
from tests.waiting import PATIENCE

# Before any test imports it: the contract's assertions show the differences.
pytest.register_assert_rewrite("casket.testing")

# Tests of other things start thousands of sessions; `tests/capture` switches it on.
os.environ["CASKET_CAPTURE"] = ""

# Processes of a fork server have the environment that it was started with, by whichever test.
os.environ.update(CREDENTIALS)

ROOT = Path(__file__).parents[1]

# Loaded once, in the server from which processes are forked.
multiprocessing.set_forkserver_preload(
    ["tests.crash.workers", "tests.stores.servers", "tests.cli.test_transfer"]
)

# Makes packages look as if they were not installed.
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture(params=["runs.json", "runs.sqlite"])
def file_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The path of a store kept in a file, which does not exist yet."""
    return str(tmp_path / request.param)


@pytest.fixture(params=["runs.json", "runs.sqlite", ":memory:"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new store, of every kind."""
    return request.param if request.param == ":memory:" else str(tmp_path / request.param)


@pytest.fixture(autouse=True)
def _nothing_left_open():
    """Forget the sessions that a test leaves open, whose stores are gone when pytest exits."""
    yield
    for session in list(leaving._open):
        leaving.forget(session)


@pytest.fixture
def model(url):
    """A model of an experiment in a new store, of every kind."""
    experiment = Experiment.use(url, exp_id="exp")
    yield experiment.model("net")
    experiment.close()


@pytest.fixture
def memory():
    """A model of an experiment in a new store in memory, where the kind of store is no matter."""
    return Experiment.use(":memory:", exp_id="exp").model("net")


@pytest.fixture
def run_python(tmp_path):
    """Run code in another Python, without the packages named `without`; return its output."""

    def run(
        code: str, *arguments: object, without: tuple[str, ...] = (), **environment: str
    ) -> str:
        blocker = BLOCKER.format(blocked=set(without)) if without else ""
        done = subprocess.run(
            [sys.executable, "-c", blocker + textwrap.dedent(code), *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
