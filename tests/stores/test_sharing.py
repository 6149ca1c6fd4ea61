"""Files shared with other users: modes, links and bind mounts."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import casket
from casket import Experiment
from casket.errors import CasketWarning, StoreUnavailable
from casket.format.records import Writer, deletion
from casket.maintenance.doctor import repair
from casket.stores import base
from casket.stores.base import StoreOptions
from casket.stores.jsonfile.files import LocalFile
from casket.stores.jsonfile.store import JsonStore
from casket.stores.location import Location
from casket.stores.remote.journal import Journal
from casket.stores.sqlite.files import State
from casket.stores.sqlite.store import SqliteStore
from casket.testing import record

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A file with a damaged line in the middle."""
    path = tmp_path / "runs.json"
    for _ in range(3):
        JsonStore(path).append([record()])
    text = path.read_bytes()
    at = text.index(b'"2":') + 20
    path.write_bytes(text[:at] + b"\0" * 5 + text[at + 5 :])
    return path


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_files_beside_the_file_have_its_mode(damaged: Path, mode: int, umask: int) -> None:
    damaged.chmod(mode)
    text = damaged.read_bytes()
    before = os.umask(umask)
    try:
        kept = repair(Location.of(damaged))
        damaged.write_bytes(text)
        with pytest.warns(CasketWarning, match="moved to"):
            JsonStore(damaged).append([record()])
    finally:
        os.umask(before)
    torn = damaged.with_name("runs.json.torn")
    assert [mode_of(path) for path in (damaged, torn, kept)] == [mode] * 3


def test_a_replacement_is_private_while_it_is_written(damaged: Path) -> None:
    damaged.chmod(0o600)
    file = LocalFile(damaged, writing=True)

    def parts() -> Iterator[bytes]:
        [temporary] = damaged.parent.glob("*.tmp")
        assert mode_of(temporary) == 0o600
        yield b"{}"

    before = os.umask(0)
    try:
        file.replace(parts())
    finally:
        os.umask(before)
        file.close()
    assert mode_of(damaged) == 0o600


def test_a_repaired_database_is_private_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, modes = tmp_path / "runs.db", []
    SqliteStore(path).append([record()])
    path.chmod(0o600)
    write = SqliteStore.write

    def looked(store: SqliteStore, rows: Iterable[base.Numbered]) -> None:
        modes.extend(mode_of(each) for each in tmp_path.glob("runs.db.*"))
        write(store, rows)

    monkeypatch.setattr(SqliteStore, "write", looked)
    SqliteStore(path).close()
    repair(Location.of(path))
    assert set(modes) == {0o600}
    assert mode_of(path) == 0o600


def test_a_planted_link_is_not_followed(damaged: Path) -> None:
    victim = damaged.with_name("victim")
    victim.write_text("precious")
    torn = damaged.with_name("runs.json.torn")
    torn.symlink_to(victim)
    text = damaged.read_bytes()
    with pytest.raises(StoreUnavailable, match=r"runs\.json\.torn.*link"):
        JsonStore(damaged).append([record()])
    assert (victim.read_text(), damaged.read_bytes()) == ("precious", text)
    torn.unlink()
    damaged.with_name(f"runs.json.{os.getpid()}.tmp").symlink_to(victim)
    with pytest.warns(CasketWarning, match="moved to"):
        JsonStore(damaged).append([record()])
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", ["runs.json", "runs.db"])
def test_artifacts_lie_beside_the_target_of_a_link(tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "work").mkdir()
    target, link = tmp_path / "data" / name, tmp_path / "work" / name
    link.symlink_to(target)
    for path in (link, target):
        with Experiment.use(path, exp_id="e").model("m").session({"path": str(path)}) as session:
            session.add_artifact("note.txt", b"hello")
    assert os.listdir(link.parent) == [name]
    for path in (link, target):
        with casket.open(path) as runs:
            texts = [view.artifacts["note.txt"].path.read_text() for view in runs.sessions()]
            assert texts == ["hello"] * 2


@pytest.fixture
def mounted_alone(damaged: Path, tmp_path: Path) -> Iterator[Path]:
    """The damaged file, bind-mounted at a path of its own, as containers do."""
    target = tmp_path / "container" / "runs.json"
    target.parent.mkdir()
    target.touch()
    command = ["mount", "--bind", str(damaged), str(target)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        pytest.skip(f"mounting is not allowed here: {ran.stderr.strip()}")
    yield target
    subprocess.run(["umount", str(target)], check=True)


def warnings_of(work: Callable[[], object]) -> str:
    with pytest.warns(CasketWarning) as warned:
        work()
    return "\n".join(str(each.message) for each in warned)


def test_records_are_appended_to_a_file_that_is_mounted_alone(mounted_alone: Path) -> None:
    writer = Writer()
    one, two = record(writer=writer), record(writer=writer)
    assert "bind mount" in warnings_of(lambda: JsonStore(mounted_alone).append([one]))
    refusal = r"bind mount.*mount its folder"
    with pytest.warns(CasketWarning), pytest.raises(StoreUnavailable, match=refusal):
        JsonStore(mounted_alone).prune(deletion(Writer(), sessions=["s1"]))
    assert "copied to" in warnings_of(lambda: JsonStore(mounted_alone).append([two]))
    with pytest.warns(CasketWarning, match="no whole record"):
        numbered = list(JsonStore(mounted_alone, StoreOptions(writing=False)).records())
    assert [number for number, _ in numbered] == [1, 3, 4, 5]
    assert [each for _, each in numbered[2:]] == [one, two]
    assert mounted_alone.with_name("runs.json.torn").read_bytes().count(b'"2":') == 1


@pytest.fixture
def as_another_user() -> Iterator[Callable[[], None]]:
    """A function that makes this process act as another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    yield lambda: os.seteuid(65534)
    os.seteuid(0)


def test_who_may_write_only_the_file_can_append(as_another_user: Callable[[], None]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name), Path(name) / "runs.json"
        folder.chmod(0o755)
        JsonStore(path).append([record()])
        path.chmod(0o666)
        as_another_user()
        one = record()
        JsonStore(path).append([one])
        assert [each for _, each in JsonStore(path).records()][1:] == [one]
        with pytest.raises(StoreUnavailable, match="write permission for its folder"):
            JsonStore(path).prune(deletion(Writer(), sessions=["s1"]))
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(StoreUnavailable, match=r"runs\.json\.torn.*permission for the folder"):
            JsonStore(path).append([record()])
        os.seteuid(0)


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
@pytest.mark.parametrize("name", ["runs.json", "runs.db"])
def test_a_new_file_has_the_permissions_that_the_umask_allows(
    tmp_path: Path, name: str, umask: int
) -> None:
    before = os.umask(umask)
    try:
        experiment = Experiment.use(tmp_path / name, exp_id="e")
        experiment.model("m").add_result({"loss": 0.5})
        modes = {path.name: mode_of(path) for path in tmp_path.iterdir()}
        experiment.close()
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o666 & ~umask}, modes


def as_user(user: int, work: Callable[[], None]) -> None:
    """Do something in a process of another user."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setuid(user)
            work()
            code = 0
        except Exception:  # noqa: BLE001 - shown here, told by the exit code
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as other users")
def test_who_may_only_read_a_database_never_locks_its_owner_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name), Path(name) / "runs.db"
        folder.chmod(0o777)

        def write() -> None:
            store = SqliteStore(path)
            store.append([record()])
            store.close()

        def read_while_the_writer_leaves() -> None:
            monkeypatch.setattr(State, "is_in_use", True)  # as it was at the look before
            with suppress(StoreUnavailable):
                list(SqliteStore(path, StoreOptions(writing=False)).records())
            monkeypatch.undo()
            assert len(list(SqliteStore(path, StoreOptions(writing=False)).records())) == 1

        as_user(65533, write)
        as_user(65534, read_while_the_writer_leaves)
        as_user(65533, write)
        assert sorted(os.listdir(folder)) == ["runs.db"]


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_journals_are_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int) -> None:
    for name in ("XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    before = os.umask(umask)
    try:
        journal = Journal.begin("postgresql://host/db", "session")
    finally:
        os.umask(before)
    assert journal.path.is_relative_to(tmp_path)
    assert mode_of(journal.path.parent) == 0o700
    journal.leave()
