"""Writers of a SQLite database: how evenly they share it."""

import multiprocessing
import statistics
import time
from pathlib import Path
from typing import Any

from casket.format.records import Writer
from casket.stores.sqlite.store import SqliteStore
from tests.benchmarks.__main__ import Figure
from tests.benchmarks.data import METRICS

SECONDS = 2.0
ROUNDS = 3
WRITERS = ((8, 2.0), (32, 4.0))
"""Numbers of writers, and how many times as much as the slowest the fastest may write."""


def sharing(folder: Path) -> list[Figure]:
    """Return the records of the fastest writer, times those of the slowest."""
    return [_shares(folder, writers, at_most) for writers, at_most in WRITERS]


def _shares(folder: Path, writers: int, at_most: float) -> Figure:
    rounds = [_written(folder / f"{writers}-{i}.sqlite", writers) for i in range(ROUNDS)]
    ratio = statistics.median(max(counts) / min(counts) for counts, _ in rounds)
    longest = max(wait for _, wait in rounds)
    total = statistics.median(sum(counts) for counts, _ in rounds) / SECONDS
    return Figure(
        f"fair share of {writers} sqlite writers, fastest by slowest",
        ratio,
        at_most,
        "x",
        f"{total:.0f} epochs/s in all, longest wait {longest * 1e3:.0f} ms",
    )


def _written(path: Path, writers: int) -> tuple[list[int], float]:
    """Return the number of epochs of each writer, and the longest wait of any."""
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(writers), context.Queue()
    processes = [
        context.Process(target=_write, args=(str(path), i, barrier, queue)) for i in range(writers)
    ]
    for process in processes:
        process.start()
    written = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    return [count for count, _ in written], max(wait for _, wait in written)


def _write(path: str, me: int, barrier: Any, queue: Any) -> None:
    """Append epochs for a while: without a session, whose provenance is noted in the background."""
    store = SqliteStore(Path(path))
    writer, owner = Writer(), {"experiment": "shared", "model": "m", "session": f"{me:016x}"}
    store.append([writer.record("epoch", {"epoch_num": 0, "result": METRICS}, **owner)])
    count, longest = 0, 0.0
    barrier.wait()
    begun = last = time.perf_counter()
    while last - begun < SECONDS:
        count += 1
        body = {"epoch_num": count, "result": METRICS}
        store.append([writer.record("epoch", body, **owner)])
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    queue.put((count, longest))
    store.close()
