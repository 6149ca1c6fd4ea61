"""Paths that cannot be a store: special files, NUL characters, names that are too long."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import casket
from casket import BadLocation, Experiment
from casket.cli.app import app
from casket.stores.location import Location

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="special files of POSIX")

ATTEMPTS: list[Callable[[str], object]] = [
    lambda url: casket.open(url).sessions(),
    lambda url: Experiment.use(url, exp_id="e").model("m").session().end(),
]


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


SPECIAL: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "socket": bind,
    "device": lambda path: path.symlink_to("/dev/null"),
}


@pytest.mark.parametrize("suffix", ["json", "db", "other"])
@pytest.mark.parametrize("kind", SPECIAL)
def test_a_special_file_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, suffix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(f"runs.{suffix}")
    SPECIAL[kind](path)
    for attempt in ATTEMPTS:
        with pytest.raises(BadLocation, match=f"runs.{suffix} is a {kind}, not a regular file"):
            attempt(str(path))
    shown = CliRunner().invoke(app, ["ls", str(path)])
    assert shown.exit_code != 0
    assert kind in shown.output


@pytest.mark.parametrize("attempt", ATTEMPTS)
@pytest.mark.parametrize(
    "url",
    [
        "a\0b.json",
        "a\0b.db",
        "sqlite:///a\0b",
        "blitz:a\0b",
        "me@host:a\0b.json",
        "sftp://host/a\0b",
        "postgresql://host/a\0b",
        "mongodb://host/a\0b",
    ],
)
def test_a_nul_character_is_refused(url: str, attempt: Callable[[str], object]) -> None:
    with pytest.raises(BadLocation, match="NUL"):
        attempt(url)


@pytest.mark.parametrize("attempt", ATTEMPTS)
@pytest.mark.parametrize("length", [249, 300])
@pytest.mark.parametrize(
    "url", ["{}.json", "{}.db", "sqlite:///{}.db", "blitz:{}.d", "folder/{}.json"]
)
def test_a_name_that_is_too_long_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, length: int, attempt: Callable
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadLocation, match="File name too long") as refusal:
        attempt(url.format("n" * length))
    assert "nnn" in str(refusal.value)
    assert os.listdir(tmp_path) == ["folder"]


def test_a_long_path_on_another_machine_is_a_location() -> None:
    assert Location.of(f"me@host:{'n' * 5000}.json").kind == "sftp"


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    path.symlink_to(path)
    for attempt in ATTEMPTS:
        with pytest.raises(BadLocation, match=r"runs\.json cannot be used: .*symbolic links"):
            attempt(str(path))
