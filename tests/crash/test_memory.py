"""A writer that runs for weeks, beside others that do, takes no more memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import casket
from tests.crash.crew import Crew, context
from tests.crash.workers import log_in_turns

EPOCHS = 4_000
TURNS = 6
MOST_GROWTH = 2_500_000
"""Bytes; 20,000 records of a writer take 3 MB in the file and 10 MB as objects.

Without any record the allocator takes up to 1.6 MB more at the first turns, and none later."""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_writers_memory_does_not_grow_with_its_records_or_those_of_others(
    runs: Path, crew: Crew
) -> None:
    turns = {name: context.Pipe() for name in ("one", "other")}
    for name, (_, theirs) in turns.items():
        crew.start(log_in_turns, runs, name, theirs, EPOCHS)
    ours = [ours for ours, _ in turns.values()]
    for connection in ours:
        connection.recv()
    resident = []
    for _ in range(TURNS):
        for connection in ours:
            connection.send(True)
        resident.append([connection.recv() for connection in ours])
    for connection in ours:
        connection.send(False)
    crew.finish()
    first, *_, last = resident
    growth = [after - before for before, after in zip(first, last, strict=True)]
    print(f"{EPOCHS * (TURNS - 1)} epochs each: {[f'{bytes_ / 1e6:.2f} MB' for bytes_ in growth]}")
    assert max(growth) < MOST_GROWTH
    assert [len(view.epochs) for view in casket.open(runs).sessions()] == [EPOCHS * TURNS] * 2
