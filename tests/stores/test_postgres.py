"""PostgreSQL: the contract, and faults of a real server."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from casket.errors import BadLocation, CasketWarning, StoreRefused, StoreUnavailable
from casket.format.files import Files
from casket.format.records import Writer, covers, deletion
from casket.stores import postgres
from casket.stores.base import Claimed
from casket.stores.postgres import PostgresStore
from casket.stores.remote.repeats import Identity, identity
from casket.testing import FilesContract, Reopen, StoreContract, record, records, start
from tests.life.exploring import explore, world  # noqa: F401 - a fixture
from tests.life.world import World
from tests.services.postgres import Postgres
from tests.stores import heads
from tests.stores.files import stored
from tests.stores.servers import SECRET, ServerTests, fails, opened
from tests.waiting import eventually

_schemas = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    server = Postgres()
    server.sql(f"CREATE ROLE guest LOGIN PASSWORD '{SECRET}'")
    yield server
    server.discard()


@pytest.fixture
def schema(server: Postgres) -> str:
    """The name of an empty schema that everybody may use."""
    name = f"s{next(_schemas)}"
    server.sql(f"CREATE SCHEMA {name}; GRANT ALL ON SCHEMA {name} TO guest")
    return name


@pytest.fixture
def url(server: Postgres, schema: str) -> str:
    return f"{server.url()}?options=-csearch_path%3D{schema}"


@pytest.fixture
def with_password(server: Postgres, schema: str) -> str:
    """The URL of somebody who needs a password."""
    login = server.url(user="guest", password=SECRET)
    return f"{login}?options=-csearch_path%3D{schema}"


@pytest.fixture
def through(server: Postgres, url: str) -> Callable[[int], str]:
    """The same place through another port, as somebody whose password nobody asks for."""
    direct = f"postgres@127.0.0.1:{server.port}"
    return lambda port: url.replace(direct, f"postgres:{SECRET}@127.0.0.1:{port}")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up early, where a test is not about how early."""
    monkeypatch.setattr(postgres, "PATIENCE", 3.0)


@pytest.fixture
def reopen(url: str) -> Reopen:
    return partial(PostgresStore, url)


class TestPostgres(StoreContract):
    @pytest.fixture
    def reopen(self, url: str) -> Reopen:
        return partial(PostgresStore, url)


class TestPostgresFiles(FilesContract):
    @pytest.fixture
    def files(self, url: str) -> Iterator[Files]:
        with closing(PostgresStore(url)) as store:
            yield store.files


class TestServer(ServerTests):
    """The tests of every store in a server."""


def tables(server: Postgres, schema: str) -> str:
    return server.sql(f"SELECT count(*) FROM pg_tables WHERE schemaname = '{schema}'")


def test_the_tables_are_made_in_the_first_schema_by_the_first_append(
    server: Postgres, schema: str, reopen: Reopen
) -> None:
    with closing(reopen()) as store:
        assert stored(store) == []
        assert tables(server, schema) == "0"
        store.append([record()])
        assert tables(server, schema) == "3"


def test_several_caskets_lie_in_one_database(server: Postgres, url: str, schema: str) -> None:
    server.sql(f"CREATE SCHEMA {schema}b")
    with closing(opened(url)) as one, closing(opened(f"{url}b")) as two:
        one.append(records(2))
        two.append(records(1))
        assert (len(stored(one)), len(stored(two))) == (2, 1)


def test_what_is_stored_can_be_asked_for_in_sql(
    server: Postgres, schema: str, reopen: Reopen
) -> None:
    with closing(reopen()) as store:
        store.append([record(body={"epoch_num": 1, "result": {"loss": 0.25}})])
    question = "SELECT record->'body'->'result'->>'loss' FROM {}.casket_records"
    assert server.sql(question.format(schema)) == "0.25"


def test_pruning_deletes_what_the_tombstone_covers(reopen: Reopen) -> None:
    names = (None, "a", "b")
    every = [
        record(experiment=experiment, model=model, session=session)
        for experiment, model, session in itertools.product(names, names, names)
    ]
    for only_named, sessions, models, experiments in itertools.product(
        (False, True), ([], ["a"]), ([], [("a", "b")]), ([], ["b"])
    ):
        with closing(reopen()) as store:
            store.prune(deletion(Writer(), experiments=["a", "b"], models=[], sessions=["a", "b"]))
            before = [r for r in stored(store) if r["kind"] != "deleted"]
            copies = [{**one, "writer": Writer().id} for one in every]
            store.append(copies)  # type: ignore[arg-type]
            tombstone = deletion(
                Writer(),
                sessions=sessions,
                models=models,
                experiments=experiments,
                only_named=only_named,
            )
            store.prune(tombstone)
            left = [r for r in stored(store) if r["kind"] != "deleted"]
            assert left == [r for r in [*before, *copies] if not covers(tombstone, r)]  # type: ignore[arg-type]


def test_a_server_killed_amid_many_writers_keeps_what_it_confirmed(
    server: Postgres, reopen: Reopen
) -> None:
    confirmed: dict[int, Identity] = {}
    seen: dict[int, Identity] = {}

    def write(_: int) -> None:
        writer = Writer()
        with closing(reopen()) as store, suppress(StoreUnavailable):
            while True:
                one = record(writer=writer)
                confirmed[store.append([one])] = identity(one)

    def follow() -> None:
        with closing(reopen()) as store, suppress(StoreUnavailable):
            while True:
                after = max(seen, default=0)
                seen.update((number, identity(one)) for number, one in store.records(after=after))

    with closing(reopen()) as store:
        store.append([record()])
    with ThreadPoolExecutor(33) as pool:
        running = [*(pool.submit(write, i) for i in range(32)), pool.submit(follow)]
        eventually(lambda: len(confirmed) > 1000)
        server.kill()
        for each in running:
            each.result()
    server.start()
    with closing(reopen()) as store:
        numbers = {number: identity(one) for number, one in store.records()}
        assert confirmed.items() <= numbers.items()
        assert all(numbers.get(number, one) == one for number, one in seen.items())
        assert store.append([record()]) > max([*seen, *confirmed])


def test_a_number_that_a_crash_lost_is_not_given_again(
    server: Postgres, reopen: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.sql("ALTER SYSTEM SET wal_writer_delay = '10s'")
    server.sql("SELECT pg_reload_conf()")
    kept, lost = record(), record()
    try:
        with closing(reopen()) as store:
            store.append([kept])
            with monkeypatch.context() as unconfirmed:
                unconfirmed.setattr(postgres, "_SYNC", "SELECT 1")
                number = store.append([lost])
            assert stored(store) == [kept, lost]
        server.kill()
    finally:
        server.start()
        server.sql("ALTER SYSTEM RESET wal_writer_delay")
        server.sql("SELECT pg_reload_conf()")
    with closing(reopen()) as store:
        assert stored(store) == [kept]
        for _ in range(2):
            assert store.append([record()]) > number
        assert store.append([lost]) > number


def test_an_isolation_that_the_user_set_changes_nothing(url: str) -> None:
    strict = f"{url}%20-cdefault_transaction_isolation%3Dserializable"
    with closing(opened(strict)) as one, closing(opened(strict)) as two:
        for _ in range(5):
            one.append([record()])
            two.append(records(2))
        assert [number for number, _ in one.records()] == list(range(1, 16))


def test_a_client_that_stopped_in_the_middle_holds_up_nobody_for_long(
    server: Postgres, schema: str, reopen: Reopen
) -> None:
    with closing(reopen()) as store:
        store.append([record()])
        limit = store._guarded(  # type: ignore[attr-defined]
            lambda c: c.execute("SHOW idle_in_transaction_session_timeout").fetchone()
        )
    assert limit == ("12s",)


def test_a_refused_claim_keeps_the_connection(reopen: Reopen) -> None:
    with closing(reopen()) as store:
        store.append([start("s1", "c")], claim="c")
        before = backend(store)
        with pytest.raises(Claimed):
            store.append([start("s2", "c")], claim="c")
        assert backend(store) == before
        store.append([record()])  # nothing is left open in it
        with closing(reopen()) as other:
            assert len(stored(other)) == 2


def backend(store: Any) -> int:
    """Return the process of the server that serves a store's connection."""
    [(pid,)] = store._guarded(lambda c: c.execute("SELECT pg_backend_pid()").fetchall())
    return int(pid)


def test_a_record_of_twenty_megabytes_is_kept(reopen: Reopen) -> None:
    large = record(body={"text": "0123456789abcdef" * 1_250_000})
    with closing(reopen()) as store:
        store.append([large])
        assert stored(store) == [large]


# Refusals.


def test_tables_of_a_newer_casket_are_refused(
    server: Postgres, schema: str, reopen: Reopen
) -> None:
    with closing(reopen()) as store:
        store.append([record()])
        server.sql(f"UPDATE {schema}.casket_store SET version = 99")
        store.close()
        with fails(StoreRefused, "version 99", "upgrade casket"):
            store.append([record()])
        with fails(StoreRefused, "version 99", "upgrade casket"):
            list(store.records())


def test_a_missing_database_is_named(server: Postgres) -> None:
    with (
        closing(opened(server.url("nowhere"))) as store,
        fails(StoreRefused, '"nowhere" does not exist', "create the database"),
    ):
        store.append([record()])


def test_a_missing_user_is_named(server: Postgres) -> None:
    url = server.url(user="nobody", password=SECRET)
    with closing(opened(url)) as store, fails(StoreRefused, '"nobody"'):
        store.append([record()])


def test_who_may_not_create_tables_is_told_so(
    server: Postgres, schema: str, with_password: str
) -> None:
    server.sql(f"REVOKE CREATE ON SCHEMA {schema} FROM guest")
    with closing(opened(with_password)) as store, fails(StoreRefused, "permission denied"):
        store.append([record()])


def test_who_may_only_read_reads_and_is_told_so_when_appending(
    server: Postgres, schema: str, reopen: Reopen, with_password: str
) -> None:
    with closing(reopen()) as store:
        store.append([record()])
    server.sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO guest")
    with closing(opened(with_password, writing=False)) as store:
        assert len(stored(store)) == 1
    with closing(opened(with_password)) as store, fails(StoreRefused, "permission denied"):
        store.append([record()])


def test_a_schema_that_is_not_there_is_refused(url: str) -> None:
    with closing(opened(f"{url}_not_there")) as store, fails(StoreRefused, "search_path"):
        store.append([record()])


def test_a_database_of_another_encoding_is_refused(server: Postgres) -> None:
    server.sql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with closing(opened(server.url("latin"))) as store, fails(StoreRefused, "LATIN1", "UTF8"):
        store.append([record()])


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://guest:geheim@host:port/d",
        "postgresql://guest:geheim@host/d?nonsense=1",
        "postgresql://guest:geh%zzeim@host/d",
        "postgresql://guest:ge@heim@host/d",
        "postgresql://guest:geheim/geheim@host/d",
        "postgresql://host/d?p%61ssword=geheim",
        "postgresql://guest:ge heim@host/d",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(BadLocation) as caught:
        opened(url).append([record()])
    for secret in (SECRET, "heim"):
        assert secret not in str(caught.value)
    assert caught.value.__context__ is None


# Tables that are dropped


def test_a_writer_makes_dropped_tables_anew_with_its_heads(
    server: Postgres, schema: str, url: str
) -> None:
    store, _ = heads.opened(partial(PostgresStore, url))
    with closing(store):
        for one in (*heads.HEADS, heads.epoch(1)):
            store.append([one])
        for later, claim in ((heads.epoch(2), None), (start("again", "c2"), "c2")):
            server.sql(f"DROP TABLE {schema}.casket_store, {schema}.casket_records")
            with pytest.warns(CasketWarning, match="no longer holds"):
                store.append([later], claim=claim)
            assert stored(store) == [*heads.HEADS, later]


def test_a_reader_finds_nothing_in_dropped_tables(server: Postgres, schema: str, url: str) -> None:
    with closing(PostgresStore(url)) as store:
        store.append([record()])
        server.sql(f"DROP TABLE {schema}.casket_store, {schema}.casket_records")
        with pytest.raises(StoreRefused):
            stored(store)
        assert stored(store) == []


@pytest.mark.timeout(0)
def test_every_order_of_steps_of_sessions_tells_the_truth(
    reopen: Reopen,
    tmp_path: Path,
    world: World,  # noqa: F811 - a fixture
) -> None:
    explore(reopen, tmp_path, world, steps=500)
