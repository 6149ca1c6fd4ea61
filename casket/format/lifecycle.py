"""The lifecycle of a session, derived from the starts and ends of its writers.

Stores use it to determine whether a session holds its claim, views to determine its status. The
result depends only on the records and not on their order, so that a copy of a file that was merged
in a different order gives the same lifecycle.

`docs/decisions/0017-life-of-a-session.md` has the table of states and events.
"""

from __future__ import annotations

from collections.abc import Iterable

from casket.format.records import Record, is_counted


class Life:
    """The starts and ends of a session.

    A session has a writer for each process that began or continued it. Writers are ordered by the
    number of preceding starts (`body.follows`), then by the time of their start.
    """

    __slots__ = ("_ends", "_order", "_restarted", "_starts")

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._starts: dict[str, Record] = {}
        self._ends: dict[str, list[Record]] = {}
        self._order: list[str] | None = None
        self._restarted: frozenset[str] = frozenset()
        for record in records:
            self.add(record)

    @property
    def records(self) -> list[Record]:
        """The starts and all ends of the session."""
        return [*self.starts, *(end for ends in self._ends.values() for end in ends)]

    def __len__(self) -> int:
        return len(self._starts) + sum(map(len, self._ends.values()))

    def add(self, record: Record) -> None:
        """Add a record of kind `session` or `end`.

        Raises:
            KeyError: an end does not have the id of its writer.
        """
        if record["kind"] == "session":
            self._add_start(record)
        else:
            self._ends.setdefault(record["body"]["of"], []).append(record)

    def _add_start(self, start: Record) -> None:
        writer = start["writer"]
        earlier = self._starts.get(writer)
        if earlier is not None and earlier["n"] != start["n"]:
            self._restarted |= {writer}
        if earlier is None or _turn(earlier) <= _turn(start):
            self._starts[writer] = start
            self._order = None

    @property
    def starts(self) -> list[Record]:
        """The start of each writer, in order."""
        return [self._starts[writer] for writer in self.writers]

    @property
    def writers(self) -> list[str]:
        """The ids of the writers, in order."""
        if self._order is None:
            self._order = sorted(self._starts, key=lambda writer: _position(self._starts[writer]))
        return self._order

    @property
    def open_writers(self) -> list[str]:
        """The ids of the writers without an end."""
        ends = self._ends
        return [w for w in self.writers if w not in ends or self.end_of(w) is None]

    @property
    def last_end(self) -> Record | None:
        """The end of the last writer, or of any writer if no start is present."""
        writers = self.writers or list(self._ends)
        return self.end_of(writers[-1]) if writers else None

    @property
    def is_holding(self) -> bool:
        """Whether the session holds its claim: a writer has no end, or the last end completed."""
        if not self._starts:
            return False
        end = self.last_end
        return bool(self.open_writers) or (
            end is not None and end["body"].get("status") == "completed"
        )

    @property
    def identity(self) -> Record | None:
        """The start with the current params and claim: of those that changed them, the last.

        Starts that did not change the params carry those that were valid when they were made.
        """
        return max(self.starts, key=changes_of, default=None)

    def holds(self, claim: str) -> bool:
        """Return whether the session holds a claim: its current claim, unless it gave it up."""
        identity = self.identity
        return self.is_holding and identity is not None and identity.get("claim") == claim

    def start_of(self, writer: str) -> Record:
        """Return the start of a writer."""
        return self._starts[writer]

    def end_of(self, writer: str) -> Record | None:
        """Return the effective end of a writer, or None if it has none.

        The first end is effective. An end written by the writer itself takes precedence over ends
        written by others, because others write an end only for a writer that they consider dead.
        """
        ends = self._ends.get(writer, [])
        if len(ends) == 1 and writer not in self._restarted:
            return ends[0]
        if writer in self._restarted:
            # Ends before the last start of the writer belong to its earlier starts.
            began = self._starts[writer]["time"]
            ends = [end for end in ends if end["time"] >= began]
        return min(ends, key=_precedence, default=None)


def changes_of(start: Record) -> int:
    """Return how often the params of the session had been changed, this start included."""
    changes = start["body"].get("changes")
    return changes if type(changes) is int else 0


def _turn(start: Record) -> tuple[int, int]:
    """Return the sort key of a start among the starts of a writer."""
    return _entries(start), start["n"] if is_counted(start["writer"]) else 0


def _entries(record: Record) -> int:
    """Return the number of entries an imported run had when the record was created."""
    entries = record["body"].get("entries")
    return entries if type(entries) is int else 0


def _position(start: Record) -> tuple[int, str, str]:
    follows = start["body"].get("follows")
    return follows if type(follows) is int else 0, start["time"], start["writer"]


def _precedence(end: Record) -> tuple[bool, int, str]:
    """Return the sort key of an end among the ends of a writer.

    For a run that has grown since it was imported, the end with more entries takes precedence.
    """
    return end["writer"] != end["body"]["of"], -_entries(end), end["time"]
