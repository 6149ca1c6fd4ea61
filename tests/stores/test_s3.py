"""S3: the contract, and faults of a server. The server is moto."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import orjson
import pytest

from casket.errors import (
    BadLocation,
    CasketWarning,
    DamagedFile,
    StoreRefused,
    StoreUnavailable,
)
from casket.format.files import Files
from casket.format.records import Writer, deletion
from casket.stores.s3 import bucket, log
from casket.stores.s3 import store as s3_store
from casket.stores.s3.files import PART
from casket.stores.s3.store import S3Store
from casket.testing import FilesContract, Reopen, StoreContract, record, records, start
from tests.life.exploring import explore, world  # noqa: F401 - a fixture
from tests.life.world import World
from tests.services.aws import CREDENTIALS
from tests.services.proxy import Proxy
from tests.services.s3 import S3, sign_in
from tests.stores import heads
from tests.stores.files import stored
from tests.stores.servers import SECRET, ServerTests, fails, opened


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in(monkeypatch)


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    server = S3()
    yield server
    server.discard()


@pytest.fixture
def url(server: S3) -> str:
    """The URL of an empty place of its own."""
    return server.url()


@pytest.fixture
def through(server: S3, url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], str]:
    """The same place through another port."""
    monkeypatch.setattr(bucket, "PATIENCE", 6.0)  # for a server that says nothing
    return lambda port: url.replace(f":{server.port}/", f":{port}/")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up early, where a test is not about how early."""
    monkeypatch.setattr(bucket, "PATIENCE", 2.0)


@pytest.fixture
def reopen(url: str) -> Reopen:
    return partial(S3Store, url)


class TestS3(StoreContract):
    @pytest.fixture
    def reopen(self, url: str) -> Reopen:
        return partial(S3Store, url)


class TestS3Files(FilesContract):
    step = PART

    @pytest.fixture
    def files(self, url: str) -> Iterator[Files]:
        with closing(S3Store(url)) as store:
            yield store.files


class TestServer(ServerTests):
    """The tests of every store in a server."""

    # boto3 repeats the request itself, and the batch is recognized by its id.
    test_an_answer_that_was_lost_is_found_when_the_append_is_repeated = None
    # Nine processes that contend for a server in this process take half a minute; the contract
    # has followers and processes too.
    test_a_reader_meets_the_numbers_of_many_writers_in_their_order = None
    # A URL holds no keys.
    test_the_password_is_nowhere_to_be_seen = None
    test_a_password_may_come_from_the_environment = None
    test_a_wrong_password_is_refused = None


def keys(server: S3, url: str) -> list[str]:
    """Return the names of the objects of a place."""
    listed = server.client().list_objects_v2(Bucket=name_of(url))
    return [one["Key"] for one in listed.get("Contents", ())]


def name_of(url: str) -> str:
    return url.removeprefix("s3://").partition("/")[0]


def test_an_append_is_an_object_of_lines(server: S3, url: str, reopen: Reopen) -> None:
    batch = records(2)
    with closing(reopen()) as store:
        store.append(batch)
        store.append([record()])
    assert keys(server, url) == [
        "runs/casket.json",
        "runs/log/0000000000000001",
        "runs/log/0000000000000003",
    ]
    stored = server.client().get_object(Bucket=name_of(url), Key="runs/log/0000000000000001")
    head, *lines = map(orjson.loads, stored["Body"].read().splitlines())
    assert (head["casket"], head["next"]) == (1, 3)
    assert [number for number, _ in lines] == [1, 2]


def test_an_answer_that_was_lost_is_known_as_ones_own(
    server: S3, through: Callable[[int], str]
) -> None:
    """boto3 repeats the request, and the object that is there already holds the batch."""
    proxy, writer = Proxy(server.port), Writer()
    first, batch = record(writer=writer), records(3, writer=writer)
    with closing(opened(through(proxy.port))) as store:
        store.append([first])
        begun = len(server.requests)
        proxy.cut_before_answers()
        assert store.append(batch) == 4
        puts = [one for one in server.requests[begun:] if one.endswith("/0000000000000002")]
        assert [one.split()[0] for one in puts] == ["PUT", "PUT", "GET"]
        assert stored(store)[1:] == batch
    proxy.close()


@pytest.mark.parametrize("header", ["If-None-Match", "If-Match"])
def test_a_server_that_ignores_conditions_is_refused_by_name(header: str) -> None:
    server = S3(ignored=[header])
    with closing(opened(server.url())) as store:
        for _ in range(2 if header == "If-None-Match" else 1):
            with fails(StoreRefused, "Werkzeug", f"127.0.0.1:{server.port}", f"ignores {header}"):
                store.append([record()])
        assert list(store.records()) == []
    server.discard()


def test_appends_of_a_writer_are_a_request_each(
    server: S3, reopen: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_store, "END_KNOWN", 600.0)
    writer = Writer()
    with closing(reopen()) as store:
        store.append([record(writer=writer)])
        begun = len(server.requests)
        for _ in range(5):
            store.append([record(writer=writer)])
        assert [one.split()[0] for one in server.requests[begun:]] == ["PUT"] * 5


def test_readers_ask_only_for_what_is_new(server: S3, reopen: Reopen) -> None:
    with closing(reopen()) as store, closing(reopen()) as reader:
        for _ in range(3):
            store.append([record()])
        list(reader.records())
        store.append([record()])
        begun = len(server.requests)
        assert len(list(reader.records())) == 4
        assert [one.split()[0] for one in server.requests[begun:]] == ["GET", "GET"]
        begun = len(server.requests)
        reader.prune(deletion(Writer()))  # lists everything, and knows it by its ETags
        assert not [one for one in server.requests[begun:] if "/log/" in one]


def test_old_batches_are_packed_into_one_object(
    server: S3, url: str, reopen: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(reopen()) as store, closing(reopen()) as late, closing(reopen()) as reader:
        for size in (3, 1, 2):
            store.append(records(size))
        late.append([record()])
        before = list(reader.records(after=2))
        store.prune(deletion(Writer()))
        assert len(keys(server, url)) == 5  # an hour has not passed
        monkeypatch.setattr(log, "PACKED_AFTER", -3600.0)
        store.append([record()])
        store.prune(deletion(Writer()))
        assert [one[-2:] for one in keys(server, url)[1:]] == ["01", "08"]
        for handle in (store, late, reader, reopen()):
            assert [n for n, _ in handle.records()] == [*range(1, 9)]
            assert list(handle.records(after=2))[:-1] == before
        assert late.append([record()]) == 9
        assert store.append([record()]) == 10


def test_a_packing_that_was_killed_before_it_deleted_leaves_nothing_twice(
    server: S3, url: str, reopen: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "PACKED_AFTER", -3600.0)
    with closing(reopen()) as store, closing(reopen()) as other:
        for _ in range(4):
            store.append(records(2))
        before = list(other.records())
        with monkeypatch.context() as killed:
            killed.setattr(bucket.Bucket, "delete", lambda *_: None)
            store.prune(deletion(Writer()))
        assert len(keys(server, url)) == 5
        for handle in (store, other, reopen()):
            assert list(handle.records()) == before
        store.prune(deletion(Writer()))
        assert len(keys(server, url)) == 3
        assert list(reopen().records()) == before


def test_pruned_records_are_gone_from_the_objects(server: S3, url: str, reopen: Reopen) -> None:
    with closing(reopen()) as store, closing(reopen()) as other:
        mixed = [record(session=f"s{i % 3}", body={"i": i}) for i in range(9)]
        store.append(mixed)
        other.append(records(2, session="s1"))
        store.prune(deletion(Writer(), sessions=["s1"]))
        for handle in (store, other):
            assert [number for number, _ in handle.records()] == [1, 3, 4, 6, 7, 9, 12]
        client = server.client()
        for key in keys(server, url):
            body = client.get_object(Bucket=name_of(url), Key=key)["Body"].read()
            assert b'"session":"s1"' not in body


def test_an_object_that_is_rewritten_meanwhile_is_pruned_again(
    reopen: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = bucket.Bucket.replace
    with closing(reopen()) as store, closing(reopen()) as other:
        store.append([record(session=f"s{i}") for i in range(3)])

        def race(self: bucket.Bucket, first: int, content: bytes, etag: str) -> str | None:
            monkeypatch.setattr(bucket.Bucket, "replace", replace)
            other.prune(deletion(Writer(), sessions=["s2"]))
            return replace(self, first, content, etag)

        monkeypatch.setattr(bucket.Bucket, "replace", race)
        store.prune(deletion(Writer(), sessions=["s1"]))
        assert [r.get("session") for r in stored(reopen())] == ["s0", None, None]


def test_a_writer_that_was_suspended_during_a_request_appends_again(
    reopen: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = record()
    with closing(reopen()) as store:
        store.append([record()])
        with monkeypatch.context() as suspended:
            suspended.setattr(s3_store, "SLOW", -1.0)
            with fails(StoreUnavailable, "suspended"):
                store.append([late])
        assert store.append([late]) == 2
        assert len(stored(store)) == 2


def test_a_writer_goes_on_in_an_emptied_place_with_its_heads(
    server: S3, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = heads.opened(partial(S3Store, url))
    with closing(store):
        for one in (*heads.HEADS, heads.epoch(1)):
            store.append([one])
        for later, claim in ((heads.epoch(2), None), (start("again", "c2"), "c2")):
            client = server.client()
            for key in keys(server, url):
                client.delete_object(Bucket=name_of(url), Key=key)
            monkeypatch.setattr(s3_store, "END_KNOWN", 0.0)
            with pytest.warns(CasketWarning, match="no longer holds"):
                store.append([later], claim=claim)
            assert stored(store) == [*heads.HEADS, later]


# Where boto3 finds what it needs.


def test_the_endpoint_comes_from_the_environment_too(
    server: S3, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
    with closing(opened(url.partition("?")[0])) as store:
        store.append([record()])
        assert len(stored(store)) == 1


def test_a_profile_names_the_server_and_the_style_of_its_paths(
    server: S3, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "config"
    settings.write_text(
        f"[profile lab]\nendpoint_url = http://127.0.0.1:{server.port}\nregion = eu-west-1\n"
        "aws_access_key_id = me\naws_secret_access_key = hush\ns3 =\n  addressing_style = path\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(settings))
    with closing(opened(f"{url.partition('?')[0]}?profile=lab")) as store:
        store.append([record()])
        assert len(stored(store)) == 1
    with pytest.raises(BadLocation, match="nobody"):
        opened(f"{url.partition('?')[0]}?profile=nobody").append([record()])


def test_who_has_no_credentials_reads_a_public_place(
    server: S3, url: str, reopen: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(reopen()) as store:
        store.append([record()])
    for key in keys(server, url):
        server.client().put_object_acl(Bucket=name_of(url), Key=key, ACL="public-read")
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    for anonymous in (url, f"{url}&anonymous=true"):
        with closing(opened(f"{anonymous}&region=us-east-1", writing=False)) as reader:
            assert len(stored(reader)) == 1


def test_a_missing_bucket_is_named(server: S3) -> None:
    url = f"s3://nowhere/runs?endpoint_url=http://127.0.0.1:{server.port}"
    with closing(opened(url)) as store:
        with fails(StoreRefused, "s3://nowhere/runs", "create the bucket"):
            store.append([record()])
        with fails(StoreRefused, "create the bucket"):
            list(store.records())


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3:///runs", "names no bucket"),
        ("s3://key:geheim@bucket/runs", "leave keys out of the URL"),
        ("s3://bucket/runs?endpoint=http://host", "endpoint_url, profile"),
        ("s3://bucket/runs?addressing_style=flat", "auto, path, virtual"),
        ("s3://bucket/runs?anonymous=perhaps", "true, 1, false"),
        ("s3://bucket/runs?endpoint_url=nonsense", "Invalid endpoint: nonsense"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str, words: str) -> None:
    with pytest.raises(BadLocation, match=re.escape(words)) as caught:
        opened(url).append([record()])
    assert SECRET not in str(caught.value)


def test_objects_of_a_newer_casket_and_damaged_ones_are_refused(
    server: S3, url: str, reopen: Reopen
) -> None:
    client = server.client()
    for content, error, words in (
        (b'{"casket":99,"batch":"b","next":2}\n', StoreRefused, "upgrade casket"),
        (b"<html>", DamagedFile, "runs/log/0000000000000001"),
        (b'{"casket":1,"batch":"b","next":2}\n[1,\n', DamagedFile, "0000000000000001"),
    ):
        client.put_object(Bucket=name_of(url), Key="runs/log/0000000000000001", Body=content)
        with closing(reopen()) as store, pytest.raises(error, match=words):
            list(store.records())


@pytest.mark.timeout(0)
def test_every_order_of_steps_of_sessions_tells_the_truth(
    reopen: Reopen,
    tmp_path: Path,
    world: World,  # noqa: F811 - a fixture
) -> None:
    explore(reopen, tmp_path, world, steps=200)
