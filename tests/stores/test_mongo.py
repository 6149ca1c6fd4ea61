"""MongoDB: the contract, and faults of a real server. The server is SecantusDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pymongo
import pytest

from casket.errors import BadLocation, CasketWarning, StoreRefused
from casket.format.files import Files
from casket.format.records import Writer, deletion
from casket.stores import mongo
from casket.stores.mongo import MongoStore
from casket.testing import FilesContract, Reopen, StoreContract, record, records
from tests.life.exploring import explore, world  # noqa: F401 - a fixture
from tests.life.world import World
from tests.services.mongo import Mongo
from tests.stores import heads
from tests.stores.files import stored
from tests.stores.servers import SECRET, ServerTests, fails, opened

_databases = count()


@pytest.fixture(scope="module")
def server() -> Iterator[Mongo]:
    server = Mongo()
    yield server
    server.discard()


@pytest.fixture(scope="module")
def strict_server() -> Iterator[Mongo]:
    """A server that is not a replica set, and requires a password."""
    server = Mongo(is_standalone=True)
    server.create_user("guest", SECRET, "readWrite", "d")
    server.create_user("reader", SECRET, "read", "d")
    server.stop()
    server.start(auth=True)
    yield server
    server.discard()


@pytest.fixture
def url(server: Mongo) -> str:
    """The URL of an empty database of its own."""
    return server.url(f"d{next(_databases)}")


@pytest.fixture
def with_password(strict_server: Mongo) -> Iterator[str]:
    """The URL of somebody who needs a password."""
    url = strict_server.url("d", f"guest:{SECRET}@")
    yield url
    with pymongo.MongoClient(url) as client:
        for name in ("casket_records", "casket_store"):
            client["d"].drop_collection(name)


@pytest.fixture
def through(server: Mongo, url: str) -> Callable[[int], str]:
    """The same place through another port."""
    return lambda port: f"{url.replace(f':{server.port}/', f':{port}/')}?directConnection=true"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up early, where a test is not about how early."""
    monkeypatch.setattr(mongo, "PATIENCE", 3.0)


@pytest.fixture
def reopen(url: str) -> Reopen:
    return partial(MongoStore, url)


@pytest.fixture
def documents(url: str) -> Iterator[Any]:
    """The collection that casket writes, as others see it."""
    with pymongo.MongoClient(url) as client:
        yield client.get_default_database()["casket_records"]


class TestMongo(StoreContract):
    @pytest.fixture
    def reopen(self, url: str) -> Reopen:
        return partial(MongoStore, url)


class TestMongoFiles(FilesContract):
    @pytest.fixture
    def files(self, url: str) -> Iterator[Files]:
        with closing(MongoStore(url)) as store:
            yield store.files


class TestServer(ServerTests):
    """The tests of every store in a server."""


def test_a_standalone_server_keeps_batches_and_claims_too(with_password: str) -> None:
    batch = records(3)
    with closing(opened(with_password)) as store:
        number = store.append(batch)
        assert store.append(batch) == number
        store.prune(deletion(Writer(), sessions=["s"]))
        assert [r["kind"] for r in stored(store)] == ["deleted"]


def test_what_is_appended_at_once_is_one_document(reopen: Reopen, documents: Any) -> None:
    with closing(reopen()) as store:
        store.append(records(3))
        store.append([record()])
    assert [len(one["records"]) for one in documents.find()] == [3, 1]


def test_what_was_pruned_leaves_its_number_for_an_hour(reopen: Reopen, documents: Any) -> None:
    with closing(reopen()) as store, closing(reopen()) as slow:
        slow.append([record()])
        store.append(records(2, session="s2"))
        store.prune(deletion(Writer(), sessions=["s2"]))
        assert slow.append([record()]) == 5
        assert documents.count_documents({"records": {"$exists": False}}) == 1
        documents.update_many(
            {"emptied": {"$exists": True}}, {"$set": {"emptied": datetime(2020, 1, 1, tzinfo=UTC)}}
        )
        store.prune(deletion(Writer()))
        assert documents.count_documents({"records": {"$exists": False}}) == 0
        assert [number for number, _ in store.records()] == [1, 4, 5]


def test_pruning_goes_through_batches(reopen: Reopen) -> None:
    mixed = [record(session=f"s{i % 3}", body={"i": i}) for i in range(9)]
    with closing(reopen()) as store:
        store.append(mixed)
        store.prune(deletion(Writer(), sessions=["s1"]))
        assert [number for number, _ in store.records()] == [1, 3, 4, 6, 7, 9, 10]
        store.prune(deletion(Writer(), sessions=["s0", "s2"]))
        assert [number for number, _ in store.records()] == [10, 11]


# Refusals.


def test_a_url_without_a_database_is_refused_with_its_form(server: Mongo) -> None:
    for url in (server.url(""), server.url("")[:-1], server.url("", f"guest:{SECRET}@")):
        with pytest.raises(BadLocation, match="mongodb://user@host:27017/database") as caught:
            opened(url)
        assert SECRET not in str(caught.value)


def test_what_is_more_than_a_document_is_refused(reopen: Reopen) -> None:
    large = record(body={"text": "0123456789abcdef" * 1_250_000})
    with closing(reopen()) as store:
        with fails(StoreRefused, "a record of 20,0", "16 MB", "artifact"):
            store.append([large])
        several = [record(body={"text": "0123456789abcdef" * 500_000}) for _ in range(3)]
        with fails(StoreRefused, "3 records at once", "16 MB"):
            store.append(several)
        assert stored(store) == []


def test_collections_of_a_newer_casket_are_refused(reopen: Reopen, documents: Any) -> None:
    with closing(reopen()) as store:
        store.append([record()])
        documents.database["casket_store"].update_one({}, {"$set": {"version": 99}})
        store.close()
        with fails(StoreRefused, "version 99", "upgrade casket"):
            store.append([record()])
        with fails(StoreRefused, "version 99", "upgrade casket"):
            list(store.records())


def test_who_may_only_read_reads_and_is_told_so_when_appending(
    with_password: str,
) -> None:
    with closing(opened(with_password)) as store:
        store.append([record()])
    reader = with_password.replace("guest:", "reader:")
    with closing(opened(reader, writing=False)) as store:
        assert len(stored(store)) == 1
    with closing(opened(reader)) as store, fails(StoreRefused, "ask the administrator"):
        store.append([record()])


def test_who_gives_no_password_is_told_so(strict_server: Mongo) -> None:
    with closing(opened(strict_server.url("d"))) as store, fails(StoreRefused, "ask"):
        store.append([record()])
    with closing(opened(strict_server.url("d", "guest@"))) as store, fails(StoreRefused, "CASKET"):
        store.append([record()])


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://guest:geheim@host:port/d",
        "mongodb://guest:geh%zzeim@host/d",
        "mongodb://guest:ge@heim@host/d",
        "mongodb://guest:geheim/geheim@host/d",
        "mongodb://guest:ge:heim@host/d",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(BadLocation) as caught:
        opened(url).append([record()])
    for secret in (SECRET, "heim"):
        assert secret not in str(caught.value)
    assert caught.value.__context__ is None


# Collections that are dropped


def test_a_writer_makes_dropped_collections_anew_with_its_heads(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo, "LOOK_INTERVAL", 0.0)
    store, _ = heads.opened(partial(MongoStore, url))
    with closing(store), pymongo.MongoClient[Any](url) as client:
        database = client.get_default_database()
        before = [store.append([one]) for one in (*heads.HEADS, heads.epoch(1))]
        for name in ("casket_records", "casket_store"):
            database.drop_collection(name)
        monkeypatch.setattr(mongo, "LOOK_INTERVAL", 1000.0)
        blind = heads.epoch(2)
        store.append([blind])
        for name in ("casket_records", "casket_store"):
            database.drop_collection(name)
        monkeypatch.setattr(mongo, "LOOK_INTERVAL", 0.0)
        later = heads.epoch(3)
        with pytest.warns(CasketWarning, match="no longer holds"):
            number = store.append([later])
        assert number > before[-1]
        shown = [r for r in stored(store) if r["kind"] != "epoch"]
        assert shown == heads.HEADS
        assert stored(store)[-2:] == [blind, later]
        assert {"identities", "last"} <= set(database["casket_records"].index_information())


@pytest.mark.timeout(0)
def test_every_order_of_steps_of_sessions_tells_the_truth(
    reopen: Reopen,
    tmp_path: Path,
    world: World,  # noqa: F811 - a fixture
) -> None:
    explore(reopen, tmp_path, world, steps=200)
