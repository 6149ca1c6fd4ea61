"""Whether a record is intact: a damaged or edited character may leave its JSON valid.

Readers skip damaged records and name each once, doctor reports them, and stores keep them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from casket.format.records import FORMAT_VERSION, KINDS, has_changed
from casket.format.values import restore

DAMAGED = (AttributeError, KeyError, TypeError, ValueError)
"""Errors caused by a damaged record: missing keys or values of another type."""

STATUSES = ("running", "completed", "failed", "killed")

FIELDS: dict[str, dict[str, type]] = {
    "experiment": {"tags": list, "facts": dict},
    "model": {"config": dict},
    "session": {"params": dict, "meta": dict},
    "epoch": {"result": dict},
    "batch": {"result": dict},
    "result": {"result": dict},
    "artifact": {"name": str, "file": str, "sha256": str, "size": int, "media_type": str},
    "alert": {"title": str, "text": str, "level": str},
    "system": {"values": dict},
    "end": {"of": str, "status": str},
    "deleted": {"sessions": list, "models": list, "experiments": list},
}
"""The fields of the body that every record of a kind has."""

_OPTIONAL: dict[str, dict[str, type]] = {
    "session": {"process": dict, "parent": str, "name": str, "group": str, "tags": list},
    "tag": {"add": list, "remove": list, "note": str, "name": str, "group": str, "freed": list},
    "artifact": {"freed": list, "form": str, "index_columns": int, "step": int},
}

_MEMBERS: dict[str, type] = {"kind": str, "writer": str, "v": int, "n": int}
_OWNER: dict[str, type] = {"experiment": str, "model": str, "session": str}


def check(record: Any) -> None:
    """Check that a record is intact, as far as its kind is known.

    Raises:
        KeyError: it lacks a field.
        TypeError, ValueError: a field has another type or cannot be decoded.
    """
    kind, body, time = record["kind"], record["body"], record["time"]
    _check_types(record, _MEMBERS)
    _check_types(record, _OWNER, is_optional=True)
    if "result" not in FIELDS.get(kind, {}):  # of logged values an odd time is shown as it is
        datetime.fromisoformat(time)
    if record["v"] <= FORMAT_VERSION and has_changed(record):
        raise ValueError("it does not match its checksum")
    if kind in KINDS:
        _check_body(kind, body)
        if "extended" in record:
            restore(body, lambda _: None)


def is_intact(record: Any) -> bool:
    """Return whether a record is intact."""
    return problem_of(record) is None


def problem_of(record: Any) -> str | None:
    """Return why a record is not intact, or None if it is."""
    try:
        check(record)
    except DAMAGED as error:
        return described(error)
    return None


def described(error: Exception) -> str:
    """Return an error in a damaged record as a predicate of the record."""
    return f"has no {error}" if isinstance(error, KeyError) else f"cannot be read ({error})"


def _check_body(kind: str, body: Any) -> None:
    _check_type("body", body, dict)
    _check_types(body, FIELDS.get(kind, {}))
    _check_types(body, _OPTIONAL.get(kind, {}), is_optional=True)
    if kind == "end" and body["status"] not in STATUSES:
        raise ValueError(f"status {body['status']!r}")
    if kind == "deleted":
        dict(body["models"])  # pairs of an experiment and a model
    for writer, number in body.get("freed", ()):
        _check_type("writer", writer, str)
        _check_type("n", number, int)
    tags = body.get("tags" if kind == "experiment" else "add", ())
    if kind in {"experiment", "tag"} and not all(isinstance(tag, str) for tag in tags):
        raise TypeError("tags are no texts")


def _check_types(values: Any, types: Mapping[str, type], *, is_optional: bool = False) -> None:
    for name, expected in types.items():
        if is_optional and name not in values:
            continue
        if not isinstance(values[name], expected):
            _check_type(name, values[name], expected)


def _check_type(name: str, value: Any, expected: type) -> None:
    if not isinstance(value, expected):
        raise TypeError(f"{name} is a {type(value).__name__}, not a {expected.__name__}")
