"""Appends a second of 1 to 128 processes to each store; `docs/scale.md` has the table.

Usage: python -m tests.benchmarks.writers [STORE...]

Each append has one record and returns when the store has confirmed it: the journal, which gathers
records for far stores, is left out.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from casket.format.records import Writer
from casket.stores.base import StoreOptions
from casket.stores.location import Location
from tests.benchmarks.data import METRICS
from tests.services.aws import CREDENTIALS
from tests.services.mongo import Mongo
from tests.services.postgres import Postgres
from tests.services.s3 import S3
from tests.services.sshd import Sshd

WRITERS = (1, 8, 32, 128)
SECONDS = 3.0

context = multiprocessing.get_context("fork")


@contextmanager
def _file(folder: Path, name: str) -> Iterator[Callable[[int], str]]:
    yield lambda writers: str(folder / f"{writers}.{name}")


@contextmanager
def _sftp(_: Path) -> Iterator[Callable[[int], str]]:
    server = Sshd()
    os.environ["HOME"] = str(server.home)
    try:
        yield lambda writers: server.url(server.files / f"{writers}.json")
    finally:
        server.discard()


@contextmanager
def _postgres(_: Path) -> Iterator[Callable[[int], str]]:
    server = Postgres()
    server.sql("ALTER SYSTEM SET max_connections = 200")  # 100 by default, one for each writer
    server.stop()
    server.start()

    def database(writers: int) -> str:
        server.sql(f"CREATE DATABASE w{writers}")
        return server.url(f"w{writers}")

    try:
        yield database
    finally:
        server.discard()


@contextmanager
def _mongo(_: Path) -> Iterator[Callable[[int], str]]:
    server = Mongo()
    server.start()
    try:
        yield lambda writers: server.url(f"w{writers}")
    finally:
        server.discard()


@contextmanager
def _s3(_: Path) -> Iterator[Callable[[int], str]]:
    server = S3()
    try:
        yield lambda _: server.url()
    finally:
        server.discard()


STORES: dict[str, Callable[[Path], Any]] = {
    "json": lambda folder: _file(folder, "json"),
    "sqlite": lambda folder: _file(folder, "sqlite"),
    "sftp": _sftp,
    "postgres": _postgres,
    "mongo": _mongo,
    "s3": _s3,
}


def measured(place: str, writers: int) -> tuple[float, int, int]:
    """Return the appends a second of all writers, and the least and most of a single writer."""
    barrier, queue = context.Barrier(writers), context.Queue()
    processes = [
        context.Process(target=_write, args=(place, i, barrier, queue)) for i in range(writers)
    ]
    for process in processes:
        process.start()
    counts = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    return sum(counts) / SECONDS, min(counts), max(counts)


def _write(place: str, me: int, barrier: Any, queue: Any) -> None:
    store = Location.of(place).direct(StoreOptions(), writing=True)
    writer, owner = Writer(), {"experiment": "shared", "model": "m", "session": f"{me:016x}"}
    store.append([writer.record("epoch", {"epoch_num": 0, "result": METRICS}, **owner)])
    count = 0
    barrier.wait()
    begun = time.perf_counter()
    while time.perf_counter() - begun < SECONDS:
        count += 1
        store.append([writer.record("epoch", {"epoch_num": count, "result": METRICS}, **owner)])
    queue.put(count)
    store.close()


def main(names: list[str]) -> None:
    """Print a row of the table for each store."""
    os.environ.update(CREDENTIALS)
    for name in names or STORES:
        with tempfile.TemporaryDirectory() as folder, STORES[name](Path(folder)) as place:
            for writers in WRITERS:
                rate, least, most = measured(place(writers), writers)
                print(
                    f"{name:10} {writers:4} writers {rate:10,.0f} appends/s"
                    f"   each {least} to {most}",
                    flush=True,
                )


if __name__ == "__main__":
    main(sys.argv[1:])
