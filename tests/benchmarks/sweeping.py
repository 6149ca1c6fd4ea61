"""Sweeps: a completed one again, many processes over short sets, and a search by several."""

import fcntl
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from casket import Experiment
from tests.benchmarks.__main__ import Figure
from tests.benchmarks.data import fill

AGAIN = 10_000
PROCESSES, SETS, BODY, ROUNDS = 16, 2_000, 0.01, 5
SEEDS, WORKERS, ALONE, MORE = 20, 8, 60, 20
"""Of a search: repetitions, processes, trials of a single process, and further ones of several."""

FORK = multiprocessing.get_context("fork")


def sweeps(folder: Path) -> list[Figure]:
    """Return the cost of a sweep that is completed, and the share of short bodies in a sweep."""
    rounds: dict[str, list[tuple[float, list[int]]]] = {name: [] for name in _RUNS}
    for number in range(ROUNDS):
        for name, run in _RUNS.items():
            rounds[name].append(_shares(folder / f"{name}-{number}", run))
    medians = {name: statistics.median(share for share, _ in each) for name, each in rounds.items()}
    figures = [_again(folder, store) for store in ("json", "sqlite")]
    for name in ("json", "sqlite"):
        counts = [count for _, each in rounds[name] for count in each]
        share, apart = medians[name], medians[f"{name}, apart"]
        detail = (
            f"{share:.0%} of the time in the body (median of {ROUNDS}), {apart:.0%} if each "
            f"process starts sessions of its own, {medians['floor']:.0%} by exclusive files; "
            f"sets of a process {min(counts)} to {max(counts)}"
        )
        what = f"{SETS} sets of 10 ms by {PROCESSES} processes, {name}"
        figures.append(Figure(f"{what}, not in the body", 1 - share, 0.15, "", detail))
    return figures


def _again(folder: Path, store: str) -> Figure:
    path = folder / f"again.{store}"
    fill(path, AGAIN, 1)
    model = Experiment.use(path, exp_id="big").model("m")
    space = [{"lr": 0.1 / (i + 1), "seed": i} for i in range(AGAIN)]
    begun = time.perf_counter()
    assert not list(model.sweep(space))
    took = time.perf_counter() - begun
    return Figure(f"a completed sweep of {AGAIN} sets again, {store}", took, 5, "s", "")


def _shares(folder: Path, run: Callable[[Path, int], Iterator[Any]]) -> tuple[float, list[int]]:
    """Return the share of the time that processes spend in the body, and the sets of each."""
    folder.mkdir()
    barrier, queue = FORK.Barrier(PROCESSES), FORK.Queue()

    def work(number: int) -> None:
        sets = run(folder, number)
        barrier.wait()
        begun, in_body, count = time.perf_counter(), 0.0, 0
        for each in sets:
            with each:
                start = time.perf_counter()
                time.sleep(BODY)
                in_body += time.perf_counter() - start
            count += 1
        queue.put((in_body, time.perf_counter() - begun, count))

    rows = _at_once(work, PROCESSES, queue)
    counts = [count for *_, count in rows]
    assert sum(counts) == SETS
    return sum(row[0] for row in rows) / sum(row[1] for row in rows), counts


def _at_once(work: Callable[[int], None], processes: int, queue: Any) -> list[Any]:
    workers = [FORK.Process(target=work, args=(number,)) for number in range(processes)]
    for worker in workers:
        worker.start()
    rows = [queue.get() for _ in workers]
    for worker in workers:
        worker.join()
    return rows


def _by_casket(suffix: str) -> Callable[[Path, int], Iterator[Any]]:
    def run(folder: Path, _: int) -> Iterator[Any]:
        model = Experiment.use(folder / f"runs.{suffix}", exp_id="e").model("m")
        return model.sweep({"n": range(SETS)})

    return run


def _apart(suffix: str) -> Callable[[Path, int], Iterator[Any]]:
    """Start sessions without a sweep, each process for a part of the sets that it has alone."""

    def run(folder: Path, process: int) -> Iterator[Any]:
        model = Experiment.use(folder / f"runs.{suffix}", exp_id="e").model("m")
        return (model.session({"n": number}) for number in range(process, SETS, PROCESSES))

    return run


def _by_hand(folder: Path, _: int) -> Iterator[Any]:
    """Claim each set by an exclusive file; append a line at its start and, synced, at its end."""
    log = os.open(folder / "log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def note(*, sync: bool) -> None:
        fcntl.flock(log, fcntl.LOCK_EX)
        os.write(log, b"x" * 500)
        fcntl.flock(log, fcntl.LOCK_UN)
        if sync:
            os.fsync(log)

    @contextmanager
    def session() -> Iterator[None]:
        note(sync=False)
        yield
        note(sync=True)

    for number in range(SETS):
        try:
            os.close(os.open(folder / str(number), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        yield session()


_RUNS = {
    "json": _by_casket("json"),
    "sqlite": _by_casket("sqlite"),
    "json, apart": _apart("json"),
    "sqlite, apart": _apart("sqlite"),
    "floor": _by_hand,
}


# A search


def search(folder: Path) -> list[Figure]:
    """Return how far several processes stay behind a single one with fewer trials."""
    figures = []
    for name, (space, loss) in _problems().items():
        alone, together = (
            [
                _best(folder / f"{name}-{workers}-{seed}.json", space, loss, seed, workers, trials)
                for seed in range(SEEDS)
            ]
            for workers, trials in ((1, ALONE), (WORKERS, ALONE + MORE))
        )
        one, many = statistics.median(alone), statistics.median(together)
        detail = (
            f"median of {SEEDS} seeds: {many:.4f} by {WORKERS} processes after {ALONE + MORE} "
            f"trials, {one:.4f} by one after {ALONE}"
        )
        figures.append(Figure(f"TPE on {name}, 8 processes by one", many / one, 1, "x", detail))
    return figures


def _best(
    path: Path, space: Any, loss: Callable[[Any], float], seed: int, workers: int, trials: int
) -> float:
    from optuna.samplers import TPESampler

    from casket_integrations.optuna import suggest

    queue = FORK.Queue()
    model = Experiment.use(path, exp_id="e", capture=()).model("m")

    def work(number: int) -> None:
        sampler = TPESampler(seed=1000 * seed + number, constant_liar=True)
        for session in model.sweep(suggest(space, "loss", trials=trials, sampler=sampler)):
            with session:
                value = loss(session.params)
                time.sleep(0.02 * (workers > 1))  # so that all of them are at work
                session.add_result({"loss": value})
        queue.put(None)

    _at_once(work, workers, queue)
    return min(view.last["loss"] for view in model.sessions(status="completed"))


def _branin(params: Any) -> float:
    x, y = params["x"], params["y"]
    bowl = (y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6) ** 2
    return bowl + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def _problems() -> dict[str, tuple[Any, Callable[[Any], float]]]:
    from optuna.distributions import FloatDistribution, IntDistribution

    branin = {"x": FloatDistribution(-5, 10), "y": FloatDistribution(0, 15)}
    network = {
        "learning_rate_init": FloatDistribution(1e-4, 1e-1, log=True),
        "alpha": FloatDistribution(1e-6, 1e-1, log=True),
        "hidden_layer_sizes": IntDistribution(4, 32),
        "activation": ["relu", "tanh", "logistic"],
    }
    return {"Branin": (branin, _branin), "a small network": (network, _network_loss())}


def _network_loss() -> Callable[[Any], float]:
    import warnings

    from sklearn.datasets import load_digits
    from sklearn.metrics import log_loss
    from sklearn.neural_network import MLPClassifier

    x, y = load_digits(return_X_y=True)
    x = x / 16

    def loss(params: Any) -> float:
        network = MLPClassifier(max_iter=8, random_state=0, **params)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network.fit(x[:300], y[:300])
        return float(log_loss(y[300:600], network.predict_proba(x[300:600])))

    return loss
