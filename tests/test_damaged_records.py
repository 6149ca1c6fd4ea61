"""A damaged character may leave JSON valid: every command survives it and shows the rest.

By default a sample of all damages; with CASKET_ALL_DAMAGES=1 all of them. CASKET_MUTATIONS is the
number of files of each store with mutated bytes.
"""

import json
import os
import random
import shutil
import sqlite3
import warnings
from itertools import islice

import pytest
from click.testing import CliRunner

import casket
from casket import CasketError, CasketWarning, Experiment
from casket.cli.app import app
from casket.format.intact import is_intact
from casket.format.records import Writer, encoded
from casket.stores.base import StoreOptions
from casket.stores.location import Location

SAMPLE = 40
COMMANDS = [
    ("ls", "{file}"),
    ("ls", "{file}", "--json"),
    ("ls", "{file}", "--group-by", "params.lr"),
    ("ls", "{file}", "--where", "loss < 1"),
    ("show", "@last", "{file}"),
    ("best", "loss", "{file}"),
    ("export", "{file}", "--format", "csv"),
    ("export", "{file}", "--format", "csv", "--table", "epochs"),
    ("export", "{file}", "--format", "jsonl"),
    ("export", "{file}", "--format", "json"),
    ("export", "{file}", "--format", "markdown"),
    ("clean", "{file}", "--dry-run"),
    ("doctor", "{file}"),
    ("tail", "{file}"),
    ("tail", "{file}", "--json"),
    ("diff", "{one}", "{two}", "{file}"),
    ("merge", "{file}", "-o", "{merged}"),
    ("rm", "{one}", "--file", "{copy}", "--yes"),
    ("compact", "{copy}", "--yes"),
    ("clean", "{copy}", "--failed", "--killed", "--artifacts", "--yes"),
    ("tag", "{two}", "kept", "--file", "{copy}"),
]


def fill(path):
    """Write two sessions with a record of every kind."""
    experiment = Experiment.use(path, exp_id="digits", tags=["thesis"], fact=1)
    model = experiment.model("net", {"units": 64})
    with model.session({"lr": 0.1, "bad": float("nan")}) as session:
        session.add_epoch(1, {"loss": float("nan"), "acc": 0.5})
        session.add_epoch(2, {"loss": 0.5, "acc": 0.5})
        session.add_batch(1, {"loss": 1.0}, epoch=1)
        session.add_result({"test_acc": 0.9}, index_by="test")
        session.add_meta({"gpu": "none"})
        session.add_artifact("a.txt", b"hello")
    with model.session({"lr": 0.2}) as other:
        other.add_epoch(1, {"loss": 0.3})
    experiment.close()
    return session.id, other.id


def damages(text, seed):
    """Yield copies of a JSON text with a single character changed that are still valid."""
    rng = random.Random(seed)
    places = list(range(len(text)))
    rng.shuffle(places)
    for place in places:
        changed = chr(ord(text[place]) ^ (1 << rng.randrange(5)))
        damaged = text[:place] + changed + text[place + 1 :]
        try:
            json.loads(damaged)
        except ValueError:
            continue
        yield damaged


def sampled(items):
    return items if os.environ.get("CASKET_ALL_DAMAGES") else islice(items, SAMPLE)


def damaged_json(path):
    """Write each damage to a JSON file."""
    text = path.read_text()
    for damaged in sampled(damages(text, 1)):
        path.write_text(damaged)
        yield damaged


def damaged_sqlite(path):
    """Write each damage to a record of a SQLite file."""
    database = sqlite3.connect(path, isolation_level=None)
    rows = database.execute("SELECT number, record FROM records").fetchall()
    every = [(number, text, each) for number, text in rows for each in damages(text, number)]
    random.Random(1).shuffle(every)
    for number, text, damaged in sampled(every):
        database.execute("UPDATE records SET record = ? WHERE number = ?", (damaged, number))
        yield damaged
        database.execute("UPDATE records SET record = ? WHERE number = ?", (text, number))
    database.close()


@pytest.mark.parametrize(
    ("name", "damaged"), [("runs.json", damaged_json), ("runs.sqlite", damaged_sqlite)]
)
@pytest.mark.filterwarnings("ignore::casket.CasketWarning")
def test_every_command_survives_every_damaged_character(name, damaged, tmp_path):
    path = tmp_path / name
    ids, count = fill(path), 0
    for text in damaged(path):
        count += 1
        run_all(path, ids, text)
        read_tables(path)
    assert count >= SAMPLE


def run_all(path, ids, damage):
    """Run every command over a file; those that change it over a copy."""
    merged, copy = (path.with_name(f"{name}{path.suffix}") for name in ("merged", "copy"))
    places = {"file": path, "merged": merged, "copy": copy}
    names = {name: url_of(place) for name, place in places.items()}
    names |= {"one": ids[0], "two": ids[1]}
    for place in (merged, copy):
        remove(place)
    duplicate(path, copy)
    for command in COMMANDS:
        arguments = [part.format(**names) for part in command]
        result = CliRunner().invoke(app, arguments)
        is_told = result.exception is None or isinstance(result.exception, SystemExit)
        assert is_told, (command, result.exception, damage)


def duplicate(path, copy):
    (shutil.copytree if path.is_dir() else shutil.copy)(path, copy)


def remove(path):
    """Remove a store with everything beside it."""
    for each in path.parent.glob(f"{path.name}*"):
        shutil.rmtree(each) if each.is_dir() else each.unlink()


def read_tables(path):
    try:
        with casket.open(path) as runs:
            for table in ("sessions", "epochs", "batches", "results"):
                runs.to_pandas(table)
                runs.to_polars(table)
    except CasketError:
        return  # refused by name


def mutated(content, rng):
    """Return bytes as a disk, a cut transfer or an editor leaves them."""
    at = rng.randrange(len(content))
    stop = min(at + rng.randrange(1, 40), len(content))
    garbage = rng.randbytes(stop - at)
    flipped = bytes([content[at] ^ (1 << rng.randrange(8))])
    changes = {
        "flipped bit": content[:at] + flipped + content[at + 1 :],
        "garbage": content[:at] + garbage + content[stop:],
        "zeros": content[:at] + bytes(stop - at) + content[stop:],
        "left out": content[:at] + content[stop:],
        "twice": content[:stop] + content[at:],
        "cut": content[:at],
    }
    return rng.choice(list(changes.items()))


MUTATIONS = int(os.environ.get("CASKET_MUTATIONS", "12"))


@pytest.mark.parametrize("name", ["runs.json", "runs.sqlite", "blitz"])
@pytest.mark.filterwarnings("ignore::casket.CasketWarning")
def test_a_mutated_file_breaks_no_command_and_loses_no_undamaged_record(name, tmp_path):
    if name == "blitz":
        pytest.importorskip("blitzdb")
    path = tmp_path / name
    ids = fill(url_of(path))
    whole = tmp_path / "whole"
    duplicate(path, whole)
    before = stored(path)
    for seed in range(MUTATIONS):
        rng = random.Random(seed)
        remove(path)
        duplicate(whole, path)
        file = rng.choice(sorted(path.glob("*/objects/*"))) if path.is_dir() else path
        was = file.read_bytes()
        how, content = mutated(was, rng)
        file.write_bytes(content)
        run_all(path, ids, (seed, how))
        left = saved(path)
        lost = {key for key, text in before.items() if left.get(key) != text}
        damaged = {key for key in lost if is_damaged(before[key], was, content)}
        assert lost == damaged, (seed, how, lost - damaged)


def url_of(path):
    return str(path) if path.suffix else f"blitz:{path}"


def stored(path):
    """Return the texts of the records of a store by identity."""
    store = Location.of(url_of(path)).open(StoreOptions(), writing=False)
    texts = {(r["writer"], r["n"]): encoded(r) for _, r in store.records()}
    store.close()
    return texts


def saved(path):
    """Return the records that are left after the repair that doctor offers, if any."""
    if path.suffix:
        result = CliRunner().invoke(app, ["doctor", str(path), "--repair", "--yes"])
        assert isinstance(result.exception, SystemExit | None), result.exception
    try:
        return stored(path)
    except CasketError:
        return {}


def is_damaged(text, was, content):
    """Return whether bytes of a record, or of the BlitzDB document that holds it, were changed."""
    return text not in content if text in was else was != content


NAN = {"$numberDouble": "NaN"}
DAMAGES = {
    "a text of NaN": (
        "meta",
        lambda record: record["body"]["loss"].update({"$numberDouble": "NbN"}),
    ),
    "a time": ("meta", lambda record: record.update(time="2026-13-30T18:04:52.772531Z")),
    "no kind": ("meta", lambda record: record.update(kinf=record.pop("kind"))),
    "params no dict": ("session", lambda record: record["body"].update(params=[1])),
    "an end without status": ("end", lambda record: record["body"].pop("status")),
    "a status nobody has": ("end", lambda record: record["body"].update(status="complated")),
    "an epoch without number": ("epoch", lambda record: record["body"].pop("epoch_num")),
}


def records_of_a_session():
    writer = Writer()
    owner = {"experiment": "x", "model": "m", "session": "0123456789abcdef"}
    start = {"params": {"lr": 0.1}, "meta": {}, "process": {}}
    return {
        "experiment": writer.record("experiment", {"tags": [], "facts": {}}, experiment="x"),
        "model": writer.record("model", {"config": {}}, experiment="x", model="m"),
        "session": writer.record("session", start, **owner),
        "epoch": writer.record("epoch", {"epoch_num": 1, "result": {"loss": 0.5}}, **owner),
        "batch": writer.record(
            "batch", {"batch_num": 1, "epoch": 1, "result": {"loss": 0.1}}, **owner
        ),
        "meta": {**writer.record("meta", {"loss": NAN}, **owner), "extended": True},
        "end": writer.record("end", {"status": "completed", "of": writer.id}, **owner),
    }


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("suffix", ["json", "sqlite"])
def test_a_damaged_record_is_named_once_and_the_rest_is_shown(name, suffix, tmp_path):
    records = records_of_a_session()
    assert all(map(is_intact, records.values()))
    kind, damage = DAMAGES[name]
    whole = list(records.values())
    with_damage = json.loads(json.dumps(whole))
    damage(next(record for record in with_damage if record.get("kind") == kind))
    path = tmp_path / f"runs.{suffix}"
    store = Location.of(path).open(StoreOptions(), writing=True)
    for record in whole:
        store.append([record])
    store.close()
    write_over(path, whole, with_damage)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with casket.open(path) as runs:
            runs.sessions()
            [view] = runs.sessions()
    named = [each for each in caught if issubclass(each.category, CasketWarning)]
    # The document of a JSON file may be any table of TinyDB: only doctor reports non-records.
    is_document = name == "no kind" and suffix == "json"
    assert len(named) == (0 if is_document else 1), [str(each.message) for each in named]
    assert len(view.batches) == 1
    assert view.params == ({} if kind == "session" else {"lr": 0.1})
    assert len(view.epochs) == (0 if kind == "epoch" else 1)
    result = CliRunner().invoke(app, ["doctor", str(path)])
    assert result.exit_code == 1
    assert "record" in result.output


def test_damage_that_is_accepted_is_a_note_and_new_damage_is_not(tmp_path):
    path = tmp_path / "runs.json"
    fill(path)
    text = path.read_text()
    path.write_text(text.replace('"NaN"', '"NbN"', 1))
    doctor = ["doctor", str(path)]
    assert CliRunner().invoke(app, doctor).exit_code == 1
    accepted = CliRunner().invoke(app, [*doctor, "--accept"])
    assert accepted.exit_code == 0
    assert "runs.json.accepted" in accepted.output
    again = CliRunner().invoke(app, doctor)
    assert (again.exit_code, "(accepted)" in again.output) == (0, True)
    path.write_text(path.read_text().replace('"status":"completed"', '"status":"complated"', 1))
    anew = CliRunner().invoke(app, doctor)
    assert anew.exit_code == 1
    assert anew.output.count("damage:") == 1


def write_over(path, records, others):
    """Replace records in a file by others, whose checksums are then those of the records."""
    pairs = [
        (json.dumps(a, separators=(",", ":"))[:-1], json.dumps(b, separators=(",", ":"))[:-1])
        for a, b in zip(records, others, strict=True)
        if a != b
    ]
    if path.suffix == ".json":
        text = path.read_text()
        for before, after in pairs:
            assert before in text
            text = text.replace(before, after)
        path.write_text(text)
        return
    with sqlite3.connect(path) as database:
        for before, after in pairs:
            query = "UPDATE records SET record = replace(record, ?, ?) WHERE instr(record, ?)"
            assert database.execute(query, (before, after, before)).rowcount == 1
    database.close()
