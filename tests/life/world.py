"""Simulated processes that share a store, advanced step by step.

Each process runs in a thread that stops before and after everything it does with the store, and
before it looks at another process. Whoever drives the world chooses who goes on, so that every
order of steps can be had, and a process can be killed or left waiting between any two of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import pytest

from casket.format.records import Record
from casket.stores.base import Numbered, Store
from casket.system import git, processes
from tests.waiting import PATIENCE

"""Seconds in which a step has to end: no loop may go round without progress."""


class Killed(BaseException):
    """The process was killed where it had stopped."""


class Process:
    """A process that performs actions in turn.

    Args:
        pid: its unique number.
        is_visible: whether others can check whether it lives; false for another host.

    Attributes:
        is_alive: whether it runs.
        action: the name of the last action.
        outcome: the result or the exception of the last action; None while it runs.
    """

    _current = threading.local()

    def __init__(self, pid: int, *, is_visible: bool = True) -> None:
        self.pid = pid
        self.is_visible = is_visible
        self.is_alive = True
        self.action = ""
        self.outcome: Any = None
        self.is_busy = False
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)

    @classmethod
    def current(cls) -> Process | None:
        """Return the process whose thread this is."""
        return getattr(cls._current, "process", None)

    def start(self, action: Callable[[], Any], name: str = "") -> None:
        """Begin something, and go up to the first stop."""
        assert not self.is_busy
        self.is_busy, self.action, self.outcome = True, name, None
        threading.Thread(target=self._run, args=(action,), daemon=True).start()
        self._wait()

    def step(self) -> None:
        """Go on to the next stop."""
        self._go.release()
        self._wait()

    def kill(self) -> None:
        """End it where it is."""
        self.is_alive = False
        if self.is_busy:
            self.step()

    def stop(self) -> None:
        """Wait to be chosen."""
        self._stopped.release()
        self._go.acquire()
        if not self.is_alive:
            raise Killed

    def _wait(self) -> None:
        assert self._stopped.acquire(timeout=PATIENCE), "a step does not end"

    def _run(self, action: Callable[[], Any]) -> None:
        Process._current.process = self
        try:
            self.outcome = action()
        except BaseException as error:  # noqa: BLE001 - whoever drives looks at it
            self.outcome = error
        self.is_busy = False
        self._stopped.release()


def stop() -> None:
    """Stop, if a simulated process is running."""
    process = Process.current()
    if process is not None:
        process.stop()


class StoppingStore:
    """A store that stops before and after each call.

    Args:
        store: the store.
        note: called with the appended records immediately.
    """

    def __init__(self, store: Store, note: Callable[[Sequence[Record], str | None], None]) -> None:
        self._store = store
        self._note = note

    def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
        stop()
        number = self._store.append(records, claim=claim)
        self._note(records, claim)
        stop()
        return number

    def records(
        self,
        *,
        experiment: str | None = None,
        session: str | None = None,
        claim: str | None = None,
        kinds: Collection[str] | None = None,
        after: int = 0,
    ) -> Iterator[Numbered]:
        stop()
        numbered = list(
            self._store.records(
                experiment=experiment, session=session, claim=claim, kinds=kinds, after=after
            )
        )
        stop()
        return iter(numbered)

    def prune(self, tombstone: Record, /) -> None:
        self._store.prune(tombstone)

    def close(self) -> None:
        self._store.close()


class World:
    """All processes, as `casket.system.processes` shows them to each other."""

    def __init__(self) -> None:
        self.processes: dict[int, Process] = {}

    def new_process(self, *, is_visible: bool = True) -> Process:
        """Add a process."""
        process = Process(len(self.processes) + 1, is_visible=is_visible)
        self.processes[process.pid] = process
        return process

    def show(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let casket see these processes instead of real processes."""

        def this_process() -> dict[str, Any]:
            process = Process.current()
            assert process is not None
            return {"pid": process.pid}

        def is_alive(shown: dict[str, Any]) -> bool | None:
            stop()
            process = self.processes[shown["pid"]]
            return process.is_alive if process.is_visible else None

        monkeypatch.setattr(processes, "this_process", this_process)
        monkeypatch.setattr(processes, "is_alive", is_alive)
        monkeypatch.setattr(git, "dirty_check", Known)


class Known:
    """An answer of git that is there at once."""

    done = True

    def result(self, wait: float = 0.0) -> bool:
        return False
