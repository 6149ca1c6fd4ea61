"""The path under a live handle comes to name another file, or none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from casket.errors import CasketWarning, NotFound, StoreUnavailable
from casket.format.records import Record, Writer, deletion
from casket.stores import base
from casket.stores.base import Claimed, Store, StoreOptions
from casket.stores.blitz import BlitzStore
from casket.stores.jsonfile.store import JsonStore
from casket.stores.sqlite.store import SqliteStore
from casket.testing import end, record, records, start, start_process
from tests.stores.files import casket_warnings, records_in, stored
from tests.stores.heads import HEADS, begun, epoch, opened, wait_for_a_look
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
FILES: dict[str, Callable[..., Store]] = {"runs.json": JsonStore, "runs.db": SqliteStore}
PLACES: dict[str, Callable[..., Store]] = {
    **FILES,
    "runs.blitz": lambda path, *options: BlitzStore(f"blitz:{path}", *options),
}
OTHERS = [start("theirs", "c2"), record(session="theirs")]


@pytest.fixture(params=PLACES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / request.param


@pytest.fixture(params=FILES)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / request.param


def module_that_looks(store: object) -> ModuleType:
    """Return the module with the interval between two looks of a store."""
    return sys.modules[type(getattr(store, "_document", store)).__module__]


def maker(path: Path) -> Callable[..., Store]:
    return partial(PLACES[path.name], path)


def read(path: Path) -> list[Record]:
    return stored(maker(path)(StoreOptions(writing=False)))


def beside(path: Path) -> list[Path]:
    return [one for one in path.parent.iterdir() if one.name.startswith(path.name)]


def remove(path: Path) -> list[Record]:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return []


def remove_with_all_beside_it(path: Path) -> list[Record]:
    for one in beside(path):
        remove(one)
    return []


def move(path: Path) -> list[Record]:
    path.rename(path.with_name("moved"))
    return []


def replace(path: Path) -> list[Record]:
    move(path)
    put_another(path)
    return OTHERS


def rename_another_over(path: Path) -> list[Record]:
    if path.is_dir():
        return replace(path)
    aside = path.with_name("aside") / path.name
    aside.parent.mkdir()
    put_another(aside)
    aside.replace(path)
    return OTHERS


def put_another(path: Path) -> None:
    """Put a store of somebody else at a path, with a session of theirs."""
    process = start_process(append, path, OTHERS)
    process.join(PATIENCE)
    assert process.exitcode == 0


def append(path: Path, records: list[Record]) -> None:
    with closing(maker(path)()) as store:
        store.append(records)


WAYS = [remove, remove_with_all_beside_it, move, replace, rename_another_over]


@pytest.fixture(params=WAYS)
def vanish(request: pytest.FixtureRequest) -> Callable[[Path], list[Record]]:
    way: Callable[[Path], list[Record]] = request.param
    return way


def test_a_writer_goes_on_in_what_is_there_now_with_its_heads(
    path: Path, vanish: Callable[[Path], list[Record]]
) -> None:
    store, _ = opened(maker(path))
    begun(store)
    wait_for_a_look()
    number = store.append([epoch(1)])
    theirs = vanish(path)
    wait_for_a_look()
    later = [epoch(k) for k in range(2, 6)]
    with casket_warnings() as said:
        numbers = [store.append([one]) for one in later]
    [warning] = said
    assert str(path) in warning
    assert "moved, deleted, replaced or emptied" in warning
    assert numbers == sorted(numbers)
    assert numbers[0] > number, "a number is used again"
    assert read(path) == stored(store) == [*theirs, *HEADS, *later]
    store.close()


def test_what_was_acknowledged_since_the_last_look_is_there(
    file: Path, vanish: Callable[[Path], list[Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = opened(maker(file))
    begun(store)
    module = module_that_looks(store)
    monkeypatch.setattr(module, "LOOK_INTERVAL", 1000.0)  # none precedes the following records
    theirs = vanish(file)
    blind = [epoch(3), epoch(4)]
    for one in blind:
        store.append([one])
    monkeypatch.setattr(module, "LOOK_INTERVAL", 0.0)
    with pytest.warns(CasketWarning, match="no longer holds"):
        store.append([epoch(5)])
    later = [r["body"]["epoch_num"] for r in read(file) if r["kind"] == "epoch" and r not in theirs]
    assert later == [3, 4, 5]
    assert [r for r in read(file) if r["kind"] in {"experiment", "model", "session"}][-3:] == HEADS
    store.close()


def test_the_end_of_a_session_looks_before_it_is_acknowledged(
    file: Path, vanish: Callable[[Path], list[Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = opened(maker(file))
    for one in HEADS:
        store.append([one])
    monkeypatch.setattr(module_that_looks(store), "LOOK_INTERVAL", 1000.0)
    vanish(file)
    last = end(HEADS[-1], "completed")
    with pytest.warns(CasketWarning, match="no longer holds"):
        store.append([last])
    assert read(file)[-1] == last
    assert set(map(str, HEADS)) <= set(map(str, read(file)))
    store.close()


def test_a_claim_is_asked_of_what_is_there_now(
    file: Path, vanish: Callable[[Path], list[Record]]
) -> None:
    store, _ = opened(maker(file))
    for one in HEADS:
        store.append([one])
    theirs = vanish(file)
    with pytest.warns(CasketWarning, match="no longer holds"):
        store.append([start("again", "c3")], claim="c3")
    if theirs:
        with pytest.raises(Claimed) as refused:
            store.append([start("mine", "c2")], claim="c2")
        assert refused.value.session == "theirs"
    assert [r["session"] for r in read(file) if r.get("claim") == "c3"] == ["again"]
    store.close()


def test_a_refused_claim_does_not_lose_what_was_acknowledged(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = opened(maker(file))
    for one in HEADS:
        store.append([one])
    monkeypatch.setattr(module_that_looks(store), "LOOK_INTERVAL", 1000.0)
    replace(file)
    store.append([epoch(1)])
    with (
        pytest.warns(CasketWarning, match="no longer holds"),
        pytest.raises(Claimed),
    ):
        store.append([start("mine", "c2")], claim="c2")
    assert [r["kind"] for r in read(file)[2:]] == [*(r["kind"] for r in HEADS), "epoch"]
    store.close()


def test_a_handle_that_was_closed_notices_when_it_opens_again(
    path: Path, vanish: Callable[[Path], list[Record]]
) -> None:
    store, _ = opened(maker(path))
    begun(store)
    store.close()
    theirs = vanish(path)
    with pytest.warns(CasketWarning, match="no longer holds"):
        store.append([epoch(2)])
    assert read(path) == [*theirs, *HEADS, epoch_of(store, 2)]
    store.close()


def epoch_of(store: Store, k: int) -> Record:
    [epoch] = [r for _, r in store.records(session="s") if r["body"].get("epoch_num") == k]
    return epoch


def test_a_handle_that_only_read_notices_when_it_writes(
    path: Path, vanish: Callable[[Path], list[Record]]
) -> None:
    first = maker(path)()
    for one in HEADS:
        first.append([one])
    first.close()
    store, _ = opened(maker(path))
    assert stored(store) == HEADS
    theirs = vanish(path)
    with pytest.warns(CasketWarning, match="no longer holds"):
        store.append([epoch(1)])
    assert read(path)[:-1] == [*theirs, *HEADS]
    store.close()


def test_the_first_append_of_a_handle_asks_for_no_heads(path: Path) -> None:
    put_another(path)
    store, heads = opened(maker(path))
    with casket_warnings() as said:
        store.append([HEADS[0]])
        store.close()
        store.append([HEADS[1]])
    assert heads.calls == []
    assert said == []
    store.close()


def test_what_casket_itself_replaces_is_no_other_file(path: Path) -> None:
    store, _ = opened(maker(path))
    for one in (*HEADS, *records(5, session="gone"), epoch(1)):
        store.append([one])
    other = maker(path)()
    with casket_warnings() as said:
        other.prune(deletion(Writer(), sessions=["gone"]))
        wait_for_a_look()
        store.append([epoch(2)])
        store.prune(deletion(Writer(), sessions=["gone"]))
        store.append([epoch(3)])
    assert said == []
    assert [r["body"]["epoch_num"] for r in read(path) if r["kind"] == "epoch"] == [1, 2, 3]
    assert len([r for r in read(path) if r["kind"] == "session"]) == 1
    other.close()
    store.close()


def test_a_session_that_is_removed_while_it_runs_stays_removed(path: Path) -> None:
    store, _ = opened(maker(path))
    for one in (*HEADS, epoch(1)):
        store.append([one])
    other = maker(path)()
    with casket_warnings() as said:
        other.prune(deletion(Writer(), sessions=["s"]))
        store.append([epoch(2)])
    assert said == []
    kinds = [r["kind"] for r in read(path)]
    assert "session" not in kinds
    assert kinds.count("epoch") == 1
    other.close()
    store.close()


def test_a_store_that_creates_nothing_refuses(
    file: Path, vanish: Callable[[Path], list[Record]]
) -> None:
    store, heads = opened(maker(file), StoreOptions(create=False))
    creator = maker(file)()
    creator.append(HEADS)
    creator.close()
    store.append([epoch(1)])
    store.append([epoch(2)])
    if vanish(file):
        return
    for _ in range(2):
        with pytest.raises(NotFound):
            store.append([epoch(3)])
    assert not file.exists()
    store.close()
    del heads


def test_a_folder_that_is_gone_is_said_and_nothing_is_lost_when_it_is_back(
    tmp_path: Path,
) -> None:
    for name, make in FILES.items():
        folder = tmp_path / f"{name}-folder"
        folder.mkdir()
        file = folder / name
        store, _ = opened(partial(make, file))
        for one in HEADS:
            store.append([one])
        shutil.rmtree(folder)
        wait_for_a_look()
        with pytest.raises(StoreUnavailable, match="create its folder"):
            store.append([epoch(1)])
        folder.mkdir()
        with pytest.warns(CasketWarning, match="no longer holds"):
            store.append([epoch(2)])
        assert [r["kind"] for r in read(file)] == ["experiment", "model", "session", "epoch"]
        store.close()


def test_a_moved_database_is_complete(tmp_path: Path) -> None:
    file, moved = tmp_path / "runs.db", tmp_path / "moved"
    store, _ = opened(maker(file))
    other = SqliteStore(file)
    before = [*HEADS, *(epoch(k) for k in range(50))]
    for i, one in enumerate(before):
        (store if i % 2 else other).append([one])
    wait_for_a_look()
    before += [epoch(60), epoch(61)]
    store.append(before[-2:-1])
    other.append(before[-1:])
    move(file)
    wait_for_a_look()
    with casket_warnings():
        store.append([epoch(100)])
        other.append([epoch(101)])
    assert stored(SqliteStore(moved, StoreOptions(writing=False))) == before
    kept = [r for r in read(file) if r["kind"] == "epoch"]
    assert [r["body"]["epoch_num"] for r in kept] == [100, 101]
    store.close()
    other.close()
    assert not [one for one in tmp_path.iterdir() if one.name.endswith(("-wal", "-shm"))]


def test_processes_that_all_lose_their_file_go_on_in_one(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from casket.testing import record\n"
        "from tests.stores.test_replaced import maker\n"
        "store = maker(Path(sys.argv[1]))()\n"
        "for k in range(10):\n"
        "    store.append([record(session=sys.argv[2], body={'k': k})])\n"
        "print('ready', flush=True)\n"
        "for line in sys.stdin:\n"
        "    store.append([record(session=sys.argv[2], body={'k': int(line)})])\n"
        "    print('done', flush=True)\n"
    )
    for name in FILES:
        file = tmp_path / name
        command = [sys.executable, "-W", "ignore", "-c", code, str(file)]
        crew = [
            subprocess.Popen(
                [*command, f"s{i}"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for i in range(3)
        ]
        try:
            for one in crew:
                assert one.stdout is not None
                assert one.stdout.readline() == "ready\n"
            file.unlink()
            wait_for_a_look()
            for k in range(100, 103):
                for one in crew:
                    assert one.stdin is not None
                    assert one.stdout is not None
                    one.stdin.write(f"{k}\n")
                    one.stdin.flush()
                    assert one.stdout.readline() == "done\n"
        finally:
            for one in crew:
                one.communicate(timeout=PATIENCE)
        epochs = [(r["session"], r["body"]["k"]) for r in read(file)]
        assert [one for one in epochs if one[1] >= 100] == [
            (f"s{i}", k) for k in range(100, 103) for i in range(3)
        ]


# In place.


def test_a_json_file_that_is_emptied_in_place_is_noticed_at_once(tmp_path: Path) -> None:
    file = tmp_path / "runs.json"
    store, _ = opened(maker(file))
    for one in (*HEADS, epoch(1)):
        store.append([one])
    os.truncate(file, 0)
    with pytest.warns(CasketWarning, match="no longer holds"):
        store.append([epoch(2)])
    assert [r["kind"] for r in records_in(file)][:3] == ["experiment", "model", "session"]


def test_a_json_file_that_is_written_over_is_noticed_at_once(tmp_path: Path) -> None:
    file, other = tmp_path / "runs.json", tmp_path / "other.json"
    store, _ = opened(maker(file))
    for one in (*HEADS, epoch(1)):
        store.append([one])
    JsonStore(other).append(OTHERS)
    shutil.copyfile(other, file)
    with pytest.warns(CasketWarning, match="no longer holds"):
        store.append([epoch(2)])
    assert records_in(file)[:5] == [*OTHERS, *HEADS]


def test_warnings_that_are_errors_do_not_fail_an_append(file: Path) -> None:
    store, _ = opened(maker(file))
    for one in HEADS:
        store.append([one])
    remove(file)
    wait_for_a_look()
    store.append([epoch(1)])  # pytest makes every warning an error
    assert [r["kind"] for r in read(file)][-1] == "epoch"
    assert base.LOOK_INTERVAL <= 0.05
    store.close()
