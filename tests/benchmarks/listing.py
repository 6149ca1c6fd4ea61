"""Listing a large file, and one session whose epochs have many shapes."""

import json
import random
import statistics
import time
from collections.abc import Callable
from operator import truediv
from pathlib import Path
from unittest.mock import patch

import orjson

import casket
from casket import Experiment
from casket.cli.listing import SHOWN
from casket.cli.listing import listing as table
from casket.reading.query import Names
from casket.reading.tail import read_tail
from casket.stores.jsonfile import document
from casket.stores.sqlite import statements
from tests.benchmarks.__main__ import Figure, microseconds
from tests.benchmarks.data import METRICS, Logged, fill

ROUNDS = 5


def seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def against_json(name: str, path: Path, limit: float, call: Callable[[], object]) -> Figure:
    """Measure a call against `json.load` of the same file, both by turns."""
    costs, floors = [], []
    for _ in range(ROUNDS):
        floors.append(seconds(lambda: json.loads(path.read_text())))
        costs.append(seconds(call))
    cost, floor = statistics.median(costs), statistics.median(floors)
    detail = f"{cost:.3f} s, json.load {floor:.3f} s"
    return Figure(f"{name}, times json.load", cost / floor, limit, "x", detail)


def of_odd_shapes(metrics: int) -> Logged:
    """Return what logs metrics of which 1 % is missing and 1 % is the integer 0."""
    rng = random.Random(1)
    names = [f"layer {i}/norm loss" for i in range(metrics)]

    def logged(_session: int, _epoch: int) -> dict[str, float]:
        numbers = {name: 0 if rng.random() < 0.01 else rng.random() for name in names}
        return {name: number for name, number in numbers.items() if rng.random() >= 0.01}

    return logged


def best_values(path: Path) -> None:
    with casket.open(path) as runs:
        [session] = runs.sessions()
        for name in session.logged("epoch").metrics():
            session.best(name)


def show_all(path: Path) -> None:
    with casket.open(path) as runs:
        sessions = runs.sessions()
    table(sessions, [], Names(sessions))


def show_tail(path: Path) -> None:
    tail = read_tail(str(path), SHOWN)
    assert tail is not None
    table(tail.sessions, [], Names(tail.sessions))


def listing(folder: Path) -> list[Figure]:
    """The last sessions of a large file; metrics of odd shapes; opening many small sessions."""
    wide, long = folder / "wide.json", folder / "long.json"
    fill(wide, 1, 500, of_odd_shapes(1_000))
    fill(long, 1, 1_500, of_odd_shapes(200))
    few, many = folder / "few.json", folder / "many.json"
    fill(few, 1_000, 100)
    fill(many, 10_000, 10)
    shown = statistics.median(seconds(lambda: show_all(long)) for _ in range(ROUNDS))
    best = "best of 1,000 metrics x 500 epochs of odd shapes"
    return [
        against_json(best, wide, 3, lambda: best_values(wide)),
        Figure("ls of 200 metrics x 1,500 epochs of odd shapes", shown, 0.5, "s", ""),
        against_json("ls of 1,000 sessions x 100 epochs", few, 0.3, lambda: show_tail(few)),
        against_json("ls of 10,000 sessions x 10 epochs", many, 0.15, lambda: show_tail(many)),
        against_json("open 10,000 x 10", many, 1.5, lambda: casket.open(many).close()),
    ]


ENCODED = (statements, "encoded", orjson.dumps)


def checksums(folder: Path) -> list[Figure]:
    """One `add_epoch` with the checksum of its record against one without."""
    figures = []
    for kind in ("json", "sqlite"):
        model = Experiment.use(folder / f"checksums.{kind}", exp_id="bench").model("m")
        costs, floors = [], []
        with model.session(repeat=True) as session:

            def log(i: int, session: casket.Session = session) -> None:
                session.add_epoch(i, METRICS)

            for _ in range(41):
                costs.append(microseconds(log))
                with patch.object(document, "crc32", len), patch.object(*ENCODED):
                    floors.append(microseconds(log))
        ratio = statistics.median(map(truediv, costs, floors))
        detail = f"{statistics.median(costs):.2f} µs, without {statistics.median(floors):.2f} µs"
        figures.append(Figure(f"add_epoch with a checksum, {kind}", ratio, 1.03, "x", detail))
    return figures
