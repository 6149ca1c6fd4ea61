"""Conversion of documents of the first casket into records.

The first casket stored a nested document per experiment: models containing sessions, each with a
result that is a plain dict, or lists of epochs and results by index. This module writes nothing:
the document stays on its line, and every read unfolds it into the same records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from casket.format.records import FORMAT_VERSION, Record, claim_key
from casket.format.values import Encoder

Nested = dict[str, Any]

_EXPERIMENT_KEYS = frozenset({"id", "tags", "models", "created"})
_MODEL_IDS = ("modelId", "model_id", "id")
_CONFIGS = ("config", "model_config")
_UNKNOWN_TIME = "1970-01-01T00:00:00.000000Z"


def unfold(document: Nested) -> list[Record]:
    """Return the records equivalent to a nested document."""
    return list(_Unfolding(document).records())


def without(document: Nested, is_deleted: Callable[[Record], bool]) -> Nested | None:
    """Return the document without deleted sessions and models; None if all of it is deleted."""
    unfolding = _Unfolding(document)
    if is_deleted(unfolding.experiment_record()):
        return None
    models = [
        {
            **model,
            "sessions": [
                session
                for session, session_id in unfolding.sessions(model)
                if not is_deleted(unfolding.start(model, session, session_id))
            ],
        }
        for model in document["models"]
        if not is_deleted(unfolding.model_record(model))
    ]
    return {**document, "models": models}


class _Unfolding:
    """The records of a nested document.

    The records of a session have a writer of their own, derived from the session's content, so
    that they do not change when another session is removed.
    """

    def __init__(self, document: Nested) -> None:
        self._document = document
        self._experiment = str(document["id"])
        self._time = _utc(document.get("created")) or _UNKNOWN_TIME

    def records(self) -> Iterator[Record]:
        yield self.experiment_record()
        for model in self._document["models"]:
            yield self.model_record(model)
            for session, session_id in self.sessions(model):
                yield from self._session(model, session, session_id)

    def experiment_record(self) -> Record:
        facts = {k: v for k, v in self._document.items() if k not in _EXPERIMENT_KEYS}
        body = {"tags": list(self._document.get("tags") or ()), "facts": facts}
        writer = _writer(self._experiment, self._document.get("created"))
        claim = claim_key(self._experiment, "", None)
        return self._record("experiment", body, self._time, writer, 1, claim=claim)

    def model_record(self, model: Nested) -> Record:
        model_id = _model_id(model)
        body = {"config": _config(model)}
        writer = _writer(self._experiment, model_id)
        return self._record("model", body, self._time, writer, 1, model=model_id)

    def sessions(self, model: Nested) -> Iterator[tuple[Nested, str]]:
        """Yield the sessions of a model, each with an id derived from its content."""
        seen: set[str] = set()
        for session in filter(_is_dict, model.get("sessions") or ()):
            facts = [self._experiment, _model_id(model), session.get("params"), session.get("meta")]
            session_id = _digest(*facts)
            while session_id in seen:
                session_id = _digest(session_id)
            seen.add(session_id)
            yield session, session_id

    def start(self, model: Nested, session: Nested, session_id: str) -> Record:
        params, meta = _as_dict("params", session), _as_dict("meta", session)
        model_id = _model_id(model)
        return self._record(
            "session",
            {"params": params, "meta": meta, "process": {}},
            _utc(meta.get("timestamp")) or self._time,
            _writer(session_id),
            1,
            model=model_id,
            session=session_id,
            claim=claim_key(self._experiment, model_id, _encoded(params)[0]),
        )

    def _session(self, model: Nested, session: Nested, session_id: str) -> Iterator[Record]:
        start = self.start(model, session, session_id)
        yield start
        owner = {"model": _model_id(model), "session": session_id}
        writer, n, time = start["writer"], 1, start["time"]
        for kind, body, timestamp in _entries(_as_dict("result", session)):
            n, time = n + 1, timestamp or time
            yield self._record(kind, body, time, writer, n, **owner)
        end = {"status": "completed", "of": writer}
        time = _ended(start["time"], _as_dict("meta", session), time)
        yield self._record("end", end, time, writer, n + 1, **owner)

    def _record(
        self, kind: str, body: dict[str, Any], time: str, writer: str, n: int, **fields: Any
    ) -> Record:
        encoded, is_extended = _encoded(body)
        if is_extended:
            fields["extended"] = True
        return {
            "kind": kind,
            "v": FORMAT_VERSION,
            "experiment": self._experiment,
            **fields,  # type: ignore[typeddict-item]  # model, session, claim, extended
            "writer": writer,
            "n": n,
            "time": time,
            "body": encoded,
        }


Entry = tuple[str, dict[str, Any], str | None]
"""Kind, body and time of a record inside a session."""


def _entries(result: Nested) -> Iterator[Entry]:
    indexed = {index: entries for index, entries in result.items() if _are_entries(entries)}
    if len(indexed) < len(result):  # a plain dict, which may contain the session's epochs
        indexed = {"epochs": indexed["epochs"]} if "epochs" in indexed else {}
    for index, entries in indexed.items():
        yield from (_entry(None if index == "null" else index, entry) for entry in entries)
    plain = {key: value for key, value in result.items() if key not in indexed}
    if plain:
        yield _entry(None, plain)


def _are_entries(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_dict, value))


def _entry(index: str | None, entry: Nested) -> Entry:
    time = _utc(entry.get("timestamp"))
    if index != "epochs":
        return "result", {"index": index, "result": entry}, time
    if "epoch_num" not in entry:
        return "result", {"index": None, "result": entry}, time
    taken = {"epoch_num", "timestamp"} if time else {"epoch_num"}
    result = {key: value for key, value in entry.items() if key not in taken}
    body = {"epoch_num": entry["epoch_num"], "result": result}
    if time is None:
        body["timestamp"] = False
    return "epoch", body, time


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _model_id(model: Nested) -> str:
    return str(next((model[key] for key in _MODEL_IDS if key in model), None))


def _config(model: Nested) -> dict[str, Any]:
    """Return a model's config, including its other named attributes."""
    config: dict[str, Any] = {}
    for key, value in model.items():
        if key in _CONFIGS and isinstance(value, dict):
            config.update(value)
        elif key != "sessions" and key not in _MODEL_IDS:
            config[key] = value
    return {key: value for key, value in config.items() if value is not None or key not in _CONFIGS}


def _as_dict(name: str, session: Nested) -> dict[str, Any]:
    """Return a part of a session as a dict, whatever its type."""
    value = session.get(name)
    if isinstance(value, dict):
        return value
    if name == "result" and _are_entries(value):
        return {"null": value}
    return {} if value is None else {name: value}


def _utc(text: Any) -> str | None:
    """Return a time in UTC, assuming UTC where it has no zone; None if it cannot be parsed."""
    try:
        parsed = datetime.fromisoformat(str(text))
        parsed = parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return parsed.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _ended(started: str, meta: Nested, last: str) -> str:
    try:
        ended = datetime.fromisoformat(started) + timedelta(seconds=meta["run_time"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return last
    return max(last, _utc(ended) or last)


def _encoded(value: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    encoder = Encoder()
    return encoder.mapping(value, "the document"), encoder.extended


def _writer(*facts: Any) -> str:
    return "first-" + _digest(*facts)


def _digest(*facts: Any) -> str:
    text = orjson.dumps(Encoder().encode(facts, ""), option=orjson.OPT_SORT_KEYS)
    import hashlib  # loads OpenSSL, needed only for files of the first casket

    return hashlib.sha256(text).hexdigest()[:16]
