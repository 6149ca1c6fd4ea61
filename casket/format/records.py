"""The record: the one thing casket stores.

An experiment file is a sequence of records, appended and never changed. Readers fold them into
sessions (`casket.reading.fold`). A record is a plain dict, because it is what stands on a line of
the JSON file. Its `kind` comes first on the line, so that a scan finds sessions without parsing
epochs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, Literal, NotRequired, TypedDict, get_args

import orjson

from casket.system import forks

FORMAT_VERSION = 1

Kind = Literal[
    "experiment",
    "model",
    "session",
    "epoch",
    "batch",
    "result",
    "meta",
    "tag",
    "artifact",
    "end",
    "deleted",
]
KINDS: frozenset[str] = frozenset(get_args(Kind))


class Record(TypedDict):
    """One appended fact.

    (`writer`, `n`) is its identity wherever it is copied: every writing process numbers its own
    records from 1, so a copy that is met twice can be dropped. Of what was imported from another
    tracker, `n` is a hash of what the record holds.
    """

    kind: str
    v: int
    """Version of the record format, `FORMAT_VERSION`."""
    experiment: NotRequired[str]
    model: NotRequired[str]
    session: NotRequired[str]
    writer: str
    n: int
    time: str
    """UTC, ISO 8601, microseconds, `Z`."""
    claim: NotRequired[str]
    """On a session's start: the key, made of model and params, that this session holds."""
    extended: NotRequired[bool]
    """The body holds values JSON lacks, in the form `casket.format.values.restore` reads."""
    body: dict[str, Any]


class Writer:
    """Makes the records of one writing process; a forked child goes on as another writer."""

    def __init__(self) -> None:
        self.after_fork()
        forks.renew_in_children(self)

    def after_fork(self) -> None:
        """Take a new identity."""
        self.id = new_id()
        self._numbers = count(1)

    def record(self, kind: Kind, body: dict[str, Any], **fields: Any) -> Record:
        """Make a record of `kind` now; `fields` say what it belongs to and may hold `claim`."""
        record: Any = {
            "kind": kind,
            "v": FORMAT_VERSION,
            **fields,
            "writer": self.id,
            "n": next(self._numbers),
            "time": utc_now(),
            "body": body,
        }
        made: Record = record
        return made


def order_of(record: Record, began: str | None = None) -> tuple[str, str, int]:
    """Return the key by which records are ordered, whatever store they come from.

    Args:
        record: the record.
        began: when its writer began the session; None if it did not, then the record's own time
            counts.
    """
    return began or record["time"], record["writer"], record["n"]


def is_counted(writer: str) -> bool:
    """Return whether a writer counts its records, so that `n` tells their order.

    The writers of imported records have the name of their source before a hyphen.
    """
    return "-" not in writer


class Seen:
    """The numbers met of one writer: all up to a mark, and those beyond it."""

    __slots__ = ("_beyond", "_mark")

    def __init__(self) -> None:
        self._mark = 0
        self._beyond: set[int] = set()

    def __contains__(self, n: int) -> bool:
        return n <= self._mark or n in self._beyond

    def add(self, n: int) -> bool:
        """Return whether `n` is new."""
        if n == self._mark + 1:
            self._mark = n
            while self._beyond and self._mark + 1 in self._beyond:
                self._mark += 1
                self._beyond.remove(self._mark)
            return True
        if n <= self._mark or n in self._beyond:
            return False
        self._beyond.add(n)
        return True


def new_id() -> str:
    """Return 16 random hexadecimal digits."""
    return os.urandom(8).hex()


_second: tuple[int, str] = (0, "")


def utc_now() -> str:
    """Return the time as UTC, ISO 8601 with microseconds."""
    return utc(time.time())


def utc(moment: float) -> str:
    """Return a moment, in seconds since 1970, as UTC, ISO 8601 with microseconds.

    The text of the running second is kept: formatting it anew would be a fifth of the cost of
    logging an epoch.
    """
    global _second
    whole = int(moment)
    second, text = _second
    if second != whole:
        text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(whole))
        _second = (whole, text)
    return "%s%06dZ" % (text, (moment - whole) * 1e6)  # noqa: UP031 - a third quicker


def claim_key(experiment: str, model: str, params: Any) -> str:
    """Return the key under which a model's session with these params is unique.

    Params are equal as JSON values: the order of keys does not count, nor does 1 against 1.0.
    """
    import hashlib  # loads OpenSSL: for a session, not for an import

    identity = orjson.dumps([experiment, model, _canonical(params)], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(identity).hexdigest()[:32]


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def deletion(
    writer: Writer,
    *,
    sessions: Iterable[str] = (),
    models: Iterable[tuple[str, str]] = (),
    experiments: Iterable[str] = (),
    only_named: bool = False,
) -> Record:
    """Make the tombstone that covers these sessions, models and experiments.

    It covers what was appended before it; an experiment of the same name may start again.

    Args:
        writer: who deletes.
        sessions: ids of sessions.
        models: ids of experiments and of their models.
        experiments: ids of experiments.
        only_named: of an experiment, leave models and sessions that are not named themselves; of
            a model, such sessions. What began while somebody looked for what may go is kept.
    """
    body: dict[str, Any] = {
        "sessions": list(sessions),
        "models": [list(model) for model in models],
        "experiments": list(experiments),
    }
    if only_named:
        body["only_named"] = True
    return writer.record("deleted", body)


def covers(tombstone: Record, record: Record) -> bool:
    """Tell whether `tombstone` deletes `record`, given that the record came before it."""
    return covering(tombstone)(record)


def covering(tombstone: Record) -> Callable[[Record], bool]:
    """Return `covers` of one tombstone, for many records."""
    body = tombstone["body"]
    sessions, experiments = set(body["sessions"]), set(body["experiments"])
    models = {(experiment, model) for experiment, model in body["models"]}
    only_named = body.get("only_named", False)

    def is_covered(record: Record) -> bool:
        session, model = record.get("session"), record.get("model")
        if session is not None and (only_named or session in sessions):
            return session in sessions
        experiment = record.get("experiment")
        if (experiment, model) in models:
            return True
        return experiment in experiments and not (only_named and model is not None)

    return is_covered


def names_nothing(tombstone: Record) -> bool:
    """Tell whether a tombstone names nothing at all: pruning by it only tidies up."""
    body = tombstone["body"]
    return not (body["sessions"] or body["models"] or body["experiments"])
