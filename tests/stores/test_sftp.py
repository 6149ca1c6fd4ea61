"""The JSON file on another machine, on a real sshd of this machine."""

from __future__ import annotations

import json
import logging
import os
import pickle
import pty
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from tinydb import TinyDB, where

pytest.importorskip("paramiko")

import casket
from casket.errors import (
    BadLocation,
    CasketWarning,
    NotFound,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
)
from casket.format.files import Files
from casket.format.records import Record, Writer, deletion
from casket.sftp_storage import SFTPStorage
from casket.stores import waiting
from casket.stores.base import Claimed, StoreOptions
from casket.stores.location import Location
from casket.stores.remote.spool import Spool
from casket.stores.sftp import ssh
from casket.stores.sftp import wire as sftpwire
from casket.stores.sftp.file import SftpFile
from casket.stores.sftp.store import SftpStore
from casket.testing import (
    CONTEXT,
    FilesContract,
    Reopen,
    StoreContract,
    in_processes,
    is_ascending,
    receive,
    record,
    records,
    start,
    start_process,
)
from tests.life.exploring import explore, world  # noqa: F401 - a fixture
from tests.life.world import World
from tests.services.passwords import PasswordServer
from tests.services.proxy import Proxy
from tests.services.sshd import Sshd
from tests.stores import heads
from tests.stores.files import (
    casket_warnings,
    is_root,
    mounted,
    records_in,
    stored,
    strict_json,
)
from tests.stores.sftp_workers import (
    CONTESTS,
    EACH,
    LEASE,
    Brisk,
    Hasty,
    Intercepted,
    Write,
    append_and_contest,
    append_until_killed,
)
from tests.waiting import IN_TIME, PATIENCE

SECRET = "geheim"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    sshd = Sshd()
    yield sshd
    sshd.discard()


@pytest.fixture(autouse=True)
def home(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(server.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.delenv("CASKET_PASSWORD", raising=False)
    server.know(server.home)
    return server.home


@pytest.fixture
def other_home(server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another client, who knows the server and has no key that it takes."""
    (tmp_path / ".ssh").mkdir()
    server.know(tmp_path)
    server.make_key(tmp_path / ".ssh" / "id_ed25519")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def path(server: Sshd) -> Path:
    """A file of the server that does not exist yet."""
    return server.files / f"{uuid.uuid4().hex}.json"


@pytest.fixture
def url(server: Sshd, path: Path) -> str:
    return server.url(path)


@pytest.fixture
def proxied(server: Sshd, path: Path) -> Iterator[Callable[..., tuple[Proxy, str]]]:
    """Return a proxy before the server, and the URL through it."""
    proxies: list[Proxy] = []

    def begin(delay: float = 0.0) -> tuple[Proxy, str]:
        proxies.append(Proxy(server.port, delay=delay))
        server.know(server.home, *[proxy.port for proxy in proxies])
        return proxies[-1], server.url(path, proxies[-1].port)

    yield begin
    for proxy in proxies:
        proxy.close()


@contextmanager
def fails(error_type: type[StoreUnavailable], *words: str) -> Iterator[None]:
    """Expect just this error, in time, with these words and without the secret."""
    begun = time.monotonic()
    with pytest.raises(error_type) as caught:
        yield
    assert time.monotonic() - begun < IN_TIME
    assert type(caught.value) is error_type
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert SECRET not in shown
    assert SECRET.encode() not in pickle.dumps(caught.value)


def append_at_last(store: SftpStore, batch: Sequence[Record]) -> int:
    """Append as a journal does: again, until it is confirmed."""
    for _ in range(20):
        try:
            return store.append(batch)
        except StoreRefused:
            raise
        except StoreUnavailable:
            continue
    raise AssertionError("it was never confirmed")


class TestSftp(StoreContract):
    @pytest.fixture
    def reopen(self, url: str) -> Reopen:
        return partial(Brisk, url)


class TestSftpFiles(FilesContract):
    @pytest.fixture
    def files(self, url: str) -> Iterator[Files]:
        with closing(SftpStore(url)) as store:
            yield store.files


# Many clients


def test_many_processes_lose_nothing_and_win_every_claim_once(url: str, path: Path) -> None:
    seen: list[int] = []
    with (
        ThreadPoolExecutor(1) as pool,
        closing(SftpStore(url, StoreOptions(writing=False))) as reader,
    ):
        crew = pool.submit(in_processes, partial(SftpStore, url), append_and_contest, 8)
        is_over = False
        while not is_over:
            is_over = crew.done()
            if path.exists():
                seen += [number for number, _ in reader.records(after=seen[-1] if seen else 0)]
        won = crew.result()
    assert [sum(each) for each in zip(*won, strict=True)] == [1] * CONTESTS
    assert is_ascending(seen)
    assert len(seen) == len(records_in(path)) == 8 * EACH + CONTESTS
    for me in range(8):
        mine = [r["body"]["i"] for r in records_in(path) if r.get("session") == f"s{me}"]
        assert mine == list(range(EACH))


def test_the_lock_lies_beside_the_file_and_is_free_afterwards(url: str, path: Path) -> None:
    with closing(SftpStore(url)) as store:
        store.append([record()])
        store.prune(deletion(Writer(), sessions=["s"]))
        [lease] = Path(f"{path}.lock").iterdir()
        assert lease.name.startswith("free-")
    assert {p.name for p in path.parent.glob(f"{path.name}*")} == {path.name, f"{path.name}.lock"}


def test_closing_a_handle_leaves_a_thread_that_reads_its_connection(url: str) -> None:
    with closing(SftpStore(url)) as store:
        store.append([record(body={"text": "x" * 100_000}) for _ in range(20)])
        reading = store.records()
        next(reading)
        store.close()
        assert len(list(reading)) == 19
        assert len(stored(store)) == 20


# Repeated appends


def test_a_batch_that_is_there_already_is_not_appended_again(url: str) -> None:
    batch = records(3)
    with closing(SftpStore(url)) as store, closing(SftpStore(url)) as other:
        number = store.append(batch)
        later = other.append([record()])
        for handle in (store, other):
            assert handle.append(batch) == number
            assert handle.append([batch[1], batch[0]]) == 1
        more = record()
        assert other.append([*batch, more]) == later + 1
        assert stored(store)[:3] == batch
        assert stored(store)[4:] == [more]


def test_a_repeated_append_has_the_claim_that_it_got(url: str) -> None:
    first = start("s1", "c")
    with closing(SftpStore(url)) as store, closing(SftpStore(url)) as other:
        number = store.append([first], claim="c")
        assert other.append([first], claim="c") == number
        with pytest.raises(Claimed):
            other.append([start("s2", "c")], claim="c")
        assert stored(store) == [first]


def test_claims_are_told_from_what_is_new(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer()
    with closing(SftpStore(url)) as store, closing(SftpStore(url)) as other:
        store.append([start("s0", "c0", writer)], claim="c0")
        other.append([record(body={"text": "x" * 2_000_000}), start("s1", "c1")])
        store.append([start("s2", "c2", writer)], claim="c2")
        read = spied_reads(monkeypatch)
        for claim in ("c0", "c1", "c2"):
            with pytest.raises(Claimed):
                store.append([start("s3", claim, writer)], claim=claim)
        assert sum(read) < 1_000_000
        other.prune(deletion(Writer(), sessions=["s1"]))
        store.append([start("s4", "c1", writer)], claim="c1")


# Clients that die


@pytest.mark.parametrize("sessions", [["s", "s", "never"], ["s", "s", "last"]], ids="-".join)
def test_the_lock_of_a_killed_client_is_taken_over(
    url: str, path: Path, sessions: list[str]
) -> None:
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = start_process(append_until_killed, url, sessions, sender)
    sender.close()
    acknowledged = [receive(receiver) for _ in range(2)]
    process.join()
    [lease] = Path(f"{path}.lock").iterdir()
    assert lease.name.startswith("held-")
    begun = time.monotonic()
    with closing(Hasty(url)) as store:
        number = store.append([record(session="after")])
        assert LEASE < time.monotonic() - begun < IN_TIME
        assert [r["session"] for r in stored(store)] == [
            *("s", "s"),
            *(["last"] if "last" in sessions else []),
            "after",
        ]
    assert number > max(acknowledged)
    assert {p.name for p in path.parent.glob(f"{path.name}*")} == {path.name, f"{path.name}.lock"}


def test_a_server_without_what_newer_ones_offer_will_do(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It copies no files, gives and takes only small blocks at once, and syncs nothing."""
    for extension in ("COPY", "LIMITS", "SYNC", "ROOM"):
        monkeypatch.setattr(sftpwire, extension, "not@offered")
    batches = [records(300, session=f"s{i}") for i in range(3)]

    class Dropping(Intercepted):
        def write(self, file: SftpFile, write: Write, offset: int, data: bytes) -> None:
            write(offset, data)
            if b'"session":"s1"' in data and not self._copies.stored:
                self._connection.drop()

    with closing(Dropping(url)) as dropping, closing(Hasty(url)) as store:
        dropping.append(batches[0])
        with fails(StoreUnavailable, "not known yet"):
            dropping.append(batches[1])
        store.append(batches[2])
        dropping.append(batches[1])
        assert stored(dropping) == [*batches[0], *batches[1], *batches[2]]
    assert records_in(path) == [*batches[0], *batches[1], *batches[2]]


def test_a_holder_that_lives_keeps_its_lock(url: str) -> None:
    """However long it takes: it shows now and then that it lives."""
    is_reading = threading.Event()

    class Slow(Intercepted):
        def write(self, file: SftpFile, write: Write, offset: int, data: bytes) -> None:
            is_reading.set()
            for i in range(20):
                time.sleep(LEASE / 8)
                file.read_at((i % 2) << 20, 1)
            write(offset, data)

    with closing(Slow(url)) as slow, closing(Hasty(url)) as store:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(slow.append, [record(session="slow")])
            is_reading.wait()
            store.append([record(session="other")])
        assert first.result() == 1
        assert [r["session"] for r in stored(store)] == ["slow", "other"]


def test_a_holder_that_slept_too_long_is_told_and_writes_it_again(url: str) -> None:
    with closing(Hasty(url)) as store, closing(Hasty(url)) as other:

        class Sleepy(Intercepted):
            def write(self, file: SftpFile, write: Write, offset: int, data: bytes) -> None:
                write(offset, data)
                if b'"session":"slept"' in data:
                    other.append([record(session="other")])

        with closing(Sleepy(url)) as sleepy:
            sleepy.append([record(session="first")])
            late = record(session="slept")
            with fails(StoreUnavailable, "silent for too long"):
                sleepy.append([late])
            store.append([late])
        assert [r["session"] for r in stored(store)] == ["first", "slept", "other"]


def test_a_new_file_of_a_holder_that_slept_takes_the_place_of_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even if it slept at the last moment, when all was written."""
    put_in_place = SftpFile._put_in_place
    slept: list[str] = []

    def put_in_place_late(file: SftpFile, new: str) -> None:
        if not slept:
            slept.append(new)
            other.append([record(session="other")])
        put_in_place(file, new)

    with closing(Hasty(url)) as store, closing(Hasty(url)) as other:
        store.append(records(2, session="gone") + records(2, session="kept"))
        monkeypatch.setattr(SftpFile, "_put_in_place", put_in_place_late)
        with fails(StoreUnavailable, "silent for too long"):
            store.prune(deletion(Writer(), sessions=["gone"]))
        sessions = [r["session"] for r in stored(store)]
        assert sessions == ["gone", "gone", "kept", "kept", "other"]


# Networks and servers that fail


def test_what_was_cut_off_anywhere_is_there_once(
    proxied: Callable[..., tuple[Proxy, str]], path: Path
) -> None:
    proxy, through = proxied()
    chance, writer = random.Random(5), Writer()
    batches = [[record(writer=writer, body={"i": i})] * 1 for i in range(40)]
    batches = [
        batch if i % 2 else [*batch, record(writer=writer)] for i, batch in enumerate(batches)
    ]
    with closing(Hasty(through)) as store:
        for batch in batches:
            proxy.cut_after(chance.randrange(1, 4500))
            append_at_last(store, batch)
    assert records_in(path) == [one for batch in batches for one in batch]


def test_what_arrives_late_changes_nothing(
    proxied: Callable[..., tuple[Proxy, str]], url: str, path: Path
) -> None:
    """A network that is silent with a write on its way, and delivers it when others went on."""
    proxy, through = proxied()

    class Unlucky(Intercepted):
        def write(self, file: SftpFile, write: Write, offset: int, data: bytes) -> None:
            if b'"session":"late"' in data:
                proxy.fall_silent()
            write(offset, data)

    late = records(3, session="late")
    with closing(Unlucky(through)) as unlucky, closing(Hasty(url)) as store:
        unlucky.append(records(2, session="first"))
        with ThreadPoolExecutor(1) as pool:
            doomed = pool.submit(unlucky.append, late)
            store.append([record(session="other")])
            with fails(StoreUnavailable, "did not answer in time"):
                doomed.result()
        before = path.read_bytes()
        proxy.speak()
        time.sleep(0.5)
        assert path.read_bytes() == before
        append_at_last(store, late)
        sessions = [r["session"] for r in records_in(path)]
        assert sessions == ["first"] * 2 + ["other"] + ["late"] * 3


def test_a_server_that_was_killed_and_started_again_has_all(server: Sshd, url: str) -> None:
    first, second = records(2)
    with closing(SftpStore(url)) as store:
        store.append([first])
        server.stop()
        try:
            with fails(StoreUnavailable):
                store.append([second])
            with fails(StoreUnavailable, "no SSH server answers", str(server.port)):
                store.append([second])
            with fails(StoreUnavailable):
                stored(store)
        finally:
            server.start()
        append_at_last(store, [second])
        assert stored(store) == [first, second]


def test_a_server_that_says_nothing_is_given_up(
    path: Path, server: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "TIMEOUT", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = SftpStore(server.url(path, silent.getsockname()[1]))
        with fails(StoreUnavailable, "does not answer"):
            store.append([record()])


def test_a_full_disk_is_said_and_goes_on_with_room(server: Sshd) -> None:
    if not is_root():
        pytest.skip("only root may mount a small disk")
    disk = server.files / "disk"
    disk.mkdir()
    first, large, last = record(), record(body={"text": "x" * 400_000}), record()
    with mounted(disk, "size=200k"), closing(SftpStore(server.url("disk/runs.json"))) as store:
        store.append([first])
        with fails(StoreFull, "make room"):
            store.append([large])
        assert stored(store) == [first]
        store.append([last])
        assert records_in(disk / "runs.json") == [first, last]


# Speed, in round trips


def spied_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that will hold the length of each read."""
    lengths: list[int] = []
    read = sftpwire.Session.read

    def spy(session: sftpwire.Session, handle: bytes, offset: int, length: int) -> bytes:
        content = read(session, handle, offset, length)
        lengths.append(len(content))
        return content

    monkeypatch.setattr(sftpwire.Session, "read", spy)
    return lengths


def spied_round_trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with each round trip."""
    trips: list[int] = []
    ask = sftpwire.Session.ask

    def spy(session: sftpwire.Session, *requests: Any) -> Any:
        trips.append(len(requests))
        return ask(session, *requests)

    monkeypatch.setattr(sftpwire.Session, "ask", spy)
    return trips


def test_a_batch_takes_three_round_trips(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer()
    with closing(SftpStore(url)) as store:
        store.append(records(500, writer=writer))
        trips = spied_round_trips(monkeypatch)
        store.append(records(500, writer=writer))
        assert len(trips) == 3


def test_reading_on_reads_what_is_new(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer()
    with (
        closing(SftpStore(url)) as store,
        closing(SftpStore(url, StoreOptions(writing=False))) as reader,
    ):
        store.append([record(writer=writer, body={"text": "x" * 1000}) for _ in range(3000)])
        trips = spied_round_trips(monkeypatch)
        last = max(number for number, _ in reader.records())
        assert len(trips) < 20
        store.append(new := records(3, writer=writer))
        read = spied_reads(monkeypatch)
        assert [r for _, r in reader.records(after=last)] == new
        assert sum(read) < 200_000


# Who is let in


def test_another_key_is_refused(other_home: Path, url: str) -> None:
    with fails(StoreRefused, "takes none of 1 keys", "ssh-copy-id"):
        SftpStore(url).append([record()])
    with fails(StoreRefused, "takes none of 1 keys"):
        stored(SftpStore(url, StoreOptions(writing=False)))


def test_a_wrong_password_is_refused_and_not_shown(
    other_home: Path, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CASKET_PASSWORD", SECRET)
    caplog.set_level(logging.DEBUG)
    with fails(StoreRefused, "nor the password"):
        SftpStore(url).append([record()])
    assert "userauth" in caplog.text
    assert SECRET not in caplog.text


@pytest.fixture(params=["password", "keyboard-interactive"])
def asking(
    request: pytest.FixtureRequest, server: Sshd, other_home: Path
) -> Iterator[PasswordServer]:
    """A server that asks for a password."""
    asking = PasswordServer(SECRET, request.param, server.folder / "host")
    server.know(other_home, asking.port)
    yield asking
    asking.close()


def test_a_password_may_come_from_the_environment(
    server: Sshd, asking: PasswordServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.url("runs.json", asking.port)
    with closing(SftpStore(url)) as store, fails(StoreRefused, "set CASKET_PASSWORD"):
        store.append([record()])
    monkeypatch.setenv("CASKET_PASSWORD", f"{SECRET}?")
    with closing(SftpStore(url)) as store, fails(StoreRefused, "nor the password"):
        store.append([record()])
    monkeypatch.setenv("CASKET_PASSWORD", SECRET)
    with (
        closing(SftpStore(url, StoreOptions(writing=False))) as store,
        pytest.raises(StoreUnavailable) as let_in,
    ):
        stored(store)
    assert "the server says" in str(let_in.value)


def test_a_password_is_asked_for_on_a_terminal(
    server: Sshd, asking: PasswordServer, other_home: Path
) -> None:
    url = server.url("runs.json", asking.port)
    code = f"from casket.stores.sftp.store import SftpStore; list(SftpStore({url!r}).records())"
    ours, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        cwd=ROOT,
    )
    os.close(terminal)
    shown = b""
    while b"password of" not in shown:
        shown += os.read(ours, 1000)
    os.write(ours, f"{SECRET}\n".encode())
    with suppress(OSError):  # the terminal is gone with its last user
        while more := os.read(ours, 1000):
            shown += more
    process.wait()
    os.close(ours)
    assert b"the server says" in shown
    assert SECRET.encode() not in shown


def test_a_key_may_have_a_passphrase(
    server: Sshd, other_home: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = other_home / ".ssh" / "id_ed25519"
    server.make_key(key, passphrase=SECRET)
    allowed = server.folder / "authorized"
    before = allowed.read_text()
    allowed.write_text(before + key.with_suffix(".pub").read_text())
    try:
        with fails(StoreRefused, "takes none of 0 keys"):
            SftpStore(url).append([record()])
        monkeypatch.setenv("CASKET_PASSWORD", SECRET)
        with closing(SftpStore(url)) as store:
            store.append([record()])
    finally:
        allowed.write_text(before)


def test_an_unknown_host_is_refused_with_the_command_that_accepts_it(
    server: Sshd, home: Path, url: str
) -> None:
    (home / ".ssh" / "known_hosts").unlink()
    accept = f"ssh-keyscan -p {server.port} 127.0.0.1 >> {home}/.ssh/known_hosts"
    with fails(StoreRefused, "is not known", "SHA256:", accept):
        SftpStore(url).append([record()])


def test_a_changed_host_key_is_refused(server: Sshd, home: Path, url: str, tmp_path: Path) -> None:
    server.make_key(tmp_path / "changed")
    kind, key, *_ = (tmp_path / "changed.pub").read_text().split()
    name = f"[127.0.0.1]:{server.port}"
    (home / ".ssh" / "known_hosts").write_text(f"{name} {kind} {key}\n")
    with fails(StoreRefused, "has changed", f"ssh-keygen -R '{name}'", "ssh-keyscan"):
        SftpStore(url).append([record()])


def test_a_missing_folder_is_named(server: Sshd) -> None:
    url = server.url("nowhere/runs.json")
    with fails(StoreRefused, "nowhere/runs.json", "create it first"):
        SftpStore(url).append([record()])
    with pytest.raises(NotFound):
        stored(SftpStore(url, StoreOptions(writing=False)))


def test_a_folder_that_nobody_may_write_to_can_be_read(
    server: Sshd, url: str, path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(SftpStore(url)) as store:
        store.append([record()])
    reading_only = Sshd("internal-sftp -P mkdir,write")
    try:
        monkeypatch.setenv("HOME", str(reading_only.home))
        with closing(SftpStore(reading_only.url(path))) as store:
            assert len(stored(store)) == 1
            with fails(StoreRefused, "no permission"):
                store.append([record()])
        new = reading_only.url(path.with_name("new.json"))
        with closing(SftpStore(new)) as store, fails(StoreRefused, "no permission"):
            store.append([record()])
    finally:
        reading_only.discard()


def test_a_user_without_files_to_reach_is_told(server: Sshd) -> None:
    no_files = Sshd("/bin/false")
    try:
        known = (no_files.home / ".ssh" / "known_hosts").read_text()
        with (server.home / ".ssh" / "known_hosts").open("a") as file:
            file.write(known)
        (server.folder / "both").write_text("")
        allowed = no_files.folder / "authorized"
        allowed.write_text((server.home / ".ssh" / "id_ed25519.pub").read_text())
        with fails(StoreUnavailable, "before files could be reached"):
            SftpStore(no_files.url("runs.json")).append([record()])
    finally:
        no_files.discard()


# The user's configuration


def test_a_host_of_the_configuration_is_reached_through_another(
    server: Sshd, other_home: Path, path: Path
) -> None:
    reached = f"  HostName 127.0.0.1\n  Port {server.port}\n  User {server.user}\n"
    reached += f"  IdentityFile {server.home}/.ssh/id_ed25519\n  IdentitiesOnly yes\n"
    (other_home / ".ssh" / "config").write_text(
        f"Host gate\n{reached}Host Cluster\n{reached}  ProxyJump gate\n"
    )
    with closing(SftpStore(f"sftp://Cluster{path}")) as store:
        store.append([record()])
        assert len(stored(store)) == len(records_in(path)) == 1


def test_a_path_may_begin_at_home(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    at_home = Sshd(f"internal-sftp -d {server.files}")
    try:
        monkeypatch.setenv("HOME", str(at_home.home))
        (at_home.home / ".ssh" / "config").write_text(
            f"Host work\n  HostName 127.0.0.1\n  Port {at_home.port}\n"
        )
        urls = [f"{at_home.user}@work:~/short.json", f"{at_home.user}@work:short.json"]
        for each in (*urls, "sftp://work/~/short.json"):
            with closing(SftpStore(each)) as store:
                store.append([record()])
        assert len(records_in(server.files / "short.json")) == 3
    finally:
        at_home.discard()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("me@host:~/runs.json", "sftp://me@host/~/runs.json"),
        ("me@host:runs.json", "sftp://me@host/~/runs.json"),
        ("me@host:/data/my runs.json", "sftp://me@host/data/my%20runs.json"),
        ("me@[::1]:runs.json", "sftp://me@[::1]/~/runs.json"),
        ("sftp://me@Host:22/data/runs.json", "sftp://me@Host:22/data/runs.json"),
        ("sftp://host/~/runs.json", "sftp://host/~/runs.json"),
    ],
)
def test_locations_on_another_machine(text: str, url: str) -> None:
    place = Location.of(text)
    assert (place.kind, place.url, str(place)) == ("sftp", url, url)
    assert Location.of(url) == place == pickle.loads(pickle.dumps(place))


@pytest.mark.parametrize("text", ["C:\\me@host:runs.json", "host:runs.json", "./me@host:runs.json"])
def test_locations_on_this_machine(text: str) -> None:
    assert Location.of(text).kind == "json"


def test_a_file_that_exists_is_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("me@host:runs.json").write_text("")
    assert Location.of("me@host:runs.json").kind == "json"


@pytest.mark.parametrize(
    "text", [f"me:{SECRET}@host:runs.json", f"sftp://me:{SECRET}@host/runs.json"]
)
def test_a_location_with_a_password_is_refused(text: str) -> None:
    with pytest.raises(BadLocation, match=r"takes no password.*CASKET_PASSWORD") as refused:
        Location.of(text)
    assert SECRET not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("text", ["me@host:", "me@host:folder/", "sftp://host/", "sftp:///x.json"])
def test_a_location_without_a_file_is_refused(text: str) -> None:
    with pytest.raises(BadLocation, match=r"user@host:runs\.json"):
        Location.of(text)


def test_without_the_driver_the_extra_is_named(run_python: Callable[..., str]) -> None:
    said = run_python(
        """
        import casket
        try:
            casket.open("sftp://host/~/runs.json").sessions()
        except casket.MissingDependency as error:
            print(error)
        """,
        without=("paramiko",),
    )
    assert "casket[sftp]" in said


# The file


def test_the_bytes_set_aside_have_the_files_mode_and_follow_no_link(url: str, path: Path) -> None:
    with closing(SftpStore(url)) as store:
        store.append([record()])
    path.chmod(0o640)
    path.write_bytes(path.read_bytes()[:-30])
    torn, victim = Path(f"{path}.torn"), Path(f"{path}.victim")
    victim.write_text("precious")
    torn.symlink_to(victim)
    with closing(SftpStore(url)) as store:
        with fails(StoreRefused, "does not follow a link"):
            store.append([record()])
        assert victim.read_text() == "precious"
        torn.unlink()
        with pytest.warns(CasketWarning, match="moved to"):
            store.append([record()])
    assert torn.stat().st_mode & 0o777 == 0o640


def test_a_torn_end_is_healed(url: str, path: Path) -> None:
    kept = records(3)
    with closing(SftpStore(url)) as store:
        for one in kept:
            store.append([one])
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.warns(CasketWarning, match=r"\.torn"):
            store.append([record()])
        assert stored(store)[:2] == kept[:2]
    assert Path(f"{path}.torn").exists()
    strict_json(path)


def test_a_file_that_was_moved_into_place_is_noticed(url: str, path: Path) -> None:
    with closing(SftpStore(url)) as store:
        store.append([record(session="old")])
        copy = path.with_name("copy")
        copy.write_bytes(path.read_bytes().replace(b'"old"', b'"new, by hand"'))
        time.sleep(0.06)
        os.replace(copy, path)
        store.append([record(session="last")])
        assert [r["session"] for r in records_in(path)] == ["new, by hand", "last"]


def test_a_replaced_file_keeps_its_permissions(url: str, path: Path) -> None:
    with closing(SftpStore(url)) as store:
        store.append([record()])
        path.chmod(0o640)
        store.prune(deletion(Writer(), sessions=["s"]))
    assert path.stat().st_mode & 0o777 == 0o640


def test_nothing_is_printed_and_nothing_left_behind_at_the_exit(server: Sshd, url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging_up:
        threading.Thread(target=lambda: hanging_up.accept()[0].close(), daemon=True).start()
        code = f"""
from casket.errors import StoreUnavailable
from casket.stores.sftp.store import SftpStore
from casket.testing import record
try:
    SftpStore({server.url("x.json", hanging_up.getsockname()[1])!r}).append([record()])
except StoreUnavailable:
    store = SftpStore({url!r})
    store.append([record()])
    reading = store.records()
    next(reading)
"""
        ran = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, cwd=ROOT, timeout=PATIENCE
        )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


def test_an_experiment_is_logged_and_read(
    url: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    params = {"C": 10}
    with closing(casket.Experiment.use(url, exp_id="remote")) as experiment:
        with experiment.model("SVM").session(params) as session:
            for epoch in range(1, 4):
                session.add_epoch(epoch, {"loss": 1 / epoch})
        with pytest.raises(casket.ExistingParamsException):
            experiment.model("SVM").session(params)
    with casket.open(url) as runs:
        [read] = runs.sessions()
        assert (read.status, read.params, len(read.epochs)) == ("completed", params, 3)
    assert len(records_in(path)) >= 7


# TinyDB


def test_a_tinydb_on_another_machine(url: str, path: Path) -> None:
    with TinyDB(url, storage=SFTPStorage, indent=1) as db:
        assert db.all() == []
        db.insert({"name": "one", "score": 1})
        db.table("others").insert_multiple([{"a": 1}, {"a": 2}])
        db.update({"score": 3}, where("name") == "one")
    with TinyDB(url, storage=SFTPStorage, access_mode="r") as db:
        assert db.all() == [{"name": "one", "score": 3}]
        assert len(db.table("others")) == 2
        with pytest.raises(BadLocation, match="read only"):
            db.insert({})
    assert json.loads(path.read_text())["_default"] == {"1": {"name": "one", "score": 3}}


def test_a_tinydb_is_seen_whole_at_any_time(url: str) -> None:
    is_over = threading.Event()

    def read() -> set[int]:
        lengths = set()
        with TinyDB(url, storage=SFTPStorage) as db:
            while not is_over.is_set():
                lengths.add(len(db))
        return lengths

    with TinyDB(url, storage=SFTPStorage) as db, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        for _ in range(30):
            db.insert_multiple([{"text": "x" * 100}] * 20)
        is_over.set()
        assert all(length % 20 == 0 for length in reading.result())


def test_experiments_and_tinydb_share_a_file(url: str) -> None:
    with closing(SftpStore(url)) as store, TinyDB(url, storage=SFTPStorage) as db:
        store.append([record()])
        db.table("notes").insert({"text": "by hand"})
        store.append([record()])
        assert len(db) == len(stored(store)) == 2
        assert len(db.table("notes")) == 1


# Another file under the path, and a lock that is waited for


WAYS: list[Callable[[Path], object]] = [
    lambda path: path.unlink(),
    lambda path: path.rename(path.with_name(f"{path.name}.moved")),
    lambda path: (path.unlink(), sftplock_folder(path)),
    lambda path: path.write_bytes(b""),
]


def sftplock_folder(path: Path) -> None:
    shutil.rmtree(path.with_name(f"{path.name}.lock"))


@pytest.mark.parametrize("vanish", WAYS, ids=["removed", "moved", "with its lock", "emptied"])
def test_a_writer_goes_on_in_what_is_there_now_with_its_heads(
    vanish: Callable[[Path], object], url: str, path: Path
) -> None:
    store, _ = heads.opened(partial(SftpStore, url))
    with closing(store):
        before = [*heads.HEADS, heads.epoch(1)]
        number = [store.append([one]) for one in before][-1]
        vanish(path)
        later = [heads.epoch(k) for k in range(2, 5)]
        with casket_warnings() as said:
            numbers = [store.append([one]) for one in later]
        [warning] = said
        assert url in warning
        assert "no longer holds" in warning
        assert numbers[0] > number
        assert records_in(path) == stored(store) == [*heads.HEADS, *later]


def test_a_journal_before_the_file_repeats_the_heads_too(
    url: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    repeating = heads.Repeating()
    store = Location.of(url).open(StoreOptions(heads=repeating), writing=True)
    repeating.store = store
    with closing(store), warnings.catch_warnings():
        warnings.simplefilter("ignore", CasketWarning)
        for one in heads.HEADS:
            store.append([one], claim=one.get("claim"))
        path.unlink()
        later = start("again", "another claim")
        store.append([later], claim="another claim")
        path.unlink()
        store.append([heads.epoch(1)])
        assert cast(Spool, store).flush(30)
        assert records_in(path)[:-1] == heads.HEADS


def test_who_waits_long_for_the_lock_says_so(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "NOTICE", 0.2)
    with closing(Hasty(url)) as dead, closing(Hasty(url)) as store:
        dead.append([record()])
        dead._document._lock()  # and is never heard of again
        with pytest.warns(CasketWarning, match=r"waiting for its lock .* held by another client"):
            store.append([record()])
        dead._connection.drop()


@pytest.mark.timeout(0)
def test_every_order_of_steps_of_sessions_tells_the_truth(
    url: str,
    tmp_path: Path,
    world: World,  # noqa: F811 - a fixture
) -> None:
    explore(partial(SftpStore, url), tmp_path, world, steps=200)
