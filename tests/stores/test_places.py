"""Where a store cannot be, or is somebody else's: a clear error, and nothing is changed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from casket.errors import CasketError, NotACasketFile, NotFound, StoreUnavailable
from casket.format.records import Writer, deletion
from casket.stores.base import Store, StoreOptions
from casket.stores.jsonfile.store import JsonStore
from casket.stores.location import Location
from casket.stores.sqlite import store as sqlite
from casket.stores.sqlite.store import SqliteStore
from casket.testing import record, records
from tests.stores.files import is_root, mounted, records_in, stored, strict_json, traces

ROOT = Path(__file__).parents[2]

needs_mounts = pytest.mark.skipif(not is_root(), reason="only root may mount")
BECOME_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def nobody_can_run_python() -> bool:
    if not is_root() or shutil.which("setpriv") is None:
        return False
    command = [*BECOME_NOBODY, sys.executable, "-c", ""]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_nobody = pytest.mark.skipif(
    not nobody_can_run_python(), reason="needs root, setpriv, and a Python that nobody can read"
)

STORES: dict[str, Callable[..., Store]] = {"runs.json": JsonStore, "runs.db": SqliteStore}


@pytest.fixture(params=STORES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where a store of each kind could be."""
    return tmp_path / "place" / request.param


@pytest.fixture
def folder(path: Path) -> Path:
    path.parent.mkdir()
    return path.parent


def handle(path: Path | str, *, writing: bool) -> Store:
    """Open a store by its location, as `Experiment.use` and `casket.open` do."""
    return Location.of(path).open(StoreOptions(), writing=writing)


def read(path: Path | str) -> list[Any]:
    with closing(handle(path, writing=False)) as store:
        return stored(store)


def append(path: Path | str) -> None:
    with closing(handle(path, writing=True)) as store:
        store.append([record()])


LEAVE_RUNNING = """
import os, signal, sys
from pathlib import Path
from casket.stores.location import Location
from casket.stores.base import StoreOptions
from casket.testing import records
store = Location.of(sys.argv[1]).open(StoreOptions(), writing=True)
store.append(records(3))
os.kill(os.getpid(), signal.SIGKILL)
"""


def leave_running(path: Path) -> None:
    """Append three records in a process that is killed: SQLite leaves its log and its index."""
    killed(LEAVE_RUNNING, path)


def killed(code: str, path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, check=False)
    assert ran.returncode == -signal.SIGKILL


def in_python(code: str, *arguments: object, before: tuple[str, ...] = ()) -> str:
    """Run code in another Python, perhaps as another user; return its output."""
    command = [*before, sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


# Somebody else's files.

NESTED = {"id": "dealer", "models": ["Golf", "Polo"]}
FOREIGN: dict[str, bytes] = {
    "a TinyDB": b'{"_default": {"1": {"name": "Ann", "age": 7}}}',
    "a TinyDB with other tables": b'{"_default": {}, "people": {"1": {"name": "Ann"}}}',
    "a TinyDB in casket's layout": b'{"_default": {\n"1": {"name": "Ann"}\n}}\n',
    "a TinyDB with models": json.dumps({"_default": {"1": NESTED}}).encode(),
    "an empty JSON list": b"[]",
    "a JSON list": b'[{"kind": "epoch"}]',
    "a JSON number": b"42\n",
    "a JSON object": b'{"name": "casket", "version": "1.0"}',
    "a nested JSON list": b"[" * 100_000,
    "JSON lines": b'{"loss": 1}\n{"loss": 2}\n',
    "half a JSON object": b'{"name": "casket", "ver',
    "a table": b"epoch,loss\n1,0.5\n2,0.25\n",
    "text": "Überschrift\n\nText.\n".encode(),
    "a picture": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)),
    "bytes": bytes((i * 167 + 13) % 256 for i in range(5000)),
    "zeros": bytes(4096),
}


@pytest.mark.parametrize("name", ["runs.json", "runs.db"])
@pytest.mark.parametrize("what", FOREIGN)
def test_somebody_elses_file_is_refused_and_not_changed(
    what: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(FOREIGN[what])
    before = traces(tmp_path)
    for use in (read, append, prune):
        with pytest.raises(NotACasketFile) as refused:
            use(path)
        assert str(path) in str(refused.value)
    assert traces(tmp_path) == before


def prune(path: Path) -> None:
    with closing(handle(path, writing=True)) as store:
        store.prune(deletion(Writer(), sessions=["s"]))


def test_a_text_file_is_refused_where_sqlite_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("Not a database, but long enough to have a header.\n" * 100)
    before = traces(tmp_path)
    for use in (read, append):
        with pytest.raises(NotACasketFile, match=r"notes\.db"):
            use(f"sqlite:///{path}")
    for store in (SqliteStore(path), SqliteStore(path, StoreOptions(writing=False))):
        with pytest.raises(NotACasketFile, match=r"notes\.db"):
            list(store.records())
    assert traces(tmp_path) == before


def plain(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE people (name TEXT)")
        connection.execute("INSERT INTO people VALUES ('Ann')")
        connection.commit()


def with_an_id(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 252006675")


def with_a_log(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    plain(path)


LEAVE_THEIRS_RUNNING = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("CREATE TABLE people (name TEXT)")
connection.commit()
os.kill(os.getpid(), signal.SIGKILL)
"""


def with_a_log_left_over(path: Path) -> None:
    killed(LEAVE_THEIRS_RUNNING, path)
    assert path.with_name(path.name + "-wal").stat().st_size > 0


@pytest.mark.parametrize("create", [plain, with_an_id, with_a_log, with_a_log_left_over])
@pytest.mark.parametrize("name", ["theirs.db", "theirs.json"])
def test_somebody_elses_database_is_refused_and_not_changed(
    create: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    create(path)
    before = traces(tmp_path)
    for use in (read, append, prune):
        with pytest.raises(NotACasketFile) as refused:
            use(path)
        assert str(path) in str(refused.value)
    after = traces(tmp_path)
    for folder_state in (before, after):
        folder_state.pop(f"{name}-shm", None)  # SQLite's own memory of who reads
    assert after == before


def test_a_broken_database_is_refused_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with closing(SqliteStore(path)) as store:
        store.append(records(500))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:100], whole[:16] + bytes(2000)):
        path.write_bytes(content)
        before = traces(tmp_path)
        with pytest.raises(CasketError, match=r"runs\.db"):
            read(path)
        assert traces(tmp_path) == before


# Files that are for the taking.


@pytest.mark.parametrize("name", ["runs.json", "runs.db"])
@pytest.mark.parametrize("content", [b"", b"{}", b'{"_default": {}}', b" \n", b'{"_default": {\n'])
def test_an_empty_file_is_taken_over_by_the_first_append_not_by_reading(
    content: bytes, name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    before = traces(tmp_path)
    assert read(path) == []
    with closing(handle(path, writing=True)) as store:
        assert stored(store) == []
        assert traces(tmp_path) == before
        first = record()
        store.append([first])
        assert stored(store) == [first]
    assert read(path) == [first]
    if content or name.endswith("json"):
        assert records_in(path) == [first]


def test_an_empty_database_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM")
    assert path.stat().st_size > 0
    before = traces(tmp_path)
    assert read(path) == []
    assert traces(tmp_path) == before
    append(path)
    assert len(read(path)) == 1


@pytest.mark.parametrize("made", STORES)
@pytest.mark.parametrize("named", ["runs.json", "runs.sqlite", "runs.db", "runs", "runs.txt"])
def test_a_casket_file_is_recognized_whatever_its_name(
    made: str, named: str, tmp_path: Path
) -> None:
    with closing(STORES[made](tmp_path / made)) as store:
        store.append([record()])
    path = (tmp_path / made).rename(tmp_path / named)
    append(path)
    assert len(read(path)) == 2
    assert path.read_bytes().startswith(b"{" if made.endswith("json") else b"SQLite")


# Places where nothing can be.


def test_a_missing_folder_is_named_and_not_created(path: Path) -> None:
    with pytest.raises(StoreUnavailable) as refused:
        append(path)
    assert refused.value.errno == errno.ENOENT
    assert refused.value.filename == str(path)
    with pytest.raises(NotFound) as missing:
        read(path)
    assert str(path) in str(missing.value)
    assert list(path.parent.parent.iterdir()) == []


def test_a_missing_file_reads_as_missing_and_is_not_created(folder: Path, path: Path) -> None:
    before = traces(folder)
    with pytest.raises(NotFound) as missing:
        read(path)
    assert str(path) in str(missing.value)
    with closing(handle(path, writing=True)) as store:
        assert stored(store) == []  # who may create it finds nothing in it yet
    assert traces(folder) == before


def test_a_folder_is_refused_as_one(folder: Path, path: Path) -> None:
    path.mkdir()
    before = traces(folder)
    for use in (read, append):
        with pytest.raises(StoreUnavailable) as refused:
            use(path)
        assert refused.value.errno == errno.EISDIR
        assert str(path) in str(refused.value)
    assert traces(folder) == before


def test_a_path_below_a_file_is_refused(folder: Path, path: Path) -> None:
    (folder / "file").write_text("")
    before = traces(folder)
    for use in (append, read):
        with pytest.raises(CasketError) as refused:
            use(folder / "file" / path.name)
        assert str(folder / "file" / path.name) in str(refused.value)
    assert traces(folder) == before


# Reading leaves no trace.


def test_reading_changes_nothing_and_leaves_nothing_beside_the_store(
    folder: Path, path: Path
) -> None:
    with closing(STORES[path.name](path)) as store:
        store.append(records(2000))
    before = traces(folder)
    for writing in (False, True):
        with closing(handle(path, writing=writing)) as store:
            assert len(stored(store)) == 2000
            assert len(list(store.records(kinds={"epoch"}, session="s", after=1000))) == 1000
            next(store.records())  # and not to the end
            assert traces(folder) == before
    assert traces(folder) == before


def test_reading_what_a_killed_writer_left_changes_no_record(folder: Path, path: Path) -> None:
    leave_running(path)
    before = traces(folder)
    assert len(read(path)) == 3
    after = traces(folder)
    assert after.keys() == before.keys()
    kept = [name for name in before if not name.endswith("-shm")]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}


def test_a_log_that_was_copied_without_its_index_is_read_and_kept(tmp_path: Path) -> None:
    leave_running(tmp_path / "runs.db")
    (tmp_path / "runs.db-shm").unlink()
    before = traces(tmp_path)
    assert len(read(tmp_path / "runs.db")) == 3
    after = traces(tmp_path)
    for name in ("runs.db", "runs.db-wal"):
        assert after[name] == before[name]
    assert after.keys() - before.keys() <= {"runs.db-shm"}


@pytest.mark.parametrize("kept", [0, 32], ids=["empty", "without records"])
def test_a_log_with_nothing_in_it_is_not_removed_by_reading(kept: int, tmp_path: Path) -> None:
    path, log = tmp_path / "runs.db", tmp_path / "runs.db-wal"
    leave_running(path)
    (tmp_path / "runs.db-shm").unlink()
    log.write_bytes(log.read_bytes()[:kept])
    before = traces(tmp_path)
    assert read(path) == []
    after = traces(tmp_path)
    assert (after["runs.db"], after["runs.db-wal"]) == (before["runs.db"], before["runs.db-wal"])


def test_reading_goes_on_when_a_writer_comes_meanwhile(folder: Path, path: Path) -> None:
    with closing(STORES[path.name](path)) as store:
        store.append(records(3000))
    reading = handle(path, writing=False).records()
    begun = [next(reading) for _ in range(10)]
    with closing(STORES[path.name](path)) as writer:
        writer.append(records(10, session="new"))
        begun += [next(reading) for _ in range(2000)]
        writer.append(records(10, session="new"))
    numbers = [n for n, _ in [*begun, *reading]]
    assert numbers[:3000] == list(range(1, 3001))
    assert numbers == sorted(set(numbers))


def test_a_database_that_changes_while_it_is_read_at_rest_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with closing(SqliteStore(path)) as store:
        store.append(records(2000))
    later = records(2000)

    class Interrupted(SqliteStore):
        """Somebody appends after this reader has opened the database."""

        def _is_ready(self, connection: sqlite3.Connection) -> bool:
            is_ready = super()._is_ready(connection)
            if later:
                with closing(SqliteStore(path)) as store:
                    store.append([later.pop() for _ in range(1000)])
            return is_ready

    reader = Interrupted(path, StoreOptions(writing=False))
    assert [n for n, _ in reader.records()] == list(range(1, 4001))


# A file of SQLite is closed by SQLite alone: a plain close would drop its locks.

APPEND = """
import sys
from pathlib import Path
from casket.stores.sqlite.store import SqliteStore
from casket.testing import record
store = SqliteStore(Path(sys.argv[1]))
store.append([record()])
store.close()
"""


def test_reading_in_a_process_that_writes_does_not_drop_its_locks(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with closing(SqliteStore(path)) as store:
        store.append([record()])
        assert (
            len(stored(SqliteStore(path, StoreOptions(writing=False)))) == len(stored(store)) == 1
        )
        with pytest.raises(NotFound):
            list(SqliteStore(tmp_path / "other.db", StoreOptions(writing=False)).records())
        in_python(APPEND, path)
        store.append([record()])
        assert len(stored(SqliteStore(path, StoreOptions(writing=False)))) == 3
    assert len(stored(SqliteStore(path, StoreOptions(writing=False)))) == 3


def test_a_process_knows_which_databases_it_writes(tmp_path: Path) -> None:
    path, link = tmp_path / "runs.db", tmp_path / "link.db"
    link.symlink_to(path)
    one, two = SqliteStore(path), SqliteStore(link)
    assert not sqlite.is_open_here(path)
    one.append([record()])
    two.append([record()])
    assert sqlite.is_open_here(path)
    one.close()
    assert sqlite.is_open_here(link)
    two.close()
    two.close()
    assert not sqlite.is_open_here(path)


def test_a_database_behind_a_symbolic_link_is_read_with_its_log(tmp_path: Path) -> None:
    path, link = tmp_path / "folder" / "runs.db", tmp_path / "link.db"
    path.parent.mkdir()
    link.symlink_to(path)
    with closing(SqliteStore(path)) as store:
        store.append([record()])
        assert len(stored(SqliteStore(link, StoreOptions(writing=False)))) == 1
        assert sorted(one.name for one in tmp_path.iterdir()) == ["folder", "link.db"]


# Read-only places.


@needs_mounts
def test_a_read_only_mount_is_read_and_refuses_appends(folder: Path, path: Path) -> None:
    with mounted(folder, "size=4m"):
        with closing(STORES[path.name](path)) as store:
            store.append(records(3))
        remount_read_only(folder)
        before = traces(folder)
        assert len(read(path)) == 3
        with pytest.raises(StoreUnavailable) as refused:
            append(path)
        assert refused.value.errno == errno.EROFS
        with pytest.raises(StoreUnavailable) as refused:
            append(folder / f"new-{path.name}")
        assert refused.value.errno == errno.EROFS
        assert traces(folder) == before


@needs_mounts
@pytest.mark.parametrize("left", [["-wal"], ["-wal", "-shm"]], ids=["log", "log and index"])
def test_a_log_left_on_a_read_only_mount_is_read(left: list[str], tmp_path: Path) -> None:
    leave_running(tmp_path / "runs.db")
    folder = tmp_path / "mount"
    folder.mkdir()
    with mounted(folder, "size=4m"):
        for suffix in ["", *left]:
            shutil.copy(tmp_path / f"runs.db{suffix}", folder)
        remount_read_only(folder)
        before = traces(folder)
        assert len(read(folder / "runs.db")) == 3
        assert traces(folder) == before


@needs_mounts
def test_a_read_only_mount_is_read_while_others_append_to_what_is_behind_it(
    folder: Path, path: Path, tmp_path: Path
) -> None:
    view = tmp_path / "view"
    view.mkdir()
    subprocess.run(["mount", "--bind", folder, view], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", view], check=True)
        store = STORES[path.name](path)
        reader = handle(view / path.name, writing=False)
        for i in range(1, 4):
            store.append([record()])
            assert len(stored(reader)) == i
        store.close()
        assert len(stored(reader)) == 3
    finally:
        subprocess.run(["umount", "--lazy", view], check=True)


def remount_read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)


AS_NOBODY = """
import json, sys
from pathlib import Path
from casket.errors import CasketError
from casket.stores.location import Location
from casket.stores.base import StoreOptions
from casket.testing import record
said = {}
place = Location.of(sys.argv[1])
for name, work in {
    "read": lambda: len(list(place.open(StoreOptions(), writing=False).records())),
    "append": lambda: place.open(StoreOptions(), writing=True).append([record()]),
}.items():
    try:
        said[name] = work()
    except CasketError as error:
        said[name] = [type(error).__name__, getattr(error, "errno", None), str(error)]
print(json.dumps(said))
"""


def as_nobody(path: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(in_python(AS_NOBODY, path, before=BECOME_NOBODY))
    return said


@pytest.fixture
def open_folder(path: Path) -> Iterator[Path]:
    """A folder that everybody may enter, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="casket-places-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@needs_nobody
@pytest.mark.parametrize("is_running", [False, True], ids=["at rest", "being written"])
def test_who_may_only_read_reads_and_is_refused_to_append(
    is_running: bool, open_folder: Path, path: Path
) -> None:
    place = open_folder / path.name
    store = STORES[path.name](place)
    store.append(records(3))
    if not is_running:
        store.close()
    before = traces(open_folder)
    said = as_nobody(place)
    assert said["read"] == 3
    error, number, message = said["append"]
    assert (error, number) == ("StoreUnavailable", errno.EACCES)
    assert str(place) in message
    assert traces(open_folder) == before
    store.close()


@needs_nobody
def test_who_may_write_the_file_but_not_its_folder_is_told_so_or_appends(
    open_folder: Path, path: Path
) -> None:
    place = open_folder / path.name
    with closing(STORES[path.name](place)) as store:
        store.append(records(3))
    place.chmod(0o666)
    said = as_nobody(place)
    assert said["read"] == 3
    if path.suffix == ".json":
        assert said["append"] == 4
    else:
        assert said["append"][:2] == ["StoreUnavailable", errno.EACCES]
        assert str(place) in said["append"][2]
    assert [one.name for one in open_folder.iterdir()] == [path.name]
    assert len(read(place)) == (4 if path.suffix == ".json" else 3)


@needs_nobody
@pytest.mark.parametrize("closed", ["file", "folder"])
def test_who_may_not_even_read_is_told_so(closed: str, open_folder: Path, path: Path) -> None:
    place = open_folder / path.name
    with closing(STORES[path.name](place)) as store:
        store.append(records(3))
    (place if closed == "file" else open_folder).chmod(0o600)
    before = traces(open_folder)
    said = as_nobody(place)
    for error, number, message in said.values():
        assert (error, number) == ("StoreUnavailable", errno.EACCES)
        assert str(place) in message
    assert traces(open_folder) == before


@pytest.mark.parametrize("name", ["runs.json", "runs.db"])
def test_an_error_names_the_place_and_what_to_do(name: str, tmp_path: Path) -> None:
    path = tmp_path / "missing" / name
    with pytest.raises(StoreUnavailable) as refused:
        append(path)
    place, advice, number = refused.value.facts
    assert (place, number) == (str(path), errno.ENOENT)
    assert "create its folder" in advice
    assert isinstance(refused.value, OSError)


def test_strict_json_is_what_these_tests_say_it_is(tmp_path: Path) -> None:
    path = tmp_path / "not.json"
    for text in ('{"a": NaN}', '{"a": 1, "a": 2}', '{"a": 1,}'):
        path.write_text(text)
        with pytest.raises((AssertionError, ValueError)):
            strict_json(path)
