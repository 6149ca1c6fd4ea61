"""Sessions as nested documents, in the format of the first casket: a document per experiment.

`casket.format.legacy` reads them back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from casket.reading.summary import as_json
from casket.reading.views import SessionView


def documents(sessions: Iterable[SessionView]) -> list[dict[str, Any]]:
    """Return a document for each experiment, with its models, their sessions and their results.

    Returns:
        Documents `{"id", "tags", "models": [{"modelId", "config", "sessions": [{"params", "meta",
        "result"}]}]}`. `tags` holds the tags common to all sessions of the experiment; the tags
        of a session are in its meta. A result holds lists by index, `"epochs"` and `"batches"`.
    """
    made: dict[str, dict[str, Any]] = {}
    models: dict[tuple[str, str], dict[str, Any]] = {}
    for session in sessions:
        tags = list(session.tags)
        document = made.setdefault(
            session.experiment, {"id": session.experiment, "tags": tags, "models": []}
        )
        document["tags"] = [tag for tag in document["tags"] if tag in tags]
        key = (session.experiment, session.model)
        if key not in models:
            models[key] = {
                "modelId": session.model,
                "config": as_json(session.config),
                "sessions": [],
            }
            document["models"].append(models[key])
        models[key]["sessions"].append(_session(session))
    return list(made.values())


def _session(session: SessionView) -> dict[str, Any]:
    meta = {
        **as_json(session.meta),
        "session": session.id,
        "status": session.status,
        "tags": list(session.tags),
        "timestamp": session.started.isoformat(),
        "run_time": session.duration.total_seconds(),
    }
    result: dict[str, Any] = {}
    for index in [None, *session.indexes]:
        rows = session.results(index)
        if rows:
            result["null" if index is None else str(index)] = as_json(rows)
    for name in ("epochs", "batches"):
        rows = getattr(session, name)
        if rows:
            result[name] = as_json(rows)
    return {"params": as_json(session.params), "meta": meta, "result": result}
