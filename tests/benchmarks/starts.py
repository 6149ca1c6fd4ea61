"""Starts and refusals of sessions in large files, as in a resumed sweep."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from casket import ExistingParamsException, Experiment, Model
from tests.benchmarks.__main__ import Figure
from tests.benchmarks.data import fill
from tests.services import postgres

SIZES = ((10_000, 10), (1_000, 100))
ROUNDS = 41
BLOCK = 1 << 18

FIRST_START = """
import sys, time
import casket, hashlib, getpass, pwd, subprocess
import casket.reading.reader, casket.stores.jsonfile.store, casket.stores.sqlite.store
sys.path.insert(0, sys.argv[2])
from tests.benchmarks.starts import one_pass
# What a first start imports besides, and what it asks git once.
casket.Experiment.use(":memory:", exp_id="warm").model("m").session({"a": 1}).end()
passes = [one_pass(sys.argv[1]) for _ in range(5)]
begun = time.perf_counter()
session = casket.Experiment.use(sys.argv[1], exp_id="big").model("m").session({"pid": sys.argv[3]})
took = time.perf_counter() - begun
passes += [one_pass(sys.argv[1]) for _ in range(4)]
print(took / sorted(passes)[4])
"""


def one_pass(path: str) -> float:
    """Return the seconds that reading a file and searching it for a text takes."""
    begun = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(BLOCK):
            block.count(b'"kind":"session"')
    return time.perf_counter() - begun


def starting(folder: Path) -> list[Figure]:
    """Starts and refusals in large files."""
    figures = []
    for sessions, epochs in SIZES:
        size = f"{sessions} x {epochs}"
        for store, at_most in (("json", 1.5), ("sqlite", 3.0)):
            path = folder / f"starts-{sessions}.{store}"
            fill(path, sessions, epochs)
            empty = path.with_name(f"empty-{path.name}")
            figures += _in_a_handle(str(path), str(empty), f"{store}, {size}", at_most)
        figures += _of_a_new_process(folder / f"starts-{sessions}.json", f"json, {size}")
    return figures + _at_postgres(folder)


def _at_postgres(folder: Path) -> list[Figure]:
    """Measure over kept connections to a server of this machine, if it is installed."""
    if postgres.binaries() is None:
        print("skip  starts, postgres: PostgreSQL is not installed", flush=True)
        return []
    os.environ["XDG_STATE_HOME"] = str(folder / "state")
    figures = []
    server = postgres.Postgres()
    try:
        for sessions, epochs in SIZES:
            large, empty = (f"{name}{sessions}" for name in ("large", "empty"))
            for database in (large, empty):
                server.sql(f"CREATE DATABASE {database}")
            fill(server.url(large), sessions, epochs)
            what = f"postgres, {sessions} x {epochs}"
            figures += _in_a_handle(server.url(large), server.url(empty), what, 3.0)
    finally:
        server.discard()
    return figures


def _in_a_handle(at: str, at_empty: str, what: str, refusals_at_most: float) -> list[Figure]:
    """Measure in a process that holds the store open, compared with an empty store of its kind."""
    large = Experiment.use(at, exp_id="big").model("m")
    empty = Experiment.use(at_empty, exp_id="big").model("m")
    for model in (large, empty):
        for i in range(2):
            _start(model, -i)
    costs: list[tuple[float, ...]] = []
    for i in range(1, ROUNDS):
        calls: list[Callable[[], object]] = [
            lambda i=i: _start(empty, i),
            lambda i=i: _start(large, i),
            lambda i=i: _refusal(large, i),
        ]
        costs.append(tuple(map(_seconds, calls)))
    in_empty, start, refusal = (statistics.median(each) for each in zip(*costs, strict=True))
    refused = [_refusal(large, i) for i in range(1, 8)]
    detail = f"{start * 1e3:.2f} ms, in an empty one {in_empty * 1e3:.2f} ms"
    figures = [
        Figure(f"start, {what}, times an empty one", start / in_empty, 1.5, "x", detail),
        Figure(
            f"caught refusal, {what}, times a start",
            refusal / start,
            refusals_at_most,
            "x",
            f"{refusal * 1e3:.2f} ms",
        ),
    ]
    if at.endswith(".json"):
        # By turns, so that noise falls on both alike.
        pairs = [(_seconds(lambda each=each: str(each)), one_pass(at)) for each in refused]
        ratio = statistics.median(cost / floor for cost, floor in pairs)
        text, once = (statistics.median(each) for each in zip(*pairs, strict=True))
        detail = f"{text * 1e3:.1f} ms, a pass {once * 1e3:.1f} ms"
        figures.append(Figure(f"text of a refusal, {what}, passes", ratio, 3, "x", detail))
    return figures


def _of_a_new_process(path: Path, what: str) -> list[Figure]:
    root = str(Path(__file__).parents[2])
    took = [
        float(subprocess.check_output([sys.executable, "-c", FIRST_START, path, root, str(i)]))
        for i in range(7)
    ]
    return [
        Figure(
            f"first start of a process, {what}, passes",
            statistics.median(took),
            1.5,
            "x",
            f"best {min(took):.2f}, beyond imports",
        )
    ]


def _start(model: Model, number: int) -> None:
    model.session({"new": number}).end()


def _refusal(model: Model, number: int) -> ExistingParamsException:
    try:
        model.session({"new": number})
    except ExistingParamsException as refused:
        return refused
    raise AssertionError("it was not refused")


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
