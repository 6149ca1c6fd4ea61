"""Merging stores: any order, any number of times, killed in the middle, while others write."""

import itertools
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import casket
from casket import Experiment
from casket.format.artifacts import ArtifactFolder
from casket.format.records import Writer, deletion
from casket.maintenance import merging
from casket.maintenance.merging import Counts, FileCarrier, add_missing
from casket.stores.base import StoreOptions
from casket.stores.location import Location
from tests.conftest import ROOT

FIRST, SECOND, THIRD = "first.json", "second.sqlite", "third.json"


@pytest.fixture(params=["merged.json", "merged.sqlite"])
def target(request, tmp_path):
    return tmp_path / request.param


@pytest.fixture
def stores(tmp_path):
    """Three stores: some sessions are in two of them, some have the same params, one is deleted."""
    first, second, third = tmp_path / FIRST, tmp_path / SECOND, tmp_path / THIRD
    model = Experiment.use(first, exp_id="digits", tags=["a"], place="here").model(
        "m", {"depth": 1}
    )
    with model.session({"lr": 0.1}) as session:
        session.add_epoch(1, {"loss": float("nan"), "big": 2**70})
        session.add_artifact("note.txt", b"a note")
        session.add_result({"weights": np.arange(100_000.0)}, index_by="test")
    with model.session({"lr": 0.2}) as session:
        session.add_epoch(1, {"loss": 0.5})
    merge(first, third)
    with model.session({"lr": 0.1}, ensure_unique=False) as session:
        session.add_epoch(2, {"loss": 0.25})
    model = Experiment.use(second, exp_id="digits", tags=["b"]).model("m", {"depth": 2})
    with model.session({"lr": 0.1}) as session:
        session.add_batch(1, {"loss": float("inf")}, epoch=0)
    with pytest.raises(ValueError), model.session({"lr": 0.3}):  # noqa: PT011
        raise ValueError("diverged")
    (gone,) = (s.id for s in read(first) if s.params == {"lr": 0.2})
    prune(first, sessions=[gone])
    return first, second, third


def opened(path, writing=True):
    return Location.of(path).open(StoreOptions(), writing=writing)


def records(path):
    return [record for _, record in opened(path, writing=False).records()]


def merge(source, target):
    carry = FileCarrier(Location.of(source).artifacts(), Location.of(target).artifacts())
    counts = add_missing(opened(target), records(source), carry=carry)
    assert not carry.problems
    return counts


def prune(path, **what):
    opened(path).prune(deletion(Writer(), **what))


def read(path):
    with casket.open(path) as runs:
        return runs.sessions()


def state(path):
    """Return all that is shown of a store's sessions, by id."""
    return {session.id: facts(session) for session in read(path)}


def facts(session):
    arrays = [result["weights"].tolist()[:3] for result in session.results("test")]
    artifacts = {name: artifact.load() for name, artifact in session.artifacts.items()}
    shown = (session.experiment, session.model, session.params, session.config, session.status)
    rows = (sorted(map(str, session.epochs)), list(session.batches), session.error)
    return (*shown, set(session.tags), *rows, arrays, artifacts, session.started, session.ended)


def identities(path):
    return sorted((record["writer"], record["n"]) for record in records(path))


def test_any_order_gives_the_same(stores, tmp_path):
    merged = []
    for i, order in enumerate(itertools.permutations(stores)):
        for suffix in ("json", "sqlite"):
            target = tmp_path / f"merged{i}.{suffix}"
            for source in order:
                merge(source, target)
            merged.append(state(target))
    assert all(one == merged[0] for one in merged)
    # Both that ran lr=0.1, and the failed session; lr=0.2 was deleted in the first.
    assert sorted(one[2]["lr"] for one in merged[0].values()) == [0.1, 0.1, 0.3]


def test_any_number_of_times_gives_the_same(stores, target):
    for source in stores:
        merge(source, target)
    merged, stored = state(target), identities(target)
    for source in (*stores, *reversed(stores)):
        assert not merge(source, target).added
    assert (state(target), identities(target)) == (merged, stored)
    assert len(set(stored)) == len(stored)


def test_merging_back_and_forth_makes_stores_equal(stores):
    first, second, third = stores
    for source, target in itertools.permutations(stores, 2):
        merge(source, target)
    assert state(first) == state(second) == state(third)


def test_a_copy_of_a_store_is_the_store(stores, target):
    for source in stores:
        fresh = target.with_name(f"{source.stem}-{target.name}")
        merge(source, fresh)
        assert state(fresh) == state(source)


def test_what_grew_is_added(stores, target):
    first, *_ = stores
    merge(first, target)
    model = Experiment.use(first, exp_id="digits").model("m")
    with model.session({"lr": 0.1}, ensure_unique=False) as session:
        session.add_epoch(3, {"loss": 0.125})
    counts = merge(first, target)
    assert counts.added == {"session": 1, "epoch": 1, "end": 1} | dirty_notes(counts)
    assert state(target) == state(first)


def dirty_notes(counts):
    """The answer of git, if it was quick enough."""
    return {"meta": counts.added["meta"]} if counts.added["meta"] else {}


def test_a_session_keeps_the_config_of_its_own_store(tmp_path, target):
    """Also if the other store's config came in between."""
    for name, depth in ((FIRST, 1), (SECOND, 2)):
        Experiment.use(tmp_path / name, exp_id="e").model("m", {"depth": depth}).session(
            {"n": 1}
        ).end()
    merge(tmp_path / FIRST, target)
    merge(tmp_path / SECOND, target)
    Experiment.use(tmp_path / FIRST, exp_id="e").model("m").session({"n": 2}).end()
    merge(tmp_path / FIRST, target)
    merge(tmp_path / FIRST, target)
    assert [s.config["depth"] for s in read(target)] == [1, 2, 1]


def test_both_of_two_completed_sessions_with_the_same_params_stay_and_block(stores, target):
    for source in stores:
        merge(source, target)
    model = Experiment.use(target, exp_id="digits").model("m")
    with pytest.raises(casket.ExistingParamsException):
        model.session({"lr": 0.1})
    model.session({"lr": 0.3}).end()


# Deleted.


def test_a_deletion_is_merged_and_frees_the_params(stores, target):
    first, _, third = stores
    merge(third, target)
    assert {s.params["lr"] for s in read(target)} == {0.1, 0.2}
    merge(first, target)
    assert {s.params["lr"] for s in read(target)} == {0.1}
    assert 0.2 not in [r["body"]["params"]["lr"] for r in records(target) if r["kind"] == "session"]
    Experiment.use(target, exp_id="digits").model("m").session({"lr": 0.2}).end()


def test_what_was_deleted_in_the_target_stays_deleted(stores, target):
    third = stores[2]
    merge(third, target)
    prune(target, sessions=[session.id for session in read(target)], experiments=["digits"])
    counts = merge(third, target)
    assert not counts.added
    assert counts.removed == len(records(third))
    with casket.open(target) as runs:
        assert not runs.experiments
        assert not runs.sessions()


def test_deleting_a_name_deletes_nothing_that_others_logged_under_it(stores, tmp_path, target):
    _, second, third = stores
    prune(third, sessions=[session.id for session in read(third)], experiments=["digits"])
    for order in ((second, third), (third, second)):
        merged = tmp_path / f"{order[0].stem}-{target.name}"
        for source in order:
            merge(source, merged)
        assert state(merged) == state(second)
        with casket.open(merged) as runs:
            assert [experiment.id for experiment in runs.experiments] == ["digits"]


def test_the_name_comes_back_with_a_session_that_needs_it(stores, target):
    _, second, third = stores
    merge(third, target)
    prune(target, sessions=[session.id for session in read(target)], experiments=["digits"])
    merge(second, target)
    assert state(target) == state(second)


def test_what_is_deleted_during_a_merge_does_not_come_back(stores, target, monkeypatch):
    monkeypatch.setattr(merging, "GROUP", 3)
    first = stores[0]
    (session,) = state(first)

    def deleting():
        for i, record in enumerate(records(first)):
            if i == 5:
                prune(target, sessions=[session])
            yield record

    assert add_missing(opened(target), deleting()).removed
    assert state(target) == {}


# Killed, at once, and while others write.

MERGING = """
import os, signal, sys
import casket.maintenance.merging
from tests.imports.test_merging import opened, records
casket.maintenance.merging.GROUP = 3
source, target, survives = sys.argv[1], sys.argv[2], int(sys.argv[3])
def until_killed():
    for i, record in enumerate(records(source)):
        if i == survives:
            os.kill(os.getpid(), signal.SIGKILL)
        yield record
casket.maintenance.merging.add_missing(opened(target), until_killed())
"""


def start_merging(source, target, survives=-1):
    command = [sys.executable, "-c", MERGING, str(source), str(target), str(survives)]
    return subprocess.Popen(command, cwd=ROOT)


def test_killed_in_the_middle_it_goes_on_with_nothing_twice(stores, target):
    first = stores[0]
    for survives in (1, 4, 8):
        assert start_merging(first, target, survives).wait() == -signal.SIGKILL
    stored = identities(target)
    assert stored
    counts = merge(first, target)
    assert counts.held == len(stored)
    assert identities(target) == identities(first)
    assert state(target) == state(first)


def test_two_at_once_show_nothing_twice(stores, target):
    processes = [start_merging(source, target) for source in (stores[0], stores[0], stores[1])]
    assert [process.wait() for process in processes] == [0, 0, 0]
    for source in stores[:2]:
        assert not merge(source, target).added
        merge(source, target)
    wanted = target.with_name("wanted.json")
    for source in stores[:2]:
        merge(source, wanted)
    assert state(target) == state(wanted)


def test_a_writer_goes_on_meanwhile(tmp_path, target):
    source = tmp_path / "source.json"
    with Experiment.use(source, exp_id="e").model("m").session({"n": 1}) as session:
        for number in range(3000):
            session.add_epoch(number, {"loss": 0.5})
    with Experiment.use(target, exp_id="e").model("m").session({"n": 2}) as session:
        thread = threading.Thread(target=merge, args=(source, target))
        thread.start()
        for number in range(300):
            session.add_epoch(number, {"loss": 0.25})
        thread.join()
    assert sorted(len(s.epochs) for s in read(target)) == [300, 3000]
    assert all(s.epochs == s.epochs.latest for s in read(target))


def test_a_store_merged_into_itself_stays_as_it_is(stores):
    before = identities(stores[0])
    assert not merge(stores[0], stores[0]).added
    assert identities(stores[0]) == before


def test_the_first_caskets_file_takes_records_and_gives_them(stores, tmp_path, target):
    old = tmp_path / "old.json"
    shutil.copy(ROOT / "tests" / "data" / "first_casket.json", old)
    merge(old, target)
    merge(stores[0], old)
    merge(stores[0], target)
    assert state(old) == state(target)
    assert not merge(old, target).added


# Files.


def test_a_file_that_is_gone_or_damaged_is_named(stores, tmp_path):
    source = Location.of(stores[0]).artifacts()
    text, array = sorted(source.path.iterdir(), key=lambda path: path.suffix, reverse=True)
    text.write_bytes(b"something else")
    array.unlink()
    carry = FileCarrier(source, ArtifactFolder(tmp_path / "files"))
    for record in records(stores[0]):
        carry(record)
    assert carry.problems.keys() == {text.name, array.name}
    assert "damaged" in carry.problems[text.name]
    assert not (tmp_path / "files").exists()


def test_a_file_comes_later_if_it_is_there_later(stores, target):
    files = Location.of(stores[0]).artifacts().path
    aside = files.rename(files.with_name("aside"))
    carry = FileCarrier(Location.of(stores[0]).artifacts(), Location.of(target).artifacts())
    add_missing(opened(target), records(stores[0]), carry=carry)
    assert len(carry.problems) == 2
    aside.rename(files)
    assert not merge(stores[0], target).added
    assert state(target) == state(stores[0])


def test_the_counts_can_be_watched(stores, target):
    counts, seen = Counts(), []

    def watched():
        for record in records(stores[0]) * 2:
            yield record
            seen.append(counts.added.total() + counts.held)

    assert add_missing(opened(target), watched(), counts=counts) is counts
    assert counts.held == counts.added.total() == len(records(stores[0]))
    assert seen == sorted(seen)
