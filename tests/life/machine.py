"""A state machine that lets simulated processes begin, continue, end and lose sessions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from casket import ExistingParamsException, Experiment, Session
from casket.format.artifacts import ArtifactFolder
from casket.format.records import Writer, deletion
from casket.reading.casket import Casket
from casket.testing import Reopen
from tests.life.truth import Truth
from tests.life.world import Killed, Process, StoppingStore, World

PARAMS = ({"lr": 0.1}, {"lr": 0.1}, {"lr": 0.1}, {"lr": 0.2})
HOW: dict[str, Callable[[Any, dict[str, float]], Session]] = {
    "unique": lambda model, params: model.session(params),
    "continued": lambda model, params: model.session(params, ensure_unique=False),
    "repeated": lambda model, params: model.session(params, repeat=True),
    "resumed": lambda model, params: model.resume_last(params),
}
STEPS = 50
"""Steps of one run of the machine."""

WRITERS, READERS = 3, 2


class Writing:
    """A process with at most a single open session."""

    def __init__(self, process: Process, model: Any) -> None:
        self.process = process
        self.model = model
        self.session: Session | None = None
        self.epoch = 0


class SessionsOfManyProcesses(RuleBasedStateMachine):
    """Checks each step against `Truth`.

    Args:
        reopen: opens the store, another handle each time.
        artifacts: a folder for artifacts, which there are none of.
        world: shown to casket by the test.
    """

    runs = 0

    def __init__(self, reopen: Reopen, artifacts: ArtifactFolder, world: World) -> None:
        super().__init__()
        type(self).runs += 1
        self.reopen, self.artifacts, self.world = reopen, artifacts, world
        self.experiment = f"run {type(self).runs}"
        self.truth = Truth(self._may_live)
        self.was: dict[int, list[dict[str, str]]] = {}
        self.stores: list[Any] = []

    def _may_live(self, pid: int) -> bool:
        process = self.world.processes[pid]
        return process.is_alive or not process.is_visible

    def _open(self) -> StoppingStore:
        store = StoppingStore(self.reopen(), self._note)
        self.stores.append(store)
        return store

    def _note(self, records: Any, claim: str | None) -> None:
        process = Process.current()
        joins = process is not None and process.action == "continued"
        self.truth.note(records, claim, joins=joins)
        self._remember()

    def _remember(self) -> None:
        """Keep how sessions stand, for all calls that are going on."""
        for statuses in self.was.values():
            statuses.append(self.truth.statuses())

    @initialize(visible=st.lists(st.booleans(), min_size=WRITERS, max_size=WRITERS))
    def begin(self, visible: list[bool]) -> None:
        self.writing = [
            self._new_writing(is_visible=each or i > 0) for i, each in enumerate(visible)
        ]
        self.reading = []
        for _ in range(READERS):
            runs = Casket(self._open(), self.artifacts, "the store", self.experiment)
            self.reading.append((self.world.new_process(), runs))

    def _new_writing(self, *, is_visible: bool = True) -> Writing:
        experiment = Experiment(":memory:", exp_id=self.experiment)
        experiment.backend.store = self._open()
        with suppress(Exception):
            experiment._create()
        return Writing(self.world.new_process(is_visible=is_visible), experiment.model("m"))

    # Writers.

    @rule(
        who=st.integers(0, WRITERS - 1),
        how=st.sampled_from([*HOW, "unique", "unique"]),
        params=st.sampled_from(PARAMS),
        status=st.sampled_from(["completed", "failed"]),
        what=st.sampled_from(["log", "log", "end", "params"]),
    )
    def go_on(self, who: int, how: str, params: dict[str, float], status: Any, what: str) -> None:
        """Let a process take its next step, or begin its next action."""
        writing = self.writing[who]
        process, session = writing.process, writing.session
        if process.is_busy:
            process.step()
        elif session is None:
            self.was[process.pid] = [self.truth.statuses()]
            process.start(lambda: HOW[how](writing.model, params), how)
        elif what == "log":
            writing.epoch += 1
            process.start(lambda: session.add_epoch(writing.epoch, {"loss": 1.0}))
        elif what == "params":
            self.was[process.pid] = [self.truth.statuses()]
            process.start(lambda: session.add_params(params))
        else:
            process.start(lambda: session.end(status))
            writing.session = None
        self._settle(writing)

    def _settle(self, writing: Writing) -> None:
        process = writing.process
        if process.is_busy:
            return
        outcome = process.outcome
        was = self.was.pop(process.pid, [])
        if isinstance(outcome, Session):
            writing.session = outcome
        elif isinstance(outcome, ExistingParamsException):
            statuses = {statuses.get(outcome.session.id) for statuses in was}
            assert statuses & {"running", "completed"}, f"refused for {statuses}"
        elif isinstance(outcome, BaseException):
            raise outcome
        process.outcome = None

    @rule(who=st.integers(0, WRITERS - 1))
    def run_through(self, who: int) -> None:
        """Let a process finish its action."""
        writing = self.writing[who]
        while writing.process.is_busy:
            writing.process.step()
        self._settle(writing)

    @rule(who=st.integers(0, WRITERS - 1), status=st.sampled_from(["completed", "failed", None]))
    def leave(self, who: int, status: Any) -> None:
        """Let a process finish, end its session if there is a status, and be gone at once."""
        self.run_through(who)
        writing = self.writing[who]
        if writing.session is not None and status is not None:
            writing.process.start(lambda: writing.session.end(status))
            self.run_through(who)
        self.kill(who)

    @rule(
        who=st.integers(0, WRITERS - 1),
        other=st.integers(1, WRITERS - 1),
        how=st.sampled_from(sorted(HOW)),
        steps=st.integers(0, 12),
        status=st.sampled_from(["completed", "completed", "failed", None]),
    )
    def overtake(self, who: int, other: int, how: str, steps: int, status: Any) -> None:
        """Let a process take some steps of a beginning, while another ends and leaves."""
        beginning = self.writing[who]
        self.run_through(who)
        if beginning.session is not None:
            self.leave(who, "failed")
            beginning = self.writing[who]
        self.go_on(who, how, PARAMS[0], status, "log")
        for _ in range(steps):
            if beginning.process.is_busy:
                beginning.process.step()
        self._settle(beginning)
        self.leave((who + other) % WRITERS, status)
        self.run_through(who)

    @rule(who=st.integers(0, WRITERS - 1))
    def kill(self, who: int) -> None:
        """Kill a process between two steps; another takes its place."""
        process = self.writing[who].process
        process.kill()
        assert process.outcome is None or isinstance(process.outcome, (Killed, Session))
        self.was.pop(process.pid, None)
        self._remember()
        self.writing[who] = self._new_writing(is_visible=process.is_visible)

    # Readers.

    @rule(who=st.integers(0, READERS - 1), through=st.booleans())
    def look(self, who: int, through: bool) -> None:
        """Let a reader take its next step, or look at the sessions."""
        process, runs = self.reading[who]
        if process.is_busy:
            process.step()
        else:
            self.was[process.pid] = [self.truth.statuses()]
            process.start(lambda: {s.id: (s.status, _epochs(s)) for s in runs.sessions()})
        while through and process.is_busy:
            process.step()
        if not process.is_busy:
            self._check_look(process)

    def _check_look(self, process: Process) -> None:
        if isinstance(process.outcome, BaseException):
            raise process.outcome
        was = self.was.pop(process.pid)
        for session, status in was[0].items():
            assert session in process.outcome, f"{session} ({status}) is missing"
        for session, (status, _) in process.outcome.items():
            possible = {statuses[session] for statuses in was if session in statuses}
            assert status in possible, f"{session} reads {status}, was {possible}"

    @precondition(lambda self: not any(w.process.is_busy for w in self.writing))
    @invariant()
    def repeats_are_numbered(self) -> None:
        for numbers in self.truth.repeats.values():
            assert sorted(numbers) == list(range(1, len(numbers) + 1))

    def teardown(self) -> None:
        """Compare all there is, then make room for the next run."""
        for process in self.world.processes.values():
            process.kill()
        store = self.reopen()
        view = Casket(store, self.artifacts, "the store", self.experiment)
        reader = self.world.new_process()
        reader.start(lambda: {s.id: (s.status, _epochs(s)) for s in view.sessions()})
        while reader.is_busy:
            reader.step()
        if isinstance(reader.outcome, BaseException):
            raise reader.outcome
        wanted = {s: (self.truth.status(s), self.truth.epochs_of(s)) for s in self.truth.starts}
        assert reader.outcome == wanted
        store.prune(deletion(Writer(), experiments=[self.experiment]))
        for opened in [*self.stores, store]:
            opened.close()
        self.world.processes.clear()


def _epochs(session: Any) -> list[int]:
    return [epoch["epoch_num"] for epoch in session.epochs]
