"""Large stores to measure on; files are written without casket's own append."""

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from casket import Experiment
from casket.format.records import Record, Writer, claim_key
from casket.stores.jsonfile import layout

METRICS = {"loss": 0.123456, "acc": 0.98765, "val_loss": 0.345678, "val_acc": 0.876543}


META = {
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "branch": "main",
    "command_line": ["python", "train.py", "--epochs", "100"],
    "start": "2026-11-23T08:57:10.123456Z",
}
"""About as much as casket notes of where a session came from."""

SPREAD = 0x9E3779B97F4A7C15
"""An odd factor that gives consecutive sessions ids without a common start."""

AT_ONCE = 5_000
"""Records given to a database server at once."""

Logged = Callable[[int, int], dict[str, float]]
"""What the epochs of a session hold: by the number of the session and that of the epoch."""


def steady(_session: int, _epoch: int) -> dict[str, float]:
    """Return the same metrics for all."""
    return METRICS


def fill(place: Path | str, sessions: int, epochs: int, logged: Logged = steady) -> None:
    """Write completed sessions of a model, each with so many epochs, into a new store."""
    experiment = Experiment.use(place, exp_id="big")
    experiment.model("m")
    experiment.close()
    records = (record for i in range(sessions) for record in _session(i, epochs, logged))
    if isinstance(place, str):
        _fill_postgres(place, records)
    elif place.suffix == ".json":
        _fill_json(place, records)
    else:
        _fill_sqlite(place, records)


def _session(i: int, epochs: int, logged: Logged) -> Iterator[Record]:
    params = {"lr": 0.1 / (i + 1), "seed": i}
    writer = Writer()
    owner = {"experiment": "big", "model": "m", "session": f"{i * SPREAD % 2**64:016x}"}
    claim = claim_key("big", "m", params)
    body = {"params": params, "meta": META, "process": {"host": "bench"}}
    start = writer.record("session", body, **owner)
    start["claim"] = claim  # at the end, where a session puts it
    yield start
    for epoch in range(1, epochs + 1):
        yield writer.record("epoch", {"epoch_num": epoch, "result": logged(i, epoch)}, **owner)
    yield writer.record("end", {"status": "completed", "of": writer.id}, **owner)


def _fill_json(path: Path, records: Iterator[Record]) -> None:
    with path.open("r+b") as file:
        size = file.seek(-len(layout.TAIL), 2)
        last = path.read_bytes().count(b'\n"')
        file.seek(size)
        for number, record in enumerate(records, last + 1):
            file.write(layout.NEXT + layout.line(number, record))
        file.write(layout.TAIL)


def _fill_sqlite(path: Path, records: Iterator[Record]) -> None:
    connection = sqlite3.connect(path)
    rows = ((r["kind"], r["session"], r.get("claim"), orjson.dumps(r).decode()) for r in records)
    insert = "INSERT INTO records (kind, session, claim, record) VALUES (?, ?, ?, ?)"
    with connection:
        connection.executemany(insert, rows)
    connection.close()


def _fill_postgres(url: str, records: Iterator[Record]) -> None:
    from casket.stores.postgres import PostgresStore

    store = PostgresStore(url)
    while batch := list(itertools.islice(records, AT_ONCE)):
        store.append(batch)
    store.close()
