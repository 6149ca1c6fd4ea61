"""Fixtures of the tests of the importers."""

import gzip
import json
import shutil

import pytest

from casket.imports import load
from tests.imports.sources import DATA, PLACES, sessions


@pytest.fixture(scope="session")
def expected():
    """The content of the sources, according to the tools themselves."""
    return json.loads((DATA / "expected.json").read_text(), parse_constant=float)


@pytest.fixture
def data(tmp_path):
    """A copy of the sources, which a test may change."""
    folder = tmp_path / "data"
    shutil.copytree(DATA, folder)
    for packed in folder.rglob("*.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    return folder


@pytest.fixture
def target(tmp_path):
    """The path of a store that does not exist yet."""
    return tmp_path / "imported.json"


@pytest.fixture
def imported(data, target):
    """Import a source by its name in `PLACES`; return its sessions."""

    def load_and_read(name):
        load(data / PLACES[name], target)
        return sessions(target)

    return load_and_read
