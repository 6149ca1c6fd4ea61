"""The details and rows of a session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from casket.dashboard.answers import contents, overview, system
from casket.dashboard.answers.encoding import csv_of
from casket.dashboard.answers.requests import RequestError, RowsRequest
from casket.format.artifacts import Artifact
from casket.reading.rows import Kind, MetricLog
from casket.reading.summary import alerts_as_json, as_json
from casket.reading.views import SessionView

MOST_RESULTS = 500
ROWS_AT_ONCE = 10_000


def details(session: SessionView, key: str, file: int) -> dict[str, Any]:
    """Return everything about a session except its epochs and batches."""
    fields = {"key": key, "file": file, **overview.described(session)}
    for name in ("params", "config", "meta", "last"):
        values = getattr(session, name)
        tables = name == "last"
        fields[name] = {
            each: contents.shown(value, tables=tables) for each, value in values.items()
        }
    address = f"api/session/{quote(key, safe='')}"
    return {
        **fields,
        "partial": [],
        "results": results(session),
        "alerts": alerts_as_json(session),
        "artifacts": [
            _artifact(one, position, address)
            for position, one in enumerate(session.artifacts.values())
        ],
        "system": system.curves(session),
    }


def results(session: SessionView) -> list[dict[str, Any]]:
    """Return the first results, with images, long arrays and tables marked as such."""
    logged = session.logged("result")
    columns = zip(logged.numbers["index"], logged.results(), logged.times, strict=True)
    return [
        {"index": as_json(index), "result": contents.shown(result), "time": time}
        for (index, result, time), _ in zip(columns, range(MOST_RESULTS), strict=False)
    ]


def rows(session: SessionView, request: RowsRequest) -> dict[str, Any]:
    """Return a range of a session's rows; epochs and batches have flat names."""
    logged = session.logged(request.kind)
    count = len(logged)
    start, stop = min(request.start, count), min(request.start + request.limit, count)
    if request.kind == "result":
        selected: list[dict[str, Any]] = logged.rows()[start:stop]
    else:
        selected = list(_window(_columns(logged), start, stop))
    return {"rows": [contents.cut(row)[0] for row in selected], "count": count}


def csv_lines(session: SessionView, kind: Kind) -> Iterator[str]:
    """Yield all rows of a session as CSV."""
    logged = session.logged(kind)
    count, columns = len(logged), _columns(logged)
    yield csv_of([columns])
    for start in range(0, count, ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE, count)
        some = (column[start:stop] for column in columns.values())
        yield csv_of(zip(*some, strict=True))


def _columns(logged: MetricLog) -> dict[str, Sequence[Any]]:
    """Return the numbers, values and times of records as columns by flat name."""
    table = logged.table()
    return {"timestamp": table.times, **table.numbers, **table.values}


def _window(columns: dict[str, Sequence[Any]], start: int, stop: int) -> Iterator[dict[str, Any]]:
    for values in zip(*(column[start:stop] for column in columns.values()), strict=True):
        row = dict(zip(columns, values, strict=True))
        yield {name: value for name, value in row.items() if value is not None}


def artifact(session: SessionView, position: str) -> Artifact:
    """Return an artifact by its position, because its name may not be representable in a URL.

    Raises:
        RequestError: the session has no artifact at this position.
    """
    artifacts = list(session.artifacts.values())
    if not position.isdecimal() or len(position) > 6 or int(position) >= len(artifacts):
        raise RequestError(
            f"the session has no artifact {position!r}: give its position", "artifact", 404
        )
    return artifacts[int(position)]


def _artifact(one: Artifact, position: int, address: str) -> dict[str, Any]:
    path = one.folder.place(one.file)
    image = contents.image_type_of(one)
    return {
        "name": one.name,
        "path": str(path),
        "size": one.size,
        "media_type": one.media_type,
        **({"step": one.step} if one.step is not None else {}),
        **({"captured": one.captured} if one.captured else {}),
        "href": f"{address}/artifact/{position}",
        **({"image": f"{address}/image/{position}"} if image else {}),
    }
