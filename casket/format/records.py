"""The record, casket's unit of storage.

An experiment file is a sequence of records, appended and never changed. Readers fold them into
sessions (`casket.reading.fold`). A record is a plain dict, stored as a line of the JSON file. Its
`kind` comes first on the line, so that a scan finds sessions without parsing epochs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, Literal, NotRequired, TypedDict, get_args
from zlib import crc32

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
    "alert",
    "system",
    "end",
    "deleted",
]
KINDS: frozenset[str] = frozenset(get_args(Kind))

Level = Literal["info", "warning", "error"]
"""The severity of an alert."""


class Record(TypedDict):
    """An appended record.

    The pair (`writer`, `n`) identifies it in every copy: each writing process numbers its own
    records from 1, so duplicates can be dropped. For records imported from another tracker, `n`
    is a hash of the content.
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
    """On a session's start: the key, derived from model and params, that the session holds."""
    extended: NotRequired[bool]
    """Whether the body holds values beyond JSON, encoded for `casket.format.values.restore`."""
    body: dict[str, Any]
    crc: NotRequired[int]
    """CRC-32 of its JSON without this member and the closing brace; added when it is stored."""


class Writer:
    """Creates the records of a writing process; a forked child continues as a new writer."""

    def __init__(self) -> None:
        self.after_fork()
        forks.renew_in_children(self)

    def after_fork(self) -> None:
        """Assign a new identity."""
        self.id = new_id()
        self.numbers = count(1)

    def record(
        self, kind: Kind, body: dict[str, Any], time: str | None = None, **fields: Any
    ) -> Record:
        """Create a record.

        Args:
            kind: the kind of the record.
            body: its content.
            time: its time; by default, the current time.
            fields: the ids of its experiment, model and session, and optionally a `claim`.
        """
        record: Any = {
            "kind": kind,
            "v": FORMAT_VERSION,
            **fields,
            "writer": self.id,
            "n": next(self.numbers),
            "time": time or utc_now(),
            "body": body,
        }
        made: Record = record
        return made

    def head(self, kind: Kind, **fields: Any) -> bytes:
        """Return the beginning of the JSON of records, up to their number."""
        common = {"kind": kind, "v": FORMAT_VERSION, **fields, "writer": self.id}
        return orjson.dumps(common)[:-1] + b',"n":'

    def text(self, head: bytes, body: bytes) -> bytes:
        """Return the JSON of the record that `record` would create, given `head` and a body.

        The closing brace is missing: the store adds it after the checksum.
        """
        now = _utc(time.time())
        return b'%b%d,"time":"%b","body":%b' % (head, next(self.numbers), now, body)


def encoded(record: Record) -> bytes:
    """Return a record as JSON whose last member is its checksum."""
    text = orjson.dumps(record)
    if "crc" in record:
        return text
    text = text[:-1]
    return b'%b,"crc":%d}' % (text, crc32(text))


def has_changed(record: Record) -> bool:
    """Return whether a record differs from the record for which its checksum was computed."""
    return "crc" in record and record["crc"] != checksum(record)


def checksum(record: Record) -> int:
    """Return the checksum of a record, as its member `crc`."""
    kept: Any = record.copy()
    for added_when_stored in ("crc", "more"):
        kept.pop(added_when_stored, None)
    return crc32(orjson.dumps(kept)[:-1])


def order_of(record: Record, began: str | None = None) -> tuple[str, str, int]:
    """Return the sort key of a record, which is the same for every store.

    Args:
        record: the record.
        began: the time at which its writer began the session; None if it did not, in which case
            the record's own time is used.
    """
    return began or record["time"], record["writer"], record["n"]


def is_counted(writer: str) -> bool:
    """Return whether a writer counts its records, so that `n` gives their order.

    The ids of writers of imported records begin with the name of the source and a hyphen.
    """
    return "-" not in writer


class Seen:
    """The record numbers seen from a writer: all up to a mark, and individual ones beyond it."""

    __slots__ = ("_beyond", "_mark")

    def __init__(self) -> None:
        self._mark = 0
        self._beyond: set[int] = set()

    def __contains__(self, n: int) -> bool:
        return n <= self._mark or n in self._beyond

    def add(self, n: int) -> bool:
        """Add `n` and return whether it is new."""
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
    """Return a random id of 16 hexadecimal digits."""
    return os.urandom(8).hex()


_second: tuple[int, bytes] = (0, b"")


def utc_now() -> str:
    """Return the current time in UTC, in ISO 8601 format with microseconds."""
    return utc(time.time())


def utc(seconds: float) -> str:
    """Return a Unix timestamp in UTC, in ISO 8601 format with microseconds."""
    return _utc(seconds).decode()


def _utc(seconds: float) -> bytes:
    """Return a Unix timestamp as ASCII.

    The text of the current second is cached: formatting it every time would account for a fifth
    of the cost of logging an epoch.
    """
    global _second
    whole = int(seconds)
    second, text = _second
    if second != whole:
        text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(whole)).encode()
        _second = (whole, text)
    return b"%b%06dZ" % (text, (seconds - whole) * 1e6)


def claim_key(experiment: str, model: str, params: Any, parent: str | None = None) -> str:
    """Return the key that identifies a model's session with these params.

    Params are compared as JSON values: the order of keys is ignored, and 1 equals 1.0.

    Args:
        experiment: the id of the experiment.
        model: the id of the model.
        params: the encoded params.
        parent: the id of the session's parent, among whose children the params are unique.
    """
    import hashlib  # loads OpenSSL, so deferred until a session starts

    identity = [experiment, model, _canonical(params), *([parent] if parent else [])]
    text = orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:32]


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
    """Create the tombstone that deletes the given sessions, models and experiments.

    A tombstone covers records appended before it; an experiment with the same id may be started
    again.

    Args:
        writer: the writer of the tombstone.
        sessions: ids of sessions.
        models: pairs of experiment id and model id.
        experiments: ids of experiments.
        only_named: keep the models and sessions of a deleted experiment, and the sessions of a
            deleted model, that are not listed themselves. This preserves sessions started while
            the list was being compiled.
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
    """Return whether `tombstone` deletes `record`, assuming that the record precedes it."""
    return covering(tombstone)(record)


def covering(tombstone: Record) -> Callable[[Record], bool]:
    """Return `covers` as a function of the record, prepared for many records."""
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
    """Return whether a tombstone lists nothing, so that pruning with it only tidies up."""
    body = tombstone["body"]
    return not (body["sessions"] or body["models"] or body["experiments"])
