"""A JSON file on a file system without locks: the contract, processes, kills and damaged files.

The kernel refuses the locks, by seccomp (`tests.crash.faults`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import pytest

import casket
from casket.format.records import Writer, deletion
from casket.stores.base import StoreOptions
from casket.stores.jsonfile.store import JsonStore
from casket.stores.location import Location
from casket.stores.parts.folder import Folder, folder_of, intact
from casket.stores.parts.store import AFTER_DOCUMENT, PartsStore
from casket.stores.s3 import log
from casket.testing import Reopen, StoreContract, record
from tests.crash.faults import needs_faults
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]

WITHOUT_LOCKS = """
import errno, os, sys
from tests.crash.faults import refuse
refuse("flock", error=errno.{error})
"""


class TestParts(StoreContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        return partial(PartsStore, tmp_path / "runs.json")


def run(folder: Path, code: str, *, error: str = "ENOLCK", expected: int = 0) -> str:
    """Run code in a process whose file systems refuse to lock; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LOCKS.format(error=error) + code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder / "state")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == expected, done.stderr
    return done.stdout + done.stderr


LOG = """
from casket import Experiment as E, ExistingParamsException
model = E.use("runs.json", exp_id="e").model("m")
with model.session({"lr": 1}, ensure_unique=True) as session:
    for k in range(1, 4):
        session.add_epoch(k, {"loss": 1 / k})
    session.add_artifact("note.txt", b"text")
"""


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a store that was written without locks, and the output of the writer."""
    folder = tmp_path_factory.mktemp("logged")
    return folder, run(folder, LOG)


@pytest.fixture
def copy(logged: tuple[Path, str], tmp_path: Path) -> Path:
    """The path of a copy of that store."""
    shutil.copytree(logged[0], tmp_path, dirs_exist_ok=True)
    return tmp_path / "runs.json"


pytestmark = needs_faults


def test_a_session_is_logged_and_the_warning_says_so_once(logged: tuple[Path, str]) -> None:
    folder, said = logged
    assert said.count("does not support locks") == 1
    assert "runs.json.parts" in said
    with casket.open(folder / "runs.json") as runs:
        [session] = runs.sessions()
        assert session.status == "completed"
        assert [one["loss"] for one in session.epochs] == [1.0, 0.5, 1 / 3]
        assert session.artifacts["note.txt"].load() == b"text"


def test_no_journal_is_left(logged: tuple[Path, str]) -> None:
    assert list((logged[0] / "state").rglob("*.journal")) == []


def test_params_are_refused_and_killed_sessions_give_theirs_up(copy: Path) -> None:
    again = LOG.replace(
        "with model",
        "try:\n    model.session({'lr': 1}, ensure_unique=True)\n"
        "except ExistingParamsException:\n    print('refused')\nif 0:\n  with model",
        1,
    )
    again = again.partition("if 0:")[0]
    assert "refused" in run(copy.parent, again)
    killed = (
        LOG.partition("with model")[0]
        + "session = model.session({'lr': 2}, ensure_unique=True)\n"
        + "session.add_epoch(1, {'loss': 0.5})\nos.kill(os.getpid(), 9)\n"
    )
    run(copy.parent, killed, expected=-9)
    # Its journal is shipped by the next writer, as its process is gone.
    after = (
        LOG.partition("with model")[0]
        + "with model.session({'lr': 2}, ensure_unique=True): pass\nmodel.experiment.close()\n"
    )
    run(copy.parent, after.replace("model.experiment.close()\n", ""))
    run(copy.parent, "from casket.cli.app import main\nsys.argv = ['casket', 'sync']\nmain()")
    with casket.open(copy) as runs:
        both = [one for one in runs.sessions() if one.params == {"lr": 2}]
        assert [one.status for one in both] == ["killed", "completed"]
        assert [one["loss"] for one in both[0].epochs] == [0.5]
    assert list((copy.parent / "state").rglob("*.journal")) == []


RACE = """
import subprocess
code = '''
from casket import Experiment as E, ExistingParamsException
model = E.use("runs.json", exp_id="e").model("m")
for k in range(6):
    try:
        with model.session({"k": k}, ensure_unique=True) as session:
            session.add_epoch(1, {"loss": k})
    except ExistingParamsException:
        pass
'''
crew = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
assert [one.wait() for one in crew] == [0, 0, 0]
"""


def test_of_processes_that_start_the_same_params_one_wins(tmp_path: Path) -> None:
    run(tmp_path, RACE)
    with casket.open(tmp_path / "runs.json") as runs:
        sessions = runs.sessions()
        assert sorted(one.params["k"] for one in sessions) == list(range(6))
        assert all(one.epochs[0]["loss"] == one.params["k"] for one in sessions)


@pytest.mark.parametrize("error", ["EOPNOTSUPP", "ENOSYS"])
def test_every_way_to_refuse_a_lock_is_recognized(tmp_path: Path, error: str) -> None:
    code = "from casket.stores.location import Location\nfrom casket.stores.base import DEFAULTS\n"
    code += "Location.of('runs.json').open(DEFAULTS, writing=True)"
    assert "does not support locks" in run(tmp_path, code, error=error)
    assert folder_of(tmp_path / "runs.json").is_dir()


def test_with_locks_nothing_is_created(tmp_path: Path) -> None:
    store = Location.of(tmp_path / "runs.json").open(StoreOptions(), writing=True)
    assert list(tmp_path.iterdir()) == []
    store.close()


def test_the_commands_see_one_store(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from casket.cli.app import app

    monkeypatch.chdir(copy.parent)
    monkeypatch.setenv("XDG_STATE_HOME", str(copy.parent / "state"))

    def casket_(*arguments: str) -> str:
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == 0, done.output
        return done.output

    assert '"lr":1' in casket_("ls", "--json").replace(" ", "")
    assert "0.333" in casket_("export", "runs.json", "--table", "epochs", "--format", "csv")
    casket_("doctor", "runs.json")
    casket_("compact", "runs.json", "--yes")
    casket_("merge", "runs.json", "-o", "merged.json")
    casket_("backup", "runs.json", "-o", "copy.json")
    for name in ("merged.json", "copy.json"):
        assert not folder_of(copy.with_name(name)).exists()
        with casket.open(name) as runs:
            [session] = runs.sessions()
            assert session.artifacts["note.txt"].load() == b"text"
    casket_("rm", "--experiment", "e", "--file", "runs.json", "--yes")
    with casket.open("runs.json") as runs:
        assert runs.sessions() == []
    texts = [path.read_bytes() for path in folder_of(copy).iterdir()]
    assert not any(b'"epoch_num"' in text for text in texts)


def test_the_page_notices_new_records(copy: Path) -> None:
    from casket.dashboard.live.files import WatchedFile

    watched = WatchedFile(str(copy), 0)
    list(watched.read())
    assert len(watched.sessions) == 1
    [session] = watched.sessions.values()
    store = PartsStore(copy)
    store.append([record(session=session.id, experiment="e", model="m")])
    store.close()
    list(watched.read())
    assert watched.pop_changed() >= {session.id}
    watched.close()


@pytest.fixture
def three(tmp_path: Path) -> PartsStore:
    """A store of three files with two records each."""
    store = PartsStore(tmp_path / "runs.json")
    for i in range(3):
        store.append([record(session=f"s{i}") for _ in range(2)])
    return store


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_a_half_written_file_costs_its_cut_records_only(three: PartsStore, kept: float) -> None:
    path = three._path
    [_, (_, second), _] = Folder(path).names()
    content = second.read_bytes()
    second.write_bytes(content[: int(len(content) * kept)])
    store = PartsStore(path, StoreOptions(writing=False))
    with pytest.warns(casket.CasketWarning, match="casket doctor"):
        sessions = [one["session"] for _, one in store.records()]
    assert sessions in (["s0", "s0", *["s1"] * whole, "s2", "s2"] for whole in (0, 1))
    inspection = Location.of(path).inspection()
    [damage] = [one for part in inspection.parts() for one in part.damages]
    assert second.name in damage.problem
    kept_at = path.with_name("runs.json.damaged-1")
    inspection.repair(kept_at)
    assert not [one for part in inspection.parts() for one in part.damages]
    assert (kept_at / second.name).stat().st_size == int(len(content) * kept)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = PartsStore(path)
        assert [one["session"] for _, one in again.records()] == sessions
        assert again.append([record()]) > 0


def test_a_damaged_line_is_skipped(three: PartsStore) -> None:
    [(first, path), *_] = Folder(three._path).names()
    content = path.read_bytes()
    head, one, two, _ = content.split(b"\n")
    whole, [damage] = intact(first, b"\n".join((head, one[:40] + b"\0" + one[41:], two, b"")))
    assert whole == b"\n".join((head, two, b""))
    assert (damage.start, damage.stop) == (len(head) + 1, len(head) + 1 + len(one))


def test_a_content_is_replaced_once(three: PartsStore) -> None:
    folder = Folder(three._path)
    [(first, path), *_] = folder.names()
    content = path.read_bytes()
    assert folder.replace(first, content, "1") == "2"
    assert folder.replace(first, content, "1") is None
    assert folder.replace(first, content, "2") == "3"
    # A slow process whose version was removed meanwhile changes nothing.
    assert folder.replace(first, b"", "1") is None
    folder.delete([first])
    assert folder.replace(first, b"", "3") is None
    assert first not in dict(folder.names())


def test_old_files_are_packed_into_one(three: PartsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "PACKED_AFTER", -1.0)
    before = list(three.records())
    three.prune(deletion(Writer()))
    assert list(three.records()) == before
    assert len(Folder(three._path).names()) == 2  # the last is left
    assert three.append([record()]) == before[-1][0] + 1


def test_records_that_were_there_before_come_first_and_can_be_removed(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    document = JsonStore(path)
    document.append([record(session="a"), record(session="b")])
    document.close()
    store = PartsStore(path)
    number = store.append([record(session="c")])
    assert [one["session"] for _, one in store.records()] == ["a", "b", "c"]
    assert list(store.records(after=2)) == [(number, dict(store.records())[number])]
    assert number > AFTER_DOCUMENT
    store.prune(deletion(Writer(), sessions=["a"]))
    assert [one.get("session") for _, one in store.records()] == ["b", "c", None]
    assert b'"a"' not in path.read_bytes().replace(b'["a"]', b"")
    store.close()
