"""A process that was stopped while it held the lock is named by those who wait for it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from casket.errors import CasketWarning
from casket.stores import waiting
from casket.stores.base import Store
from casket.stores.jsonfile.store import JsonStore
from casket.stores.sqlite.store import SqliteStore
from casket.testing import record
from tests.crash.scripts import ROOT

pytestmark = pytest.mark.skipif(
    not Path("/proc/locks").exists(), reason="only Linux tells who holds a lock"
)

HOLD = {
    ".json": """
from casket.stores.jsonfile.files import LocalFile
file = LocalFile(sys.argv[1], writing=True)
file.lock()
""",
    ".sqlite": """
import sqlite3
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
""",
}
STOP = "print('held', flush=True); os.kill(os.getpid(), signal.SIGSTOP)"


def opened(runs: Path) -> Store:
    return JsonStore(runs) if runs.suffix == ".json" else SqliteStore(runs)


@pytest.fixture
def holder(runs: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock, and was stopped by a signal."""
    store = opened(runs)
    store.append([record()])
    store.close()
    code = f"import os, signal, sys\n{HOLD[runs.suffix]}\n{STOP}"
    command = [sys.executable, "-c", code, str(runs), "--password=secret"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    os.waitpid(process.pid, os.WUNTRACED)
    yield process
    process.kill()
    process.communicate()


def test_a_stopped_holder_is_named_and_waited_for(
    runs: Path,
    holder: subprocess.Popen[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(waiting, "NOTICE", 0.2)
    is_said = threading.Event()
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())
            is_said.set()

    listener = Listener()
    logging.getLogger("casket").addHandler(listener)
    store = opened(runs)
    continuing = threading.Thread(
        target=lambda: is_said.wait(60) and os.kill(holder.pid, signal.SIGCONT)
    )
    continuing.start()
    try:
        with pytest.warns(CasketWarning, match="waiting for its lock") as caught:
            number = store.append([record(session="after")])
    finally:
        continuing.join()
        logging.getLogger("casket").removeHandler(listener)
        store.close()
    assert number == 2
    assert len(caught) == 1
    assert said == [str(caught[0].message)]
    for word in (str(runs), f"process {holder.pid}", Path(sys.executable).name, "is stopped"):
        assert word in said[0]
    assert "secret" not in said[0]


def test_a_lock_that_is_held_for_a_moment_is_not_spoken_of(
    runs: Path, recwarn: pytest.WarningsRecorder
) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from casket.testing import record\n"
        "from tests.crash.test_stopped_holder import opened\n"
        "store = opened(Path(sys.argv[1]))\n"
        "for _ in range(300):\n"
        "    store.append([record()])\n"
        "store.close()\n"
    )
    others = [subprocess.Popen([sys.executable, "-c", code, str(runs)], cwd=ROOT) for _ in range(2)]
    store = opened(runs)
    for _ in range(300):
        store.append([record()])
    assert [one.wait(60) for one in others] == [0, 0]
    assert len(list(store.records())) == 900
    assert not recwarn.list
    store.close()


def test_a_writer_of_sqlite_gives_up_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from casket.errors import StoreUnavailable
    from casket.stores.sqlite import locking

    monkeypatch.setattr(waiting, "NOTICE", 0.1)
    monkeypatch.setattr(locking, "WAIT_FOR_LOCK", 0.3)
    runs = tmp_path / "runs.sqlite"
    store, other = opened(runs), opened(runs)
    store.append([record()])
    other.append([record()])
    holding = SqliteStore(runs)
    holding.append([record()])
    assert holding._connection is not None
    holding._connection.execute("BEGIN IMMEDIATE")
    with (
        pytest.warns(CasketWarning, match="another handle of this process"),
        pytest.raises(StoreUnavailable, match="check for a stopped process"),
    ):
        other.append([record()])
    holding._connection.execute("ROLLBACK")
    assert other.append([record()]) == 4
    for one in (store, other, holding):
        one.close()
