"""Turns of the writers of a SQLite database."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from casket.stores.base import LOOK_INTERVAL
from casket.stores.sqlite import store as sqlite
from casket.stores.sqlite.store import SqliteStore
from casket.testing import record, records


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    made: list[float] = []
    sleep, tested = time.sleep, threading.get_ident()

    def note(seconds: float) -> None:
        """Record a pause of the tested thread; other threads of this process sleep."""
        if threading.get_ident() == tested:
            made.append(seconds)
        else:
            sleep(seconds)

    monkeypatch.setattr(sqlite.time, "sleep", note)
    return made


def wait_for_a_look() -> None:
    until = time.monotonic() + 1.1 * LOOK_INTERVAL
    while time.monotonic() < until:  # `sleep` is replaced
        pass


def test_a_writer_without_others_never_pauses(tmp_path: Path, pauses: list[float]) -> None:
    with closing(SqliteStore(tmp_path / "runs.sqlite")) as store:
        store.append(records(3))
        for _ in range(3):
            for _ in range(10):
                store.append([record()])
            wait_for_a_look()
    assert pauses == []


def test_a_writer_that_meets_another_pauses_after_some_appends(
    tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CONTESTED", "LOOK_INTERVAL"):
        monkeypatch.setattr(sqlite, name, 3600.0)  # however slow the machine is
    path = tmp_path / "runs.sqlite"
    with closing(SqliteStore(path)) as store, closing(SqliteStore(path)) as other:
        for one in (store, other, store):
            one.append([record()])
        for _ in range(2 * sqlite.TURN):
            store.append([record()])
    assert pauses
    assert set(pauses) == {sqlite.PAUSE}
