"""Backups of files that other processes write."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import casket
from casket import BadLocation, Experiment, NotFound, StoreFull
from casket.cli.app import app
from casket.maintenance import backup
from casket.maintenance.backup import back_up
from casket.maintenance.doctor import examine
from casket.stores.location import Location
from tests.waiting import eventually

ROOT = Path(__file__).parents[1]

WRITER = """
import itertools, sys
from casket import Experiment
model = Experiment.use(sys.argv[1], exp_id="digits").model("net")
for seed in itertools.count():
    with model.session({"seed": seed}) as session:
        session.add_artifact("seed.bin", str(seed).encode())
        for epoch in range(20):
            session.add_epoch(epoch, {"loss": 1 / (epoch + 1)})
"""


@pytest.fixture
def path(file_url: str) -> Path:
    model = Experiment.use(file_url, exp_id="digits").model("net")
    with model.session({"lr": 0.1}) as session:
        session.add_epoch(1, {"loss": 0.5})
        session.add_artifact("weights.bin", b"weights")
    return Path(file_url)


def beside(path: Path, name: str) -> Path:
    return path.with_name(name + path.suffix)


def test_a_backup_has_the_sessions_and_the_artifacts(path: Path) -> None:
    made = back_up(Location.of(path), beside(path, "copy"))
    assert (made.path, made.problems) == (beside(path, "copy"), {})
    assert made.size == made.path.stat().st_size
    shutil.rmtree(f"{path}.files")
    with casket.open(made.path) as runs:
        (view,) = runs.sessions()
        assert view.last["loss"] == 0.5
        assert view.artifacts["weights.bin"].path.read_bytes() == b"weights"


def test_a_backup_of_a_json_file_is_equal_to_it_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    Experiment.use(path, exp_id="digits").model("net").add_result({"acc": 1})
    path.chmod(0o640)
    made = back_up(Location.of(path), tmp_path / "copy.json")
    assert made.path.read_bytes() == path.read_bytes()
    assert made.path.stat().st_mode & 0o777 == 0o640


def test_backups_of_a_file_that_is_being_written_are_whole(path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=ROOT) for _ in range(2)
    ]
    sizes = []
    try:
        eventually(lambda: len(casket.open(path).sessions()) > 2)
        for number in range(10):
            made = back_up(Location.of(path), beside(path, f"copy-{number}"))
            assert made.problems == {}
            report = examine(Location.of(made.path))
            assert report.damages == []
            with casket.open(made.path) as runs:
                sizes.append(sum(len(view.epochs) for view in runs.sessions()))
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert sizes == sorted(sizes)
    copies = [one.name for one in path.parent.iterdir() if "copy" in one.name]
    assert [name for name in copies if name.endswith(("-wal", "-shm", ".tmp"))] == []


def test_records_in_the_log_of_a_database_are_in_its_backup(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    session = Experiment.use(path, exp_id="digits").model("net").session({"lr": 1})
    session.add_epoch(1, {"loss": 0.5})
    assert path.with_name("runs.sqlite-wal").stat().st_size
    made = back_up(Location.of(path), tmp_path / "copy.sqlite")
    with casket.open(made.path) as runs:
        assert [len(view.epochs) for view in runs.sessions()] == [1]
    session.end()


def test_an_existing_target_is_refused_and_kept(path: Path) -> None:
    target = beside(path, "copy")
    target.write_text("precious")
    with pytest.raises(BadLocation, match="exists: name a new file"):
        back_up(Location.of(path), target)
    assert target.read_text() == "precious"


def test_a_missing_file_and_a_store_elsewhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="missing"):
        back_up(Location.of(tmp_path / "missing.json"), tmp_path / "copy.json")
    with pytest.raises(BadLocation, match="casket merge blitz:"):
        back_up(Location.of(f"blitz:{tmp_path}"), tmp_path / "copy.json")


def test_a_backup_that_fails_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(backup, "FileCarrier", fail)  # the copy is there, under another name
    before = sorted(path.parent.iterdir())
    with pytest.raises(StoreFull, match="copy"):
        back_up(Location.of(path), beside(path, "copy"))
    assert sorted(path.parent.iterdir()) == before


def test_an_artifact_that_is_gone_is_named(path: Path) -> None:
    (artifact,) = Path(f"{path}.files").iterdir()
    artifact.unlink()
    made = back_up(Location.of(path), beside(path, "copy"))
    assert list(made.problems) == [artifact.name]


def test_the_command_names_the_copy_after_the_time(path: Path) -> None:
    done = CliRunner().invoke(app, ["backup", str(path)])
    (copy,) = path.parent.glob(f"{path.name}.backup-*T*Z")
    assert (done.exit_code, done.stdout.partition(" (")[0]) == (0, str(copy))
    assert CliRunner().invoke(app, ["backup", str(path), "-o", str(copy)]).exit_code == 2
    with casket.open(copy) as runs:
        assert len(runs.sessions()) == 1


def test_after_a_backup_the_file_is_still_the_only_one_of_its_folder(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    assert CliRunner().invoke(app, ["backup"]).exit_code == 0
    assert CliRunner().invoke(app, ["ls"]).exit_code == 0
