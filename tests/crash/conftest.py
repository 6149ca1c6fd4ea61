from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.crew import Crew


@pytest.fixture(params=["runs.json", "runs.sqlite"])
def runs(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file that several processes will share; it does not exist yet."""
    return tmp_path / request.param


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    crew = Crew(tmp_path)
    yield crew
    crew.disband()
