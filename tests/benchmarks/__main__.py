"""Measure casket's promises about speed, and report whether they hold.

Usage: python -m tests.benchmarks [NAME...]

Names: writing artifacts journal growth cold-start starts checksums import reading listing
command-line memory capturing sharing sweeps search sklearn keras lightning frameworks dashboard
watched
"""

import json
import os
import pty
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import orjson

import casket
from casket import Experiment
from casket.format.records import Record, Writer
from casket.stores.base import StoreOptions
from casket.stores.remote.spool import Spool
from tests.benchmarks.data import METRICS, fill

STORES = ("json", "sqlite")
MANY = (5_000, 100)
"""Sessions and epochs of the file of 500,000 records."""


class Figure(NamedTuple):
    """A measured figure and its limit."""

    name: str
    value: float
    limit: float
    unit: str
    detail: str

    def __str__(self) -> str:
        verdict = "ok  " if self.value <= self.limit else "MISS"
        value = f"{self.value:.2f} {self.unit}"
        return f"{verdict}  {self.name:46} {value:>12}  at most {self.limit:g}   {self.detail}"


def microseconds(call: Callable[[int], object], times: int = 1000) -> float:
    """Return the average cost of a call, over `times`."""
    begun = time.perf_counter()
    for i in range(times):
        call(i)
    return (time.perf_counter() - begun) / times * 1e6


def medians(calls: list[Callable[[int], object]], rounds: int = 41) -> list[float]:
    """Return each call's median cost; rounds alternate, so that noise falls on all alike."""
    costs = [[microseconds(call) for call in calls] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*costs, strict=True)]


TWENTY = {f"metric_{i}": 0.123456 + i / 7 for i in range(20)}


def an_epoch(metrics: dict[str, float]) -> Record:
    """Return a record as `add_epoch` writes it."""
    owner = {"experiment": "bench", "model": "m", "session": "0123456789abcdef"}
    return Writer().record("epoch", {"epoch_num": 1000, "result": metrics}, **owner)


def writing(folder: Path) -> list[Figure]:
    """One `add_epoch` of four and of twenty metrics against the floor of each store."""
    fd = os.open(folder / "floor", os.O_CREAT | os.O_RDWR)
    database = sqlite3.connect(folder / "floor.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("CREATE TABLE records (number INTEGER PRIMARY KEY, record TEXT NOT NULL)")
    insert = "INSERT INTO records (record) VALUES (?)"
    floors: dict[str, Callable[[Record], object]] = {
        "json": lambda record: os.write(fd, orjson.dumps(record)),
        "sqlite": lambda record: database.execute(insert, (orjson.dumps(record).decode(),)),
    }

    def figure(store: str, metrics: dict[str, float], limit: float) -> Figure:
        record, write = an_epoch(metrics), floors[store]
        model = Experiment.use(folder / f"writing.{store}", exp_id="bench").model("m")
        with model.session(repeat=True) as session:
            floor, cost = medians(
                [lambda _: write(record), lambda i: session.add_epoch(i, metrics)]
            )
        name = f"add_epoch of {len(metrics)}, {store}, times the floor"
        detail = f"{cost:.1f} µs, floor {floor:.1f} µs"
        return Figure(name, cost / floor, limit, "x", detail)

    return [figure("json", METRICS, 5), figure("json", TWENTY, 4), figure("sqlite", METRICS, 1.5)]


def artifacts(folder: Path) -> list[Figure]:
    """The same artifact put again, against putting it for the first time."""
    session = Experiment.use(folder / "artifacts.json", exp_id="bench").model("m").session()
    figures = []
    for name, size in (("1 kB", 1_000), ("32 MB", 32 << 20)):
        contents = [os.urandom(size) for _ in range(7)]

        def put(i: int, contents: list[bytes] = contents) -> None:
            session.add_artifact("model.bin", contents[i])

        first, again = ([microseconds(lambda _, i=i: put(i), 1) for i in range(7)] for _ in "12")
        floor, cost = statistics.median(first), statistics.median(again)
        detail = f"{cost / 1e3:.1f} ms, first {floor / 1e3:.1f} ms"
        figures.append(Figure(f"artifact of {name} put again", cost / floor, 1, "x", detail))
    figures += [a_large_file(session, folder), a_folder(session, folder)]
    session.end()
    return figures


def a_large_file(session: casket.Session, folder: Path) -> Figure:
    """A file of 256 MB as an artifact, against `cp`, `sync` and `sha256sum`."""
    source, copy = folder / "large.bin", folder / "copy.bin"
    source.write_bytes(os.urandom(256 << 20))

    def renew(i: int) -> None:
        with source.open("r+b") as file:  # content that is stored is not copied again
            file.write(b"%d" % i)

    def by_hand(_: int) -> None:
        for command in (["cp", source, copy], ["sync", copy], ["sha256sum", copy]):
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def put(_: int) -> None:
        session.add_artifact("large.bin", source)

    floors, costs = [], []
    for i in range(5):
        renew(i)
        floors.append(microseconds(by_hand, 1))
        costs.append(microseconds(put, 1))
    floor, cost = statistics.median(floors), statistics.median(costs)
    detail = f"{cost / 1e6:.2f} s, cp, sync and sha256sum {floor / 1e6:.2f} s"
    return Figure("artifact of a file of 256 MB", cost / floor, 1, "x", detail)


def a_folder(session: casket.Session, folder: Path) -> Figure:
    """A folder of 1,000 files of 4 kB as artifacts, against each of them in a call of its own."""
    source = folder / "many"
    source.mkdir()
    costs = []
    for _ in range(2):
        for name in range(1000):
            (source / str(name)).write_bytes(os.urandom(4096))
        costs.append(microseconds(lambda _: session.add_artifact("many", source), 1))
        for name in range(1000):
            (source / str(name)).write_bytes(os.urandom(4096))
        paths = list(source.iterdir())

        def put(i: int, paths: list[Path] = paths) -> None:
            session.add_artifact("one", paths[i])

        costs.append(microseconds(put, 1000) * 1000)
    cost, floor = min(costs[::2]), min(costs[1::2])
    detail = f"{cost / 1e6:.2f} s, one by one {floor / 1e6:.2f} s"
    return Figure("artifacts of a folder of 1,000 files", cost / floor, 1, "x", detail)


class Nowhere:
    """A remote store that takes everything, after a while."""

    def append(self, _: Sequence[Record], /, *, claim: str | None = None) -> int:
        time.sleep(0.02)
        return 1

    def close(self) -> None:
        """Nothing is held."""


def journaling(folder: Path) -> list[Figure]:
    """Logging to a remote store, which is to its journal, against logging to a local file."""
    os.environ["XDG_STATE_HOME"] = str(folder / "state")
    local = Experiment.use(folder / "local.json", exp_id="bench").model("m")
    spool: Any = Spool(Nowhere(), "test://nowhere", StoreOptions())  # type: ignore[arg-type]
    remote = Experiment.use(folder / "remote.json", exp_id="bench").model("m")
    with local.session() as here, remote.session() as there:
        there._append = spool.append
        floor, cost = medians(
            [lambda i: here.add_epoch(i, METRICS), lambda i: there.add_epoch(i, METRICS)]
        )
    spool.close()
    detail = f"{cost:.1f} µs, a local file {floor:.1f} µs"
    return [Figure("add_epoch to a journal, times a local file", cost / floor, 2, "x", detail)]


def growth(folder: Path) -> list[Figure]:
    """The cost in a file of 500,000 records, compared with an empty file."""
    figures = []
    for store in STORES:
        fill(folder / f"big.{store}", *MANY)
        small = Experiment.use(folder / f"small.{store}", exp_id="bench").model("m")
        large = Experiment.use(folder / f"big.{store}", exp_id="big").model("m")
        with small.session({"a": 1}) as at_0, large.session({"a": 1}) as at_500_000:
            empty, full = medians(
                [lambda i: at_0.add_epoch(i, METRICS), lambda i: at_500_000.add_epoch(i, METRICS)],
                rounds=15,
            )
        detail = f"{full:.1f} µs at 500,000 records, {empty:.1f} µs at 0"
        figures.append(Figure(f"growth, {store}", full / empty, 1.2, "x", detail))
    return figures


COLD_START = """
import sys
from casket import Experiment
model = Experiment.use(sys.argv[1], exp_id="big").model("m")
session = model.session({"cold": sys.argv[2]})
session.add_epoch(1, {"loss": 0.5})
"""


def cold_start(folder: Path) -> list[Figure]:
    """A new process until its first epoch is written, in a file of 500,000 records."""
    figures = []
    for store in STORES:
        path = folder / f"big.{store}"
        if not path.exists():
            fill(path, *MANY)
        took = []
        for i in range(11):
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-c", COLD_START, str(path), str(i)], check=True)
            took.append(time.perf_counter() - begun)
        detail = f"process and import included; slowest {max(took):.2f} s"
        figures.append(Figure(f"cold start, {store}", statistics.median(took), 0.3, "s", detail))
    return figures


IMPORT = """
import time
begun = time.perf_counter()
import casket
print((time.perf_counter() - begun) * 1000)
"""


def importing(folder: Path) -> list[Figure]:
    """`import casket` in a new process."""
    took = [
        float(subprocess.check_output([sys.executable, "-c", IMPORT], cwd=folder))
        for _ in range(21)
    ]
    return [Figure("import casket", statistics.median(took), 60, "ms", f"best {min(took):.0f} ms")]


LISTING = """
import sys, time
begun = time.perf_counter()
import casket
with casket.open(sys.argv[1]) as runs:
    rows = [(s.id, s.status, s.started, s.last["val_loss"]) for s in runs.sessions()]
print(time.perf_counter() - begun)
assert len(rows) == 1_000
"""


def sessions_file(folder: Path) -> Path:
    """Return a file of 1,000 sessions with 100 epochs each."""
    path = folder / "sessions.json"
    if not path.exists():
        fill(path, 1_000, 100)
    return path


def reading(folder: Path) -> list[Figure]:
    """200,000 epochs into a pandas frame; 1,000 sessions listed by a new process."""
    fill(folder / "epochs.json", 200, 1_000)
    sessions = sessions_file(folder)
    ratios, listed = [], []
    for _ in range(5):
        begun = time.perf_counter()
        with (folder / "epochs.json").open() as file:
            json.load(file)
        loaded = time.perf_counter() - begun
        begun = time.perf_counter()
        with casket.open(folder / "epochs.json") as runs:
            assert len(runs.to_pandas("epochs")) == 200_000
        framed = time.perf_counter() - begun
        ratios.append(framed / loaded)
        command = [sys.executable, "-c", LISTING, str(sessions)]
        listed.append(float(subprocess.check_output(command)))
    ratio = statistics.median(ratios)
    detail = f"{framed:.2f} s, json.load {loaded:.2f} s"
    return [
        Figure("200,000 epochs to pandas, times json.load", ratio, 1.2, "x", detail),
        Figure(
            "open and list 1,000 sessions x 100 epochs", statistics.median(listed), 0.5, "s", ""
        ),
    ]


def command_line(folder: Path) -> list[Figure]:
    """`casket --help`, and `casket ls` in a terminal, each in a new process."""
    path = sessions_file(folder)
    return [
        Figure("casket --help", statistics.median(in_terminal("--help")), 0.15, "s", ""),
        Figure(
            "casket ls, 1,000 sessions x 100 epochs",
            statistics.median(in_terminal("ls", str(path))),
            0.5,
            "s",
            "in a terminal, from the start of the process to its end",
        ),
    ]


def in_terminal(*arguments: str) -> list[float]:
    """Return how long some runs of `casket` take whose output is a terminal."""
    command = [str(Path(sys.executable).with_name("casket")), *arguments]
    took = []
    for _ in range(11):
        master, slave = pty.openpty()
        reader = threading.Thread(target=drain, args=(master,))
        reader.start()
        begun = time.perf_counter()
        subprocess.run(command, stdout=slave, stderr=slave, check=True)
        took.append(time.perf_counter() - begun)
        os.close(slave)
        reader.join()
        os.close(master)
    return took


def drain(terminal: int) -> None:
    """Read the output of a terminal until no process writes to it any more."""
    with suppress(OSError):  # Linux reports the end so
        while os.read(terminal, 65536):
            pass


MEMORY = """
import sys
from casket import Experiment
def resident():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * 4096 / 1e6
session = Experiment.use(sys.argv[1], exp_id="m").model("m").session()
for i in range(5_000):
    session.add_epoch(i, {"loss": 0.5})
before = resident()
for i in range(200_000):
    session.add_epoch(i, {"loss": 0.5})
print(resident() - before)
"""


def memory(folder: Path) -> list[Figure]:
    """How much a writer's memory grows over 200,000 records."""
    return [
        Figure(
            f"memory over 200,000 records, {store}",
            float(
                subprocess.check_output(
                    [sys.executable, "-W", "ignore", "-c", MEMORY, str(folder / f"memory.{store}")]
                )
            ),
            2.0,
            "MB",
            "",
        )
        for store in STORES
    ]


def of_module(module: str, function: str) -> Callable[[Path], list[Figure]]:
    """Return a benchmark that imports its modules only when it is run."""

    def benchmark(folder: Path) -> list[Figure]:
        figures: list[Figure] = getattr(import_module(module), function)(folder)
        return figures

    return benchmark


BENCHMARKS = {
    "writing": writing,
    "artifacts": artifacts,
    "journal": journaling,
    "growth": growth,
    "cold-start": cold_start,
    "starts": of_module("tests.benchmarks.starts", "starting"),
    "checksums": of_module("tests.benchmarks.listing", "checksums"),
    "import": importing,
    "reading": reading,
    "listing": of_module("tests.benchmarks.listing", "listing"),
    "command-line": command_line,
    "memory": memory,
    "capturing": of_module("tests.benchmarks.capturing", "capturing"),
    "sharing": of_module("tests.benchmarks.sharing", "sharing"),
    "sweeps": of_module("tests.benchmarks.sweeping", "sweeps"),
    "search": of_module("tests.benchmarks.sweeping", "search"),
    "sklearn": of_module("tests.benchmarks.sklearn_search", "logging_searches"),
    "keras": of_module("tests.benchmarks.keras", "logging_fits"),
    "lightning": of_module("tests.benchmarks.lightning", "logging_steps"),
    "frameworks": of_module("tests.benchmarks.frameworks", "hooks"),
    "dashboard": of_module("tests.benchmarks.dashboard", "looking"),
    "watched": of_module("tests.benchmarks.watched", "watched"),
}


def main(names: list[str]) -> int:
    """Run the benchmarks named, or all; return 1 if a limit was missed."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names or BENCHMARKS:
            for figure in BENCHMARKS[name](Path(folder)):
                print(figure, flush=True)
                figures.append(figure)
    return int(any(figure.value > figure.limit for figure in figures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
