"""The row of a session in the page's table, filters and comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from casket.dashboard.answers import contents
from casket.dashboard.answers.encoding import shortened
from casket.reading.rows import Kind
from casket.reading.summary import facts
from casket.reading.views import ExperimentView, SessionView

KINDS: tuple[Kind, ...] = get_args(Kind)
CUT = ("params", "config", "meta")
RESULTS_LOOKED_INTO = 500


def row(session: SessionView, key: str, file: int) -> dict[str, Any]:
    """Return the row of a session in the page's table."""
    fields = {"key": key, "file": file, **described(session)}
    partial = []
    for name in CUT:
        fields[name], is_partial = contents.cut(getattr(session, name))
        if is_partial:
            partial.append(name)
    for name, table in values(fields).items():
        fields[name] = {n: shortened(value) for n, value in table.items()}
    # Derivable fields; dropping them saves 10 % of the payload.
    for name in ("id", "duration"):
        del fields[name]
    if fields["last_seen"] == fields["ended"]:
        del fields["last_seen"]
    return {**fields, "partial": partial}


def values(fields: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the last and best values of a row or a session's facts with full precision."""
    return {
        name: {n: value for n, value in fields[name].items() if _is_single(value)}
        for name in ("last", "best")
    }


def metrics_of(fields: Mapping[str, Any]) -> frozenset[str]:
    """Return the flat names of the metrics of a row."""
    return frozenset().union(fields["last"], *fields["metrics"].values())


def described(session: SessionView) -> dict[str, Any]:
    """Return the fields of a row except its key, without truncation."""
    fields = facts(session)
    del fields["age"]
    return {
        **fields,
        "last_seen": session.last_seen.isoformat(),
        "metrics": {kind: session.logged(kind).metrics() for kind in KINDS},
        "counts": {kind: len(session.logged(kind)) for kind in KINDS},
        "images": _has_images(session),
        **({"alerts": len(session.alerts)} if session.alerts else {}),
    }


def experiment(view: ExperimentView, file: int) -> dict[str, Any]:
    """Return the fields of an experiment on the page."""
    return {"file": file, "id": view.id, "tags": list(view.tags), "note": view.note}


def _is_single(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= contents.LONGEST_TEXT
    return not isinstance(value, (list, dict))


def _has_images(session: SessionView) -> bool:
    artifacts = session.artifacts.values()
    if any(artifact.media_type in contents.IMAGES for artifact in artifacts):
        return True
    return any(map(contents.has_image, session.logged("result").results()[:RESULTS_LOOKED_INTO]))
