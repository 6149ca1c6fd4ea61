"""Claims on params: the sessions with the same params, the holder, and dead writers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from casket.format.lifecycle import Life
from casket.format.records import Record, Writer
from casket.stores.base import says_whose
from casket.system import processes
from casket.writing.backend import Backend


class Holder(NamedTuple):
    """A session with the params of a claim, at the time it was read.

    Attributes:
        session: the id of the session.
        life: the starts and ends of the session.
        gone: the writers without an end whose process has exited. Their end is surely missing,
            because the records were read after the processes were checked.
    """

    session: str
    life: Life
    gone: list[str]

    @property
    def may_run(self) -> bool:
        """Whether a writer without an end may still be running."""
        return any(writer not in self.gone for writer in self.life.open_writers)

    @property
    def is_completed(self) -> bool:
        """Whether the last writer ended as `completed`."""
        end = self.life.last_end
        return end is not None and end["body"]["status"] == "completed"

    @property
    def is_open_here(self) -> bool:
        """Whether a writer without an end is this process."""
        here = processes.this_process()
        starts = map(self.life.start_of, self.life.open_writers)
        return any(start["body"].get("process") == here for start in starts)

    def ends(self) -> list[Record]:
        """Return the missing ends of the writers whose process has exited."""
        return [_end(self.life.start_of(writer)) for writer in self.abandoned]

    @property
    def abandoned(self) -> list[str]:
        """The writers without an end whose process has exited."""
        return [writer for writer in self.life.open_writers if writer in self.gone]


def look_at(backend: Backend, session: str) -> Holder:
    """Return the state of a session, checking the processes of its writers before its records."""
    life = _life(backend, session)
    gone = [
        writer
        for writer in life.open_writers
        if processes.is_alive(life.start_of(writer)["body"].get("process", {})) is False
    ]
    return Holder(session, _life(backend, session) if gone else life, gone)


def starts_with(backend: Backend, claim: str) -> dict[str, Record]:
    """Return the first start with a claim of each session that has or had it, by id, in order."""
    starts: dict[str, Record] = {}
    for _, start in backend.store.records(claim=claim, kinds={"session"}):
        starts.setdefault(start["session"], start)
    return starts


def holders(backend: Backend, claim: str) -> Iterator[Holder]:
    """Yield the sessions with the params of a claim, the last one first."""
    for session in reversed(starts_with(backend, claim)):
        holder = look_at(backend, session)
        identity = holder.life.identity
        if identity is not None and identity.get("claim") == claim:
            yield holder


def _life(backend: Backend, session: str) -> Life:
    records = backend.store.records(session=session, kinds={"session", "end"})
    return Life(record for _, record in records if says_whose(record))


def _end(start: Record) -> Record:
    """Return the end of a dead writer, with a writer of its own.

    If it is refused, no other record follows it whose number would reveal a gap.
    """
    names = ("experiment", "model", "session")
    owner = {name: start[name] for name in names if name in start}  # type: ignore[literal-required]
    return Writer().record("end", {"status": "killed", "of": start["writer"]}, **owner)
