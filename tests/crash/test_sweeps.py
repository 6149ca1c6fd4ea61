"""Sweeps whose workers are killed: each set completes once."""

from __future__ import annotations

from pathlib import Path

from tests.crash.crew import Crew
from tests.crash.sweeping import kill_workers_of_a_sweep


def test_each_set_completes_once_while_workers_are_killed(runs: Path, crew: Crew) -> None:
    kill_workers_of_a_sweep(crew, str(runs))
