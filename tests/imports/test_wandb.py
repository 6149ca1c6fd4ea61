"""W&B's offline runs, as the reader of `wandb` itself reads them."""

import struct
import zlib
from datetime import UTC, datetime, timedelta

import pytest

from casket.imports import load, wandb, wandblog
from tests.imports.sources import in_order, read, sessions

MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
def runs(imported, expected):
    """The sessions, each with the content of its files."""
    sessions = {session.meta["run_id"]: session for session in imported("wandb")}
    files = {run_id: [] for run_id in sessions}
    for file in expected["wandb"]:
        files[file["run_id"]].append(file)
    return [(sessions[run_id], files[run_id]) for run_id in sessions]


def flat(values, prefix=""):
    """Yield the values that are imported as numbers, texts and lists, under flat names."""
    for name, value in values.items():
        if isinstance(value, dict) and "_type" not in value:
            yield from flat(value, f"{prefix}{name}.")
        elif not isinstance(value, dict) and not name.startswith("_"):
            yield prefix + name, value


def test_history(runs):
    for session, files in runs:
        said = [
            (name, row["_step"], as_read(value))
            for file in files
            for row in file["history"]
            for name, value in flat(row)
        ]
        stored = [
            (name, epoch["epoch_num"], value)
            for epoch in session.epochs
            for name, value in flat(epoch)
            if name not in {"epoch_num", "timestamp"}
        ]
        assert list(map(repr, in_order(stored))) == list(map(repr, in_order(said)))


def as_read(value):
    return read(value) if isinstance(value, str) else value


def test_times(runs):
    for session, files in runs:
        logged = [row["_timestamp"] for file in files for row in file["history"] if len(row) > 3]
        times = [datetime.fromisoformat(epoch["timestamp"]) for epoch in session.epochs]
        assert all(any(abs(time.timestamp() - one) < 2e-6 for one in logged) for time in times)
        started = datetime(1970, 1, 1, tzinfo=UTC) + files[0]["started"] * MICROSECOND
        assert session.started == started


def test_config_names_tags_and_notes(runs):
    for session, files in runs:
        config = {}
        for file in files:
            config |= {name: value for name, value in file["config"].items() if name != "_wandb"}
        assert session.params == config
        assert session.experiment == files[0]["project"]
        assert session.model == (files[0]["display_name"] or files[0]["run_id"])
        assert session.named == (files[0]["display_name"] or None)
        assert sorted(session.tags) == sorted(files[0]["tags"])
        assert session.note == files[0]["notes"]
        assert session.meta["user"] == "someone"


def test_values_set_in_the_summary_are_a_result(runs):
    first = runs[0]
    assert first[0].results("summary") == [{"best": 1e-7, "loss": 0.125}]
    said = first[1][0]["summary"]
    assert {"best": said["best"], "loss": said["loss"]} == first[0].results("summary")[0]


def test_a_run_in_two_files_is_one_run_with_the_status_of_the_last(runs, data, target):
    (_, (first,)), (resumed, (second, third)) = runs
    assert (first["exit_code"], second["exit_code"], third["exit_code"]) == (0, 3, 0)
    assert [session.status for session, _ in runs] == ["completed", "completed"]
    assert [epoch["epoch_num"] for epoch in resumed.epochs] == [0, 4]
    (older, _) = sorted((data / "wandb").glob("*-second"))
    load(older, target.with_name("older.json"))
    (failed,) = sessions(target.with_name("older.json"))
    assert (failed.status, failed.error) == ("failed", "exit code 3")


def test_media_are_counted(data, target):
    assert load(data / "wandb", target).left_out["histogram"] == 1


def test_a_run_without_an_exit_is_running(data, target):
    (file,) = (data / "wandb").rglob("run-first.wandb")
    content = file.read_bytes()
    file.write_bytes(content[: last_record(content)])
    report = load(file, target)
    (session,) = sessions(target)
    assert not report.problems
    assert session.open_writers
    assert len(session.epochs) == 6


def last_record(content):
    starts, at = [], 7
    while at < len(content):
        at += 32768 - at % 32768 if 32768 - at % 32768 < 7 else 0
        starts.append(at)
        at += 7 + struct.unpack_from("<IHB", content, at)[1]
    return starts[-1]


def test_a_file_cut_anywhere_gives_its_complete_records(data, target):
    (file,) = (data / "wandb").rglob("run-first.wandb")
    content = file.read_bytes()
    whole = list(wandblog.messages(file, print))
    for cut in range(7, len(content), 997):
        file.write_bytes(content[:cut])
        damages = []
        read_now = list(wandblog.messages(file, damages.append))
        assert read_now == whole[: len(read_now)]
        assert len(damages) <= 2
        assert damages or cut == 7 or len(read_now)


def test_a_damaged_block_hides_no_later_block(data, target):
    (file,) = (data / "wandb").rglob("run-first.wandb")
    content = bytearray(file.read_bytes())
    content[40_000] ^= 1  # within the long config
    file.write_bytes(content)
    report = load(file, target)
    assert any("is damaged" in problem.why for problem in report.problems)
    (session,) = sessions(target)
    assert session.status == "completed"
    assert "long" not in session.params
    assert len(session.epochs) == 6


@pytest.mark.parametrize(
    ("item", "value"),
    [
        (b"\x20\x01", True),
        (b"\x20\x00", False),
        (b"\x28\x09", -5),
        (b"\x31" + struct.pack("<d", 0.1), 0.1),
        (b"\x3a\x02hi", "hi"),
        (b"\x42\x03[1]", [1]),
        (b"\x18\x00", None),
    ],
)
def test_values_without_json(item, value):
    assert wandb._item(b"\x12\x01a\x12\x01b" + item) == (["a", "b"], value)


def test_a_record_that_is_not_valid_is_skipped(data, target):
    (file,) = (data / "wandb").rglob("run-first.wandb")
    message = b"\x12\x02\xff\xff"
    chunk = struct.pack("<IHB", zlib.crc32(message, zlib.crc32(b"\x01")), len(message), 1)
    with file.open("ab") as log:
        log.write(chunk + message)
    (problem,) = load(file, target).problems
    assert "not valid" in problem.why
    assert sessions(target)[0].status == "completed"
