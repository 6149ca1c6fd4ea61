"""Damaged JSON files: refusals that name the remedy, reads beside a writer, repeated repairs."""

from __future__ import annotations

import json
import os
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from casket.errors import CasketWarning, DamagedFile, NotACasketFile, StoreFull
from casket.format.records import Record, Writer, encoded
from casket.maintenance.doctor import repair
from casket.stores.base import StoreOptions
from casket.stores.inspection import Part
from casket.stores.jsonfile import check, layout, reader
from casket.stores.jsonfile.store import JsonStore
from casket.stores.location import Location
from casket.testing import record
from tests.stores.files import mounted

DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "a damaged first line": lambda text: b'{"_defa\0lt": {' + text[14:],
    "no first line": lambda text: text.partition(b"\n")[2],
    "conflict markers at the top": lambda text: b"<<<<<<< HEAD\n" + text,
    "line ends of Windows, and cut": lambda text: text.replace(b"\n", b"\r\n")[:-40],
    "a byte order mark, and cut": lambda text: b"\xef\xbb\xbf" + text[:-40],
}


def inspected(path: Path) -> list[Part]:
    return list(check.JsonInspection(path).parts())


def stored(path: Path) -> list[Record]:
    return [each for _, each in JsonStore(path, StoreOptions(writing=False)).records()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.json"


@pytest.fixture
def records(path: Path) -> list[Record]:
    writer = Writer()
    records = [record(writer=writer, body={"epoch_num": i, "result": {}}) for i in range(5)]
    store = JsonStore(path)
    for each in records:
        store.append([each])
    store.close()
    return records


def damage_line(path: Path, number: int) -> bytes:
    """Overwrite a part of a line with zeros; return the whole text."""
    whole = path.read_bytes()
    at = whole.index(b'"%d":' % number) + 30
    path.write_bytes(whole[:at] + b"\0" * 9 + whole[at + 9 :])
    return whole


@pytest.mark.parametrize("name", DAMAGED)
def test_a_refusal_names_doctor_where_doctor_can_repair(
    path: Path, records: list[Record], name: str
) -> None:
    damaged = DAMAGED[name](path.read_bytes())
    path.write_bytes(damaged)
    for attempt in (lambda: stored(path), lambda: JsonStore(path).append([record()])):
        with pytest.raises(DamagedFile, match=r"casket doctor --repair"):
            attempt()
    assert path.read_bytes() == damaged
    repair(Location.of(path))
    kept = stored(path)
    assert len(kept) >= 4
    assert kept == records[: len(kept)]


def damages(whole: bytes) -> list[tuple[int, bytes]]:
    """Return the places and values of the damaged bytes to try.

    Without CASKET_ALL_DAMAGES they are the newlines and commas between lines, and some others.
    """
    places = range(len(whole))
    if not os.environ.get("CASKET_ALL_DAMAGES"):
        parts = {b"},\n", b',\n"', b'{\n"', b"}\n}"}
        between = [at for at in places if whole[at - 1 : at + 2] in parts]
        places = [*between, *random.Random(1).sample(places, 20)]
    return [
        (at, bytes([value]))
        for at in places
        for value in {*(whole[at] ^ (1 << bit) for bit in (0, 3, 5, 7)), *b"}"} - {whole[at]}
    ]


def test_a_damaged_byte_hides_no_other_record_and_no_append_is_refused(
    path: Path, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "PAUSE", 0.0)
    monkeypatch.setattr(check, "PAUSE", 0.0)
    owner = {"experiment": "e", "model": "m", "session": "s"}
    start = Writer().record("session", {"params": {}}, **owner, claim="c" * 32)
    end = Writer().record("end", {"status": "completed", "of": start["writer"]}, **owner)
    for each in (start, end):
        JsonStore(path).append([each])
    whole, added = path.read_bytes(), record()
    before = {encoded(each): each for each in stored(path)}
    assert len(before) == 7
    for at, byte in damages(whole):
        damaged = whole[:at] + byte + whole[at + 1 :]
        path.write_bytes(damaged)
        if at < len(layout.HEAD) and "_default" not in (json_of(damaged) or ()):
            with pytest.raises(DamagedFile, match="doctor"):
                stored(path)
            continue
        intact = [each for text, each in before.items() if text in damaged]
        read, warned = stored_and_warned(path)
        assert has_all(read, intact), (at, byte)
        # A line that a new line end cuts in two is two damaged lines.
        assert warned <= (2 if byte in b"\r\n" else 1), (at, byte)
        heads = [each for each in intact if each["kind"] in {"session", "end"}]
        assert has_all(selected(path, kinds={"session", "end"}), heads), (at, byte)
        claiming = [each for each in heads if "claim" in each]
        assert has_all(selected(path, claim="c" * 32), claiming), (at, byte)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CasketWarning)
            JsonStore(path).append([added])
        assert json_of(path.read_bytes()), (at, byte)
        assert has_all(stored(path), [*intact, added]), (at, byte)


def json_of(text: bytes) -> Any:
    """Return what a text holds, None if it is no JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def has_all(stored: list[Record], records: list[Record]) -> bool:
    """Return whether records are stored, in this order."""
    return [each for each in stored if each in records] == records


def selected(path: Path, **filters: Any) -> list[Record]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CasketWarning)
        store = JsonStore(path, StoreOptions(writing=False))
        return [each for _, each in store.records(**filters)]


def stored_and_warned(path: Path) -> tuple[list[Record], int]:
    """Return the records that are read, and the number of warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read = stored(path)
    return read, len(caught)


def test_doctor_names_lines_that_are_joined(path: Path, records: list[Record]) -> None:
    whole = path.read_bytes()
    for at in (len(layout.HEAD), whole.index(b'"3":') - 1):
        path.write_bytes(whole[:at] + b"J" + whole[at + 1 :])
        [report] = [part for part in inspected(path) if part.damages]
        [damage] = report.damages
        assert damage.start <= at < damage.stop
        repair(Location.of(path))
        assert path.read_bytes() == whole


@pytest.mark.parametrize("text", ["hello", "{}x", '{"a": 1', '{"_default": {"1": {"a": 1}}}'])
def test_a_refusal_of_another_programs_file_does_not(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(NotACasketFile) as refusal:
        stored(path)
    assert "doctor" not in str(refusal.value)


@pytest.mark.parametrize("filters", [{}, {"after": 1}, {"kinds": {"session"}}])
def test_a_line_that_is_complete_after_a_pause_is_not_reported(
    path: Path, records: list[Record], monkeypatch: pytest.MonkeyPatch, filters: dict[str, Any]
) -> None:
    whole = damage_line(path, 3)
    monkeypatch.setattr(reader.time, "sleep", lambda _: path.write_bytes(whole))
    store = JsonStore(path, StoreOptions(writing=False))
    with warnings.catch_warnings():
        warnings.simplefilter("error", CasketWarning)
        read = list(store.records(**filters))
    assert read == list(JsonStore(path, StoreOptions(writing=False)).records(**filters))
    assert len(read) == {0: 5, 1: 4}.get(filters.get("after", 0), 0) or "kinds" in filters


def test_a_line_that_stays_damaged_is_reported_once_and_hides_no_other(
    path: Path, records: list[Record]
) -> None:
    damage_line(path, 3)
    store = JsonStore(path, StoreOptions(writing=False))
    with pytest.warns(CasketWarning, match="casket doctor") as warned:
        assert [each for _, each in store.records()] == records[:2] + records[3:]
    assert len(warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", CasketWarning)
        assert len(list(store.records())) == 4


@pytest.mark.parametrize("number", [999, 1, 2])
def test_an_odd_number_hides_nothing_before_an_interrupted_append(
    path: Path, records: list[Record], number: int
) -> None:
    writer = Writer()
    JsonStore(path).append([record(writer=writer), record(writer=writer), record(writer=writer)])
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"3":', b'"%d":' % number)
    path.write_bytes(b"".join(lines[:-2]))  # the last line of the append is missing
    after = record()
    with pytest.warns(CasketWarning):
        JsonStore(path).append([after])
    assert sorted(map(json.dumps, stored(path))) == sorted(map(json.dumps, [*records, after]))


def test_a_full_disk_keeps_a_damaged_line_aside_once(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    with mounted(folder, "size=300k"):
        path, torn = folder / "runs.json", folder / "runs.json.torn"
        for _ in range(4):
            JsonStore(path).append([record(body={"text": "x" * 20_000})])
        damage_line(path, 3)
        room = fill(folder / "fill")
        for spared in (0, 8_192, 40_960):
            os_truncate(folder / "fill", room - spared)
            sizes = set()
            for _ in range(4):
                with pytest.raises(StoreFull):
                    JsonStore(path).append([record()])
                sizes.add(torn.stat().st_size if torn.exists() else 0)
            assert len(sizes) == 1
        (folder / "fill").unlink()
        with pytest.warns(CasketWarning, match="moved to"):
            JsonStore(path).append([record()])
        assert len(stored(path)) == 4
        assert torn.read_bytes().count(b'"3":') == 1


def fill(path: Path) -> int:
    """Write until the disk is full; return the number of bytes."""
    size = 0
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                size += file.write(b"x" * 4096) or 0
        except OSError:
            return size


def os_truncate(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)
