"""BlitzDB: the contract, and indexes damaged by a kill."""

import contextlib
import resource
import signal
import time
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("blitzdb")

import casket
from casket import ExistingParamsException, Experiment
from casket.errors import NotFound
from casket.stores.blitz import COLLECTION, BlitzStore
from casket.testing import (
    CONTEXT,
    Reopen,
    StoreContract,
    in_processes,
    record,
    records,
    start_process,
)
from tests.life.exploring import explore, world  # noqa: F401 - a fixture
from tests.life.world import World
from tests.waiting import PATIENCE

EPOCHS, CONTESTS = 200, 20


@pytest.fixture(autouse=True)
def homes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def reopen(folder):
    return partial(BlitzStore, f"blitz:{folder}")


class TestBlitz(StoreContract):
    @pytest.fixture
    def reopen(self, tmp_path):
        return partial(BlitzStore, f"blitz:{tmp_path / 'runs'}")


def stored(store):
    return [each for _, each in store.records()]


def cut_indexes(folder):
    for file in (folder / COLLECTION / "indexes").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_what_is_appended_twice_is_stored_once(reopen):
    batch = records(3)
    reopen().append(batch)
    assert reopen().append([*batch, record()]) == 4
    assert stored(reopen())[:3] == batch


def test_damaged_indexes_are_made_anew_from_the_documents_and_the_old_ones_kept(reopen, folder):
    store = reopen()
    first, second = record(), record()
    store.append([first])
    cut_indexes(folder)
    assert stored(reopen()) == [first], "reading needs no index"
    store.append([second])
    assert stored(reopen()) == [first, second]
    (kept,) = folder.parent.glob("runs.damaged-*")
    assert list((kept / COLLECTION / "objects").iterdir())
    store.append([record()])
    assert len(list(folder.parent.glob("runs.damaged-*"))) == 1


def test_a_document_cut_short_is_left_out(reopen, folder):
    store = reopen()
    store.append([record()])
    known = set((folder / COLLECTION / "objects").iterdir())
    store.append([record()])
    (last,) = set((folder / COLLECTION / "objects").iterdir()) - known
    last.write_bytes(last.read_bytes()[:20])
    assert len(stored(reopen())) == 1


def append_for_ever(url, started):
    store = BlitzStore(url)
    while True:
        store.append([record()])
        started.set()


def test_a_writer_killed_at_any_moment_leaves_what_the_next_can_write_to(reopen, folder):
    seen = 0
    for pause in (0.0, 0.01, 0.02, 0.05, 0.1):
        started = CONTEXT.Event()
        process = start_process(append_for_ever, f"blitz:{folder}", started)
        assert started.wait(PATIENCE)
        time.sleep(pause)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        reopen().append([record()])
        numbers = [number for number, _ in reopen().records()]
        assert len(numbers) > seen
        assert numbers == sorted(set(numbers))
        seen = len(numbers)


def contend(store, number, wait):
    model = Experiment.use(f"blitz:{store._path}", exp_id="digits").model("net")
    won = []
    wait()
    with model.session({"of": number}) as session:
        for epoch in range(EPOCHS):
            session.add_epoch(epoch, {"loss": 1.0})
    for seed in range(CONTESTS):
        with contextlib.suppress(ExistingParamsException):
            model.session({"seed": seed}).end()
            won.append(seed)
    model.experiment.close()
    return won


def test_eight_processes_lose_nothing_and_win_every_contest_once(reopen, folder):
    won = in_processes(reopen, contend, 8)
    assert sorted(seed for each in won for seed in each) == list(range(CONTESTS))
    with casket.open(f"blitz:{folder}") as runs:
        for number in range(8):
            (session,) = runs.sessions(where=f"params.of == {number}")
            assert [row["epoch_num"] for row in session.epochs] == list(range(EPOCHS))


def test_an_experiment_on_it(folder):
    url = f"blitz:{folder}"
    model = Experiment.use(url, exp_id="digits").model("net")
    with model.session({"lr": 0.1}) as session:
        session.add_epoch(1, {"loss": float("nan")})
        session.add_artifact("a.txt", b"hello")
    with casket.open(url) as runs:
        (seen,) = runs.sessions()
        assert (seen.status, len(seen.epochs)) == ("completed", 1)
        assert seen.artifacts["a.txt"].load() == b"hello"
    model.experiment.close()


def test_reading_a_folder_that_is_not_there_creates_nothing(folder):
    with pytest.raises(NotFound):
        casket.open(f"blitz:{folder}").sessions()
    assert not folder.exists()


def test_indexes_that_cannot_be_written_deny_no_document_that_is_there(folder):
    store = BlitzStore(f"blitz:{folder}")
    appended = records(20)
    for one in appended[:-1]:
        store.append([one])
    [index] = (folder / COLLECTION / "indexes").rglob("all_keys_with_undefined")
    document = max(one.stat().st_size for one in (folder / COLLECTION / "objects").iterdir())
    assert index.stat().st_size > document
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (document + 10, before[1]))
    try:
        assert store.append(appended[-1:]) == 20
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [r for _, r in store.records()] == appended
    store.append([record()])
    store.close()


@pytest.mark.timeout(0)
def test_every_order_of_steps_of_sessions_tells_the_truth(
    reopen: Reopen,
    tmp_path: Path,
    world: World,  # noqa: F811 - a fixture
) -> None:
    explore(reopen, tmp_path, world, steps=500)
