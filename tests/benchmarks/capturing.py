"""Capture and system metrics: what a run of 1,000 epochs feels of them, and what a sample costs."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from casket.writing.capture.system import Probe
from tests.benchmarks.__main__ import Figure

ROUNDS = 15
INTERVAL = 15.0

RUN = """
import sys, time
from casket import Experiment
capture, interval = sys.argv[2].split(",") if sys.argv[2] else (), float(sys.argv[3]) or None
model = Experiment.use(sys.argv[1], exp_id="bench").model("m")
model.session({}, capture=(), repeat=True).end()  # what a first start imports
begun = time.perf_counter()
with model.session({}, capture=capture, system_metrics=interval, repeat=True) as session:
    for epoch in range(1000):
        sum(range(40_000))
        session.add_epoch(epoch, {"loss": 0.5, "acc": 0.9})
print(time.perf_counter() - begun)
"""

SETUPS = {"none": ("", "0"), "capture": ("code,packages", "0"), "metrics": ("", "1")}


def capturing(folder: Path) -> list[Figure]:
    """A run in a repository with changes, in a new process; and a sample of the system."""
    project = folder / "project"
    project.mkdir()
    (project / "train.py").write_text(RUN)
    git = ["git", "-C", str(project), "-c", "user.name=me", "-c", "user.email=me@example.com"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    (project / "train.py").write_text(f"{RUN}# changed\n")
    rounds = [{name: _run(project, *setup) for name, setup in SETUPS.items()}
              for _ in range(ROUNDS)]  # fmt: skip
    medians = {name: statistics.median(took[name] for took in rounds) for name in SETUPS}
    return [
        Figure(
            f"run of 1,000 epochs, {what}, times one without",
            medians[name] / medians["none"],
            1.02,
            "x",
            f"{medians[name]:.2f} s, without {medians['none']:.2f} s",
        )
        for name, what in (("capture", "default capture"), ("metrics", "system metrics at 1 s"))
    ] + [_sample()]


def _run(project: Path, capture: str, interval: str) -> float:
    command = [sys.executable, "train.py", "../capturing.json", capture, interval]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return float(subprocess.check_output(command, cwd=project, env=environment))


def _sample() -> Figure:
    probe = Probe()
    costs = []
    for _ in range(100):
        begun = time.process_time()
        probe.sample()
        costs.append(time.process_time() - begun)
    cost = statistics.median(costs)
    share = cost / INTERVAL * 100
    return Figure("system metrics at 15 s, of a core", share, 0.1, "%", f"{cost * 1e3:.2f} ms each")
