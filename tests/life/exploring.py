"""Runs the state machine on a store.

`CASKET_LIFE_STEPS=200000 pytest tests/life` takes more steps than the usual 10,000 (on a server
200 or 500), `CASKET_LIFE_SHRINK=1` looks for the shortest way to a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from casket.format.artifacts import ArtifactFolder
from casket.testing import Reopen
from tests.life.machine import STEPS, SessionsOfManyProcesses
from tests.life.world import World

SHRINK = "CASKET_LIFE_SHRINK" in os.environ
TOTAL = os.environ.get("CASKET_LIFE_STEPS")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World()
    world.show(monkeypatch)
    yield world
    for process in world.processes.values():
        process.kill()


def explore(reopen: Reopen, folder: Path, world: World, steps: int = 10_000) -> None:
    """Take so many steps, or as many as the environment asks for, on a store."""
    total = int(TOTAL or steps)
    artifacts = ArtifactFolder(folder / "files")
    run_state_machine_as_test(
        lambda: SessionsOfManyProcesses(reopen, artifacts, world),
        settings=settings(
            max_examples=max(total // STEPS, 1),
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            # The same steps in every run, so that a change and no chance makes it fail; with a
            # number of steps from the environment, other ones each time.
            derandomize=TOTAL is None,
            suppress_health_check=list(HealthCheck),
            # Every step starts a thread: to shrink a failure takes minutes.
            phases=list(Phase) if SHRINK else [Phase.generate],
        ),
    )
