"""The true state of a world's sessions, derived from the appended records and live processes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from casket.format.records import Record


class Truth:
    """The model: each session's writers, their ends and epochs.

    Args:
        is_alive: returns of a pid whether the process runs, or may run as far as others can know.
    """

    def __init__(self, is_alive: Callable[[int], bool]) -> None:
        self._is_alive = is_alive
        self.starts: dict[str, list[Record]] = defaultdict(list)
        self.ends: dict[str, str] = {}
        self.left_by_themselves: set[str] = set()
        self.epochs: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        self.repeats: dict[str, list[int]] = defaultdict(list)

    def note(self, records: Sequence[Record], claim: str | None, *, joins: bool = False) -> None:
        """Check appended records, and take note of them.

        Args:
            records: the records.
            claim: what was asked for.
            joins: whether a session may be continued that is running.
        """
        for record in records:
            session, body = record.get("session", ""), record["body"]
            if record["kind"] == "end":
                self._note_end(record, body["of"], body["status"])
            elif record["kind"] == "session":
                if body.get("changes", 0) > self._changes_of(session):
                    assert claim is not None, f"{session} changes without asking"
                    # A repetition asks for its number instead.
                    beside = self.blocking(record["claim"]) - {session}
                    assert claim != record["claim"] or not beside, f"{session} beside {beside}"
                elif body.get("follows"):
                    assert body["follows"] == len(self.starts[session]), "two have one place"
                    assert joins or self.status(session) != "running", f"{session} is joined"
                elif claim == record["claim"]:
                    blocking = self.blocking(record["claim"])
                    assert not blocking, f"{session} begins beside {blocking}"
                others = [s for s in self.starts[session] if s["writer"] != record["writer"]]
                self.starts[session] = [*others, record]
            elif record["kind"] == "epoch":
                self.epochs[session][record["writer"]].append(body["epoch_num"])
            elif body.get("repeat"):
                self.repeats[self._claim_of(session)].append(body["repeat"])

    def _note_end(self, end: Record, writer: str, status: str) -> None:
        if end["writer"] == writer:
            self.left_by_themselves.add(writer)
        else:
            pid = next(s for each in self.starts.values() for s in each if s["writer"] == writer)
            # Two may both write the end of a writer that left none.
            assert writer not in self.left_by_themselves, (
                "a writer that had ended was taken for dead"
            )
            assert not self._is_alive(pid["body"]["process"]["pid"]), "one that lives was"
        self.ends.setdefault(writer, status)

    def _identity(self, session: str) -> Record | None:
        starts = self.starts.get(session, [])
        return max(starts, key=lambda s: s["body"].get("changes", 0), default=None)

    def _claim_of(self, session: str) -> str:
        identity = self._identity(session)
        return identity["claim"] if identity else ""

    def _changes_of(self, session: str) -> int:
        identity = self._identity(session)
        return identity["body"].get("changes", 0) if identity else 0

    def status(self, session: str) -> str:
        """Return how a session stands."""
        starts = sorted(
            self.starts[session], key=lambda s: (s["body"].get("follows", 0), s["time"])
        )
        is_open = [s["writer"] not in self.ends for s in starts]
        pids = [s["body"]["process"]["pid"] for s in starts]
        if any(o and self._is_alive(pid) for o, pid in zip(is_open, pids, strict=True)):
            return "running"
        return self.ends.get(starts[-1]["writer"], "killed")

    def statuses(self) -> dict[str, str]:
        """Return how all sessions stand."""
        return {session: self.status(session) for session in self.starts}

    def blocking(self, claim: str) -> set[str]:
        """Return the sessions with these params that run or completed."""
        return {
            session
            for session in self.starts
            if self._claim_of(session) == claim and self.status(session) in {"running", "completed"}
        }

    def epochs_of(self, session: str) -> list[int]:
        """Return the epochs of a session: by their writers' starts, then as each logged them."""
        starts: list[Any] = sorted(
            self.starts[session], key=lambda s: (s["body"].get("follows", 0), s["time"])
        )
        return [n for start in starts for n in self.epochs[session][start["writer"]]]
