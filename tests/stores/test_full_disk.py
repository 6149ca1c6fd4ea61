"""A full disk: a clear error, no acknowledged record is lost, and it continues with free space."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from casket import Experiment
from casket.errors import CasketWarning, StoreFull
from casket.format.artifacts import ArtifactFolder
from casket.format.records import Record, Writer, checksum, deletion
from casket.stores.base import Store, StoreOptions
from casket.stores.jsonfile.store import JsonStore
from casket.stores.sqlite.store import SqliteStore
from casket.testing import record, records, start
from tests.stores.files import is_root, mounted, records_in, stored
from tests.waiting import PATIENCE

pytestmark = pytest.mark.skipif(not is_root(), reason="only root may mount a small disk")

ROOT = Path(__file__).parents[2]
STORES: dict[str, Callable[..., Store]] = {"runs.json": JsonStore, "runs.db": SqliteStore}
TEXT = "x" * 10_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte, a third of which `make_room` frees."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with mounted(folder, "size=1m"):
        (folder / "filling").write_bytes(bytes(350_000))
        yield folder


@pytest.fixture(params=STORES)
def path(request: pytest.FixtureRequest, disk: Path) -> Path:
    return disk / request.param


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with closing(STORES[path.name](path)) as store:
        yield store


def fill(disk: Path) -> None:
    """Leave no room at all."""
    with suppress(OSError), (disk / "filling").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def make_room(disk: Path) -> None:
    (disk / "filling").unlink()


def append_until_full(store: Store, batch: int) -> list[Record]:
    """Append until the disk is full; return the acknowledged records."""
    acknowledged: list[Record] = []
    while True:
        appended = records(batch, body={"x": TEXT})
        try:
            store.append(appended)
        except StoreFull:
            return acknowledged
        acknowledged += appended
        assert len(acknowledged) < 200, "a disk of 1 MB cannot hold this"


def assert_readable(path: Path, expected: list[Record]) -> None:
    """Check a file in this process, by another handle, and for JSON with a plain parser."""
    assert stored(STORES[path.name](path, StoreOptions(writing=False))) == expected
    if path.suffix == ".json":
        assert records_in(path) == expected


def assert_refused(call: Callable[[], object], path: Path) -> None:
    with pytest.raises(StoreFull) as refused:
        call()
    assert refused.value.errno == errno.ENOSPC
    assert refused.value.filename == str(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("batch", [1, 3], ids=["single records", "batches"])
def test_a_disk_that_fills_up_loses_nothing_acknowledged_and_goes_on_with_room(
    batch: int, store: Store, path: Path, disk: Path
) -> None:
    acknowledged = append_until_full(store, batch)
    fill(disk)
    assert_refused(lambda: store.append(records(1, body={"x": TEXT * 5})), path)
    assert_readable(path, acknowledged)
    assert stored(store) == acknowledged

    make_room(disk)
    small = record()
    store.append([small])
    fill(disk)
    assert_refused(lambda: store.append(records(batch, body={"x": TEXT * 50})), path)
    make_room(disk)
    later = records(3)
    numbers = [store.append([one]) for one in later]
    assert_readable(path, [*acknowledged, small, *later])
    assert numbers[-1] == len(acknowledged) + 4


def test_the_first_append_to_a_full_disk_is_refused_and_works_with_room(
    store: Store, path: Path, disk: Path
) -> None:
    fill(disk)
    for _ in range(2):
        assert_refused(lambda: store.append([record()]), path)
    assert stored(store) == []
    make_room(disk)
    first = record()
    assert store.append([first]) == 1
    assert_readable(path, [first])


def test_a_new_handle_on_a_full_disk_reads_all_and_says_that_it_is_full(
    store: Store, path: Path, disk: Path
) -> None:
    acknowledged = append_until_full(store, 1)
    fill(disk)
    store.close()
    fill(disk)  # closing may have freed something
    other = STORES[path.name](path)
    assert stored(other) == acknowledged
    assert_refused(lambda: other.append(records(1, body={"x": TEXT * 50})), path)
    make_room(disk)
    after = record()
    other.append([after])
    other.close()
    assert_readable(path, [*acknowledged, after])


def test_a_refused_claim_is_not_held(store: Store, path: Path, disk: Path) -> None:
    store.append([record()])
    fill(disk)
    big = start("s1", "c")
    big["body"]["x"] = TEXT * 5
    assert_refused(lambda: store.append([big], claim="c"), path)
    make_room(disk)
    store.append([start("s2", "c")], claim="c")
    assert [r["session"] for r in stored(store)] == ["s", "s2"]


def test_a_prune_without_room_removes_nothing_or_all_of_it(
    store: Store, path: Path, disk: Path
) -> None:
    gone, kept = records(12, session="gone", body={"x": TEXT}), records(12, body={"x": TEXT})
    store.append([*gone, *kept])
    fill(disk)
    before = sorted(one.name for one in disk.iterdir())
    tombstone = deletion(Writer(), sessions=["gone"])
    try:
        store.prune(tombstone)
        make_room(disk)
    except StoreFull:
        assert_readable(path, [*gone, *kept])
        make_room(disk)
        store.prune(tombstone)
    tombstone["crc"] = checksum(tombstone)
    assert_readable(path, [*kept, tombstone])
    store.append([record()])
    assert set(before) - {"filling"} == {one.name for one in disk.iterdir()}


def test_a_torn_file_on_a_full_disk_is_healed_when_there_is_room(disk: Path) -> None:
    path = disk / "runs.json"
    whole = records(3)
    for one in whole:
        JsonStore(path).append([one])
    with path.open("ab") as file:
        file.write(b"garbage" * 10)
    fill(disk)
    torn = path.read_bytes()
    assert_refused(lambda: JsonStore(path).append([record()]), path)
    assert path.read_bytes() == torn
    make_room(disk)
    after = record()
    with pytest.warns(CasketWarning):
        JsonStore(path).append([after])
    assert_readable(path, [*whole, after])


KEEP_APPENDING = """
import sys
from pathlib import Path
from casket.errors import StoreFull
from casket.stores.jsonfile.store import JsonStore
from casket.stores.sqlite.store import SqliteStore
from casket.testing import record
path = Path(sys.argv[1])
store = (JsonStore if path.suffix == ".json" else SqliteStore)(path)
count = 0
try:
    while True:
        store.append([record(session=sys.argv[2], body={"x": "x" * 5000})])
        count += 1
except StoreFull:
    print(count)
"""


def test_processes_that_fill_the_disk_together_lose_nothing_acknowledged(
    path: Path, disk: Path
) -> None:
    command = [sys.executable, "-c", KEEP_APPENDING, str(path)]
    processes = [
        subprocess.Popen([*command, name], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for name in ("one", "two")
    ]
    counts = [int(process.communicate(timeout=PATIENCE)[0]) for process in processes]
    sessions = [r["session"] for r in stored(STORES[path.name](path, StoreOptions(writing=False)))]
    assert [sessions.count("one"), sessions.count("two")] == counts
    assert sum(counts) > 20
    if path.suffix == ".json":
        assert len(records_in(path)) == sum(counts)


def test_artifacts_without_room_are_refused_and_leave_nothing_behind(disk: Path) -> None:
    folder = ArtifactFolder(disk / "runs.json.files")
    kept = folder.put("small.bin", b"small")
    fill(disk)
    for data in (b"x" * 10_000, b"y" * (2 << 20)):
        with pytest.raises(StoreFull) as refused:
            folder.put("large.bin", data)
        assert refused.value.errno == errno.ENOSPC
        assert str(folder.path) in str(refused.value)
    assert [one.name for one in folder.path.iterdir()] == [kept["file"]]
    assert folder.find(kept["file"]).read_bytes() == b"small"
    make_room(disk)
    assert folder.find(folder.put("large.bin", b"x" * 10_000)["file"]).stat().st_size == 10_000


def of_joblib(folder: Path) -> tuple[str, Any]:
    return "object.joblib", {"weights": np.zeros(300_000)}


def of_numpy(folder: Path) -> tuple[str, Any]:
    return "array.npy", np.zeros(300_000)


def of_torch(folder: Path) -> tuple[str, Any]:
    torch = pytest.importorskip("torch")
    return "weights.pt", {"weights": torch.zeros(600_000)}


def of_pandas(folder: Path) -> tuple[str, Any]:
    return "table.csv", pd.DataFrame({"a": np.random.default_rng(0).random(100_000)})


def of_pyarrow(folder: Path) -> tuple[str, Any]:
    return "table.parquet", pd.DataFrame({"a": np.random.default_rng(0).random(300_000)})


def of_folder(folder: Path) -> tuple[str, Any]:
    for number in range(4):
        (folder / f"{number}.bin").write_bytes(bytes([number]) * 300_000)
    return "files", folder


@pytest.mark.parametrize("make", [of_joblib, of_numpy, of_torch, of_pandas, of_pyarrow, of_folder])
def test_an_object_or_folder_without_room_is_refused_and_none_of_it_is_named(
    disk: Path, tmp_path: Path, make: Callable[[Path], tuple[str, Any]]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    model = Experiment.use(disk / "runs.json", exp_id="exp").model("net")
    with model.session() as session:
        session.add_artifact("checkpoint", b"first", keep="last")
        for options in ({}, {"keep": "last"}):
            name, content = make(source)
            with pytest.raises(StoreFull) as refused:
                session.add_artifact(name, content, **options)
            assert refused.value.errno == errno.ENOSPC
        assert not list((disk / "runs.json.files").glob(".*"))
    artifacts = model.sessions()[0].artifacts
    assert {name: artifact.load() for name, artifact in artifacts.items()} == {
        "checkpoint": b"first"
    }


def test_the_first_artifact_on_a_full_disk_is_refused_and_kept_with_room(disk: Path) -> None:
    folder = ArtifactFolder(disk / "runs.json.files")
    fill(disk)
    with pytest.raises(StoreFull):
        folder.put("large.bin", b"x" * 10_000)
    make_room(disk)
    assert folder.find(folder.put("large.bin", b"x" * 10_000)["file"]).is_file()
