"""Other programs read the files: JSON and a TinyDB after every single write, plain SQLite."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tinydb import TinyDB

from casket.errors import CasketWarning
from casket.format.records import Record, Writer, checksum, covers, deletion
from casket.stores.base import Claimed
from casket.stores.jsonfile.store import JsonStore
from casket.stores.sqlite.store import SqliteStore
from casket.testing import BODIES, end, record, records, start
from tests.stores.files import records_in
from tests.waiting import IN_TIME

Read = Callable[[Path], list[dict[str, Any]]]


def by_json(path: Path) -> list[Record]:
    return records_in(path)


def by_jq(path: Path) -> list[dict[str, Any]]:
    command = ["jq", "-e", "-c", "._default[] | del(.more)", path]
    ran = subprocess.run(command, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def by_tinydb(path: Path) -> list[dict[str, Any]]:
    with TinyDB(path, access_mode="r") as db:
        documents = sorted(db.all(), key=lambda one: one.doc_id)
    return [{k: v for k, v in one.items() if k != "more"} for one in documents]


READERS = {
    "json": by_json,
    "jq": pytest.param(
        by_jq, marks=pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")
    ),
    "tinydb": by_tinydb,
}


def removal(**names: Any) -> Record:
    """Return a tombstone with its checksum."""
    tombstone = deletion(Writer(), **names)
    return {**tombstone, "crc": checksum(tombstone)}


def exactly(name: str) -> bool:
    # jq computes with doubles and writes numbers in a form of its own.
    return name not in {"floats", "large integers"}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_foreign_reader_sees_all_records_after_every_write(read: Read, tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    store, other = JsonStore(path), JsonStore(path)
    appended: list[Record] = []

    def append(*batch: Record, by: JsonStore = store, claim: str | None = None) -> None:
        by.append(batch, claim=claim)
        appended.extend(batch)
        check()

    def check() -> None:
        assert read(path) == appended

    first = start("s1", "c")
    append(record("experiment", model=None, session=None))
    append(record("model", session=None), first, claim="c")
    for name, body in BODIES.items():
        if exactly(name):
            append(record(session="s1", body=body), by=other)
    with pytest.raises(Claimed):
        other.append([start("s2", "c")], claim="c")
    check()
    append(*records(3, session="s2"))
    append(end(first, "killed"), start("s3", "c"), by=other, claim="c")

    tombstone = removal(sessions=["s2"])
    other.prune(tombstone)
    appended[:] = [*(one for one in appended if not covers(tombstone, one)), tombstone]
    check()
    # By a handle that is gone afterwards: it would write the record again.
    with closing(JsonStore(path)) as third:
        append(record(session="s4"), by=third)

    path.write_bytes(path.read_bytes()[:-10])
    with pytest.warns(CasketWarning):
        store.append([cut := record(session="s5")])
    appended[-1:] = [cut]
    check()

    store.close()
    append(record(session="s6"))
    append(record(session="s7"), by=other)

    everything = removal(experiments=["e"])
    store.prune(everything)
    appended[:] = [*(one for one in appended if not covers(everything, one)), everything]
    check()
    append(record(), by=other)


@pytest.mark.parametrize("read", [by_json, by_tinydb], ids=["json", "tinydb"])
@pytest.mark.parametrize("name", BODIES)
def test_python_reads_every_value_to_the_last_digit(name: str, read: Read, tmp_path: Path) -> None:
    path, alone, batch = tmp_path / "runs.json", record(body=BODIES[name]), records(2)
    store = JsonStore(path)
    store.append([alone])
    store.append([*batch, record(body=BODIES[name])])
    table = read(path)
    assert table[0] == alone
    assert table[-1]["body"] == BODIES[name]
    assert len(table) == 4


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")
@pytest.mark.parametrize("name", BODIES)
def test_jq_reads_every_value(name: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    JsonStore(path).append([record(body=BODIES[name])])
    [parsed] = by_jq(path)
    if exactly(name):
        assert parsed["body"] == BODIES[name]
    assert subprocess.run(["jq", "-e", ".", path], capture_output=True, check=False).returncode == 0


def test_a_reader_of_another_program_does_not_hold_up_a_prune(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    store = SqliteStore(path)
    store.append(records(2000, session="gone"))
    store.append([record(session="kept")])
    with closing(sqlite3.connect(path)) as theirs:
        reading = theirs.execute("SELECT number FROM records ORDER BY number")
        first = next(reading)
        started = time.monotonic()
        store.prune(deletion(Writer(), sessions=["gone"]))
        store.append([record(session="kept")])
        assert time.monotonic() - started < IN_TIME  # half of the time that SQLite would wait
        assert len([first, *reading]) == 2001
    assert [r.get("session") for _, r in store.records()] == ["kept", None, "kept"]
    store.close()


def test_the_file_has_one_record_a_line_with_its_kind_first(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    store = JsonStore(path)
    store.append(records(3, body={"text": "a\nb"}))
    store.append([record("result", body={"text": "\r\u2028"})])
    first, *lines, last = path.read_bytes().split(b"\n")[:-1]
    assert (first, last) == (b'{"_default": {', b"}}")
    assert [line.split(b'"')[5] for line in lines] == [b"epoch"] * 3 + [b"result"]
    assert [json.loads(b"{%b}" % line.rstrip(b",")) for line in lines]
    assert path.read_bytes().endswith(b"\n}}\n")


def test_an_append_changes_only_the_end_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    store = JsonStore(path)
    store.append(records(2))
    before, inode = path.read_bytes(), path.stat().st_ino
    store.append(records(2))
    assert path.read_bytes().startswith(before.removesuffix(b"\n}}\n"))
    assert path.stat().st_ino == inode
