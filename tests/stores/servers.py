"""Tests of every store in a database server, beyond the contract."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

import casket
from casket import Experiment
from casket.errors import NotFound, StoreRefused, StoreUnavailable
from casket.format.records import Record, Writer, deletion
from casket.stores.base import Claimed, Store, StoreOptions
from casket.stores.location import Location
from casket.testing import (
    CONTEXT,
    Reopen,
    Wait,
    end,
    in_processes,
    is_ascending,
    record,
    records,
    start,
    start_process,
)
from tests.crash.crew import Crew
from tests.crash.sweeping import kill_workers_of_a_sweep
from tests.services.proxy import Proxy
from tests.stores.files import stored
from tests.waiting import IN_TIME, PATIENCE

SECRET = "geheim"  # must not appear in messages
WRITERS, EACH = 8, 30
CONTESTS = 20


class Server(Protocol):
    port: int

    def start(self) -> None: ...
    def stop(self, how: int = ...) -> None: ...


def opened(url: str, *, writing: bool = True) -> Store:
    """Open the store of a URL, without the journal that `Experiment.use` adds."""
    return Location.of(url).direct(StoreOptions(), writing=writing)


@contextmanager
def fails(error_type: type[StoreUnavailable], *words: str) -> Iterator[None]:
    """Expect an error, in time, with these words and without the secret, however it is shown."""
    begun = time.monotonic()
    with pytest.raises(error_type) as caught:
        yield
    assert time.monotonic() - begun < IN_TIME
    error = caught.value
    assert isinstance(error, StoreRefused) == issubclass(error_type, StoreRefused), error
    shown = "".join(traceback.format_exception(error)) + repr(error)
    for word in words:
        assert word in str(error)
    assert SECRET not in shown
    assert "Errno" not in str(error)
    assert SECRET.encode() not in pickle.dumps(error)
    assert error.__cause__ is None
    assert error.__context__ is None


def append_many(store: Store, me: int, wait: Wait) -> list[int]:
    writer = Writer()
    wait()
    return [store.append([record(session=f"s{me}", writer=writer)]) for _ in range(EACH)]


def follow(store: Store, _me: int, wait: Wait) -> list[int]:
    """Read on until everything is there; return the numbers in the order they were seen."""
    wait()
    seen: list[int] = []
    while len(seen) < WRITERS * EACH:
        seen += [number for number, _ in store.records(after=seen[-1] if seen else 0)]
    return seen


def append_or_follow(store: Store, me: int, wait: Wait) -> list[int]:
    return (append_many if me < WRITERS else follow)(store, me, wait)


def contest(store: Store, me: int, wait: Wait) -> list[bool]:
    won = []
    for i in range(CONTESTS):
        wait()
        try:
            store.append([start(f"s{i}-{me}", f"c{i}")], claim=f"c{i}")
        except Claimed:
            won.append(False)
        else:
            won.append(True)
    return won


def append_first(store: Store, me: int, wait: Wait) -> int:
    wait()
    return store.append([record(session=f"s{me}")])


def append_batches(reopen: Reopen, batches: list[list[Record]], begun: Any) -> None:
    store = reopen()
    for batch in batches:
        store.append(batch)
        begun.set()


class ServerTests:
    """Takes the fixtures `server`, `url` (of an empty place) and `reopen`."""

    # Repeated appends.

    def test_a_repeated_append_stores_nothing_twice(self, reopen: Reopen) -> None:
        batch = records(3)
        with closing(reopen()) as store, closing(reopen()) as other:
            number = store.append(batch)
            later = other.append([record()])
            for handle in (store, other, reopen()):
                assert handle.append(batch) == number
                handle.close()
            assert [n for n, _ in store.records()] == [*range(1, number + 1), later]

    def test_a_batch_that_is_stored_in_part_is_completed(self, reopen: Reopen) -> None:
        batch = records(5)
        with closing(reopen()) as store:
            store.append(batch[1:3])
            last = store.append(batch)
            assert stored(store) == [*batch[1:3], batch[0], *batch[3:]]
            assert dict(store.records())[last] == batch[-1]
            assert store.append([batch[3], batch[2]]) == 2

    def test_a_record_that_is_twice_in_a_batch_is_stored_once(self, reopen: Reopen) -> None:
        one, two = records(2)
        with closing(reopen()) as store:
            number = store.append([one, two, one])
            assert list(store.records()) == [(number, one), (number + 1, two)]

    def test_a_repeated_append_has_the_claim_that_it_got(self, reopen: Reopen) -> None:
        first, more = start("s1", "c"), record(session="s1")
        with closing(reopen()) as store, closing(reopen()) as other:
            number = store.append([first], claim="c")
            assert other.append([first], claim="c") == number
            assert other.append([first, more], claim="c") == number + 1
            with pytest.raises(Claimed):
                other.append([start("s2", "c")], claim="c")
            assert stored(store) == [first, more]

    def test_a_repeated_append_that_took_a_claim_over_still_has_it(self, reopen: Reopen) -> None:
        first, second = start("s1", "c"), start("s2", "c")
        takeover = [end(first, "killed"), second]
        with closing(reopen()) as store:
            store.append([first], claim="c")
            number = store.append(takeover, claim="c")
            assert store.append(takeover, claim="c") == number
            with pytest.raises(Claimed) as refused:
                store.append([first, start("s3", "c")], claim="c")
            assert refused.value.session == "s2"

    def test_a_repeated_prune_appends_one_tombstone(self, reopen: Reopen) -> None:
        tombstone = deletion(Writer(), sessions=["s1"])
        with closing(reopen()) as store:
            store.append(records(2, session="s1"))
            store.prune(tombstone)
            store.append(records(2, session="s1"))
            store.prune(tombstone)
            assert [r["kind"] for r in stored(store)] == ["deleted", "epoch", "epoch"]

    def test_an_answer_that_was_lost_is_found_when_the_append_is_repeated(
        self, server: Server, through: Callable[[int], str]
    ) -> None:
        proxy = Proxy(server.port)
        batch = records(3)
        with closing(opened(through(proxy.port))) as store:
            store.append([record()])
            proxy.cut_before_answers()
            with fails(StoreUnavailable):
                store.append(batch)
            number = store.append(batch)
            assert stored(store)[1:] == batch
            assert number == 4
        proxy.close()

    # Many at once.

    def test_a_reader_meets_the_numbers_of_many_writers_in_their_order(
        self, reopen: Reopen
    ) -> None:
        *numbers, seen = in_processes(reopen, append_or_follow, WRITERS + 1)
        assert seen == list(range(1, WRITERS * EACH + 1))
        assert sorted(number for mine in numbers for number in mine) == seen
        assert all(is_ascending(mine) for mine in numbers)

    def test_every_contested_claim_is_won_once(self, reopen: Reopen) -> None:
        won = in_processes(reopen, contest, WRITERS)
        assert [sum(each) for each in zip(*won, strict=True)] == [1] * CONTESTS
        with closing(reopen()) as store:
            assert len(stored(store)) == CONTESTS

    def test_the_first_users_may_all_come_at_once(self, reopen: Reopen) -> None:
        numbers = in_processes(reopen, append_first, WRITERS)
        assert sorted(numbers) == list(range(1, WRITERS + 1))

    # Faults.

    def test_a_client_killed_while_it_appends_leaves_whole_batches(self, reopen: Reopen) -> None:
        writer = Writer()
        batches = [records(20, writer=writer) for _ in range(400)]
        begun = CONTEXT.Event()
        process = start_process(append_batches, reopen, batches, begun)
        assert begun.wait(PATIENCE)
        time.sleep(0.02)
        process.kill()
        process.join()
        with closing(reopen()) as store:
            left = stored(store)
            assert len(left) % 20 == 0
            assert left == [one for batch in batches for one in batch][: len(left)]
            for batch in batches[: len(left) // 20 + 2]:
                store.append(batch)
            assert len(stored(store)) == len(left) + 40

    @pytest.mark.usefixtures("impatient")
    def test_a_handle_goes_on_when_its_server_was_restarted(
        self, server: Server, reopen: Reopen
    ) -> None:
        first, second, third = records(3)
        with closing(reopen()) as store:
            store.append([first])
            server.stop()
            try:
                with fails(StoreUnavailable):
                    store.append([second])
                with fails(StoreUnavailable):
                    list(store.records())
            finally:
                server.start()
            store.append([second])
            server.stop(signal.SIGKILL)
            server.start()
            append_at_last(store, third)
            assert stored(store) == [first, second, third]

    def test_a_server_that_says_nothing_is_given_up_in_time(
        self, server: Server, through: Callable[[int], str]
    ) -> None:
        proxy = Proxy(server.port)
        late = record()
        with closing(opened(through(proxy.port))) as store:
            store.append([record()])
            proxy.fall_silent()
            with fails(StoreUnavailable, "in time"):
                store.append([late])
            proxy.speak()
            store.append([late])
            assert stored(store)[1:] == [late]
        proxy.close()

    @pytest.mark.usefixtures("impatient")
    def test_a_port_that_nobody_listens_on_is_named(self, through: Callable[[int], str]) -> None:
        for writing in (True, False):
            with (
                closing(opened(through(1), writing=writing)) as store,
                fails(StoreUnavailable, "127.0.0.1:1/", "cannot be reached"),
            ):
                list(store.records())

    def test_a_child_that_leaves_leaves_the_parent_its_connection(self, reopen: Reopen) -> None:
        with closing(reopen()) as store:
            store.append([record()])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that threads are running
                child = os.fork()
            if child == 0:
                try:
                    with warnings.catch_warnings(record=True) as caught:
                        warnings.simplefilter("always")
                        store.append([record()])
                        store.close()
                        del store
                    os._exit(len(caught))
                finally:
                    os._exit(99)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            store.append([record()])
            assert len(stored(store)) == 3

    # Reading, and messages.

    def test_reading_a_place_without_tables_says_so_and_makes_none(self, url: str) -> None:
        for _ in range(2):
            with closing(opened(url, writing=False)) as store, pytest.raises(NotFound):
                list(store.records())
        with pytest.raises(NotFound), casket.open(url) as reader:
            list(reader.sessions())

    def test_an_experiment_is_logged_and_read(
        self, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("DATA", "STATE"):
            monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
        model = Experiment.use(url, exp_id="e").model("m")
        with model.session({"lr": 0.1}) as session:
            session.add_epoch(1, {"loss": float("nan")})
            session.add_artifact("a.txt", b"kept")
        with casket.open(url) as reader:
            [seen] = reader.sessions()
            assert (seen.status, seen.params) == ("completed", {"lr": 0.1})
            assert seen.artifacts["a.txt"].load() == b"kept"

    def test_each_set_of_a_sweep_completes_once_while_workers_are_killed(
        self, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("DATA", "STATE"):
            monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
        crew = Crew(tmp_path)
        try:
            kill_workers_of_a_sweep(crew, url, kills=5)
        finally:
            crew.disband()

    def test_names_that_no_index_could_hold_are_told_apart(self, reopen: Reopen) -> None:
        names = ["a\0b", "a?b", "x" * 20_000, "x" * 20_001, "\n", "ünï 🎉", "a.b", "$a", ""]
        with closing(reopen()) as store:
            for name in names:
                store.append([record(experiment=name, session=name, claim=name)], claim=name)
            for name in names:
                for field in ("experiment", "session", "claim"):
                    [(_, selected)] = store.records(**{field: name})
                    assert selected.get(field) == name
            assert list(store.records(session="\udc80")) == []
            store.prune(deletion(Writer(), sessions=names[:3], experiments=names[4:]))
            left = [r.get("session") for r in stored(store) if r["kind"] != "deleted"]
            assert left == ["x" * 20_001]

    def test_large_records_are_read_a_few_at_a_time(self, reopen: Reopen) -> None:
        texts = ["x" * size for size in (10, 3_000_000, 10, 6_000_000, 12_000_000, 10)]
        batch = [record(body={"text": text}) for text in texts]
        with closing(reopen()) as store:
            for one in batch:
                store.append([one])
            assert stored(store) == batch
            assert [r for _, r in store.records(after=4)] == batch[4:]

    def test_the_password_is_nowhere_to_be_seen(
        self, with_password: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert SECRET in with_password
        caplog.set_level(logging.DEBUG)
        place = Location.of(with_password)
        store = opened(with_password)
        with closing(store), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            store.append([record()])
            assert len(stored(store)) == 1
        shown = [str(place), repr(place), repr(store), str(store), caplog.text, *map(str, caught)]
        assert not [text for text in shown if SECRET in text]
        assert SECRET.encode() not in pickle.dumps(place)
        assert "***" in str(place)

    def test_a_password_may_come_from_the_environment(
        self, with_password: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place = pickle.loads(pickle.dumps(Location.of(with_password)))
        monkeypatch.setenv("CASKET_PASSWORD", SECRET)
        with closing(opened(place.url)) as store:
            store.append([record()])
        monkeypatch.setenv("CASKET_PASSWORD", SECRET + "!")
        with closing(opened(place.url)) as store, fails(StoreRefused):
            store.append([record()])

    def test_a_wrong_password_is_refused(self, with_password: str) -> None:
        wrong = with_password.replace(f":{SECRET}@", f":{SECRET}er@")
        with closing(opened(wrong)) as store, fails(StoreRefused, "correct the"):
            store.append([record()])


def append_at_last(store: Store, one: Record) -> None:
    """Append as who retries does: the connection may have been lost before."""
    for _ in range(3):
        try:
            store.append([one])
        except StoreUnavailable:
            time.sleep(0.5)
        else:
            return
    pytest.fail("the server was there again, and could not be reached")
