"""The sessions that have the same params: which of them holds their claim, and who is dead."""

from __future__ import annotations

from typing import NamedTuple

from casket import processes
from casket.backend import Backend
from casket.lifecycle import Life
from casket.records import Record


class Holder(NamedTuple):
    """A session with the params of a claim, as it was found.

    Attributes:
        session: its id.
        life: its starts and ends.
        gone: its writers without an end whose process is gone. They surely left no end: the
            records were read after the processes were looked at.
    """

    session: str
    life: Life
    gone: list[str]

    @property
    def may_run(self) -> bool:
        """Whether a writer without an end may still be at work."""
        return any(writer not in self.gone for writer in self.life.open_writers)

    @property
    def is_completed(self) -> bool:
        """Whether the last writer completed."""
        end = self.life.last_end
        return end is not None and end["body"]["status"] == "completed"

    @property
    def is_released(self) -> bool:
        """Whether its params are free again."""
        return not self.life.is_holding

    def ends(self, backend: Backend) -> list[Record]:
        """Return the ends that the writers who are gone left unwritten."""
        owner = {
            name: value
            for name in ("experiment", "model", "session")
            if (value := self.life.starts[0].get(name)) is not None
        }
        return [
            backend.record("end", {"status": "killed", "of": writer}, extended=False, **owner)
            for writer in self.life.open_writers
            if writer in self.gone
        ]


def look_at(backend: Backend, session: str) -> Holder:
    """Look at the writers of a session: first at their processes, then at what they wrote."""
    life = _life(backend, session)
    gone = [
        writer
        for writer in life.open_writers
        if processes.is_alive(life.start_of(writer)["body"].get("process", {})) is False
    ]
    return Holder(session, _life(backend, session) if gone else life, gone)


def sessions_with(backend: Backend, claim: str) -> list[str]:
    """Return the ids of the sessions with the params of a claim, in the order they began."""
    starts = backend.store.records(claim=claim, kinds={"session"})
    return list(dict.fromkeys(start["session"] for _, start in starts))


def _life(backend: Backend, session: str) -> Life:
    records = backend.store.records(session=session, kinds={"session", "end"})
    return Life(record for _, record in records)
