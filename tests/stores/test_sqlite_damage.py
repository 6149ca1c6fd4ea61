"""Damaged SQLite databases: reading ends and names the damage; a repair loses no intact record."""

import contextlib
import os
import random
import re
import sqlite3

import orjson
import pytest
from click.testing import CliRunner

import casket
from casket import Experiment
from casket.cli.app import app
from casket.errors import CasketError, StoreUnavailable
from casket.maintenance.doctor import examine, repair
from casket.stores import base
from casket.stores.base import StoreOptions
from casket.stores.location import Location
from tests.stores.files import casket_warnings

FLIPS = int(os.environ.get("CASKET_FLIPS", "120"))
"""The number of bytes to damage, one at a time; more of them take longer and show more."""


@pytest.fixture
def database(tmp_path):
    """A closed database of several pages."""
    path = tmp_path / "runs.sqlite"
    model = Experiment.use(path, exp_id="exp").model("net")
    for lr in range(2):
        with model.session({"lr": lr}) as session:
            for epoch in range(12):
                session.add_epoch(epoch, {"loss": 0.5 / (epoch + 1)})
    model.experiment.close()
    return path


def rows(path):
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT number, CAST(record AS BLOB) FROM records").fetchall()
    finally:
        connection.close()


def records(path):
    """Return the texts of the records by identity."""
    store = Location.of(path).open(StoreOptions(), writing=False)
    stored = [record for _, record in store.records()]
    return {(record["writer"], record["n"]): orjson.dumps(record) for record in stored}


def renumber(path, number, changed):
    """Change the number of a row, and nothing else, as a damaged disk does."""
    content = bytearray(path.read_bytes())
    [text] = [text for each, text in rows(path) if each == number]
    start = content.index(text)
    # In front of the text: lengths, the number, the types and the other columns.
    at = content.rindex(bytes([number]), start - 40, start - 20)
    content[at] = changed
    path.write_bytes(content)


@pytest.mark.parametrize("changed", [1, 127])
def test_rows_whose_numbers_do_not_grow_end_the_read(database, changed):
    before, last = records(database), rows(database)[-1][0]
    renumber(database, last if changed == 1 else last - 1, changed)
    numbers = [number for number, _ in rows(database)]
    assert changed in numbers
    assert numbers != sorted(set(numbers))
    with pytest.raises(StoreUnavailable, match=r"follows record .*casket doctor"):
        records(database)
    shown = CliRunner().invoke(app, ["ls", str(database)])
    assert shown.exit_code == 2
    assert "casket doctor" in shown.output
    assert examine(Location.of(database)).damages
    repair(Location.of(database))
    assert records(database) == before


def test_numbers_have_to_grow_in_every_read():
    base.check_order([3, 5, 9], 2, "runs.sqlite")
    base.check_order([], 2, "runs.sqlite")
    for numbers in ([2, 3], [3, 3], [3, 5, 4], [1]):
        with pytest.raises(StoreUnavailable, match=r"runs\.sqlite.*follows record"):
            base.check_order(numbers, 2, "runs.sqlite")


@pytest.mark.parametrize("seed", range(4))
def test_no_flipped_byte_loops_or_loses_an_intact_record(database, seed):
    content, before, chance = database.read_bytes(), records(database), random.Random(seed)
    texts = [match.span() for match in re.finditer(rb'\{"kind".*?\}\}', content)]
    for _ in range(FLIPS // 4):
        at = chance.randrange(len(content))
        damaged = bytearray(content)
        damaged[at] ^= chance.randrange(1, 256)
        database.write_bytes(damaged)
        # The effect of a changed character of a record on readers does not concern the store.
        is_structure = not any(start <= at < stop for start, stop in texts)
        with casket_warnings():
            read_all(database, is_structure=is_structure)
            intact = {key for key, text in before.items() if text in damaged}
            saved = saved_records(database)
            assert {key for key in intact if saved.get(key) == before[key]} == intact, at


def read_all(path, *, is_structure):
    if is_structure:
        result = CliRunner().invoke(app, ["ls", str(path)])
        assert isinstance(result.exception, SystemExit | None), result.exception
        with contextlib.suppress(CasketError), casket.open(path) as runs:
            assert len(runs.sessions()) <= 2
    examine(Location.of(path))


def saved_records(path):
    """Return the records after a repair; remove the files that it leaves beside the database."""
    kept = repair(Location.of(path))
    saved = records(path)
    for each in path.parent.glob(f"{kept.name}*"):
        each.unlink()
    return saved
