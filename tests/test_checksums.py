"""A digit that a disk changed is noticed, in every store; files without checksums stay readable."""

import json
import re
import sqlite3

import pytest
from click.testing import CliRunner

import casket
from casket import CasketWarning, Experiment
from casket.cli.app import app
from casket.format.intact import problem_of
from casket.format.records import Writer, encoded, has_changed
from casket.maintenance.doctor import examine
from casket.stores.base import StoreOptions
from casket.stores.location import Location


def fill(url):
    with Experiment.use(url, exp_id="e").model("m").session({"lr": 0.123}) as session:
        session.add_epoch(1, {"loss": 0.456, "text": "größe \u2028 \x00", "nan": float("nan")})
    return session.id


def replace(path, before, after):
    """Change a text in the records of a file, as a disk does."""
    if path.suffix == ".json":
        content = path.read_text()
        assert content.count(before) == 1
        path.write_text(content.replace(before, after))
        return
    with sqlite3.connect(path) as database:
        database.execute("UPDATE records SET record = replace(record, ?, ?)", (before, after))
    database.close()


def records(url):
    store = Location.of(url).open(StoreOptions(), writing=False)
    stored = [record for _, record in store.records()]
    store.close()
    return stored


def sessions_of(url):
    with casket.open(url) as runs:
        return runs.sessions()


def doctor(path):
    result = CliRunner().invoke(app, ["doctor", str(path)])
    return result.exit_code, result.output


def test_every_record_of_a_file_has_a_valid_checksum(file_url):
    fill(file_url)
    stored = records(file_url)
    assert all("crc" in record and not has_changed(record) for record in stored)
    assert doctor(file_url)[0] == 0


@pytest.mark.parametrize(("before", "after"), [("0.123", "0.173"), ("0.456", "0.457")])
def test_doctor_names_a_record_with_a_changed_digit(file_url, before, after):
    fill(file_url)
    replace(Location.of(file_url).path, before, after)
    code, output = doctor(file_url)
    assert (code, output.count("checksum")) == (1, 1)


def test_readers_name_a_changed_start_once_and_do_not_show_it(file_url):
    session = fill(file_url)
    replace(Location.of(file_url).path, "0.123", "0.173")
    with pytest.warns(CasketWarning, match="'session'.*checksum") as caught:
        shown = [(view.id, view.params, len(view.epochs)) for view in sessions_of(file_url)]
    assert shown == [(session, {}, 1)]
    assert len(caught) == 1


def test_records_without_checksums_are_read_and_sound(file_url):
    fill(file_url)
    path = Location.of(file_url).path
    without = r',"crc":[0-9]+'
    if path.suffix == ".json":
        path.write_text(re.sub(without, "", path.read_text()))
    else:
        with sqlite3.connect(path) as database:
            database.create_function("without", 1, lambda text: re.sub(without, "", text))
            database.execute("UPDATE records SET record = without(record)")
        database.close()
    assert not any("crc" in record for record in records(file_url))
    with casket.open(file_url) as runs:
        assert runs.sessions()[0].params == {"lr": 0.123}
    assert doctor(file_url)[0] == 0
    Experiment.use(file_url, exp_id="e").model("m").add_result({"loss": 0.5})
    assert {"crc" in record for record in records(file_url)} == {True, False}


@pytest.mark.filterwarnings("ignore::casket.CasketWarning")
@pytest.mark.parametrize("target", ["all.json", "all.sqlite", "blitz:all"])
def test_a_changed_record_is_never_given_a_new_checksum(file_url, target, tmp_path):
    if target.startswith("blitz:"):
        pytest.importorskip("blitzdb")
    fill(file_url)
    whole = len(records(file_url))
    replace(Location.of(file_url).path, "0.456", "0.457")
    scheme = "blitz:" if target.startswith("blitz:") else ""
    merged = f"{scheme}{tmp_path / target.removeprefix('blitz:')}"
    for command in (["compact", file_url, "--yes"], ["merge", file_url, "-o", merged]):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
    [changed] = [record for record in records(file_url) if has_changed(record)]
    assert changed["kind"] == "epoch"
    assert [has_changed(record) for record in records(merged)] == [False] * (whole - 1)


def test_a_file_that_tinydb_rewrote_is_sound(tmp_path):
    from tinydb import TinyDB

    path = tmp_path / "runs.json"
    fill(path)
    database = TinyDB(path)
    database.table("notes").insert({"mine": 1})
    database.close()
    assert path.read_bytes().count(b"\n") == 0
    assert not examine(Location.of(path)).damages
    Experiment.use(path, exp_id="e").model("m").add_result({"loss": 0.5})
    assert not examine(Location.of(path)).damages


def test_every_changed_character_of_a_record_is_noticed():
    owner = {"experiment": "e", "model": "m", "session": "s"}
    record = Writer().record("epoch", {"epoch_num": 1, "result": {"loss": 0.1, "n": 12}}, **owner)
    text = encoded(record).decode()
    assert problem_of(json.loads(text)) is None
    noticed = 0
    for at in range(text.index('"body"'), text.index(',"crc"')):
        for bit in range(7):
            changed = text[:at] + chr(ord(text[at]) ^ (1 << bit)) + text[at + 1 :]
            try:
                damaged = json.loads(changed)
            except ValueError:
                continue
            if damaged != record | {"crc": damaged.get("crc")}:
                noticed += 1
                assert problem_of(damaged) is not None, changed
    assert noticed > 100


@pytest.mark.parametrize("suffix", ["json", "sqlite"])
def test_records_that_a_merge_makes_from_others_have_checksums_of_their_own(suffix, tmp_path):
    sources = [tmp_path / f"{name}.{suffix}" for name in ("one", "two")]
    for number, path in enumerate(sources):
        experiment = Experiment.use(path, exp_id="e")
        for size in (number, number + 1):  # configs that are repeated in the other file
            with experiment.model("m", {"size": size}).session(
                {"lr": size, "n": number}
            ) as session:
                session.add_epoch(1, {"loss": 0.5})
        experiment.model("gone").add_result({"loss": 0.5})
        experiment.close()
    assert (
        CliRunner()
        .invoke(app, ["rm", "--model", "gone", "--file", str(sources[0]), "--yes"])
        .exit_code
        == 0
    )
    with casket.open(sources[0]) as runs:
        first = runs.sessions()[0].id
    assert CliRunner().invoke(app, ["rm", first, "--file", str(sources[0]), "--yes"]).exit_code == 0
    merged = tmp_path / "merged.json"
    result = CliRunner().invoke(app, ["merge", *map(str, sources), "-o", str(merged)])
    assert result.exit_code == 0, result.output
    assert "deleted" in {record["kind"] for record in records(merged)}
    assert doctor(merged)[0] == 0, doctor(merged)[1]
