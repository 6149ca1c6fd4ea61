"""The journal before a remote store: nothing is lost, nothing comes twice, nobody waits.

The far side is a store in memory that can be cut off; tests/remote has the real servers.
"""

import os
import shutil
import threading
import time
import warnings

import pytest

import casket
from casket import CasketWarning, StoreUnavailable
from casket.format.records import Writer
from casket.stores import base
from casket.stores.memory import MemoryStore
from casket.stores.remote import spool
from casket.stores.remote.journal import Journal, Status, home, statuses
from casket.stores.remote.spool import Spool, ship
from tests.waiting import PATIENCE, eventually

URL = "test://far/runs"


class FarSide(MemoryStore):
    """A store that drops duplicates, and can be cut off before or after it writes."""

    def __init__(self):
        super().__init__()
        self.fault = None
        self.calls = 0
        self._lock = threading.RLock()

    def append(self, records, /, *, claim=None):
        self.calls += 1
        if self.fault == "before":
            raise StoreUnavailable("far", "try again")
        with self._lock:
            held = {(r["writer"], r["n"]) for _, r in super().records()}
            missing = [r for r in records if (r["writer"], r["n"]) not in held]
            number = super().append(missing, claim=claim) if missing else 0
        if self.fault == "after":
            raise StoreUnavailable("far", "the answer was lost")
        return number

    def records(self, **filters):
        if self.fault:
            raise StoreUnavailable("far", "try again")
        yield from super().records(**filters)

    def numbers(self):
        return [r["n"] for _, r in super().records()]


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def far():
    return FarSide()


@pytest.fixture
def make(far):
    made = []

    def make(flush_timeout=10.0, offline="refuse"):
        options = base.StoreOptions(flush_timeout=flush_timeout, offline=offline)
        made.append(Spool(far, URL, options))
        return made[-1]

    yield make
    far.fault = None
    for each in made:
        each.close()


writer = Writer()


def epochs(count, session="s" * 16):
    owner = {"experiment": "e", "model": "m", "session": session}
    body = {"epoch_num": 1, "result": {"loss": 0.5}}
    return [writer.record("epoch", body, **owner) for _ in range(count)]


def end():
    body = {"status": "completed", "of": writer.id}
    return writer.record("end", body, experiment="e", model="m", session="s" * 16)


def start(params="a"):
    body = {"params": {"p": params}, "meta": {}, "process": {}}
    owner = {"experiment": "e", "model": "m", "session": f"{params:0>16}"}
    return writer.record("session", body, claim=f"claim {params}", **owner)


def identities(records):
    return [(record["writer"], record["n"]) for record in records]


def stored(far):
    return identities(record for _, record in MemoryStore.records(far))


def waiting():
    return sum(each.waiting for each in statuses())


def test_what_is_appended_is_shipped_in_order(far, make):
    spooled, records = make(), epochs(1500)
    for record in records:
        spooled.append([record])
    assert spooled.flush()
    assert stored(far) == identities(records)
    assert far.calls < 50, "in batches"


def test_appending_does_not_wait_for_the_far_side(far, make, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(far, "append", lambda *_, **__: gate.wait(PATIENCE))
    spooled = make()
    for record in epochs(200):
        spooled.append([record])  # it would wait for the gate
    gate.set()


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_far_side_that_fails_gets_everything_once_when_it_is_back(far, make, fault):
    spooled, records = make(), epochs(30)
    far.fault = fault
    for record in records:
        spooled.append([record])
    assert not spooled_flushed(spooled, 0.6)
    far.fault = None
    assert spooled.flush()
    assert stored(far) == identities(records)


def spooled_flushed(spooled, seconds):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CasketWarning)
        return spooled.flush(seconds)


def test_the_end_of_a_session_waits_for_so_long_and_warns_once(far, make):
    spooled = make(flush_timeout=0.3)
    far.fault = "before"
    spooled.append(epochs(3))
    begun = time.monotonic()
    with pytest.warns(CasketWarning, match=rf"4 records wait for {URL}.*casket sync"):
        spooled.append([end()])
    assert time.monotonic() - begun > 0.2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spooled.append([end()])


def test_what_a_process_left_is_shipped_by_the_next(far, make):
    dead = Journal(Journal.begin(URL, "session").path.with_name("dead.journal"), URL)
    left = epochs(5)
    dead.append(left)
    dead.leave()
    spooled, own = make(), epochs(1)
    spooled.append(own)
    spooled.flush()
    eventually(lambda: len(stored(far)) == 6)
    assert sorted(stored(far)) == sorted(identities([*own, *left]))
    assert not dead.path.exists()


def test_a_journal_of_a_process_that_lives_is_left_alone(far, make):
    living = Journal.begin(URL, "session")
    living.append(epochs(2))
    assert Journal.orphan(living.path, URL) is None
    assert not Status(URL, living.path).is_orphan
    living.confirm(living.last)
    living.close()


def test_a_journal_that_is_shipped_while_all_are_listed_is_left_out():
    first, second = sorted((Journal.begin(URL, "session") for _ in "ab"), key=lambda one: one.path)
    for journal in (first, second):
        journal.append(epochs(2))
    listed = statuses()
    assert next(listed).path == first.path
    for journal in (first, second):
        journal.confirm(journal.last)
        journal.close()
    assert list(listed) == []


def test_a_handle_that_is_closed_leaves_nothing_and_opens_again(far, make):
    spooled = make()
    spooled.append(epochs(3))
    spooled.close()
    assert not list(home().rglob("*.journal"))
    spooled.append(epochs(1))
    assert spooled.flush()
    assert len(stored(far)) == 4


def test_a_claim_is_asked_of_the_far_side_at_once(far, make):
    spooled = make()
    first = start()
    spooled.append([first], claim=first["claim"])
    with pytest.raises(base.Claimed):
        spooled.append([start()], claim=first["claim"])
    assert stored(far) == identities([first])


def test_what_waits_is_shipped_before_a_claim_is_asked_for(far, make):
    spooled, before = make(), epochs(3)
    spooled.append(before)
    begun = start()
    spooled.append([begun], claim=begun["claim"])
    assert stored(far) == identities([*before, begun])


def test_without_the_far_side_no_session_begins_unless_that_is_allowed(far, make):
    far.fault = "before"
    with pytest.raises(StoreUnavailable):
        make().append([start()], claim="claim a")
    assert waiting() == 0
    allowed = make(offline="allow", flush_timeout=0.2)
    allowed.append([start("b")], claim="claim b")
    assert waiting() == 1
    assert [record["kind"] for _, record in allowed.records(claim="claim b")] == ["session"]
    far.fault = None
    assert allowed.flush(10)
    assert [record["kind"] for _, record in allowed.records()] == ["session"]


def test_a_clash_is_marked_when_it_is_shipped(far, make):
    other = start("same")
    far.append([other], claim=other["claim"])
    far.fault = "before"
    spooled, late = make(offline="allow", flush_timeout=0.2), start("same")
    late["session"] = "1" * 16
    spooled.append([late], claim=late["claim"])
    far.fault = None
    assert spooled.flush(10)
    records = [record for _, record in far.records(session="1" * 16)]
    assert [record["kind"] for record in records] == ["session", "meta"]
    assert records[1]["body"] == {"clash": other["session"]}
    assert spool.ASKED not in records[0]


@pytest.mark.parametrize("cut", range(12))
def test_a_journal_shipped_again_after_a_crash_at_any_point_ships_nothing_twice(far, cut):
    """The confirmation is lost or torn after some batches were shipped."""
    journal, records = Journal.begin(URL, "session"), epochs(12)
    journal.append(records)
    far.append(records[:cut])
    confirmed = journal.path.with_suffix(".shipped")
    confirmed.write_bytes(b"" if cut % 2 else b"%d" % (cut // 2))
    journal.leave()
    heir = Journal.orphan(journal.path, URL)
    ship(heir, far)
    assert stored(far) == identities(records)
    heir.close()
    assert not journal.path.exists()


def test_a_large_journal_is_begun_anew_once_it_was_shipped(far, make, monkeypatch):
    monkeypatch.setattr("casket.stores.remote.journal.LARGE", 10_000)
    spooled, records = make(), epochs(300)
    for record in records:
        spooled.append([record])
        if record["n"] % 60 == 0:
            spooled.flush()
    assert spooled.flush()
    assert stored(far) == identities(records)
    left = [path.stat().st_size for path in home().rglob("*.journal")]
    assert sum(left) < 10_000 * 2  # none if the new journal was not written to yet


def test_threads_append_while_it_ships(far, make):
    spooled = make()
    parts = [epochs(200) for _ in range(4)]

    def log(records):
        for record in records:
            spooled.append([record])

    threads = [threading.Thread(target=log, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spooled.flush()
    assert sorted(stored(far)) == sorted(identities(record for part in parts for record in part))


FORK = """
import os, sys, warnings
sys.path.insert(0, {root!r})
warnings.simplefilter("ignore", DeprecationWarning)
from tests.stores.test_spool import FarSide, epochs, stored, identities, URL
from casket.stores import base
from casket.stores.remote.spool import Spool
far = FarSide()
spooled = Spool(far, URL, base.StoreOptions(flush_timeout=5))
mine = epochs(5)
spooled.append(mine)
pid = os.fork()
if pid == 0:
    spooled.append(epochs(3))
    assert spooled.flush(5)
    # The child has a copy of the far side: what the parent had not shipped by then is not its own.
    assert len(set(stored(far)) - set(identities(mine))) == 3
    os._exit(0)
_, status = os.waitpid(pid, 0)
assert spooled.flush(5)
assert stored(far) == identities(mine)
print(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_ships_its_own(run_python):
    root = str(casket.__path__[0]).rsplit("/", 1)[0]
    assert run_python(FORK.format(root=root)) == "0"


def test_leaving_waits_for_what_is_still_to_be_shipped_but_never_hangs(run_python):
    root = str(casket.__path__[0]).rsplit("/", 1)[0]
    code = f"""
    import sys, time, atexit
    sys.path.insert(0, {root!r})
    from tests.stores.test_spool import FarSide, epochs, stored, URL
    from casket.stores import base
    from casket.stores.remote.spool import Spool
    far = FarSide()
    atexit.register(lambda: None)
    spooled = Spool(far, URL, base.StoreOptions(flush_timeout=float(sys.argv[1])))
    far.fault = sys.argv[2] or None
    spooled.append(epochs(2))
    import casket.stores.remote.spool as module
    atexit.unregister(module._close_all)
    module._close_all()
    print(len(stored(far)))
    """
    assert run_python(code, "5", "") == "2"
    assert run_python(code, "0.3", "before") == "0"


def test_a_session_that_ends_while_the_interpreter_exits_is_shipped_without_a_thread(
    far, make, monkeypatch
):
    """As in Python 3.12 and newer, where no thread starts by then; simulated for older ones."""

    def refuse(_):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    spooled, records = make(), [*epochs(2), end()]
    spooled.append_later(records)
    assert stored(far) == []
    spooled.close()
    assert stored(far) == identities(records)


@pytest.mark.parametrize("vanish", ["journal", "folder"])
def test_a_journal_that_was_removed_is_begun_anew(far, make, vanish):
    far.fault = "before"
    spool = make(flush_timeout=0.0)
    first, second, *others = epochs(6)
    spool.append([first])
    own = spool._own.path
    time.sleep(2 * base.LOOK_INTERVAL)
    spool.append([second])
    if vanish == "journal":
        own.unlink()
    else:
        shutil.rmtree(own.parent)
    time.sleep(2 * base.LOOK_INTERVAL)
    with pytest.warns(CasketWarning, match="no longer holds"):
        spool.append(others[:1])
    assert [one.is_orphan for one in statuses() if one.path == own] == [False]
    far.fault = None
    spool.append(others[1:])
    assert spool.flush(30)
    assert stored(far)[-4:] == identities(others)
