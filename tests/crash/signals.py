"""A process that receives signals while it writes a record; run by `test_signals`."""

import fcntl
import random
import signal
from contextlib import suppress
from itertools import count

import casket
from casket import Experiment as E

_chosen = random.Random(0)


def _ring_soon() -> None:
    signal.setitimer(signal.ITIMER_REAL, _chosen.uniform(5e-6, 4e-4))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def interrupted(path: str) -> None:
    """Log, interrupted 400 times; after each, nobody may hold the file's lock."""
    session = E.use(path, exp_id="x").model("m").session()
    acknowledged, epoch = [], 0
    for _ in range(400):
        with suppress(KeyboardInterrupt):
            signal.signal(signal.SIGALRM, _interrupt)
            _ring_soon()
            for _ in range(1_000):  # an interrupt may be swallowed by a finalizer
                epoch += 1
                session.add_epoch(epoch, {"loss": 1.0})
                acknowledged.append(epoch)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    session.end()
    with casket.open(path) as runs:
        stored = [row["epoch_num"] for row in runs.sessions()[0].epochs]
    assert stored == sorted(stored)
    assert set(acknowledged) <= set(stored)
    assert len(acknowledged) > 400


def logging_in_a_handler(path: str) -> None:
    """Log, also from a signal handler: amid a write that is refused and breaks nothing."""
    session = E.use(path, exp_id="x").model("m").session()
    logged: list[int] = []
    refused: list[str] = []
    numbers = count()

    def log(*_: object) -> None:
        number = next(numbers)  # a late handler may itself be interrupted by the next signal
        try:
            session.add_batch(number, {"loss": 1.0})
            logged.append(number)
        except casket.CasketError as error:
            refused.append(str(error))

    signal.signal(signal.SIGALRM, log)
    for epoch in range(6_000):
        if epoch % 5 == 0:
            _ring_soon()
        session.add_epoch(epoch, {"loss": 1.0})
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    session.end()
    with casket.open(path) as runs:
        (view,) = runs.sessions()
    assert [row["epoch_num"] for row in view.epochs] == list(range(6_000))
    assert sorted(row["batch_num"] for row in view.batches) == sorted(logged)
    assert "signal handler" in refused[0]


def ending_in_a_handler(path: str) -> None:
    """End a session while it is ended: while the copy of its output is written."""
    session = E.use(path, exp_id="x").model("m").session(capture=["output"])
    signal.signal(signal.SIGUSR1, lambda *_: session.end("failed", "preempted"))
    print("output")
    append = session._log.append

    def interrupted(records, **options):
        if records[0]["kind"] == "artifact":
            signal.raise_signal(signal.SIGUSR1)
        return append(records, **options)

    session._log.append = interrupted
    session.end()
    with casket.open(path) as runs:
        (view,) = runs.sessions()
    assert (view.status, view.error) == ("completed", None)  # the first end decides
