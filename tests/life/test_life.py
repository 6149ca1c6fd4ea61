"""Sessions of many processes, in every order of steps, on each store of this machine.

`CASKET_LIFE_STEPS=200000 pytest tests/life` takes more steps than the usual 10,000 a store,
`CASKET_LIFE_SHRINK=1` looks for the shortest way to a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from casket.format.artifacts import ArtifactFolder
from casket.stores.jsonfile.store import JsonStore
from casket.stores.memory import MemoryStore
from casket.stores.sqlite.store import SqliteStore
from casket.testing import Reopen
from tests.life.machine import STEPS, SessionsOfManyProcesses
from tests.life.world import World

SHRINK = "CASKET_LIFE_SHRINK" in os.environ
TOTAL = int(os.environ.get("CASKET_LIFE_STEPS", "10000"))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World()
    world.show(monkeypatch)
    yield world
    for process in world.processes.values():
        process.kill()


def memory(_: Path) -> Reopen:
    store = MemoryStore()
    return lambda: store


def json(folder: Path) -> Reopen:
    return partial(JsonStore, folder / "runs.json")


def sqlite(folder: Path) -> Reopen:
    return partial(SqliteStore, folder / "runs.sqlite")


@pytest.mark.timeout(0)
@pytest.mark.parametrize("store", [memory, json, sqlite])
def test_every_order_of_steps_tells_the_truth(store, tmp_path, world):
    explore(store(tmp_path), tmp_path, world)


def explore(reopen: Reopen, folder: Path, world: World) -> None:
    """Run the machine on a store."""
    artifacts = ArtifactFolder(folder / "files")
    run_state_machine_as_test(
        lambda: SessionsOfManyProcesses(reopen, artifacts, world),
        settings=settings(
            max_examples=max(TOTAL // STEPS, 1),
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            # Every step starts a thread: to shrink a failure takes minutes.
            phases=list(Phase) if SHRINK else [Phase.generate],
        ),
    )
