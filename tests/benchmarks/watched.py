"""The cost of ten open pages of the dashboard for the shown runs: eight processes that log.

Usage: python -m tests.benchmarks.watched
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from playwright.sync_api import sync_playwright

import casket
from tests.benchmarks.dashboard import opened, painted, served
from tests.benchmarks.data import fill
from tests.dashboard.conftest import FLAGS

if TYPE_CHECKING:
    from tests.benchmarks.__main__ import Figure

WRITERS, PAGES = 8, 10
SECONDS = 20

WRITER = """
import json, sys, time
from casket import Experiment

model = Experiment.use(sys.argv[1], exp_id="watched").model("m")
took = []
with model.session({"writer": sys.argv[2]}) as session:
    stop = time.monotonic() + float(sys.argv[3])
    while time.monotonic() < stop:
        begun = time.perf_counter()
        session.add_epoch(len(took), {"loss": 1 / (1 + len(took)), "acc": 0.5})
        took.append(time.perf_counter() - begun)
        time.sleep(0.05)
print(json.dumps(took))
"""


def writing(path: Path, label: str) -> list[float]:
    """Let eight processes log twenty epochs a second each; return the time of each epoch."""
    commands = [
        [sys.executable, "-c", WRITER, str(path), f"{label} {i}", str(SECONDS)]
        for i in range(WRITERS)
    ]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE) for command in commands]
    took = [json.loads(writer.communicate()[0]) for writer in writers]
    assert all(writer.returncode == 0 for writer in writers)
    with casket.open(path) as runs:
        for i, times in enumerate(took):
            (session,) = runs.sessions(where=f"params.writer == '{label} {i}'")
            assert (session.status, len(session.epochs)) == ("completed", len(times))
    return [seconds for times in took for seconds in times]


@contextmanager
def pages(path: Path) -> Iterator[None]:
    """Keep ten pages open, each with the curves of running sessions."""
    program: Any = shutil.which("chromium")
    assert program, "install chromium"
    with sync_playwright() as playwright, served(path) as (address, server), ExitStack() as stack:
        # Ten browsers on the writers' machine: they get the rest of a core, as if elsewhere.
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(cores)})
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        os.sched_setaffinity(0, cores)
        for process in set(psutil.Process().children(recursive=True)) - {server}:
            process.nice(19)
        for _ in range(PAGES):
            page, _sizes = stack.enter_context(opened(browser, address))
            painted(page, "curves")
        yield
        stack.close()
        browser.close()


def watched(folder: Path) -> list["Figure"]:
    """Compare the epochs of writers with and without open pages."""
    from tests.benchmarks.__main__ import Figure

    path = folder / "watched.json"
    fill(path, 20, 50)
    alone = writing(path, "alone")
    with pages(path):
        beside = writing(path, "beside pages")
    middle, slowest = (
        [f(took) * 1e6 for took in (alone, beside)]
        for f in (statistics.median, lambda took: statistics.quantiles(took, n=100)[-1])
    )
    detail = (
        f"median {middle[1]:.0f} µs, alone {middle[0]:.0f}; slowest hundredth "
        f"{slowest[1]:.0f}, alone {slowest[0]:.0f}; {len(alone)} and {len(beside)} epochs"
    )
    title = f"add_epoch of {WRITERS} writers beside {PAGES} pages"
    return [Figure(title, middle[1] / middle[0], 2, "x", detail)]


def main() -> int:
    """Print the figures; return 1 if a limit was missed."""
    with tempfile.TemporaryDirectory() as folder:
        figures = watched(Path(folder))
    print(*figures, sep="\n")
    return int(any(figure.value > figure.limit for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
