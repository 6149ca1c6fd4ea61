"""A JSON file that was cut, damaged, or rewritten by somebody else loses no whole record."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import ClassVar, NamedTuple

import pytest
from tinydb import TinyDB, where

from casket.errors import CasketWarning
from casket.format.records import Record, Writer, deletion
from casket.stores.base import LOOK_INTERVAL, Claimed, StoreOptions
from casket.stores.jsonfile import check, files, layout, reader, scan
from casket.stores.jsonfile.files import LocalFile
from casket.stores.jsonfile.store import JsonStore
from casket.testing import end, record, records, start
from tests.stores.files import casket_warnings, is_root, records_in, stored, strict_json

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.json"


def torn(path: Path) -> Path:
    return path.with_name(f"{path.name}.torn")


def short(i: int = 0) -> Record:
    return record("tag", experiment=None, model=None, session=None, body={"i": i})


def fill(path: Path, *batches: list[Record]) -> list[Record]:
    """Append to a file; return all that was appended."""
    store = JsonStore(path)
    for batch in batches:
        store.append(batch)
    store.close()
    return [one for batch in batches for one in batch]


def read(path: Path) -> list[Record]:
    return stored(JsonStore(path, StoreOptions(writing=False)))


def named_ranges(warning: str) -> list[tuple[int, int]]:
    """Return the byte ranges that a warning names."""
    listed = re.search(r"bytes ([\d, -]+) hold", warning)
    assert listed, warning
    return [(int(a), int(b)) for a, b in re.findall(r"(\d+)-(\d+)", listed[1])]


# An append that was cut.


class Cut(NamedTuple):
    """A file in which an append was interrupted."""

    content: bytes
    whole: list[Record]
    """What was appended as a whole."""
    rest: bytes
    """The bytes of what was not."""
    at: int
    """Where they begin."""


def cuts(path: Path, before: list[Record], appended: list[Record]) -> list[Cut]:
    """Return the file at every byte that its last append may have got to."""
    fill(path, *[[one] for one in before])
    old = path.read_bytes() if before else b""
    fill(path, appended)
    new = path.read_bytes()
    path.unlink()
    at = len(old) - len("\n}}\n") if before else 0
    end_of_lines = len(new) - len("\n}}\n")
    lines = []
    for k in range(at, len(new) + 1):
        is_whole = k >= end_of_lines
        written = new[at:k].removeprefix(b'{"_default": {')
        is_begun = before or len(written) < k - at
        rest = b"" if is_whole or not is_begun else written.lstrip(b",\n")
        start, rest = k - len(rest), rest.rstrip(b"\n")
        whole = [*before, *appended] if is_whole else before
        lines.append(Cut(new[:k], whole, rest, start))
        # The first bytes go over the old end of the file, which is still there behind them.
        if k < len(old):
            lines.append(Cut(new[:k] + old[k:], whole, rest, start))
    return lines


APPENDS = {
    "a record": ([short(1), short(2)], [short(3)]),
    "a batch": ([short(1), short(2)], [short(3), short(4), short(5)]),
    "the first record": ([], [short(1)]),
    "the first batch": ([], [short(1), short(2), short(3)]),
}


@pytest.mark.parametrize("append", APPENDS)
def test_reading_a_cut_append_gives_what_is_whole_silently(append: str, path: Path) -> None:
    for cut in cuts(path, *APPENDS[append]):
        path.write_bytes(cut.content)
        with casket_warnings() as said:
            assert read(path) == cut.whole, cut.content
        assert said == []
        assert path.read_bytes() == cut.content
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("append", APPENDS)
def test_writing_after_a_cut_append_heals_it(append: str, path: Path) -> None:
    for cut in cuts(path, *APPENDS[append]):
        path.write_bytes(cut.content)
        torn(path).unlink(missing_ok=True)
        store, after = JsonStore(path), short(9)
        with casket_warnings() as said:
            number = store.append([after])
        assert number == len(cut.whole) + 1
        assert records_in(path) == stored(store) == [*cut.whole, after]
        assert sorted(map(int, strict_json(path)["_default"])) == list(range(1, number + 1))
        if cut.rest:
            assert torn(path).read_bytes() == cut.rest + b"\n"
            [warning] = said
            assert str(path) in warning
            assert str(torn(path)) in warning
            assert named_ranges(warning) == [(cut.at, cut.at + len(cut.rest))]
        else:
            assert said == []
            assert not torn(path).exists()


def test_a_batch_that_was_cut_between_its_records_is_dropped_as_a_whole(path: Path) -> None:
    before = fill(path, records(2))
    fill(path, records(3))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]))  # the first line, two records, two of three
    assert read(path) == before
    after = record()
    with pytest.warns(CasketWarning, match=re.escape(str(torn(path)))):
        fill(path, [after])
    assert records_in(path) == [*before, after]
    assert torn(path).read_bytes() == b"".join(lines[3:5])


def test_a_batch_whose_last_record_was_damaged_later_keeps_the_others(path: Path) -> None:
    first, second, _ = fill(path, records(3))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b"kind", b"\0\0\0\0")
    path.write_bytes(b"".join(lines))
    with pytest.warns(CasketWarning):
        assert read(path) == [first, second]
    after = record()
    with pytest.warns(CasketWarning):
        fill(path, [after])
    assert records_in(path) == read(path) == [first, second, after]


def test_a_handle_that_was_open_goes_on_after_another_healed_the_file(path: Path) -> None:
    store, one, two, three = JsonStore(path), record(), record(), record()
    store.append([one])
    with path.open("ab") as file:
        file.write(b'"2": {"ki')
    with pytest.warns(CasketWarning):
        fill(path, [two])
    store.append([three])
    assert records_in(path) == [one, two, three]


def test_where_warnings_are_errors_the_file_is_healed_once_and_the_next_append_works(
    path: Path,
) -> None:
    before = fill(path, records(1), records(1))
    path.write_bytes(path.read_bytes()[:-30])
    store, after = JsonStore(path), record()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CasketWarning):
            store.append([record()])
        store.append([after])
    assert records_in(path) == [before[0], after]
    assert torn(path).read_bytes().count(b"\n") == 1


# Damage.


def overwritten(line: bytes) -> bytes:
    return line[:3] + b"#####" + line[8:]


def zeroed(line: bytes) -> bytes:
    return line[:20] + bytes(40) + line[60:]


def all_zeroed(line: bytes) -> bytes:
    return bytes(len(line) - 1) + b"\n"


def halved(line: bytes) -> bytes:
    return line[: len(line) // 2] + b"\n"


def beheaded(line: bytes) -> bytes:
    return line[len(line) // 2 :]


def not_text(line: bytes) -> bytes:
    return line[:-20] + b"\xff\xfe" + line[-18:]


def torn_in_two(line: bytes) -> bytes:
    return line[:50] + b"\n" + line[50:]


DAMAGES: list[Callable[[bytes], bytes]] = [
    overwritten,
    zeroed,
    all_zeroed,
    halved,
    beheaded,
    not_text,
    torn_in_two,
]


@pytest.mark.parametrize("place", [0, 2, 4], ids=["first", "middle", "last"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_line_is_named_kept_aside_and_costs_no_other(
    damage: Callable[[bytes], bytes], place: int, path: Path
) -> None:
    whole = fill(path, *[[one] for one in records(5)])
    del whole[place]
    lines = path.read_bytes().splitlines(keepends=True)
    lines[place + 1] = damage(lines[place + 1])
    path.write_bytes(b"".join(lines))
    start_of_damage = len(b"".join(lines[: place + 1]))
    end_of_damage = start_of_damage + len(lines[place + 1])

    damaged = path.read_bytes()
    with casket_warnings() as said:
        assert read(path) == whole
    assert said
    for warning in said:
        assert str(path) in warning
        [(start, stop)] = named_ranges(warning)
        assert start_of_damage <= start < stop <= end_of_damage
    assert path.read_bytes() == damaged

    store, after = JsonStore(path), record()
    with casket_warnings() as said:
        number = store.append([after])
    assert number >= 6  # never that of a record that was there once
    assert records_in(path) == stored(store) == [*whole, after]
    [warning] = said
    assert str(torn(path)) in warning
    kept = b"".join(damaged[start:stop] for start, stop in named_ranges(warning))
    assert kept.replace(b"\n", b"").rstrip(b",") == lines[place + 1].replace(b"\n", b"").rstrip(
        b","
    )
    assert torn(path).read_bytes().replace(b"\n", b"") == kept.replace(b"\n", b"")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_whose_only_record_is_damaged_goes_on(
    damage: Callable[[bytes], bytes], path: Path
) -> None:
    fill(path, [record()])
    first, line, *closing = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, damage(line), *closing]))
    with pytest.warns(CasketWarning):
        assert read(path) == []
    after = records(2)
    with pytest.warns(CasketWarning):
        fill(path, after[:1], after[1:])
    assert records_in(path) == read(path) == after


@pytest.mark.parametrize("garbage", [b"garbage\n", b"\0\0\0\n", b'"7": 3,\n', b"<<<<<<<\n"])
def test_a_line_of_garbage_costs_no_record(garbage: bytes, path: Path) -> None:
    whole = fill(path, *[[one] for one in records(4)])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], garbage, *lines[3:]]))
    with casket_warnings() as said:
        assert read(path) == whole
    assert len(said) == 1
    after = record()
    with pytest.warns(CasketWarning):
        fill(path, [after])
    assert records_in(path) == [*whole, after]
    assert torn(path).read_bytes().strip() == garbage.strip()


def test_garbage_after_the_end_costs_no_record(path: Path) -> None:
    whole = fill(path, records(3))
    with path.open("ab") as file:
        file.write(b"\0\0 garbage")
    assert read(path) == whole
    after = record()
    with pytest.warns(CasketWarning):
        fill(path, [after])
    assert records_in(path) == [*whole, after]
    assert b"garbage" in torn(path).read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b",\n", b"\n", 1),
        lambda text: text.replace(b",\n", b",,\n", 1),
        lambda text: text.replace(b",\n", b",\n\n\n", 1),
        lambda text: text.replace(b"\n}}\n", b",\n}}\n"),
        lambda text: text.replace(b"\n}}\n", b"\n}}\n}}\n"),
        lambda text: text.replace(b"\n}}\n", b"\n}"),
    ],
    ids=[
        "no comma",
        "two commas",
        "blank lines",
        "comma at the end",
        "closed twice",
        "half closed",
    ],
)
def test_what_is_wrong_between_whole_lines_is_mended_silently(
    change: Callable[[bytes], bytes], path: Path
) -> None:
    whole = fill(path, *[[one] for one in records(4)])
    path.write_bytes(change(path.read_bytes()))
    with casket_warnings() as said:
        assert read(path) == whole
        after = record()
        fill(path, [after])
    assert said == []
    assert records_in(path) == [*whole, after]
    assert not torn(path).exists()


def test_damage_in_several_places_is_one_warning_and_costs_no_other_record(path: Path) -> None:
    whole = fill(path, *[[one] for one in records(10)])
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = overwritten(lines[2])
    lines[5] = zeroed(lines[5])
    lines[6] = halved(lines[6])
    content = b"".join([*lines[:8], b"garbage\n", *lines[8:10], lines[10][:40]])
    path.write_bytes(content)
    for i in (10, 6, 5, 2):
        del whole[i - 1]
    with casket_warnings() as said:
        assert read(path) == whole
    assert len(said) == 4  # the last record is merely not whole yet
    after = record()
    with casket_warnings() as said:
        fill(path, [after])
    [warning] = said
    ranges = named_ranges(warning)
    assert [content[a:b] for a, b in ranges] == [
        lines[2],
        lines[5],
        lines[6],
        b"garbage\n",
        lines[10][:40],
    ]
    assert records_in(path) == [*whole, after]
    assert read(path) == [*whole, after]


def test_a_reader_warns_of_a_damage_once(path: Path) -> None:
    fill(path, *[[one] for one in records(3)])
    path.write_bytes(path.read_bytes().replace(b'"2": {"kind', b'"2": {"\0\0\0\0'))
    store = JsonStore(path, StoreOptions(writing=False))
    with casket_warnings() as said:
        assert len(stored(store)) == len(stored(store)) == 2
    assert len(said) == 1


def test_a_claim_in_a_damaged_file_is_held_and_its_refusal_changes_nothing(path: Path) -> None:
    _, first, last = fill(path, [record()], [start("s1", "c")], [record()])
    path.write_bytes(path.read_bytes().replace(b'"1": {"kind', b'"1": {"\0\0\0\0'))
    damaged = path.read_bytes()
    with pytest.raises(Claimed):
        JsonStore(path).append([start("s2", "c")], claim="c")
    assert path.read_bytes() == damaged
    assert not torn(path).exists()
    taken_over = [end(first, "killed"), start("s2", "c")]
    with pytest.warns(CasketWarning, match=re.escape(str(torn(path)))):
        JsonStore(path).append(taken_over, claim="c")
    assert records_in(path) == [first, last, *taken_over]


def test_damage_in_a_large_file_is_kept_aside_when_it_is_pruned(path: Path) -> None:
    long = "x" * (1 << 20)
    whole = fill(path, *[[one] for one in records(10, body={"x": long})])
    assert path.stat().st_size > scan.EDITED
    text = path.read_bytes()
    at = text.index(b'"4": {"kind')
    path.write_bytes(text[:at] + text[at:].replace(b"kind", b"\0\0\0\0", 1))
    with pytest.warns(CasketWarning):
        JsonStore(path).prune(deletion(Writer(), sessions=["nobody"]))
    assert records_in(path)[:-1] == [*whole[:3], *whole[4:]]
    assert b'"4": {"\0\0\0\0' in torn(path).read_bytes()


def test_a_number_that_stands_twice_costs_no_record(path: Path) -> None:
    # As a merge of two branches may leave it.
    mine, yours = fill(path, [record()]), records(1)
    both = path.read_bytes().replace(b"\n}}\n", b',\n"1": %b\n}}\n' % json.dumps(yours[0]).encode())
    path.write_bytes(both)
    assert read(path) == mine + yours
    after = record()
    fill(path, [after])
    assert records_in(path) == read(path) == [*mine, *yours, after]


# Others who write the file.


def test_appends_go_on_after_tinydb_rewrote_the_file(path: Path) -> None:
    store, one, two, three = JsonStore(path), record(), record(), record()
    store.append([one])
    with TinyDB(path) as db:
        db.update({"note": "seen"}, where("kind") == "epoch")
    store.append([two])
    with TinyDB(path) as db:
        theirs = db.insert({"remark": "not casket's"})
    number = store.append([three])
    assert number > theirs
    noted: list[Record] = [{**one, "note": "seen"}, two, three]  # type: ignore[typeddict-unknown-key]
    assert records_in(path) == stored(store) == noted
    with TinyDB(path) as db:
        assert db.get(doc_id=theirs) == {"remark": "not casket's"}
        assert len(db) == 4


def test_a_document_of_somebody_else_survives_healing_and_pruning(path: Path) -> None:
    store, kept = JsonStore(path), record(session="kept")
    store.append([record(session="gone")])
    with TinyDB(path) as db:
        theirs = db.insert({"remark": "mine", "session": "gone", "more": "x"})
    store.append([kept])
    with path.open("ab") as file:
        file.write(b"garbage")
    with pytest.warns(CasketWarning):
        store.prune(deletion(Writer(), sessions=["gone"]))
    assert [r.get("session") for r in stored(store)] == ["kept", None]
    with TinyDB(path) as db:
        assert db.get(doc_id=theirs) == {"remark": "mine", "session": "gone", "more": "x"}


def test_other_tables_of_tinydb_survive(path: Path) -> None:
    store, notes = JsonStore(path), {"ünï": ["x", 2**70, None]}
    appended = records(3)
    store.append(appended[:1])
    with TinyDB(path) as db:
        db.table("notes").insert(notes)
    store.append(appended[1:2])
    with path.open("ab") as file:
        file.write(b"garbage")
    with pytest.warns(CasketWarning):
        store.append(appended[2:])
    store.prune(deletion(Writer(), sessions=["nobody"]))
    assert strict_json(path)["notes"] == {"1": notes}
    assert stored(store)[:3] == records_in(path)[:3] == appended
    with TinyDB(path) as db:
        assert db.table("notes").all() == [notes]


def sorted_by_jq(text: bytes) -> bytes:
    return json.dumps(json.loads(text), indent=2, sort_keys=True).encode()


def one_record_laid_out(text: bytes) -> bytes:
    lines = text.splitlines(keepends=True)
    number, _, document = lines[2].decode().rstrip(",\n").partition(":")
    lines[2] = f"{number}: {json.dumps(json.loads(document), indent=4)},\n".encode()
    return b"".join(lines)


def last_record_laid_out(text: bytes) -> bytes:
    lines = text.splitlines(keepends=True)
    number, _, document = lines[-2].decode().rstrip("\n").partition(": ")
    lines[-2] = f"{number}: {json.dumps(json.loads(document), indent=4)}\n".encode()
    return b"".join(lines)


def first_line_kept(text: bytes) -> bytes:
    table = json.dumps(json.loads(text)["_default"], indent=1)
    return b'{"_default": ' + table.replace("{", "{", 1).encode() + b"}\n"


def spaced(text: bytes) -> bytes:
    lines = text.splitlines()
    for i, line in enumerate(lines[1:-1], 1):
        number, _, document = line.decode().rstrip(",").partition(":")
        comma = "," if line.endswith(b",") else ""
        lines[i] = f"{number}: {json.dumps(json.loads(document))}{comma}".encode()
    return b"\n".join(lines) + b"\n"


LAYOUTS: list[Callable[[bytes], bytes]] = [
    lambda text: json.dumps(json.loads(text)).encode(),
    lambda text: json.dumps(json.loads(text), indent=4).encode(),
    lambda text: text.replace(b"\n", b"\r\n"),
    lambda text: b"\xef\xbb\xbf" + text,
    lambda text: text.rstrip(),
    sorted_by_jq,
    spaced,
    first_line_kept,
    one_record_laid_out,
    last_record_laid_out,
]


@pytest.mark.parametrize(
    "lay_out",
    LAYOUTS,
    ids=[
        "one line",
        "indented",
        "CRLF",
        "byte order mark",
        "no last newline",
        "sorted keys",
        "spaces in lines",
        "all but the first line",
        "one record in the middle",
        "the last record",
    ],
)
@pytest.mark.parametrize("is_open", [True, False], ids=["handle open", "handle new"])
def test_a_file_laid_out_by_hand_is_read_and_appended_to(
    lay_out: Callable[[bytes], bytes], is_open: bool, path: Path
) -> None:
    first = start("s1", "c")
    store, after = JsonStore(path), record(body={"ключ": "é"})
    appended = [record(body={"ключ": "é"}), first, *records(3, session="s1")]
    for one in appended:
        store.append([one])
    if not is_open:
        store = JsonStore(path)
    path.write_bytes(lay_out(path.read_bytes()))
    by_hand = path.read_bytes()
    with casket_warnings() as said:
        assert read(path) == stored(store) == appended
        numbered = JsonStore(path).records(session="s1", kinds={"session", "end"})
        assert [r for _, r in numbered] == [first]
        assert path.read_bytes() == by_hand
        with pytest.raises(Claimed):
            store.append([start("s2", "c")], claim="c")
        store.append([after])
        with pytest.raises(Claimed):
            store.append([start("s2", "c")], claim="c")
        store.append([end(first, "failed"), start("s3", "c")], claim="c")
    assert said == []
    assert not torn(path).exists()
    assert records_in(path)[:6] == stored(store)[:6] == [*appended, after]
    is_unnoticed = is_open and lay_out is one_record_laid_out
    if lay_out is not spaced and not is_unnoticed:  # both do no harm
        lines = path.read_bytes().splitlines()[1:-1]
        assert all(re.match(rb'"\d+":[ \t]{"kind":"', line) for line in lines)


def test_a_file_of_the_first_casket_keeps_its_nan_when_it_is_appended_to(path: Path) -> None:
    session = {
        "params": {"big": 2**70, "$key": 1},
        "result": {"epochs": [{"epoch_num": 1, "loss": float("nan"), "lr": float("-inf")}]},
        "meta": {},
    }
    document = {"id": "old", "models": [{"model_id": "m", "sessions": [session]}]}
    path.write_text(json.dumps({"_default": {"1": document}}))
    before = repr(read(path))
    for value in ("'NaN'", "'-Infinity'", hex(2**70), "'$key'"):
        assert value in before
    fill(path, [record()])
    strict_json(path)
    assert repr(read(path)[:-1]) == before
    fill(path, [record()])
    assert repr(read(path)[:-2]) == before


def test_a_backup_by_hard_link_stays_as_it_was(path: Path) -> None:
    document = {"id": "old", "models": []}
    path.write_text(json.dumps({"_default": {"1": document}}))
    backup = path.with_name("backup.json")
    os.link(path, backup)
    content = backup.read_bytes()
    fill(path, [record()])
    assert backup.read_bytes() == content


def test_appends_follow_a_file_that_an_editor_put_in_its_place(path: Path) -> None:
    store, one, two, three = JsonStore(path), record(), record(), record()
    store.append([one])
    new = path.with_name("new")
    fill(new, [one], [two])
    new.replace(path)
    time.sleep(LOOK_INTERVAL)
    store.append([three])
    assert records_in(path) == stored(store) == [one, two, three]


def test_appends_follow_a_file_whose_old_version_was_kept_as_a_backup(path: Path) -> None:
    store, one, two = JsonStore(path), record(), record()
    store.append([one])
    backup = path.rename(path.with_name("runs.json~"))
    path.write_bytes(backup.read_bytes())
    time.sleep(LOOK_INTERVAL)
    store.append([two])
    assert records_in(path) == [one, two]
    assert records_in(backup) == [one]


def test_appends_go_on_in_a_new_file_if_theirs_was_deleted(path: Path) -> None:
    store, one, two = JsonStore(path), record(), record()
    store.append([record()])
    path.unlink()
    time.sleep(LOOK_INTERVAL)
    store.append([one])
    store.append([two])
    assert records_in(path) == stored(store) == [one, two]


def test_a_reader_follows_into_a_file_that_was_put_in_place_of_its_own(path: Path) -> None:
    store, follower = JsonStore(path), JsonStore(path, StoreOptions(writing=False))
    for one in records(4, session="gone"):
        last = store.append([one])
    assert [n for n, _ in follower.records()] == [1, 2, 3, 4]
    after = records(5, session="kept")
    store.prune(deletion(Writer(), sessions=["gone"]))
    for one in after:
        store.append([one])
    assert [r for _, r in follower.records(after=last)][1:] == after


def test_a_reader_follows_a_file_from_which_lines_were_deleted_by_hand(path: Path) -> None:
    store, follower = JsonStore(path), JsonStore(path, StoreOptions(writing=False))
    for one in records(3):
        store.append([one])
    assert [n for n, _ in follower.records()] == [1, 2, 3]
    first, *lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, *lines[2:]]))
    after = records(3)
    for one in after:
        store.append([one])
    # As long as the others, so that records begin where the last read record did.
    assert [r for _, r in follower.records(after=3)] == after


def test_a_symbolic_link_stays_one_and_its_target_is_written(path: Path) -> None:
    target = path.parent / "folder" / "target.json"
    target.parent.mkdir()
    path.symlink_to(target)
    appended = fill(path, [record(session="gone")], [record(session="kept")])
    with target.open("ab") as file:
        file.write(b"garbage")
    with pytest.warns(CasketWarning, match="target.json.torn"):
        JsonStore(path).prune(deletion(Writer(), sessions=["gone"]))
    assert path.is_symlink()
    assert records_in(target)[0] == read(path)[0] == appended[1]
    assert not torn(path).exists()
    assert torn(target).exists()


class Begun(LocalFile):
    """A file whose first append is seen at two stages, then as a whole."""

    stages: ClassVar[list[bytes]] = []
    whole = b""

    def size(self) -> int:
        return len(self._look())

    def read_at(self, offset: int, length: int) -> bytes:
        return self._look()[offset : offset + length]

    def _look(self) -> bytes:
        return self.stages.pop(0) if self.stages else self.whole


@pytest.mark.parametrize("begun", [0, 1, len(layout.HEAD) - 1, len(layout.HEAD), 100])
@pytest.mark.parametrize("how", ["read", "inspect"])
def test_a_file_whose_first_append_is_in_progress_is_read_after_any_look(
    path: Path, monkeypatch: pytest.MonkeyPatch, how: str, begun: int
) -> None:
    monkeypatch.setattr(reader, "PAUSE", 0.0)
    monkeypatch.setattr(check, "PAUSE", 0.0)
    monkeypatch.setattr(files, "LocalFile", Begun)
    appended = fill(path, records(3))
    text = Begun.whole = path.read_bytes()
    for first, second in product(range(6), range(6)):
        Begun.stages = [text[:begun]] * first + [text[: len(text) // 2]] * second
        if how == "read":
            document = reader.DocumentReader(partial(Begun, path), path, is_required=True)
            seen = [one for _, one in document.records()]
        else:
            parts = list(check.JsonInspection(path).parts())
            seen = [one for part in parts for _, one in part.records]
        assert seen in ([], appended)


PRUNE = """
import sys
from pathlib import Path
from casket.format.records import Writer, deletion
from casket.stores.jsonfile.store import JsonStore
JsonStore(Path(sys.argv[1])).prune(deletion(Writer(), sessions=["gone"]))
"""


def test_a_handle_goes_on_at_once_after_another_process_pruned_the_file(path: Path) -> None:
    store, kept, after = JsonStore(path), record(session="kept"), record(session="kept")
    store.append(records(5, session="gone"))
    store.append([kept])
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", PRUNE, path], cwd=ROOT, check=True)
    store._document._looked = max(
        started, time.monotonic()
    )  # it looked just now: the mark has to do
    store.append([after])
    left = stored(JsonStore(path))
    assert [left[0], left[-1]] == [kept, after]
    assert [r["kind"] for r in left] == ["epoch", "deleted", "epoch"]


@pytest.mark.skipif(not is_root(), reason="only root may give files away")
def test_a_pruned_file_keeps_its_mode_and_its_owner(path: Path) -> None:
    fill(path, [record()])
    os.chmod(path, 0o640)
    os.chown(path, 65534, 65534)
    JsonStore(path).prune(deletion(Writer(), sessions=["s"]))
    status = path.stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, 65534, 65534)
