"""Waiting times of the dashboard's page: 1,000 sessions of 1,000 epochs, in Chromium.

Usage: python -m tests.benchmarks.dashboard
"""

import math
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from casket import Experiment
from tests.benchmarks.data import fill
from tests.dashboard.conftest import FLAGS

if TYPE_CHECKING:
    from tests.benchmarks.__main__ import Figure

SESSIONS, EPOCHS = 1000, 1000
POINTS = 1_000_000
ROUNDS = 5
READY = 120.0
"""Seconds in which a file has to be read."""

PAINTED = "name => performance.getEntriesByName(name).map((mark) => mark.startTime)"
DRAW = """
number => {
  const choice = [...document.querySelectorAll("input[type=radio]")].find(
    ({ value }) => value === number,
  );
  performance.clearMarks();
  const begun = performance.now();
  choice.click();
  return begun;
}
"""
TYPE = """
text => new Promise((done) => {
  const field = document.querySelector("#where");
  field.focus();
  const begun = performance.now();
  field.value = text;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => done(performance.now() - begun);
    port2.postMessage(null);
  });
})
"""


def realistic(session: int, epoch: int) -> dict[str, float]:
    """Return metrics with as many digits as real metrics have."""
    noise = random.Random(session * EPOCHS + epoch)
    loss = 0.1 + session / SESSIONS + 2 * math.exp(-epoch / 100) + noise.gauss(0, 0.05)
    val_loss = loss + noise.gauss(0.05, 0.05)
    return {"loss": loss, "acc": 1 - loss / 4, "val_loss": val_loss, "val_acc": 1 - val_loss / 4}


def million(path: Path) -> None:
    """Write a session of a million batches."""
    with Experiment.use(path, exp_id="long").model("m").session({"lr": 0.1}) as session:
        for start in range(0, POINTS, 10_000):
            session.add_batches(
                (n, {"loss": math.sin(n / 5e4) + random.random()}, None, time.time())
                for n in range(start, start + 10_000)
            )


@contextmanager
def served(path: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Start the dashboard; yield its address and process when it has read the file."""
    command = [sys.executable, "-m", "casket.cli.app", "dashboard", "--no-open", "--no-token"]
    command += ["--port", "0"]
    with subprocess.Popen([*command, str(path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            said = next(line for line in process.stdout if "http://" in line)
            address = next(word for word in said.split() if word.startswith("http://"))
            deadline = time.monotonic() + READY
            while httpx.get(f"{address}api/overview").json()["files"][0]["state"] == "reading":
                assert time.monotonic() < deadline, "the file takes too long to read"
                time.sleep(0.1)
            yield address, psutil.Process(process.pid)
        finally:
            process.terminate()


@contextmanager
def opened(browser: Browser, address: str) -> Iterator[tuple[Page, list[int]]]:
    """Open the page with an empty cache; yield it and the sizes of its requests."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    network = context.new_cdp_session(page)
    sizes: list[int] = []
    network.send("Network.enable")
    network.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto(address)
    yield page, sizes
    context.close()


def painted(page: Page, what: str, since: float = 0.0) -> float:
    """Wait until something is painted; return how long it took, in seconds."""
    while not (marks := page.evaluate(PAINTED, f"{what}-painted")):
        page.wait_for_timeout(5)
    return (float(marks[0]) - since) / 1e3


def of_opening(browser: Browser, address: str) -> dict[str, float]:
    """Return the times of opening the page, and of the next actions."""
    timings = {}
    with opened(browser, f"{address}#metrics=loss") as (page, _):
        timings["table painted"] = painted(page, "table")
        timings["10 curves after it"] = painted(page, "curves") - timings["table painted"]
        for number, name in (("100", "100 curves"), ("all", "1,000 curves")):
            begun = page.evaluate(DRAW, number)
            timings[name] = painted(page, "curves", begun)
        page.wait_for_timeout(500)
        timings["filter key, 1,000 curves"] = of_keys(page)
        page.evaluate(DRAW, "10")
        page.wait_for_timeout(500)
        timings["filter key, 10 curves"] = of_keys(page)
    with opened(browser, address) as (page, sizes):
        painted(page, "curves")
        page.wait_for_timeout(500)
        timings["first load"] = sum(sizes) / 2**20
    return timings


def of_keys(page: Page) -> float:
    """Return the median time of a key in the filter, which is empty before and after."""
    keys = []
    for text in ("params.lr < 0.05", "params.lr < 0.02", "params.lr < 0.2", "params.seed < 20", ""):
        keys.append(page.evaluate(TYPE, text) / 1e3)
        page.wait_for_timeout(500)
    return statistics.median(keys)


LIMITS = {
    "table painted": (0.5, "s"),
    "10 curves after it": (0.3, "s"),
    "100 curves": (0.6, "s"),
    "1,000 curves": (1.5, "s"),
    "filter key, 10 curves": (0.03, "s"),
    "filter key, 1,000 curves": (0.03, "s"),
    "first load": (0.25, "MB"),
}


def looking(folder: Path) -> list["Figure"]:
    """Measure the page and its server."""
    from tests.benchmarks.__main__ import Figure

    program: Any = shutil.which("chromium")
    assert program, "install chromium"
    fill(folder / "runs.json", SESSIONS, EPOCHS, realistic)
    million(folder / "long.json")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        with served(folder / "runs.json") as (address, server):
            rounds = [of_opening(browser, address) for _ in range(ROUNDS)]
            resident = server.memory_info().rss / 1e6
        with (
            served(folder / "long.json") as (address, _),
            opened(browser, f"{address}#kind=batch") as (page, _),
        ):
            line = painted(page, "curves") - painted(page, "table")
        browser.close()
    medians = {name: statistics.median(each[name] for each in rounds) for name in LIMITS}
    figures = [
        Figure(f"dashboard, {name}", medians[name], *LIMITS[name], detail=f"of {ROUNDS} openings")
        for name in LIMITS
    ]
    detail = f"{SESSIONS} sessions of {EPOCHS} epochs"
    return [
        *figures,
        Figure("dashboard, a line of a million points", line, 0.5, "s", "after the table"),
        Figure("dashboard, memory of the server", resident, 250, "MB", detail),
    ]


def main() -> int:
    """Print the figures; return 1 if a limit was missed."""
    with tempfile.TemporaryDirectory() as folder:
        figures = looking(Path(folder))
    print(*figures, sep="\n")
    return int(any(figure.value > figure.limit for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
