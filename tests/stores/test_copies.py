"""Copies of files in use: they contain all records acknowledged before the copy began."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import casket
from casket import Experiment
from casket.format.records import Record, Writer, deletion
from casket.stores.base import StoreOptions
from casket.stores.jsonfile import scan
from casket.stores.jsonfile.check import JsonInspection
from casket.stores.jsonfile.store import JsonStore
from casket.stores.sqlite.store import SqliteStore
from casket.testing import end, record, records
from tests.stores.files import casket_warnings, records_in, stored
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
TAIL = b"\n}}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.json"


def short(i: int) -> Record:
    return record("tag", experiment=None, model=None, session=None, body={"i": i})


def one(i: int) -> list[Record]:
    return [short(i)]


def some(i: int) -> list[Record]:
    return [short(10 * i + j) for j in range(3)]


SESSION = record("session", session="s1", claim="c", body={"params": {}, "meta": {}})

HISTORIES: dict[str, list[list[Record]]] = {
    "records": [one(i) for i in range(4)],
    "batches": [some(i) for i in range(3)],
    "numbers of two digits": [one(i) for i in range(12)],
    "a session": [one(0), [SESSION], [record(session="s1")], [end(SESSION, "completed")]],
}


def versions(path: Path, history: list[list[Record]]) -> list[bytes]:
    """Return the file after each append."""
    store = JsonStore(path)
    contents = []
    for batch in history:
        store.append(batch)
        contents.append(path.read_bytes())
    store.close()
    path.unlink()
    return contents


def torn_copies(old: bytes, new: bytes) -> Iterator[bytes]:
    """Yield copies whose first read ended at each byte of the old end, and the second later."""
    for k in range(len(old) - len(TAIL), len(old) + 1):
        yield old[:k] + new[k:]


def copies(contents: list[bytes]) -> Iterator[bytes]:
    """Yield copies that were torn once, and those torn at the ends of two appends."""
    for old, new in itertools.combinations(contents[-5:], 2):
        yield from torn_copies(old, new)
    for first, second, third in itertools.combinations(contents[-4:], 3):
        for copy in torn_copies(first, second):
            yield from torn_copies(copy, third)


@pytest.fixture(params=HISTORIES)
def history(request: pytest.FixtureRequest) -> list[list[Record]]:
    return HISTORIES[request.param]


@pytest.fixture(params=[scan.EDITED, 0], ids=["a small file", "a large file"])
def edited(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The size up to which a file is scanned by line: small files represent large files."""
    monkeypatch.setattr(scan, "EDITED", request.param)
    size: int = request.param
    return size


def all_of(history: list[list[Record]]) -> list[Record]:
    return [one for batch in history for one in batch]


def last_version(copy: bytes, contents: list[bytes], history: list[list[Record]]) -> list[Record]:
    """Return the records of the version that a copy ends in."""
    [i] = [i for i, version in enumerate(contents) if len(version) == len(copy)]
    return all_of(history[: i + 1])


def test_a_copy_of_a_file_that_is_written_meanwhile_is_read_whole(
    history: list[list[Record]], path: Path, edited: int
) -> None:
    contents = versions(path, history)
    for copy in copies(contents):
        expected = last_version(copy, contents, history)
        path.write_bytes(copy)
        with casket_warnings() as said:
            numbered = list(JsonStore(path, StoreOptions(writing=False)).records())
        assert numbered == list(enumerate(expected, 1)), copy
        assert said == []


def test_such_a_copy_is_filtered_and_followed_as_the_file_is(path: Path) -> None:
    contents = versions(path, HISTORIES["a session"])
    for copy in copies(contents):
        path.write_bytes(copy)
        reader = JsonStore(path, StoreOptions(writing=False))
        everything = list(reader.records())
        for filters in ({"session": "s1"}, {"claim": "c"}, {"kinds": {"session", "end"}}):
            chosen = list(JsonStore(path, StoreOptions(writing=False)).records(**filters))  # type: ignore[arg-type]
            assert chosen == [
                (n, r)
                for n, r in everything
                if all(
                    r["kind"] in wanted if name == "kinds" else r.get(name) == wanted
                    for name, wanted in filters.items()
                )
            ]
        for after in range(len(everything)):
            assert list(reader.records(after=after)) == everything[after:]


def test_the_next_append_makes_such_a_copy_valid_and_loses_nothing(
    history: list[list[Record]], path: Path
) -> None:
    contents = versions(path, history)
    for copy in copies(contents):
        expected = last_version(copy, contents, history)
        path.write_bytes(copy)
        after = short(99)
        with casket_warnings() as said:
            store = JsonStore(path)
            number = store.append([after])
            store.close()
        assert number == len(expected) + 1
        assert records_in(path) == [*expected, after]
        assert said == []
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_torn_end_of_a_large_copy_is_healed(
    history: list[list[Record]], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "EDITED", 0)
    old, new = versions(path, history)[-2:]
    for copy in torn_copies(old, new):
        path.write_bytes(copy)
        after = short(99)
        store = JsonStore(path)
        store.append([after])
        store.close()
        assert stored(store) == [*all_of(history), after]


def test_doctor_numbers_what_is_torn_in_a_copy_and_repairs_it(
    history: list[list[Record]], path: Path
) -> None:
    contents = versions(path, history)
    kept = path.with_name("kept")
    for copy in copies(contents):
        expected = last_version(copy, contents, history)
        path.write_bytes(copy)
        inspection = JsonInspection(path)
        parts = list(inspection.parts())
        damages = [damage for part in parts for damage in part.damages]
        assert [one for part in parts for one in part.records] == list(enumerate(expected, 1))
        assert bool(damages) == (copy not in contents), copy
        assert not any(damage.text for damage in damages), "something is said to be lost"
        inspection.repair(kept)
        assert kept.read_bytes() == copy
        assert records_in(path) == expected
        kept.unlink()


def test_the_first_record_of_an_emptied_file_may_be_covered(path: Path) -> None:
    store = JsonStore(path)
    store.append([record(session="gone")])
    store.prune(deletion(Writer(), sessions=["gone"]))
    text = path.read_bytes()
    start_of_lines = text.index(b"\n")
    whole = stored(store)
    for k in range(len(TAIL) + 1):
        path.write_bytes(text[:start_of_lines] + TAIL[:k] + text[start_of_lines + k :])
        assert stored(JsonStore(path, StoreOptions(writing=False))) == whole
        assert [r for part in JsonInspection(path).parts() for _, r in part.records] == whole


def test_braces_alone_between_records_cost_nothing_and_are_named(path: Path) -> None:
    appended = records(2)
    for one_record in appended:
        JsonStore(path).append([one_record])
    path.write_bytes(path.read_bytes().replace(b",\n", b",\n}}\n"))
    assert stored(JsonStore(path, StoreOptions(writing=False))) == appended
    [damage] = [damage for part in JsonInspection(path).parts() for damage in part.damages]
    assert "end of the document" in damage.problem
    JsonStore(path).append([record()])
    assert records_in(path)[:2] == appended


# SQLite: the file alone.


def assert_a_copy_is_complete(path: Path, sessions: int) -> None:
    copy = path.with_name("elsewhere.sqlite")
    shutil.copyfile(path, copy)
    with casket.open(copy) as c:
        views = c.sessions()
        assert [one.status for one in views] == ["completed"] * sessions
        assert all(len(one.epochs) == 20 for one in views)
    copy.unlink()


def run_a_session(path: Path, lr: float) -> None:
    with Experiment.use(path, exp_id="e").model("m").session({"lr": lr}) as session:
        for k in range(20):
            session.add_epoch(k, {"loss": 0.5})


def test_a_copy_of_a_database_is_complete_after_a_session_while_others_have_it_open(
    tmp_path: Path,
) -> None:
    path = tmp_path / "runs.sqlite"
    open_too = SqliteStore(path)
    for i in range(3):
        run_a_session(path, i)
        open_too.append([record("tag", experiment="e", model=None, session=None, body={})])
        assert_a_copy_is_complete(path, i + 1)
    open_too.close()


def test_a_session_ends_at_once_while_somebody_reads_or_writes(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    run_a_session(path, 0)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM records").fetchone()[0] > 20
    run_a_session(path, 1)
    reader.execute("ROLLBACK")
    run_a_session(path, 2)  # includes records that the reader had kept
    assert_a_copy_is_complete(path, 3)
    reader.close()


LEAVING = """
import os, sys, threading, time
from casket import Experiment as E
session = E.use(sys.argv[1], exp_id="e").model("m").session({"lr": 1})
for k in range(20):
    session.add_epoch(k, {"loss": 0.5})
def stay(kept):
    while True:
        time.sleep(1)
threading.Thread(target=stay, args=(session,), daemon=True).start()
"""


@pytest.mark.parametrize(
    "leave",
    ["", "sys.exit(3)", "raise RuntimeError", "os.fork() or sys.exit()"],
    ids=["end", "exit", "exception", "forked child"],
)
def test_a_copy_of_a_database_is_complete_after_an_exit_with_a_thread_alive(
    leave: str, tmp_path: Path
) -> None:
    path, copy = tmp_path / "runs.sqlite", tmp_path / "elsewhere.sqlite"
    code = LEAVING + leave
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, path], cwd=ROOT, check=False)
    shutil.copyfile(path, copy)
    with casket.open(copy) as c:
        [session] = c.sessions()
        assert len(session.epochs) == 20
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith("runs.sqlite-")] == []


def test_leaving_waits_for_no_thread_that_waits_for_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    store = SqliteStore(path)
    store.append([record()])
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    code = """
import sys, threading, time
from pathlib import Path
from casket.stores.sqlite.store import SqliteStore
from casket.testing import record
store = SqliteStore(Path(sys.argv[1]))
threading.Thread(target=store.append, args=([record()],), daemon=True).start()
time.sleep(0.5)
"""
    subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, check=True, timeout=PATIENCE)
    holder.execute("ROLLBACK")
    holder.close()
    store.close()
