"""Sessions as tables: flat columns for pandas and polars."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from casket.errors import BadLocation, missing
from casket.reading.rows import NUMBERS, Kind, flatten
from casket.reading.views import SessionView

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Table = Literal["sessions", "epochs", "batches", "results"]
Columns = dict[str, list[Any]]


class Parts(NamedTuple):
    """A table split into columns per session and columns per row.

    Attributes:
        owners: the columns that are constant within a session, with a value per session.
        counts: the number of rows of each session.
        rows: the other columns, with a value per row.
        times: the names of the columns with times, as text or None.
    """

    owners: Columns
    counts: list[int]
    rows: Columns
    times: tuple[str, ...]

    def positions(self) -> list[int]:
        """Return the position of the session in `owners` for each row."""
        return [i for i, count in enumerate(self.counts) for _ in range(count)]


def parts(sessions: Iterable[SessionView], table: Table) -> Parts:
    """Return a table of sessions, split into parts.

    Raises:
        BadLocation: `table` is not a valid table.
    """
    if table not in get_args(Table):
        raise BadLocation(f"table={table!r}: give one of {get_args(Table)}")
    if table == "sessions":
        return _session_parts(list(sessions))
    return _logged_parts(list(sessions), _LOGGED[table])


def to_pandas(sessions: Iterable[SessionView], table: Table) -> pd.DataFrame:
    """Return a table as a pandas DataFrame."""
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise missing(error, "pandas", "pandas") from error
    made = parts(sessions, table)
    shared = pd.DataFrame(made.owners).take(made.positions()).reset_index(drop=True)
    frame = pd.concat([shared, pd.DataFrame(made.rows)], axis=1)
    for name in made.times:
        timestamps = pd.to_datetime(frame[name], utc=True, format="ISO8601")
        frame[name] = timestamps.dt.as_unit("us")
    return frame


def to_polars(sessions: Iterable[SessionView], table: Table) -> pl.DataFrame:
    """Return a table as a polars DataFrame."""
    try:
        import polars as pl
    except ModuleNotFoundError as error:
        raise missing(error, "polars", "polars") from error
    made = parts(sessions, table)
    positions = made.positions()
    shared = [_series(name, values).gather(positions) for name, values in made.owners.items()]
    others = [_series(name, values) for name, values in made.rows.items()]
    frame = pl.DataFrame([*shared, *others])
    return frame.with_columns(
        pl.col(name)
        .cast(pl.String)
        .str.to_datetime(_FORMAT, time_unit="us")
        .dt.replace_time_zone("UTC")
        for name in made.times
    )


def _series(name: str, values: list[Any]) -> pl.Series:
    """Return values as a polars Series, converted to text if they have no common type."""
    import polars as pl

    kinds = _kinds(values)
    if kinds == {int, float}:
        return pl.Series(name, [None if value is None else float(value) for value in values])
    try:
        if kinds == {list} and _are_alike(list(_leaves(values))):
            # `strict=True` would turn [[1], [2.5]] into [[1], [2]].
            return pl.Series(name, values, strict=False)
        if len(kinds) <= 1 and not kinds & {list, dict}:
            return pl.Series(name, values)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        pass
    return pl.Series(name, [None if value is None else str(value) for value in values])


def _are_alike(leaves: list[Any]) -> bool:
    """Return whether polars can store all values under a single type without loss."""
    kinds = _kinds(leaves)
    is_one = len(kinds) <= 1 or kinds == {int, float}
    return is_one and dict not in kinds and not any(map(_is_huge, leaves))


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _kinds(values: Iterable[Any]) -> set[type]:
    return set(map(type, values)) - {type(None)}


def _leaves(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list):
            yield from _leaves(value)
        else:
            yield value


def _session_parts(sessions: list[SessionView]) -> Parts:
    own = ("id", "experiment", "model", "status", "started", "ended", "duration", "tags", "error")
    rows = [_session_row(session) for session in sessions]
    return Parts(_table(rows, own), [1] * len(rows), {}, ("started", "ended"))


def _session_row(session: SessionView) -> dict[str, Any]:
    ended = session.ended
    return {
        "id": session.id,
        "experiment": session.experiment,
        "model": session.model,
        "status": session.status,
        "started": _text(session.started),
        "ended": _text(ended) if ended else None,
        "duration": session.duration.total_seconds(),
        "tags": list(session.tags),
        "error": session.error,
        **flatten(session.params, "params."),
        **flatten(session.config, "config."),
        **flatten(session.meta, "meta."),
        **{f"last.{name}": value for name, value in session.last.items()},
    }


def _text(timestamp: datetime) -> str:
    return timestamp.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


_FORMAT = "%Y-%m-%dT%H:%M:%S%.fZ"

_LOGGED: dict[str, Kind] = {
    "epochs": "epoch",
    "batches": "batch",
    "results": "result",
}

_OWNER = ("session", "experiment", "model")


def _logged_parts(sessions: list[SessionView], kind: Kind) -> Parts:
    """Return a row per record of a kind: its session, params, numbers, metrics and time."""
    holding = [(session, session.logged(kind)) for session in sessions if session.logged(kind)]
    owners = [
        {
            "session": session.id,
            "experiment": session.experiment,
            "model": session.model,
            **flatten(session.params, "params."),
        }
        for session, _ in holding
    ]
    numbers: Columns = {name: [] for name in NUMBERS[kind]}
    times: list[str | None] = []
    metrics = _Growing({*_OWNER, *numbers, "timestamp"})
    counts = [len(logged) for _, logged in holding]
    for (_, logged), count in zip(holding, counts, strict=True):
        for name, column in numbers.items():
            column += logged.numbers[name][:count]
        times += islice(logged.times, count)
        metrics.add(logged.table(), count)
    rows = {**numbers, **metrics.columns, "timestamp": times}
    return Parts(_table(owners, _OWNER), counts, rows, ("timestamp",))


class _Growing:
    """Columns of metrics, filled in blocks of results whose names may differ.

    Args:
        taken: the names of other columns. A metric with such a name, or with the name of a param
            column, is renamed to `result.name`.
    """

    def __init__(self, taken: set[str]) -> None:
        self.columns: Columns = {}
        self._taken = taken
        self._length = 0

    def add(self, block: Mapping[str, Sequence[Any]], count: int) -> None:
        """Add the first results of a session, by flat name."""
        for name, values in block.items():
            free = self._free(name, block)
            column = self.columns.setdefault(free, [])
            column += [None] * (self._length - len(column))
            column += values[:count]
        self._length += count
        for column in self.columns.values():
            column += [None] * (self._length - len(column))

    def _free(self, name: str, block: Mapping[str, Any]) -> str:
        if name in self._taken or name.startswith("params."):
            name = f"result.{name}"
            while name in block:
                name = f"result.{name}"
        return name


def _table(rows: list[dict[str, Any]], first: tuple[str, ...] = ()) -> Columns:
    names = dict.fromkeys(chain(first, *rows))
    return {name: [row.get(name) for row in rows] for name in names}
