from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from casket.format.files import Files, FolderFiles
from casket.stores.jsonfile import scan
from casket.stores.jsonfile.store import JsonStore
from casket.stores.memory import MemoryStore
from casket.stores.sqlite.store import SqliteStore
from casket.testing import FilesContract, Reopen, StoreContract


class TestMemory(StoreContract):
    shared_by_processes = False

    @pytest.fixture
    def reopen(self) -> Reopen:
        store = MemoryStore()
        return lambda: store


class TestJson(StoreContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        return partial(JsonStore, tmp_path / "runs.json")


class TestLargeJson(StoreContract):
    """A large file, in which heads are found by their mark alone."""

    @pytest.fixture
    def reopen(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reopen:
        monkeypatch.setattr(scan, "EDITED", 0)
        return partial(JsonStore, tmp_path / "runs.json")


class TestSqlite(StoreContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        return partial(SqliteStore, tmp_path / "runs.sqlite")


class TestFolder(FilesContract):
    @pytest.fixture
    def files(self, tmp_path: Path) -> Files:
        return FolderFiles(tmp_path / "files")
