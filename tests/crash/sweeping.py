"""A sweep whose workers are killed at random, on any store that several processes can share."""

from __future__ import annotations

import random
import time
from collections import Counter
from functools import partial
from pathlib import Path

import casket
from casket import Experiment
from tests.crash.crew import Crew, Log, acknowledged
from tests.waiting import eventually

SETS, WORKERS, KILLS = 40, 8, 12
BODY = 0.05


def sweep_and_stay(url: str) -> None:
    """Run the sweep to its end; note each set whose session was acknowledged as completed."""
    model = Experiment.use(url, exp_id="e").model("m")
    started, completed = Log("started"), Log("completed")
    for session in model.sweep({"n": range(SETS)}, wait=True, retries=KILLS):
        with session:
            started.add(session.params["n"], session.id)
            time.sleep(BODY)
            session.add_result({"n": session.params["n"]})
        completed.add(session.params["n"], session.id)


def kill_workers_of_a_sweep(crew: Crew, url: str, kills: int = KILLS) -> None:
    """Kill workers in the midst of a sweep and start others; check that each set completes once."""
    chance = random.Random(7)
    started, completed = crew.folder / "started", crew.folder / "completed"
    workers = [crew.start(sweep_and_stay, url) for _ in range(WORKERS)]

    def has_started(least: int) -> bool:
        assert not crew.errors(), crew.errors()[0]
        return len(list(acknowledged(started))) >= least

    for kill in range(kills):
        # A few sets begin between two kills, so that kills fall into every part of the sweep.
        eventually(partial(has_started, 2 * kill + 2))
        victim = workers.pop(chance.randrange(len(workers)))
        crew.remove([victim])
        workers.append(crew.start(sweep_and_stay, url))
    crew.finish()
    _check(url, completed)


def _check(url: str, completed: Path) -> None:
    with casket.open(url) as runs:
        sessions = runs.sessions()
        done = [view for view in sessions if view.status == "completed"]
        assert Counter(view.params["n"] for view in done) == dict.fromkeys(range(SETS), 1)
        assert {view.status for view in sessions} <= {"completed", "killed"}
        assert all(view.results() == [{"n": view.params["n"]}] for view in done)
        ids = {view.id for view in done}
    assert {session for _, session in acknowledged(completed)} <= ids
