"""A custom store, as a stranger writes it: the package is made from the page of the docs."""

from __future__ import annotations

import math
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import casket
from casket import BadLocation, MissingDependency
from casket.stores import StoreOptions, location
from casket.stores.location import Location
from casket.testing import StoreContract
from tests.waiting import PATIENCE

pytest.importorskip("fcntl", reason="the page's example locks as POSIX does")

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "a-store-of-your-own.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(?:py|toml)\n(.*?)^```", PAGE, re.M | re.S)
SECRET = "s3cret"


def block(beginning: str) -> str:
    [text] = [text for text in BLOCKS if text.startswith(beginning)]
    return text


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with the page's module, its tests, and the entry point that an installer writes."""
    folder = tmp_path / "site"
    info = folder / "one_file_store-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "one_file_store.py").write_text(block("# one_file_store.py"))
    (folder / "test_one_file_store.py").write_text(block("# test_one_file_store.py"))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: one-file-store\nVersion: 1.0\n")
    line = re.sub(r'"', "", block("[project.entry-points").splitlines()[1])
    (info / "entry_points.txt").write_text(f"[casket.stores]\n{line}\n")
    return folder


@pytest.fixture
def run(package: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python where the package is installed."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(package), str(ROOT)]),
                "XDG_DATA_HOME": str(tmp_path / "data"),
                "XDG_STATE_HOME": str(tmp_path / "state"),
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    return run


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(location, "_stores", dict(location._stores))


def count_of_the_contract() -> int:
    """Return how many tests the contract has, with each of their parameters."""
    tests = [test for name, test in vars(StoreContract).items() if name.startswith("test_")]
    marks = [getattr(test, "pytestmark", []) for test in tests]
    return sum(
        math.prod(len(list(mark.args[1])) for mark in of_one if mark.name == "parametrize")
        for of_one in marks
    )


def test_the_pages_store_keeps_the_contract(
    package: Path, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(package))
    assert done.returncode == 0, done.stdout[-3000:]
    [passed] = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) == count_of_the_contract()
    assert "skipped" not in done.stdout


def test_the_pages_script_registers_the_store(
    tmp_path: Path, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    script = block("import casket").replace("/data/runs", f"{tmp_path}/runs")
    done = run("-c", script)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs").is_file()


LOGGING = """
import pickle, sys
import casket
exp = casket.Experiment.use(sys.argv[1], exp_id="digits")
with exp.model("net").session({"lr": 0.1}) as session:
    session.add_epoch(1, {"loss": 0.5})
    session.add_artifact("note.txt", b"hello")
assert pickle.loads(pickle.dumps(exp)).model("net").sessions()[0].params == {"lr": 0.1}
with casket.open(sys.argv[1]) as runs:
    [session] = runs.sessions()
    print(runs.location, session.status, session.last["loss"], session.artifacts["note.txt"].path)
"""


def test_an_installed_store_is_used_by_its_url_everywhere(
    tmp_path: Path, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    url = f"onefile://{tmp_path}/runs"
    logged = run("-c", LOGGING, url)
    assert logged.returncode == 0, logged.stderr
    location, status, loss, artifact = logged.stdout.split()
    assert (location, status, loss) == (url, "completed", "0.5")
    assert artifact.startswith(f"{tmp_path}/data/casket/artifacts/")
    listed = run("-m", "casket.cli.app", "ls", url)
    assert listed.returncode == 0, listed.stderr
    assert "digits" in listed.stdout
    missing = run("-m", "casket.cli.app", "ls", f"onefile://{tmp_path}/nowhere")
    assert missing.returncode == 2
    assert "does not exist" in missing.stderr


def test_entry_points_are_looked_up_for_unknown_schemes_only(
    tmp_path: Path, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    code = (
        "import sys, casket; casket.Experiment.use('runs.json', exp_id='e').model('m').session()"
        ".end(); print('importlib.metadata' in sys.modules);"
        "casket.Experiment.use(sys.argv[1], exp_id='e'); print('importlib.metadata' in sys.modules)"
    )
    done = run("-c", code, f"onefile://{tmp_path}/runs")
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_an_unknown_scheme_names_what_is_registered(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run("-m", "casket.cli.app", "ls", f"redis://me:{SECRET}@host/runs")
    assert done.returncode == 2
    assert "no such store" in done.stderr
    assert "also registered: onefile" in done.stderr
    assert SECRET not in done.stderr + done.stdout


KEPT = """
from casket.stores.memory import MemoryStore

class Kept(MemoryStore):
    files = "/somewhere/else"

    def __init__(self, url, options):
        super().__init__()
        self.url, self.options = url, options

class Remote(MemoryStore):
    drops_copies = True
"""


def write_module(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name, raising=False)


def test_a_registered_class_is_called_with_url_and_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path, "own_kept", KEPT, monkeypatch)
    casket.register_store("kept", "own_kept:Kept")
    url = f"kept://me:{SECRET}@host/runs"
    location = Location.of(url)
    store = location.open(StoreOptions(sync="always"), writing=False)
    assert (store.url, store.options.sync, store.options.writing) == (url, "always", False)  # type: ignore[attr-defined]
    assert location.artifacts().path == Path("/somewhere/else")
    assert str(location) == "kept://me:***@host/runs"
    assert SECRET not in repr(location)
    assert SECRET.encode() not in pickle.dumps(location)


def test_a_store_that_drops_copies_gets_a_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from casket.stores.remote.spool import Spool

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    write_module(tmp_path, "own_remote", KEPT, monkeypatch)
    casket.register_store("far", "own_remote:Remote")
    casket.register_store("near", "own_remote:Kept")
    options = StoreOptions()
    assert isinstance(Location.of("far://host/runs").open(options, writing=True), Spool)
    assert not isinstance(Location.of("far://host/runs").open(options, writing=False), Spool)
    assert not isinstance(Location.of("near://host/runs").open(options, writing=True), Spool)


def test_a_place_can_be_sent_where_its_store_is_not_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path, "own_sent", KEPT, monkeypatch)
    casket.register_store("sent", "own_sent:Kept")
    sent = pickle.dumps(Location.of("sent://host/runs"))
    del location._stores["sent"]
    place = pickle.loads(sent)
    assert place.open(StoreOptions(), writing=True).url == "sent://host/runs"


def test_a_class_that_cannot_be_imported_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path, "own_lacking", "import not_there_at_all\nStore = 1\n", monkeypatch)
    write_module(tmp_path, "own_broken", "raise RuntimeError('license expired')\n", monkeypatch)
    casket.register_store("extra", "own_lacking:Store", extra="redis")
    casket.register_store("lacking", "own_lacking:Store")
    casket.register_store("away", "own_away:Store")
    casket.register_store("broken", "own_broken:Store")
    casket.register_store("misspelled", "json:Store")
    with pytest.raises(MissingDependency, match=r"not_there_at_all.*'own_lacking\[redis\]'"):
        casket.open("extra://host/runs")
    with pytest.raises(MissingDependency, match=r"not_there_at_all is not installed$"):
        casket.open("lacking://host/runs")
    with pytest.raises(MissingDependency, match=r"own_away is not installed$"):
        casket.Experiment.use("away://host/runs", exp_id="e")
    with pytest.raises(RuntimeError, match="license expired"):
        casket.open("broken://host/runs")
    with pytest.raises(BadLocation, match="json:Store cannot be imported"):
        casket.open("misspelled://host/runs")


@pytest.mark.parametrize(
    ("scheme", "path"),
    [
        ("postgresql", "own:Store"),
        ("json", "own:Store"),
        ("My Store", "own:Store"),
        ("c", "own:Store"),
        ("mystore", "own.Store"),
        ("mystore", "own:Store:x"),
    ],
)
def test_what_cannot_be_registered_is_refused(scheme: str, path: str) -> None:
    before = dict(location._stores)
    with pytest.raises(BadLocation):
        casket.register_store(scheme, path)
    assert location._stores == before


def test_a_scheme_that_is_registered_again_means_the_new_class() -> None:
    casket.register_store("mystore", "own:Old")
    casket.register_store("mystore", "own:New")
    assert location._stores["mystore"].path == "own:New"


@pytest.mark.parametrize("url", ["mystore://me:a@b@host/runs", "mystore://host/my runs"])
def test_a_url_that_may_be_read_in_two_ways_is_refused(url: str) -> None:
    casket.register_store("mystore", "own:Store")
    with pytest.raises(BadLocation, match="cannot be read"):
        Location.of(url)
