"""Removal of records from a store, also while others write."""

import json
import os
import sqlite3
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import casket
from casket import Experiment, NotFound
from casket.format.records import Writer, covers, deletion
from casket.maintenance import cleaning
from casket.maintenance.cleaning import Cleaner, Removal, compact
from casket.stores.base import StoreOptions
from casket.stores.location import Location
from casket.testing import record
from tests.crash.crew import Crew, Log, acknowledged, context
from tests.stores.files import casket_warnings, strict_json
from tests.test_legacy import ORIGINAL
from tests.waiting import eventually

LONG_AGO = time.time() - 7200


@pytest.fixture(autouse=True)
def settled(request, monkeypatch):
    """Nothing is waited for, but where the waiting is tested."""
    if "processes" not in request.node.name:
        monkeypatch.setattr(cleaning, "SETTLING", timedelta(0))


@pytest.fixture
def exp(file_url):
    experiment = Experiment.use(file_url, exp_id="exp")
    yield experiment
    experiment.close()


@pytest.fixture
def cleaner(exp):
    """Make a new cleaner of the store."""
    return lambda: Cleaner(exp.backend.location)


@pytest.fixture
def killed(run_python, file_url):
    """Run a session that is killed; return its id."""

    def kill(**params):
        return run_python(
            f"""
            import os
            from casket import Experiment
            session = Experiment.use({file_url!r}, exp_id="exp").model("net").session({params!r})
            print(session.id, flush=True)
            os._exit(0)  # as kill -9 does: nothing else is run
            """
        )

    return kill


def finished(exp, name="net", status="completed", artifacts=(), **params):
    """Log a whole session; return its id."""
    session = exp.model(name).session(params)
    session.add_epoch(1, {"loss": 0.5, "text": "x" * 10_000})
    for artifact, data in dict(artifacts).items():
        session.add_artifact(artifact, data)
    session.end(status)
    return session.id


def kept(exp):
    """Return the names of the files in the folder of artifacts."""
    folder = exp.backend.files.path
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def size(exp):
    exp.close()
    return exp.backend.location.path.stat().st_size


def only(*ids):
    return lambda session: session.id in ids


# Removing selected sessions.


def test_a_removed_session_is_gone_with_its_artifacts_and_the_file_shrinks(exp, cleaner):
    stays = finished(exp, artifacts={"own": b"stays", "shared": b"both"}, lr=1)
    before = size(exp)
    goes = finished(exp, artifacts={"own": b"goes", "shared": b"both"}, lr=2)
    full = size(exp)
    removed = cleaner().remove(cleaner().chosen(sessions=only(goes)))
    assert (removed.sessions, len(removed.files)) == ({goes: "completed"}, 1)
    [session] = casket.open(exp.backend.location.path).sessions()
    assert session.id == stays
    assert {name: a.load() for name, a in session.artifacts.items()} == {
        "own": b"stays",
        "shared": b"both",
    }
    assert len(kept(exp)) == 2
    assert size(exp) <= before + 4096 < full
    assert goes.encode() not in b"".join(
        path.read_bytes().replace(b'"sessions":["' + goes.encode(), b"")
        for path in exp.backend.location.path.parent.glob("runs*")
        if path.is_file()
    )


def test_a_shared_artifact_goes_with_the_last_session_that_names_it(exp, cleaner):
    ids = [finished(exp, artifacts={"a": b"shared"}, lr=lr) for lr in (1, 2)]
    for session, left in zip(ids, (1, 0), strict=True):
        cleaner().remove(cleaner().chosen(sessions=only(session)))
        assert len(kept(exp)) == left


def test_large_arrays_of_a_removed_session_go(exp, cleaner):
    ids = []
    for fill in (1.0, 2.0):
        with exp.model("net").session({"fill": fill}) as session:
            session.add_result({"weights": np.full(100_000, fill)})
            ids.append(session.id)
    cleaner().remove(cleaner().chosen(sessions=only(ids[0])))
    assert len(kept(exp)) == 1
    [session] = exp.sessions()
    assert session.results()[0]["weights"][0] == 2.0


def test_a_removed_model_takes_its_sessions_along(exp, cleaner):
    gone, stays = finished(exp, "a"), finished(exp, "b")
    removed = cleaner().remove(cleaner().chosen(models={("exp", "a")}.__contains__))
    assert removed == Removal({gone: "completed"}, frozenset({("exp", "a")}))
    with casket.open(exp.backend.location.path) as opened:
        assert [view.id for view in opened.models()] == ["b"]
        assert [view.id for view in opened.sessions()] == [stays]
        assert [view.id for view in opened.experiments] == ["exp"]


def test_a_removed_experiment_is_gone_and_its_name_free(exp, cleaner):
    finished(exp)
    other = Experiment.use(exp.backend.location.path, exp_id="other")
    cleaner().remove(cleaner().chosen(experiments={"exp"}.__contains__))
    with casket.open(exp.backend.location.path) as opened:
        assert [view.id for view in opened.experiments] == ["other"]
        assert opened.models() == opened.sessions() == []
    assert Experiment.new(exp.backend.location.path, exp_id="exp").exists()
    other.close()


def test_the_params_of_a_removed_session_may_be_run_again(exp, cleaner):
    finished(exp, lr=1)
    cleaner().remove(cleaner().chosen(sessions=lambda _: True))
    finished(exp, lr=1)
    assert len(exp.sessions()) == 1


def test_a_session_of_a_file_of_the_first_casket_can_be_removed(tmp_path):
    path = tmp_path / "old.json"
    path.write_bytes(ORIGINAL.read_bytes())
    before = casket.open(path).sessions()
    cleaner = Cleaner(Location.of(path))
    cleaner.remove(cleaner.chosen(sessions=only(before[0].id)))
    after = casket.open(path).sessions()
    assert [view.id for view in after] == [view.id for view in before[1:]]
    assert [view.epochs for view in after] == [view.epochs for view in before[1:]]


# Sessions that come into use between the selection and the removal.


def test_a_session_that_began_meanwhile_stays_with_its_model_and_experiment(exp, cleaner):
    goes = finished(exp, lr=1)
    looking = cleaner()
    removal = looking.chosen(experiments={"exp"}.__contains__)
    stays = finished(exp, lr=2)
    removed = looking.remove(removal)
    assert removed == Removal({goes: "completed"})
    with casket.open(exp.backend.location.path) as opened:
        assert [view.id for view in opened.sessions()] == [stays]
        assert [view.id for view in opened.models()] == ["net"]
        assert [view.id for view in opened.experiments] == ["exp"]


def test_a_model_that_was_added_meanwhile_stays_with_its_experiment(exp, cleaner):
    looking = cleaner()
    removal = looking.chosen(experiments={"exp"}.__contains__)
    exp.model("new", {"units": 3})
    assert not looking.remove(removal)
    assert [model.config for model in exp.get_models()] == [{"units": 3}]


def test_a_killed_session_that_was_continued_meanwhile_stays(exp, cleaner, killed):
    killed(lr=1)
    looking = cleaner()
    removal = looking.cleanable()
    assert set(removal.sessions.values()) == {"killed"}
    session = exp.model("net").session({"lr": 1}, ensure_unique=False)
    assert session.id in removal.sessions
    assert not looking.remove(removal)
    assert [view.status for view in exp.sessions()] == ["running"]


def test_a_tombstone_of_only_what_it_names_spares_the_rest():
    tombstone = deletion(
        Writer(), sessions=["s"], models=[("e", "m")], experiments=["e"], only_named=True
    )
    assert covers(tombstone, record(session="s"))
    assert covers(tombstone, record("model", session=None))
    assert covers(tombstone, record("experiment", model=None, session=None))
    assert not covers(tombstone, record(session="s2"))
    assert not covers(tombstone, record("model", model="m2", session=None))


# Records that are probably of no use.


def test_cleaning_finds_failed_killed_and_empty_but_nothing_else(exp, cleaner, killed):
    completed = finished(exp, lr=1)
    failed = finished(exp, "other", "failed")
    dead = killed(lr=2)
    exp.model("empty")
    Experiment.use(exp.backend.location.path, exp_id="void").close()
    removal = cleaner().cleanable()
    assert removal.sessions == {failed: "failed", dead: "killed"}
    assert removal.models == {("exp", "empty"), ("exp", "other")}
    assert removal.experiments == {"void"}
    assert cleaner().remove(removal) == removal
    assert [view.id for view in exp.sessions()] == [completed]
    assert not cleaner().cleanable()


def test_each_kind_can_be_asked_for_alone(exp, cleaner, killed):
    failed, dead = finished(exp, status="failed"), killed(lr=2)
    exp.model("empty")
    exp.backend.files.put("lost", b"lost")
    nothing = {"statuses": frozenset(), "empty": False, "files": False}
    assert not cleaner().cleanable(**nothing)
    only_failed = cleaner().cleanable(**{**nothing, "statuses": frozenset({"failed"})})
    assert only_failed == Removal({failed: "failed"})
    only_killed = cleaner().cleanable(**{**nothing, "statuses": frozenset({"killed"})})
    assert only_killed == Removal({dead: "killed"})
    assert cleaner().cleanable(**{**nothing, "empty": True}).models == {("exp", "empty")}
    [file] = cleaner().cleanable(**{**nothing, "files": True}).files
    assert file in kept(exp)


def test_what_is_young_is_left_if_only_older_is_asked_for(exp, cleaner, file_url):
    old = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    owner = {"experiment": "exp", "model": "net", "session": "old", "time": old}
    start = record("session", **owner, body={"params": {}, "meta": {}, "process": {}})
    end = record("end", **owner, body={"status": "failed", "of": start["writer"]})
    exp.backend.store.append([start, end])
    finished(exp, status="failed")
    exp.model("empty")
    removal = cleaner().cleanable(older_than=timedelta(days=2))
    assert removal == Removal({"old": "failed"})


def test_an_experiment_just_begun_is_left_while_a_session_runs(exp, cleaner, monkeypatch):
    running = exp.model("net").session({"lr": 1})
    exp.model("empty")
    Experiment.use(exp.backend.location.path, exp_id="void").close()
    assert not cleaner().cleanable()
    monkeypatch.setattr(cleaning, "YOUNG", timedelta(0))
    assert cleaner().cleanable().models == {("exp", "empty")}
    assert cleaner().cleanable().experiments == {"void"}
    running.end()


# Files.


def test_unused_files_and_cut_copies_go_and_those_of_others_stay(exp, cleaner):
    finished(exp, artifacts={"a": b"used"})
    folder = exp.backend.files.path
    used = kept(exp)
    exp.backend.files.put("lost.bin", b"lost")
    (folder / ".0123456789abcdef.tmp").write_bytes(b"cut")
    (folder / "notes.txt").write_text("mine")
    (folder / f"{'0' * 64}.bin").mkdir()
    removal = cleaner().cleanable()
    assert len(removal.files) == 2
    assert cleaner().remove(removal) == removal
    assert kept(exp) == used | {"notes.txt", f"{'0' * 64}.bin"}


def test_a_file_that_a_running_session_is_about_to_name_is_left(exp, cleaner):
    session = exp.model("net").session({"lr": 1})
    file = exp.backend.files.put("a.bin", b"just kept")
    (exp.backend.files.path / ".0123456789abcdef.tmp").write_bytes(b"being copied")
    assert not cleaner().cleanable()
    exp.backend.store.append(
        [record("artifact", experiment="exp", model="net", session=session.id, body=file)]
    )
    [view] = exp.sessions()
    assert view.artifacts["a.bin"].load() == b"just kept"
    session.end()


def test_an_unused_file_that_is_old_goes_also_while_a_session_runs(exp, cleaner):
    session = exp.model("net").session({"lr": 1})
    exp.backend.files.put("a.bin", b"forgotten")
    for path in exp.backend.files.path.iterdir():
        os.utime(path, (LONG_AGO, LONG_AGO))
    removal = cleaner().cleanable()
    assert cleaner().remove(removal) == removal
    assert kept(exp) == set()
    session.end()


def test_a_file_asked_for_again_by_a_running_session_outlives_the_one_that_is_removed(exp, cleaner):
    goes = finished(exp, artifacts={"model.bin": b"same"}, lr=1)
    running = exp.model("net").session({"lr": 2})
    time.sleep(0.02)  # a file's time has the grain of the kernel's clock
    file = exp.backend.files.put("model.bin", b"same")
    removed = cleaner().remove(cleaner().chosen(sessions=only(goes)))
    assert (set(removed.sessions), removed.files) == ({goes}, frozenset())
    exp.backend.store.append(
        [record("artifact", experiment="exp", model="net", session=running.id, body=file)]
    )
    [view] = exp.sessions()
    assert view.artifacts["model.bin"].load() == b"same"
    running.end()


def test_a_file_asked_for_in_the_very_moment_of_its_removal_is_put_back(exp, cleaner, monkeypatch):
    goes = finished(exp, artifacts={"model.bin": b"same"}, lr=1)
    replace = os.replace

    def ask_then_replace(source, target):
        os.utime(source, (time.time() + 1, time.time() + 1))
        monkeypatch.setattr(os, "replace", replace)
        replace(source, target)

    looking = cleaner()
    removal = looking.chosen(sessions=only(goes))
    wait = looking._wait_for_new
    looking._wait_for_new = lambda removal: (
        wait(removal),
        monkeypatch.setattr(os, "replace", ask_then_replace),
    )
    assert looking.remove(removal).files == frozenset()
    assert kept(exp) == set(removal.files)


def test_a_new_file_is_waited_for_until_its_record_can_be_there(exp, cleaner, monkeypatch):
    array = np.arange(100_000.0)

    def wait_while_another_process_adds_the_record(_):
        monkeypatch.undo()
        Experiment.use(exp.backend.location.path, exp_id="a", start=array).close()

    exp.backend.files.put_array(array)
    looking = cleaner()
    removal = looking.cleanable(empty=False)
    assert len(removal.files) == 1
    monkeypatch.setattr(cleaning, "SETTLING", timedelta(hours=1))
    monkeypatch.setattr(time, "sleep", wait_while_another_process_adds_the_record)
    assert not looking.remove(removal)
    with casket.open(exp.backend.location.path) as opened:
        assert opened.experiments[-1].facts["start"][-1] == 99_999.0


def test_a_file_of_tomorrow_is_not_waited_for_until_then(exp, cleaner, monkeypatch):
    """Another machine's clock may be ahead."""
    slept = []
    monkeypatch.setattr(cleaning, "SETTLING", timedelta(seconds=2))
    monkeypatch.setattr(time, "sleep", slept.append)
    exp.backend.files.put("a.bin", b"unused")
    for path in exp.backend.files.path.iterdir():
        os.utime(path, (time.time() + 86_400, time.time() + 86_400))
    assert len(cleaner().remove(cleaner().cleanable()).files) == 1
    assert slept == [2.0]


@pytest.mark.filterwarnings("ignore:records of")
def test_what_a_newer_record_may_name_is_left(exp, cleaner):
    file = exp.backend.files.put("a.bin", b"of tomorrow")
    newer = {**record("hologram", session=None, body={"deep": [file["file"]]}), "v": 99}
    exp.backend.store.append([newer])
    assert not cleaner().cleanable().files


# Rewriting.


def test_compaction_changes_nothing_that_a_reader_sees(exp, cleaner):
    finished(exp, artifacts={"a": b"a"}, lr=1)
    goes = finished(exp, lr=2)
    cleaner().remove(cleaner().chosen(sessions=only(goes)))
    running = exp.model("net").session({"lr": 3})
    before = list(exp.backend.store.records())
    compact(exp.backend.location)
    assert list(exp.backend.store.records()) == before
    assert [r["body"]["sessions"] for _, r in before if r["kind"] == "deleted"] == [[goes]]
    running.add_epoch(1, {"loss": 0.5})
    running.end()
    assert [view.status for view in exp.sessions()] == ["completed", "completed"]


def test_compaction_lays_a_file_out_a_record_a_line(tmp_path):
    path = tmp_path / "runs.json"
    exp = Experiment.use(path, exp_id="exp")
    finished(exp)
    exp.close()
    before = [one for _, one in exp.backend.store.records()]
    wide = json.dumps(strict_json(path), indent=4)
    path.write_text(wide)
    compact(Location.of(path))
    assert path.stat().st_size < len(wide)
    assert path.read_text().count("\n") == len(before) + 2
    assert [one for _, one in exp.backend.store.records()] == before


def test_compaction_moves_damage_aside_and_removes_what_killed_rewritings_left(tmp_path):
    path = tmp_path / "runs.json"
    exp = Experiment.use(path, exp_id="exp")
    finished(exp)
    exp.close()
    text = path.read_bytes()
    path.write_bytes(text.replace(b'"kind":"epoch"', b'"kind":"ep\x00ch"'))
    leftover, foreign = tmp_path / "runs.json.4711.tmp", tmp_path / "runs.json.mine.tmp"
    leftover.write_bytes(b"half")
    foreign.write_bytes(b"mine")
    with casket_warnings() as said:
        compact(Location.of(path))
    assert len(said) == 1
    assert b"ep\x00ch" not in path.read_bytes()
    assert b"ep\x00ch" in (tmp_path / "runs.json.torn").read_bytes()
    assert not leftover.exists()
    assert foreign.exists()


def test_compaction_gives_the_pages_of_sqlite_back(tmp_path):
    path = tmp_path / "runs.sqlite"
    exp = Experiment.use(path, exp_id="exp")
    for lr in range(30):
        finished(exp, lr=lr)
    exp.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM records WHERE number % 2 = 0")
    connection.close()
    before = path.stat().st_size
    compact(Location.of(path))
    assert path.stat().st_size < before * 0.7
    assert cleaning.size_of_store(Location.of(path)) == path.stat().st_size


@pytest.mark.parametrize("name", ["runs.json", "runs.sqlite"])
def test_compacting_what_does_not_exist_creates_nothing(tmp_path, name):
    with pytest.raises(NotFound):
        compact(Location.of(tmp_path / name))
    assert list(tmp_path.iterdir()) == []


# Others write.

WRITERS = 8


@pytest.fixture
def crew(tmp_path):
    crew = Crew(tmp_path)
    yield crew
    crew.disband()


def write_until(path, name, is_over):
    """Log sessions that are to stay, to be removed and to be cleaned up; acknowledge the first."""
    said = Log(f"kept-{name}")
    exp = Experiment.use(path, exp_id="exp")
    k = 0
    while not is_over.is_set():
        k += 1
        model = exp.model(f"net {name % 2}")
        for fate in ("stays", "goes", "fails"):
            session = model.session({"of": name, "k": k, "fate": fate})
            for epoch in range(1, 4):
                session.add_epoch(epoch, {"k": k, "text": "x" * 300})
            session.add_artifact("same.bin", b"same for all")
            session.add_artifact("own.bin", f"{name} {k} {fate}".encode())
            session.end("failed" if fate == "fails" else "completed")
            if fate == "stays":
                said.add(k, session.id)
        time.sleep(0.02)


@pytest.mark.parametrize("name", ["runs.json", "runs.sqlite"])
def test_nothing_is_lost_while_processes_write(tmp_path, crew, name, monkeypatch):
    path, is_over = tmp_path / name, context.Event()
    for number in range(WRITERS):
        crew.start(write_until, path, number, is_over)
    location = Location.of(path)
    logs = [tmp_path / f"kept-{number}" for number in range(WRITERS)]
    eventually(lambda: all(log.exists() for log in logs), "nobody began")
    is_doomed = {"goes"}.__contains__
    removed = 0
    begun = time.monotonic()
    while time.monotonic() < begun + 2 or removed <= WRITERS:
        cleaner = Cleaner(location)
        removed += len(cleaner.remove(cleaner.cleanable(empty=True)).sessions)
        cleaner = Cleaner(location)
        doomed = cleaner.chosen(sessions=lambda view: is_doomed(view.params.get("fate")))
        finished_ones = {i: s for i, s in doomed.sessions.items() if s == "completed"}
        removed += len(cleaner.remove(doomed._replace(sessions=finished_ones)).sessions)
        compact(location)
    is_over.set()
    crew.finish()
    monkeypatch.setattr(cleaning, "SETTLING", timedelta(0))
    cleaner = Cleaner(location)
    cleaner.remove(cleaner.cleanable())
    cleaner = Cleaner(location)
    cleaner.remove(cleaner.chosen(sessions=lambda view: is_doomed(view.params["fate"])))

    sessions = {view.id: view for view in casket.open(path).sessions()}
    wanted = {
        session: (number, int(k))
        for number, log in enumerate(logs)
        for k, session in acknowledged(log)
    }
    assert sessions.keys() == wanted.keys()
    for session, (number, k) in wanted.items():
        view = sessions[session]
        assert [epoch["epoch_num"] for epoch in view.epochs] == [1, 2, 3]
        assert view.artifacts["same.bin"].load() == b"same for all"
        assert view.artifacts["own.bin"].load() == f"{number} {k} stays".encode()
    assert len(list(Path(f"{path}.files").iterdir())) == len(wanted) + 1
    store = location.open(StoreOptions(), writing=False)
    assert len(list(store.records(kinds={"session"}))) == len(wanted)
