"""The outbox and the cache of this machine, between artifacts and a store."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from casket.errors import BadLocation, CasketWarning, StoreFull, StoreUnavailable
from casket.format.artifacts import ArtifactFolder
from casket.format.files import FolderFiles
from casket.stores.remote import cache
from casket.stores.remote.cache import Cache
from casket.stores.remote.files import Stopped, Uploads
from casket.testing import name_of, pattern
from tests.stores.files import is_root, mounted

HERE = "far://host/runs"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CASKET_CACHE_SIZE", raising=False)
    return tmp_path


@pytest.fixture
def outbox(home: Path) -> ArtifactFolder:
    return ArtifactFolder(home / "outbox")


@pytest.fixture
def far(home: Path) -> FolderFiles:
    return FolderFiles(home / "far")


@pytest.fixture
def uploads(outbox: ArtifactFolder, far: FolderFiles) -> Uploads:
    return Uploads(outbox.path, HERE, lambda: far)


def run(uploads: Uploads) -> None:
    uploads.run(threading.Event())


def names(files: FolderFiles) -> list[str]:
    return [file.name for file in files.listed()]


# The outbox


def test_a_file_is_moved_from_the_outbox_to_the_store_and_the_cache(
    outbox: ArtifactFolder, uploads: Uploads, far: FolderFiles
) -> None:
    kept = outbox.put("a.txt", b"a")
    run(uploads)
    assert names(far) == [kept["file"]]
    assert uploads.waiting() == []
    assert (Cache("outbox", HERE).path / kept["file"]).read_bytes() == b"a"


def test_content_that_changed_before_it_was_sent_is_set_aside_and_named(
    outbox: ArtifactFolder, uploads: Uploads, far: FolderFiles
) -> None:
    changed, other = outbox.put("a.txt", b"a"), outbox.put("b.txt", b"b")
    (outbox.path / changed["file"]).write_bytes(b"something else")
    with pytest.warns(CasketWarning, match=rf"{changed['file']}: its content was changed"):
        run(uploads)
    assert names(far) == [other["file"]]
    assert not uploads.has_work()
    assert (outbox.path / f"{changed['file']}.changed").read_bytes() == b"something else"


class Meddled(FolderFiles):
    """Files of which one changes while it is sent."""

    def __init__(self, path: Path, changed: Path, content: bytes) -> None:
        super().__init__(path)
        self._changed, self._content = changed, content

    def put(self, upload, content):  # type: ignore[no-untyped-def]
        content.read(1)
        self._changed.write_bytes(self._content)
        content.seek(0)
        super().put(upload, content)


def test_content_that_changes_while_it_is_sent_does_not_arrive(
    home: Path, outbox: ArtifactFolder
) -> None:
    kept = outbox.put("a.bin", pattern(5000))
    far = Meddled(home / "far", outbox.path / kept["file"], pattern(5001))
    with pytest.warns(CasketWarning, match="its content was changed"):
        run(Uploads(outbox.path, HERE, lambda: far))
    assert names(far) == []


def test_content_that_is_stored_again_while_it_is_sent_arrives(
    home: Path, outbox: ArtifactFolder
) -> None:
    kept = outbox.put("a.bin", pattern(5000))
    far = Meddled(home / "far", outbox.path / kept["file"], pattern(5000))
    run(Uploads(outbox.path, HERE, lambda: far))
    assert names(far) == [kept["file"]]


def test_a_file_that_another_process_sends_is_left_to_it(
    outbox: ArtifactFolder, uploads: Uploads, far: FolderFiles
) -> None:
    fcntl = pytest.importorskip("fcntl")
    kept = outbox.put("a.txt", b"a")
    with (outbox.path / kept["file"]).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        run(uploads)
        assert names(far) == []
    run(uploads)
    assert names(far) == [kept["file"]]


def test_an_upload_is_stopped_and_goes_on(
    outbox: ArtifactFolder, uploads: Uploads, far: FolderFiles
) -> None:
    kept = outbox.put("a.txt", b"a")
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(Stopped):
        uploads.run(stopping)
    run(uploads)
    assert names(far) == [kept["file"]]


def test_a_store_without_room_keeps_the_files_in_the_outbox(
    home: Path, outbox: ArtifactFolder, far: FolderFiles, uploads: Uploads
) -> None:
    if not is_root():
        pytest.skip("only root may mount")
    outbox.put("a.bin", pattern(3 << 20))
    (home / "far").mkdir()
    with mounted(home / "far", "size=1m"):
        with pytest.raises(StoreFull):
            run(uploads)
        assert len(uploads.waiting()) == 1


# The cache


class Source:
    """Files that can be fetched, and how often they were."""

    def __init__(self) -> None:
        self.fetched: list[str] = []

    def fetch(self, content: bytes, *, damaged: bool = False) -> Path:
        here, name = Cache("store", HERE), name_of(content)
        if not here.has(name):
            self.fetched.append(name)
            here.fetch(name, lambda start: self._read(content + b"x" * damaged, start))
        return here.path / name

    def _read(self, content: bytes, start: int) -> Iterator[bytes]:
        for at in range(start, len(content), 1000):
            yield content[at : at + 1000]


def test_the_files_that_were_not_used_for_the_longest_time_leave_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CASKET_CACHE_SIZE", "0.01 MB")
    source = Source()
    first, second, third = (pattern(size) for size in (4001, 4002, 4003))
    for age, content in ((30, first), (20, second)):
        path = source.fetch(content)
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    source.fetch(first)
    kept = source.fetch(third)
    assert sorted(path.name for path in kept.parent.iterdir()) == sorted(
        map(name_of, (first, third))
    )


def test_a_file_larger_than_the_limit_is_kept_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASKET_CACHE_SIZE", "1KB")
    source = Source()
    source.fetch(pattern(500))
    path = source.fetch(pattern(3000))
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_limit_that_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASKET_CACHE_SIZE", "much")
    with pytest.raises(BadLocation, match=r"CASKET_CACHE_SIZE='much': give a size such as"):
        Source().fetch(b"a")


def test_damaged_content_is_not_cached() -> None:
    with pytest.raises(StoreUnavailable, match=rf"{HERE}: .*differs from its hash"):
        Source().fetch(pattern(5000), damaged=True)
    assert list(cache.home().glob("*/*")) == []


def test_a_full_disk_is_named_with_the_remedy(home: Path) -> None:
    if not is_root():
        pytest.skip("only root may mount")
    (home / "cache").mkdir()
    with mounted(home / "cache", "size=64k"):
        with pytest.raises(StoreFull, match=r"cache.* no room.*XDG_CACHE_HOME"):
            Source().fetch(pattern(200_000))
        assert Source().fetch(pattern(5000)).read_bytes() == pattern(5000)


def test_a_lost_connection_continues_where_it_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "PAUSES", (0.0, 0.0))
    content, starts = pattern(5000), []

    def read(start: int) -> Iterator[bytes]:
        starts.append(start)
        yield content[start : start + 2000]
        if start + 2000 < len(content):
            raise StoreUnavailable(HERE, "the connection broke")

    Cache("store", HERE).fetch(name_of(content), read)
    assert starts == [0, 2000, 4000]


def test_a_store_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "PAUSES", (0.0, 0.0))

    def read(start: int) -> Iterator[bytes]:
        raise StoreUnavailable(HERE, "the connection broke")
        yield b""

    with pytest.raises(StoreUnavailable, match="the connection broke"):
        Cache("store", HERE).fetch(name_of(b"a"), read)
