"""When files are synced, as the system calls of a writer show."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from tests.crash.tracing import Call, needs_strace, trace

pytestmark = needs_strace

SYNCS = {"fsync", "fdatasync"}
WRITES = {"write", "pwrite64"}
CALLS = ",".join([*SYNCS, *WRITES, "rename"])
EPOCHS = 10

# Every step ends with a write to the file `steps`.
SCRIPT = """
import os, time
from casket import Experiment as E

steps = os.open("steps", os.O_WRONLY | os.O_CREAT)
def done():
    os.write(steps, b".")

model = E.use({runs!r}, exp_id="e", sync={sync!r}).model("m")
done()
with model.session() as session:
    done()
    {body}
done()
"""
EVERY_EPOCH = f"""
    for k in range({EPOCHS}):
        session.add_epoch(k, {{"loss": 0.5}})
        done()
"""
FOR_A_WHILE = """
    end = time.monotonic() + 2.6
    while time.monotonic() < end:
        session.add_epoch(1, {{"loss": 0.5}})
        time.sleep({pause})
    done()
"""
ARTIFACT = """
    session.add_artifact("a.bin", b"x" * 10_000)
    done()
"""


def steps(runs: Path, body: str, sync: str = "session") -> list[list[Call]]:
    """Run a session and return its calls, step by step."""
    folder = runs.parent / "work"
    folder.mkdir()
    code = SCRIPT.format(runs=str(folder / runs.name), sync=sync, body=body.strip())
    calls = trace(code, folder, CALLS)
    parted: list[list[Call]] = [[]]
    for call in calls:
        if call.file == "steps":
            parted.append([])
        else:
            parted[-1].append(call)
    return parted[:-1]


def is_synced(calls: list[Call]) -> bool:
    """Return whether files were written, and all of them have been synced since."""
    last = {call.file: call.name for call in calls if call.name in SYNCS | WRITES}
    written = {call.file for call in calls if call.name in WRITES}
    return bool(written) and all(last[file] in SYNCS for file in written)


def records(runs: Path) -> set[str]:
    """Return the names of the files that records are written to."""
    return {runs.name, f"{runs.name}-wal"}


def test_sync_always_syncs_every_record_before_the_call_returns(runs: Path) -> None:
    created, began, *epochs, ended = steps(runs, EVERY_EPOCH, sync="always")
    assert len(epochs) == EPOCHS
    for step in (created, began, *epochs, ended):
        of_records = [call for call in step if call.file in records(runs)]
        assert is_synced(of_records)
    assert all(sum(call.name in SYNCS for call in step) == 1 for step in epochs)


def test_by_default_a_writer_syncs_once_a_second_and_when_its_session_ends(runs: Path) -> None:
    # SQLite also syncs when it moves 1,000 pages from its log to the database.
    pause = 0.0 if runs.suffix == ".json" else 0.005
    _, _, epochs, ended = steps(runs, FOR_A_WHILE.format(pause=pause))
    of_records = [call for call in epochs if call.file in records(runs)]
    syncs = [call.time for call in of_records if call.name in SYNCS]
    writes = [call.time for call in of_records if call.name in WRITES]
    assert len(writes) > 100
    assert 2 <= len(syncs) <= 4
    times = [writes[0], *syncs, writes[-1]]
    assert max(later - earlier for earlier, later in pairwise(times)) < 1.5
    assert is_synced([call for call in ended if call.file in records(runs)])


def test_by_default_few_epochs_wait_for_the_end_of_their_session(runs: Path) -> None:
    *_, ended = everything = steps(runs, EVERY_EPOCH)
    epochs = [call for step in everything[2:-1] for call in step]
    assert len(epochs) >= EPOCHS
    assert not any(call.name in SYNCS for call in epochs)
    assert is_synced([call for call in ended if call.file in records(runs)])


def test_the_name_of_a_new_file_is_synced_with_its_folder(runs: Path) -> None:
    created, *_ = steps(runs, EVERY_EPOCH)
    assert any(call.name in SYNCS and call.file == "work" for call in created)


def test_an_artifact_is_synced_before_it_gets_its_name(runs: Path) -> None:
    _, _, artifact, _ = steps(runs, ARTIFACT)
    assert is_synced(artifact[: moved_at(artifact)])


def test_an_artifacts_name_is_synced_before_the_record_that_tells_of_it(runs: Path) -> None:
    _, _, artifact, _ = steps(runs, ARTIFACT)
    told = max(i for i, call in enumerate(artifact) if call.file in records(runs))
    between = artifact[moved_at(artifact) : told]
    assert any(call.name in SYNCS and call.file == f"{runs.name}.files" for call in between)


def moved_at(calls: list[Call]) -> int:
    return [call.name for call in calls].index("rename")
