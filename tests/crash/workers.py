"""The work of the processes of these tests.

Imports of this module are loaded once, in the server that forks the processes.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import resource
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import casket
import casket.reading.casket
import casket.reading.fold
import casket.stores.jsonfile.store
import casket.stores.sqlite.store
from casket import ExistingParamsException
from casket import Experiment as E
from casket.format.records import Writer, deletion
from tests.crash.crew import Log
from tests.waiting import PATIENCE

EXPERIMENT = "e"
MODEL = "m"


def model(runs: Path) -> casket.Model:
    return E.use(runs, exp_id=EXPERIMENT).model(MODEL)


def log_and_contest(runs: Path, name: int, epochs: int, contests: int, together: Any) -> None:
    """Log epochs in a separate session and contest params with all others."""
    mine, won = model(runs), Log(f"won-{name}")
    every = epochs // contests
    with mine.session({"own": name}) as session:
        for k in range(1, epochs + 1):
            session.add_epoch(k, {"loss": 1 / k, "of": name})
            if k % every == 0:
                together.wait(PATIENCE)
                _run_for(mine, k // every, name, won)


def _run_for(mine: casket.Model, contest: int, name: int, won: Log) -> None:
    try:
        with mine.session({"contest": contest}) as session:
            session.add_result({"winner": name})
    except ExistingParamsException:
        return
    won.add(contest)


def contest_and_leave(runs: Path, contests: int, together: Any) -> None:
    """Run for params that others run for, each time in a process that leaves at once."""
    mine = model(runs)
    for contest in range(contests):
        together.wait(PATIENCE)
        child = os.fork()
        if child == 0:
            _contest(mine, contest)
        _, status = os.waitpid(child, 0)
        assert status == 0, f"contest {contest}: {status}"


def _contest(mine: casket.Model, contest: int) -> None:
    """Run for params, and leave without any of the parent's cleaning up."""
    code = 1
    try:
        with suppress(ExistingParamsException), mine.session({"contest": contest}) as session:
            session.add_result({"winner": os.getpid()})
        code = 0
    finally:
        os._exit(code)


def continue_together(runs: Path, name: int, epochs: int, together: Any) -> None:
    """Log into the session that all others log into."""
    mine = model(runs)
    together.wait(PATIENCE)
    with mine.session({"shared": True}, ensure_unique=False) as session:
        for k in range(1, epochs + 1):
            session.add_epoch(k, {"of": name})
            if k % 20 == 0:
                together.wait(PATIENCE)


def come_and_go(runs: Path, name: int, times: int) -> None:
    """Open the file, log and close it, time and again; acknowledge each session."""
    acknowledged = Log(f"came-{name}")
    for k in range(times):
        mine = model(runs)
        with mine.session({"of": name, "k": k}) as session:
            session.add_epoch(1, {"k": k})
        mine.experiment.close()
        acknowledged.add(k)


SIZES = (0, 8, 0, 80, 0, 400, 0, 0, 1500, 0, 7000, 0)


def content(name: str, k: int) -> dict[str, Any]:
    """Return the content of epoch `k` of a worker: from a few bytes to some 100 KB."""
    sizes = (0,) if "light" in name else (7000,) if "heavy" in name else SIZES
    size = sizes[k % len(sizes)]
    return {"k": k, "of": name, "text": f"{name} {k} " * size}


MOST = 2_000_000
"""Bytes of text a process logs, about, if it is not killed before: all of it is read again."""


def log_until_killed(runs: Path, name: str, pause: float = 0.0, most: float = MOST) -> None:
    """Log epochs in a session that is new or was killed; acknowledge each."""
    acknowledged = Log(name)
    acknowledged.add("began")
    session = model(runs).session({"victim": name.partition(".")[0]})
    acknowledged.add("session", session.id)
    k = written = 0
    while written < most:
        k += 1
        epoch = content(name, k)
        session.add_epoch(k, epoch)
        acknowledged.add("epoch", k)
        written += len(epoch["text"])
        time.sleep(pause)
    time.sleep(PATIENCE)


def log_until_cut(runs: Path, name: str, bytes_: int) -> None:
    """Log epochs until the system cuts a write short and kills the process.

    Args:
        runs: the file.
        name: the name of the acknowledgements.
        bytes_: how many more bytes the file, or SQLite's log, may grow by.
    """
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    grown = [path for path in runs.parent.glob(f"{runs.name}*") if not path.name.endswith("-shm")]
    most = max(path.stat().st_size for path in grown) + bytes_
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    log_until_killed(runs, name, most=math.inf)


def begin_and_end_until_killed(runs: Path, name: str) -> None:
    """Run short sessions in turn; acknowledge each start and each end."""
    acknowledged, mine, k = Log(name), model(runs), 0
    while True:
        k += 1
        with mine.session({"of": name, "k": k}) as session:
            acknowledged.add("started", k)
            session.add_result({"k": k})
            acknowledged.add("logged", k)
        acknowledged.add("ended", k)


def artifact(name: str, k: int) -> bytes:
    """Return the bytes of an artifact; every third is the same for all."""
    chance = random.Random("all" if k % 3 == 0 else f"{name} {k}")
    return chance.randbytes(chance.choice([0, 10, 5_000, 400_000, 3_000_000]))


def add_artifacts_until_killed(runs: Path, name: str) -> None:
    acknowledged, session, k = Log(name), model(runs).session({"of": name}), 0
    while True:
        k += 1
        data = artifact(name, k)
        session.add_artifact(f"{k}.bin", data)
        acknowledged.add("kept", k, hashlib.sha256(data).hexdigest())


def sessions_to_prune(runs: Path, number: int, epochs: int) -> tuple[list[str], list[str]]:
    """Write sessions that are to stay and as many that are to go; return the ids of both."""
    ids: dict[bool, list[str]] = {True: [], False: []}
    mine = model(runs)
    for k in range(number):
        for stays in ids:
            with mine.session({"stays": stays, "k": k}) as session:
                ids[stays].append(session.id)
                for epoch in range(1, epochs + 1):
                    session.add_epoch(epoch, {"text": "x" * 500})
    mine.experiment.close()
    return ids[True], ids[False]


def prune_until_killed(runs: Path, name: str, sessions: list[str]) -> None:
    """Remove sessions in turn; acknowledge each."""
    acknowledged, store, writer = Log(name), model(runs).backend.store, Writer()
    for session in sessions:
        store.prune(deletion(writer, sessions=[session]))
        acknowledged.add("pruned", session)
    time.sleep(PATIENCE)


def tombstones(runs: Path) -> set[str]:
    """Return the sessions that were deleted, according to the file."""
    numbered = model(runs).backend.store.records(kinds={"deleted"})
    return {session for _, record in numbered for session in record["body"]["sessions"]}


def append_once(runs: Path) -> None:
    """Write, and thereby repair torn records."""
    model(runs).add_result({"healed": True})


def take_over(runs: Path, name: str, params: list[dict[str, Any]], together: Any) -> None:
    """Contest the params of killed sessions with another process; acknowledge each win."""
    acknowledged, mine, held = Log(name), model(runs), []
    for wanted in params:
        together.wait(PATIENCE)
        try:
            session = mine.session(wanted)
        except ExistingParamsException:
            continue
        held.append(session)
        session.add_epoch(1, {"after": "the kill"})
        acknowledged.add(wanted["victim"])
    together.wait(PATIENCE)
    for session in held:
        session.end()


def log_in_turns(runs: Path, name: str, turns: Any, epochs: int) -> None:
    """Log some epochs at each turn, and send the memory in use after each."""
    with model(runs).session({"of": name}) as session:
        turns.send(None)
        k = 0
        while turns.recv():
            for _ in range(epochs):
                k += 1
                session.add_epoch(k, {"loss": 1 / k, "acc": 0.5})
            turns.send(resident())


def resident() -> int:
    """Return the bytes of memory this process occupies."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
