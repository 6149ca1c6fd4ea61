"""Helpers for tests of replaced files: an experiment's heads, and a hook that repeats them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from casket.format.records import Record, Writer, covers
from casket.stores.base import DEFAULTS, LOOK_INTERVAL, Store, StoreOptions
from casket.testing import record

WRITER = Writer()
EXPERIMENT = record("experiment", writer=WRITER, model=None, session=None)
MODEL = record("model", writer=WRITER, session=None)
SESSION = record("session", writer=WRITER, claim="c", body={"params": {}, "meta": {}})
HEADS = [EXPERIMENT, MODEL, SESSION]


class Repeating:
    """Returns those of `HEADS` that the store lacks, as a backend does.

    Attributes:
        store: the store that calls it.
        calls: the records it was called with.
    """

    store: Store

    def __init__(self) -> None:
        self.calls: list[list[Record]] = []

    def __call__(self, records: Sequence[Record], /) -> Sequence[Record]:
        self.calls.append(list(records))
        kinds = {"experiment", "model", "session", "deleted"}
        there = [one for _, one in self.store.records(kinds=kinds)]
        removed = [one for one in there if one["kind"] == "deleted"]
        return [
            head
            for head in HEADS
            if head not in there and not any(covers(one, head) for one in removed)
        ]


def opened(make: Callable[..., Store], options: StoreOptions = DEFAULTS) -> tuple[Store, Repeating]:
    """Open a store with the hook."""
    heads = Repeating()
    store = heads.store = make(options._replace(heads=heads))
    return store, heads


def epoch(k: int) -> Record:
    return record(writer=WRITER, body={"epoch_num": k, "result": {"loss": 0.5}})


def wait_for_a_look() -> None:
    """Wait until the next append looks whether its file is in place."""
    time.sleep(1.1 * LOOK_INTERVAL)


def begun(store: Store) -> list[Record]:
    """Append the heads and an epoch, and look that all of it is in place."""
    appended = [*HEADS, epoch(0)]
    for one in appended[:-1]:
        store.append([one])
    wait_for_a_look()
    store.append(appended[-1:])
    return appended
