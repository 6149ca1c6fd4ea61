"""Sessions as tables: flat columns for pandas and polars."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast, get_args

from casket.errors import BadLocation, missing
from casket.reading.columns import NO_TIME, Column, Times, flatten
from casket.reading.latest import Table as LogTable
from casket.reading.latest import free_name
from casket.reading.rows import NUMBERS, Kind
from casket.reading.views import SessionView

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Table = Literal["sessions", "epochs", "batches", "results", "system"]
Columns = dict[str, Sequence[Any]]


class Parts(NamedTuple):
    """A table split into columns per session and columns per row; times are `Times`.

    Attributes:
        owners: the columns that are constant within a session, with a value per session.
        counts: the number of rows of each session.
        rows: the other columns, with a value per row.
    """

    owners: Columns
    counts: list[int]
    rows: Columns

    def positions(self) -> list[int]:
        """Return the position of the session in `owners` for each row."""
        return [i for i, count in enumerate(self.counts) for _ in range(count)]


def parts(sessions: Iterable[SessionView], table: Table, *, latest: bool = False) -> Parts:
    """Return a table of sessions, split into parts.

    Args:
        sessions: the sessions.
        table: the entities to return as rows.
        latest: return a row per epoch or batch, with the latest value of each metric.

    Raises:
        BadLocation: `table` is not a valid table.
    """
    if table not in get_args(Table):
        raise BadLocation(f"table={table!r}: give one of {get_args(Table)}")
    if table == "sessions":
        return _session_parts(list(sessions))
    if table == "system":
        return _system_parts([session for session in sessions if session.system_table()[1]])
    return _logged_parts(list(sessions), _LOGGED[table], latest=latest)


class Tabular:
    """Base class of results that can be read as data frames."""

    def columns(self) -> Columns:
        """Return the columns of the data frames by name."""
        raise NotImplementedError

    def to_pandas(self) -> pd.DataFrame:
        """Return a pandas DataFrame.

        Raises:
            MissingDependency: pandas is not installed.
        """
        return pandas_frame(self.columns())

    def to_polars(self) -> pl.DataFrame:
        """Return a polars DataFrame.

        Raises:
            MissingDependency: polars is not installed.
        """
        return polars_frame(self.columns())


def to_pandas(
    sessions: Iterable[SessionView], table: Table, *, latest: bool = False
) -> pd.DataFrame:
    """Return a table as a pandas DataFrame; see `parts`."""
    made = parts(sessions, table, latest=latest)
    owners, rows = pandas_frame(made.owners), pandas_frame(made.rows)
    shared = owners.take(made.positions()).reset_index(drop=True)
    return shared.join(rows)


def pandas_frame(columns: Columns) -> pd.DataFrame:
    """Return columns as a pandas DataFrame."""
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise missing(error, "pandas", "pandas") from error
    return pd.DataFrame({name: _pandas_values(each) for name, each in columns.items()})


def _pandas_values(values: Sequence[Any]) -> Any:
    if not isinstance(values, Times):
        return values
    import numpy as np
    import pandas as pd

    return pd.Series(np.array(values.microseconds).view("M8[us]")).dt.tz_localize("UTC")


def to_polars(
    sessions: Iterable[SessionView], table: Table, *, latest: bool = False
) -> pl.DataFrame:
    """Return a table as a polars DataFrame; see `parts`."""
    made = parts(sessions, table, latest=latest)
    owners, rows = polars_frame(made.owners), polars_frame(made.rows)
    return owners[made.positions()].hstack(rows)


def polars_frame(columns: Columns) -> pl.DataFrame:
    """Return columns as a polars DataFrame."""
    try:
        import polars as pl
    except ModuleNotFoundError as error:
        raise missing(error, "polars", "polars") from error
    return pl.DataFrame([_series(*column) for column in columns.items()])


def _series(name: str, values: Sequence[Any]) -> pl.Series:
    """Return values as a polars Series, converted to text if they have no common type."""
    import polars as pl

    if isinstance(values, Times):
        microseconds = [None if each == NO_TIME else each for each in values.microseconds]
        return pl.Series(name, microseconds, pl.Int64).cast(pl.Datetime("us", "UTC"))
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
    own = (*_OWNER, "name", "group", "status", "started", "ended", "duration", "tags", "error")
    columns = table([_session_row(session) for session in sessions], own)
    for name in ("started", "ended"):
        columns[name] = Times(columns[name])
    return Parts(columns, [1] * len(sessions), {})


def _session_row(session: SessionView) -> dict[str, Any]:
    ended = session.ended
    return {
        **_owner(session),
        "name": session.name,
        "group": session.group,
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


def _owner(session: SessionView) -> dict[str, str | None]:
    values = (session.id, session.parent_id, session.experiment, session.model)
    return dict(zip(_OWNER, values, strict=True))


def _text(timestamp: datetime) -> str:
    return timestamp.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


_OWNER = ("session", "parent", "experiment", "model")

_LOGGED: dict[str, Kind] = {
    "epochs": "epoch",
    "batches": "batch",
    "results": "result",
}


def _logged_parts(sessions: list[SessionView], kind: Kind, *, latest: bool) -> Parts:
    """Return a row per record of a kind: its session, params, numbers, metrics and time."""
    logs = [(session, session.logged(kind)) for session in sessions if session.logged(kind)]
    owners = [{**_owner(session), **flatten(session.params, "params.")} for session, _ in logs]
    rows = _Growing(NUMBERS[kind], {*_OWNER, *chain.from_iterable(owners)})
    is_latest = latest and kind != "result"
    tables = (logged.table() for _, logged in logs)
    counts = [rows.add(table.latest() if is_latest else table) for table in tables]
    return Parts(table(owners, _OWNER), counts, rows.columns)


def _system_parts(sessions: list[SessionView]) -> Parts:
    """Return a row per sample of the system: its session, params, time and values."""
    owners = [{**_owner(session), **flatten(session.params, "params.")} for session in sessions]
    rows = _Growing((), {*_OWNER, *chain.from_iterable(owners)})
    counts = [rows.add(LogTable({}, *session.system_table())) for session in sessions]
    columns = rows.columns
    return Parts(table(owners, _OWNER), counts, {"time": columns.pop("timestamp"), **columns})


class _Growing:
    """Columns of epochs, batches or results, filled session by session.

    Args:
        numbers: the names of the numbers.
        taken: the names of the columns of sessions.
    """

    def __init__(self, numbers: Iterable[str], taken: Collection[str]) -> None:
        self._taken = taken
        self._columns: dict[str, Column] = {name: [] for name in numbers}
        self._times = Times()

    @property
    def columns(self) -> Columns:
        """The columns, as a new dict, with the time last."""
        return {**self._columns, "timestamp": self._times}

    def add(self, table: LogTable) -> int:
        """Add the records of a session and return their number."""
        before, count = len(self._times), len(table.times)
        renamed = {free_name(name, self._taken, table.values): name for name in table.values}
        block = {**table.numbers, **{new: table.values[name] for new, name in renamed.items()}}
        for name in dict.fromkeys([*self._columns, *block]):
            column = self._columns.get(name, [None] * before)
            self._columns[name] = _extended(column, block.get(name, [None] * count))
        self._times.extend(table.times)
        return count


def _extended(column: Column, values: Sequence[Any]) -> Column:
    """Return a column with more values; it stays an array as long as all have its type."""
    if not column:
        return cast("Column", values)
    if isinstance(column, array) and not _is_like(values, column):
        return [*column, *values]
    column += values
    return column


def _is_like(values: Sequence[Any], column: array[Any]) -> bool:
    return isinstance(values, array) and values.typecode == column.typecode


def table(
    rows: Sequence[Mapping[str, Any]], first: Iterable[str] = (), but: Collection[str] = ()
) -> Columns:
    """Return rows as columns; values that a row lacks are None.

    Args:
        rows: the values of each row by name.
        first: the names of the first columns, in order.
        but: the names of values that are no columns.
    """
    names = dict.fromkeys(chain(first, *rows))
    return {name: [row.get(name) for row in rows] for name in names if name not in but}
