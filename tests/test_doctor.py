"""The findings of doctor and the results of a repair; the faults are real."""

import errno
import json
import os
import random
import shutil
import sqlite3
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import casket
from casket import DamagedFile, Experiment, NotACasketFile, NotFound, StoreFull, StoreUnavailable
from casket.format.records import Writer, deletion
from casket.maintenance.cleaning import compact
from casket.maintenance.doctor import examine, repair
from casket.stores.base import StoreOptions
from casket.stores.jsonfile import check as jsoncheck
from casket.stores.jsonfile import scan
from casket.stores.jsonfile.salvage import salvage
from casket.stores.location import Location
from casket.testing import record
from tests.stores.files import casket_warnings, is_root, strict_json, traces
from tests.test_legacy import ORIGINAL


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Nobody appends while these files are looked at."""
    monkeypatch.setattr(jsoncheck, "PAUSE", 0.0)


@pytest.fixture
def runs(file_url):
    """A file with three sessions, artifacts and an array; closed."""
    path = Path(file_url)
    exp = Experiment.use(path, exp_id="exp", tags=["a"])
    model = exp.model("net", {"units": 3})
    for lr in (0.1, 0.2, 0.3):
        with model.session({"lr": lr}) as session:
            for epoch in range(1, 11):
                session.add_epoch(epoch, {"loss": lr / epoch})
            session.add_artifact("a.bin", f"{lr}".encode())
            session.add_result({"weights": np.full(100_000, lr)}, index_by="test")
    exp.close()
    return path


@pytest.fixture
def json_runs(tmp_path):
    path = tmp_path / "runs.json"
    model = Experiment.use(path, exp_id="exp").model("net")
    for lr in (0.1, 0.2):
        with model.session({"lr": lr}) as session:
            for epoch in range(1, 4):
                session.add_epoch(epoch, {"loss": lr / epoch})
    model.experiment.close()
    return path


def examined(path):
    """Examine a file; nothing in its folder may change by it."""
    before = traces(path.parent)
    report = examine(Location.of(path))
    assert traces(path.parent) == before
    return report


def repaired(path):
    """Repair a file; return its records and those of the old file by identity."""
    old = path.read_bytes()
    kept = repair(Location.of(path))
    assert kept.read_bytes() == old
    assert kept.name.startswith(f"{path.name}.damaged-")
    after = examined(path)
    assert not after.is_repairable, after.findings
    with casket_warnings() as said:
        there = records(path)
        casket.open(path).sessions()
    assert said == []
    return there


def records(path):
    """Return the records that a reader sees, by identity."""
    store = Location.of(path).open(StoreOptions(), writing=False)
    return {(r["writer"], r["n"]): r for _, r in store.records()}


def line_of(path, number):
    """Return where a record's line begins and ends, without its newline."""
    text = path.read_bytes()
    start = text.index(b'\n"%d":' % number) + 1
    return start, text.index(b"\n", start)


def overwrite(path, at, data):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


# Sound files.


def test_a_sound_file_is_sound_and_counted(runs):
    report = examined(runs)
    assert report.findings == []
    assert (report.sessions, report.artifacts) == (3, 6)
    report.records.pop("meta", None)  # whether the working copy was changed, if git was slow
    assert report.records == {
        "experiment": 1, "model": 1, "session": 3, "epoch": 30, "artifact": 3, "result": 3,
        "end": 3,
    }  # fmt: skip


def test_files_of_the_first_casket_of_tinydb_and_by_hand_are_sound(tmp_path, json_runs):
    old, wide, empty = tmp_path / "old.json", tmp_path / "wide.json", tmp_path / "empty.json"
    old.write_bytes(ORIGINAL.read_bytes())
    wide.write_text(json.dumps(strict_json(json_runs), indent=2))
    empty.write_bytes(b"")
    for path in (old, wide, empty):
        assert examined(path).findings == []
    assert examined(wide).records == examined(json_runs).records
    assert examined(old).records.total() == len(records(old))


def test_what_was_removed_is_not_missed(runs):
    place = Location.of(runs)
    session = casket.open(runs).sessions()[0]
    store = place.open(StoreOptions(), writing=True)
    # As a merge does where nothing is covered, and as `rm` does.
    store.append([deletion(Writer(), sessions=[session.id])])
    session.artifacts["a.bin"].path.unlink()
    store.close()
    assert examined(runs).damages == []
    store.prune(deletion(Writer(), sessions=[session.id]))
    store.close()
    assert examined(runs).damages == []


@pytest.mark.parametrize("name", ["runs.json", "runs.sqlite"])
def test_what_is_not_caskets_is_refused_and_what_is_not_there_named(tmp_path, name):
    with pytest.raises(NotFound):
        examined(tmp_path / name)
    (tmp_path / name).write_text('{"my": "settings"}')
    with pytest.raises(NotACasketFile):
        examined(tmp_path / name)
    (tmp_path / name).unlink()
    with sqlite3.connect(tmp_path / name) as connection:
        connection.execute("CREATE TABLE mine (a)")
    connection.close()
    with pytest.raises(NotACasketFile):
        examined(tmp_path / name)


def test_a_file_in_use_is_examined_as_it_stands(file_url):
    path = Path(file_url)
    session = Experiment.use(path, exp_id="exp").model("net").session({"lr": 1})
    for epoch in range(50):
        session.add_epoch(epoch, {"loss": 0.5})
        report = examine(Location.of(path))
        assert report.findings == []
        assert report.records["epoch"] == epoch + 1
    session.end()


# JSON.


def test_a_flipped_byte_is_named_with_what_it_cost(json_runs):
    before = records(json_runs)
    start, stop = line_of(json_runs, 5)
    lost = json.loads(json_runs.read_bytes()[start:stop].partition(b":")[2].rstrip(b","))
    overwrite(json_runs, start + 6, b"\xff")
    report = examined(json_runs)
    [damage] = report.damages
    assert (damage.start, damage.stop) == (start, stop + 1)
    assert damage.sessions == (lost["session"],)
    assert damage.cost.startswith("1 record")
    there = repaired(json_runs)
    assert before.keys() - there.keys() == {(lost["writer"], lost["n"])}
    assert all(before[key] == one for key, one in there.items())


def test_a_lost_range_is_measured_by_the_numbers_around_it(json_runs):
    first, last = line_of(json_runs, 4)[0], line_of(json_runs, 6)[1]
    overwrite(json_runs, first, b"\0" * (last - first))
    [damage] = examined(json_runs).damages
    assert damage.cost == "up to 3 records"
    notes = [finding for finding in examined(json_runs).findings if not finding.is_damage]
    assert ["3 of its records are not there" in note.problem for note in notes] == [True]
    assert len(repaired(json_runs)) == len({*records(json_runs)})


@pytest.mark.parametrize("where", ["in the middle", "at every seventh byte"])
def test_of_a_cut_file_every_whole_record_is_saved(json_runs, where):
    text, before = json_runs.read_bytes(), records(json_runs)
    cuts = [len(text) // 2] if where == "in the middle" else range(0, len(text), 7)
    for cut in cuts:
        json_runs.write_bytes(text[:cut])
        whole = text[:cut].count(b"}\n") + text[:cut].count(b"},\n") - text[:cut].endswith(b"}}\n")
        report = examined(json_runs)
        if report.is_repairable:
            there = repaired(json_runs)
            assert list(there.items()) == list(before.items())[: len(there)]
            assert len(there) >= min(whole, len(before))
        else:  # empty, or only the last newline is gone
            assert cut <= len(b'{"_default": {') or cut == len(text) - 1
        if report.is_repairable:
            strict_json(json_runs)
        for kept in json_runs.parent.glob("*.damaged-*"):
            kept.unlink()


def test_a_damaged_first_line_costs_nothing(json_runs):
    before = records(json_runs)
    overwrite(json_runs, 3, b"X")
    with pytest.raises(DamagedFile):
        records(json_runs)
    [damage] = examined(json_runs).damages
    assert (damage.start, damage.stop) == (0, len(b'{"_default": {'))
    assert repaired(json_runs) == before


def test_a_newline_that_is_gone_costs_nothing(json_runs):
    before = records(json_runs)
    overwrite(json_runs, line_of(json_runs, 4)[1], b" ")
    overwrite(json_runs, line_of(json_runs, 7)[1], b"x")
    assert len(examined(json_runs).damages) == 2
    assert repaired(json_runs) == before


def test_a_comma_that_is_gone_and_lines_out_of_order_are_named(json_runs):
    before = records(json_runs)
    text, comma = json_runs.read_bytes(), line_of(json_runs, 4)[1] - 1
    json_runs.write_bytes(text[:comma] + text[comma + 1 :])
    text = json_runs.read_bytes()
    (a, b), (c, d) = line_of(json_runs, 7), line_of(json_runs, 8)
    json_runs.write_bytes(text[:a] + text[c:d] + text[b:c] + text[a:b] + text[d:])
    problems = [damage.problem for damage in examined(json_runs).damages]
    assert "comma" in problems[0]
    assert problems[1] == "record 7 comes after record 8"
    assert {damage.cost for damage in examined(json_runs).damages} == {"nothing"}
    assert repaired(json_runs) == before
    assert list(repaired_numbers(json_runs)) == sorted(repaired_numbers(json_runs))


def repaired_numbers(path):
    return [int(number) for number in strict_json(path)["_default"]]


def test_an_interrupted_append_of_several_records_is_named(json_runs):
    before = records(json_runs)
    store = Location.of(json_runs).open(StoreOptions(), writing=True)
    store.append([record(session="s") for _ in range(3)])
    store.close()
    start, _ = line_of(json_runs, len(before) + 3)
    json_runs.write_bytes(json_runs.read_bytes()[: start - 1])
    [damage] = examined(json_runs).damages
    assert "interrupted" in damage.problem
    assert damage.sessions == ("s",)
    assert repaired(json_runs) == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"body": {"result": {}}}, "'epoch_num' is missing"),
        ({"body": [1]}, "its 'body' is [1]"),
        ({"time": "yesterday"}, "its 'time' is 'yesterday'"),
        ({"time": "2026-01-01T00:00:00"}, "its 'time' is"),
        ({"n": "1"}, "its 'n' is '1'"),
        ({"session": 3}, "its 'session' is 3"),
        ({"session": None}, "its 'session' is None"),
        ({"kind": "artifact", "body": {"name": "a"}}, "'file' is missing"),
    ],
    ids=str,
)
def test_a_record_that_readers_would_trip_over_is_named_and_dropped(file_url, change, says):
    path = Path(file_url)
    store = Location.of(path).open(StoreOptions(), writing=True)
    good = [record(session="s"), record(session="s")]
    store.append([good[0]])
    store.append([{**record(session="s"), **change}])
    store.append([good[1]])
    store.close()
    report = examined(path)
    assert [says in damage.problem for damage in report.damages if damage.is_repairable] == [True]
    left = [{name: one[name] for name in good[0]} for one in repaired(path).values()]
    assert left == good


def test_what_other_programs_keep_in_the_file_outlives_a_repair(json_runs):
    tables = {"others": {"1": {"mine": 1}}, **strict_json(json_runs)}
    tables["_default"]["99"] = {"note": "mine, too"}
    json_runs.write_text(json.dumps(tables))
    store = Location.of(json_runs).open(StoreOptions(), writing=True)
    store.append([record(session="s")])
    store.close()
    start, _ = line_of(json_runs, 4)
    overwrite(json_runs, start + 5, b"?")
    repaired(json_runs)
    assert strict_json(json_runs)["others"] == {"1": {"mine": 1}}
    assert {"note": "mine, too"} in strict_json(json_runs)["_default"].values()


def test_writers_go_on_in_the_repaired_file(json_runs):
    model = Experiment.use(json_runs, exp_id="exp").model("net")
    session = model.session({"lr": 9})
    start, _ = line_of(json_runs, 4)
    overwrite(json_runs, start + 5, b"?")
    repaired(json_runs)
    session.add_epoch(1, {"loss": 0.5})
    session.end()
    assert [len(view.epochs) for view in casket.open(json_runs).sessions()] == [2, 3, 1]


# The first casket.


def test_of_a_cut_file_of_the_first_casket_whole_sessions_are_saved(tmp_path):
    path = tmp_path / "old.json"
    path.write_bytes(ORIGINAL.read_bytes())
    before = casket.open(path).sessions()
    text = ORIGINAL.read_bytes()
    saved = 0
    for cut in range(len(text) // 4, len(text), len(text) // 40):
        path.write_bytes(text[:cut])
        [damage] = examined(path).damages
        assert damage.stop == cut
        there = repaired(path)
        assert strict_json(path)
        saved = max(saved, len({r["session"] for r in there.values() if "session" in r}))
    assert saved == len(before)


def test_a_damaged_experiment_of_the_first_casket_leaves_the_others(tmp_path):
    path = tmp_path / "old.json"
    document = next(iter(strict_json(ORIGINAL)["_default"].values()))
    documents = {str(i): {**document, "id": f"exp {i}"} for i in (1, 2, 3)}
    path.write_text(json.dumps({"_default": documents}))
    before = {view.id: view.experiment for view in casket.open(path).sessions()}
    at = path.read_bytes().index(b'"exp 2"')
    overwrite(path, at + 8, b"\0\0")
    [damage] = examined(path).damages
    assert damage.start <= at + 10 <= damage.stop
    repaired(path)
    after = {view.id: view.experiment for view in casket.open(path).sessions()}
    assert after == {key: exp for key, exp in before.items() if exp != "exp 2"}


def test_salvage_takes_nothing_from_inside_a_record():
    inner = {"1": dict(record(session="fake"))}
    whole = json.dumps(record(body={"epoch_num": 1, "result": inner}))
    text = f'"7": {whole},\n"8": {whole[:-9]}'.encode()
    salvaged = salvage(text, 100)
    assert next(number for number, _ in salvaged.documents) == 7
    assert salvaged.lost[-1].stop == 100 + len(text)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"3":', b'"3";'),
        (b'"3":', b'"s":'),
        (b'"3":', bytes(4)),
        (b'"3": ', b""),
        (b',\n"3":', b'l\n"3":'),
        (b',\n"3": ', b"garbage"),
        (b'\n"3": ', b""),
    ],
    ids=repr,
)
@pytest.mark.filterwarnings("ignore::casket.CasketWarning")
def test_a_record_whose_number_is_damaged_is_kept(before, after, tmp_path):
    path = tmp_path / "runs.json"
    store = Location.of(path).open(StoreOptions(), writing=True)
    for _ in range(5):
        store.append([record(session="s")])
    store.close()
    text, whole = path.read_bytes(), records(path)
    assert text.count(before) == 1
    path.write_bytes(text.replace(before, after))
    if before.startswith(b'"'):  # otherwise two lines are joined: readers name them as damaged
        assert records(path) == whole
    assert repaired(path) == whole


# SQLite.


@pytest.fixture
def database(tmp_path):
    """A database of several pages, with records longer than a page; closed."""
    path = tmp_path / "runs.sqlite"
    model = Experiment.use(path, exp_id="exp").model("net")
    for lr in range(5):
        with model.session({"lr": lr}) as session:
            for epoch in range(40):
                session.add_epoch(epoch, {"loss": 0.5, "text": "x" * (9000 if epoch == 7 else 20)})
    model.experiment.close()
    return path


def test_a_damaged_row_is_skipped_by_readers_and_named_where_it_stands(database):
    before = records(database)
    at = database.read_bytes().index(b'"kind":"epoch"')
    overwrite(database, at + 8, b"\xff\x00")
    with casket_warnings() as said:
        assert len(records(database)) == len(before) - 1
        assert len(casket.open(database).sessions()) == 5
    assert all("is damaged and was skipped" in one for one in said)
    [damage] = examined(database).damages
    assert damage.start < at < damage.stop
    assert damage.cost.startswith("1 record")
    there = repaired(database)
    assert len(there) == len(before) - 1
    assert all(before[key] == one for key, one in there.items())


@pytest.mark.parametrize("seed", range(12))
def test_of_a_database_with_bad_pages_the_other_pages_are_saved(database, seed):
    before, chance = records(database), random.Random(seed)
    pages = database.stat().st_size // 4096
    bad = chance.randrange(2 if seed else 0, pages) if seed else 0
    overwrite(database, bad * 4096, chance.randbytes(4096))
    damages = [damage for damage in examined(database).damages if damage.is_repairable]
    assert damages
    assert all(damage.stop for damage in damages)
    there = repaired(database)
    # A page of a long record costs that record, a page of rows the rows on it.
    assert len(there) >= len(before) - 30
    assert all(before[key] == one for key, one in there.items())


def test_of_a_truncated_database_the_pages_that_are_there_are_saved(database):
    before = records(database)
    length = database.stat().st_size * 3 // 4 + 100
    os.truncate(database, length)
    with pytest.raises(StoreUnavailable):
        records(database)
    [*_, damage] = examined(database).damages
    assert damage.problem == "the file ends too soon"
    assert damage.start <= length < damage.stop
    there = repaired(database)
    assert len(before) * 0.4 < len(there) < len(before)
    assert all(before[key] == one for key, one in there.items())


def test_what_stands_in_the_log_of_a_damaged_database_only_is_saved(tmp_path, database):
    """As a process leaves it that was killed."""
    path = tmp_path / "copy.sqlite"
    session = Experiment.use(database, exp_id="exp").model("net").session({"lr": 1000})
    for epoch in range(100):
        session.add_epoch(epoch, {"loss": 0.5})
    for suffix in ("", "-wal"):
        shutil.copy(f"{database}{suffix}", f"{path}{suffix}")
    before = records(database)
    session.end()
    overwrite(path, path.read_bytes().index(b'"epoch_num":20') // 4096 * 4096, b"\0" * 4096)
    assert examine(Location.of(path)).damages
    repair(Location.of(path))
    there = records(path)
    assert len(before) - 30 < len(there) < len(before)
    assert {key for key, one in before.items() if one.get("session") == session.id} <= set(there)
    [kept] = tmp_path.glob("*.damaged-*-wal")
    assert kept.read_bytes()


@pytest.mark.parametrize("bad", ["the header", "a page"])
def test_what_was_deleted_does_not_come_back_from_pages_in_use_no_more(database, bad):
    session = casket.open(database).sessions()[0].id
    exp = Experiment.use(database, exp_id="exp")
    tombstone = deletion(exp.backend.writer, sessions=[session])
    exp.backend.store.append([tombstone])
    exp.close()
    with sqlite3.connect(database) as connection:  # deleted, and no room given back
        connection.execute("DELETE FROM records WHERE session = ?", [session])
    connection.close()
    before = records(database)
    if bad == "the header":
        overwrite(database, 0, b"SQLite forgot 3\0")
        assert repaired(database) == before
    else:
        at = database.read_bytes().rindex(b'"status":"completed"')
        overwrite(database, at // 4096 * 4096, b"\0" * 4096)
        there = repaired(database)
        assert there.keys() < before.keys()
        assert all(before[key] == one for key, one in there.items())


def test_a_database_that_others_have_open_is_not_replaced(database, run_python):
    overwrite(database, database.read_bytes().index(b'"kind":"epoch"') + 8, b"\0")
    code = """
        import sys
        from casket import Experiment, StoreUnavailable
        from casket.maintenance.doctor import repair
        from casket.stores.location import Location
        try:
            repair(Location.of(sys.argv[1]))
        except StoreUnavailable as error:
            print(error)
        """
    exp = Experiment.use(database, exp_id="exp")
    exp.add_tag("open")
    with pytest.raises(StoreUnavailable):
        repair(Location.of(database))
    assert "others have it open" in run_python(code, database)
    exp.close()
    assert run_python(code, database) == ""


# Obstacles to a repair.


def test_a_repair_that_fails_changes_nothing(runs, monkeypatch):
    text = runs.read_bytes()
    at = text.index(b'"kind":"epoch"') + 3
    runs.write_bytes(text[:at] + b"\0" + text[at + 1 :])
    before = traces(runs.parent)
    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(StoreFull):
        repair(Location.of(runs))
    after = traces(runs.parent)
    assert after.keys() == before.keys()
    assert after[runs.name][0].rstrip() == before[runs.name][0].rstrip()


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.skipif(is_root(), reason="root may read everything")
def test_a_file_that_cannot_be_read_is_named(runs):
    runs.chmod(0)
    with pytest.raises(StoreUnavailable):
        examined(runs)


# Artifacts, sessions and leftover files.


@pytest.mark.parametrize("fault", ["missing", "its hash differs", "it has 2 bytes, not"])
def test_a_bad_artifact_or_array_is_named_with_its_session(runs, fault):
    session = casket.open(runs).sessions()[1]
    folder = Path(f"{runs}.files")
    array = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    for path in (session.artifacts["a.bin"].path, array):
        if fault == "missing":
            path.unlink()
        else:
            data = path.read_bytes()
            path.write_bytes(bytes([data[0] ^ 1]) + data[1:] if "hash" in fault else b"xx")
    damages = examined(runs).damages
    assert len(damages) == 2
    assert all(fault in damage.problem and not damage.is_repairable for damage in damages)
    [artifact] = [damage for damage in damages if "artifact 'a.bin' of session" in damage.where]
    assert artifact.sessions == (session.id,)
    assert any("an array" in damage.where for damage in damages)


def test_a_session_without_its_start_is_named(json_runs):
    session = casket.open(json_runs).sessions()[1].id
    text = json_runs.read_bytes()
    start = text.rindex(b'"kind":"session"')
    line = text.rindex(b"\n", 0, start) + 1
    json_runs.write_bytes(text[:line] + text[text.index(b"\n", start) + 1 :])
    [damage] = examined(json_runs).damages
    assert damage.sessions == (session,)
    assert "its start is not there" in damage.problem


@pytest.mark.filterwarnings("ignore:records of")
def test_what_is_good_to_know_is_noted(runs):
    exp = Experiment.use(runs, exp_id="exp")
    one = record(session=casket.open(runs).sessions()[0].id, model="net", experiment="exp")
    exp.backend.store.append([one])
    exp.backend.store.append([one])
    exp.backend.store.append([{**record("hologram"), "v": 99}])
    exp.backend.files.put("a", b"unused")
    exp.close()
    Path(f"{runs}.torn").write_bytes(b"torn")
    Path(f"{runs}.4711.tmp").write_bytes(b"half")
    Path(f"{runs}.mine.tmp").write_bytes(b"mine")
    report = examined(runs)
    assert report.damages == []
    said = " ".join(f"{finding.where} {finding.problem}" for finding in report.findings)
    for part in ("1 are copies", "hologram", "1 files are referred to by nothing", ".torn", "4711"):
        assert part in said
    assert "mine" not in said


def test_a_large_file_is_not_held_in_memory(tmp_path):
    """Nor is it when it is damaged, repaired or compacted; beyond 8 MB nothing is read whole."""
    path = tmp_path / "runs.json"
    store = Location.of(path).open(StoreOptions(), writing=True)
    for i in range(30):
        body = {"epoch_num": i, "result": {"text": "x" * 1000}}
        writer = Writer()
        store.append([record(session=f"s{i}", writer=writer, body=body) for _ in range(400)])
    store.close()
    place, size = Location.of(path), path.stat().st_size
    overwrite(path, size // 2, b"\0" * 100)
    tracemalloc.start()
    assert len([one for one in examine(place).damages if one.is_repairable]) == 1
    repair(place)
    compact(place)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > scan.EDITED
    assert peak < size / 3


def test_a_link_to_a_damaged_file_stays_a_link(runs, tmp_path):
    text = runs.read_bytes()
    at = text.index(b'"kind":"epoch"') + 3
    runs.write_bytes(text[:at] + b"\0" + text[at + 1 :])
    link = tmp_path / f"link{runs.suffix}"
    link.symlink_to(runs)
    repair(Location.of(link))
    assert link.is_symlink()
    assert not examine(Location.of(runs)).is_repairable


def test_progress_reaches_the_size_of_what_there_is_to_read(runs):
    told = []
    report = examine(Location.of(runs), told.append)
    least = sum(path.stat().st_size for path in Path(f"{runs}.files").iterdir())
    assert least < sum(told) <= least + report.size
