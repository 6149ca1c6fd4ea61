"""A failing sync or unlock does not deny written records."""

from __future__ import annotations

from pathlib import Path

import pytest

import casket
from casket.stores.jsonfile.store import JsonStore
from tests.crash.faults import needs_faults
from tests.crash.scripts import run_python

pytestmark = needs_faults

SESSION = """
import warnings
from casket import CasketWarning, Experiment as E
from tests.crash.faults import UNLOCK, refuse

said = []
warnings.showwarning = lambda message, *_: said.append(str(message))
warnings.simplefilter({filter!r}, CasketWarning)
model = E.use({runs!r}, exp_id="e", sync="always").model("m")
{before}
with model.session({{"lr": 1}}) as session:
    {within}
    for k in range(1, 4):
        session.add_epoch(k, {{"loss": 1 / k}})
    session.add_batches([(k, {{"loss": 0.5}}, 1, 0.0) for k in range(3)])
with model.session({{"lr": 2}}) as session:
    session.add_epoch(1, {{"loss": 0.5}})
print(len(said))
for one in said:
    print(one)
import os
{leave}
"""
SYNCS = 'refuse("fsync", "fdatasync")'


def run(runs: Path, *, before: str = "", within: str = "", **others: str) -> list[str]:
    """Run two sessions with faults; return the warnings of casket."""
    filled = {"filter": "always", "leave": "", **others}
    code = SESSION.format(runs=str(runs), before=before, within=within or "pass", **filled)
    done = run_python(code, runs.parent)
    assert done.returncode in {0, -9}, done.stdout
    count, *said = done.stdout.splitlines()
    assert int(count) == len(said)
    return said


def assert_all_is_there_once(runs: Path) -> None:
    with casket.open(runs) as c:
        first, second = sorted(c.sessions(), key=lambda one: one.params["lr"])
        assert [first.status, second.status] == ["completed", "completed"]
        assert [one["epoch_num"] for one in first.epochs] == [1, 2, 3]
        assert [one["batch_num"] for one in first.batches] == [0, 1, 2]
        assert [one["epoch_num"] for one in second.epochs] == [1]


@pytest.mark.parametrize("moment", ["before", "within"])
def test_an_append_whose_sync_fails_is_acknowledged_and_warned_of_once(
    runs: Path, moment: str
) -> None:
    said = run(runs, **{moment: SYNCS})
    assert_all_is_there_once(runs)
    [warning] = said
    assert str(runs) in warning
    assert "could not be made safe against power loss" in warning


def test_a_new_file_is_written_where_nothing_can_be_synced(runs: Path) -> None:
    folder = runs.parent / "new"
    folder.mkdir()
    code = f"""
from tests.crash.faults import refuse
refuse("fsync", "fdatasync")
from casket import Experiment as E
E.use({str(folder / runs.name)!r}, exp_id="e").model("m").add_result({{"a": 1}})
"""
    done = run_python(code, folder)
    assert done.returncode == 0, done.stdout
    with casket.open(folder / runs.name) as c:
        assert [one.status for one in c.sessions()] == ["completed"]


def test_where_warnings_are_errors_an_unsynced_append_is_acknowledged_all_the_same(
    runs: Path,
) -> None:
    assert run(runs, within=SYNCS, filter="error") == []
    assert_all_is_there_once(runs)


def test_what_could_not_be_synced_is_there_once_after_a_kill(runs: Path) -> None:
    # A commit of SQLite whose sync failed comes to life when its log is recovered.
    run(runs, within=SYNCS, leave="import sys; sys.stdout.flush(); os.kill(os.getpid(), 9)")
    assert_all_is_there_once(runs)


def test_a_failing_unlock_denies_nothing_and_holds_nobody_up(runs: Path) -> None:
    if runs.suffix != ".json":
        pytest.skip("SQLite's locks are its own")
    said = run(runs, within='refuse("flock", argument=UNLOCK)')
    assert said == []
    assert_all_is_there_once(runs)


def test_a_failing_unlock_leaves_the_lock_to_others(tmp_path: Path) -> None:
    code = """
import subprocess, sys
from pathlib import Path
from casket.stores.jsonfile.store import JsonStore
from casket.testing import record
from tests.crash.faults import UNLOCK, refuse
store = JsonStore(Path("runs.json"))
refuse("flock", argument=UNLOCK)
store.append([record()])
other = "from pathlib import Path; from casket.stores.jsonfile.store import JsonStore; "
other += "from casket.testing import record; JsonStore(Path('runs.json')).append([record()])"
subprocess.run([sys.executable, "-c", other], timeout=60, check=True)
store.append([record()])
"""
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stdout
    assert len(list(JsonStore(tmp_path / "runs.json").records())) == 3


def test_a_removal_whose_folder_cannot_be_synced_is_not_denied(tmp_path: Path) -> None:
    code = """
import warnings
from pathlib import Path
from casket.format.records import Writer, deletion
from casket.stores.jsonfile.store import JsonStore
from casket.testing import record
from tests.crash.faults import refuse
from casket.system import durability
warnings.simplefilter("ignore")
store = JsonStore(Path("runs.json"))
store.append([record(session="gone"), record(session="kept")])
synced = durability.sync_folder
def fail_from_now_on(folder):
    refuse("fsync")
    synced(folder)
durability.sync_folder = fail_from_now_on
store.prune(deletion(Writer(), sessions=["gone"]))
store.append([record(session="after")])
"""
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stdout
    sessions = [r.get("session") for _, r in JsonStore(tmp_path / "runs.json").records()]
    assert sessions == ["kept", None, "after"]


def test_a_journal_that_cannot_be_synced_ships_everything_once(tmp_path: Path) -> None:
    code = """
import os, warnings
os.environ["XDG_STATE_HOME"] = os.getcwd()
from pathlib import Path
from casket.stores.base import StoreOptions
from casket.stores.memory import MemoryStore
from casket.stores.remote.spool import Spool
from casket.testing import records
from tests.crash.faults import refuse
warnings.simplefilter("ignore")
far = MemoryStore()
spool = Spool(far, "test://far", StoreOptions(sync="always"))
refuse("fsync", "fdatasync")
appended = records(5)
for one in appended:
    spool.append([one])
assert spool.flush(30)
assert [r for _, r in far.records()] == appended
"""
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stdout
