"""`kill -9` at random moments: acknowledged records are kept, and others continue.

The first test kills `CASKET_KILLS` processes, JSON and SQLite together; thousands
need pytest's `--timeout 0`.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import time
from collections.abc import Iterable
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

import casket
from casket import SessionView
from tests.crash import workers
from tests.crash.crew import Crew, acknowledged, context
from tests.crash.tracing import needs_strace, run_and_kill_at
from tests.waiting import PATIENCE, eventually

KILLS = int(os.environ.get("CASKET_KILLS", "120"))
VICTIMS = 4
"""Writers killed in a round."""
ROUNDS = {"starting": 0.06, "logging": 0.03, "heavy": 0.006}
"""Rounds on one file (it would grow too large to be read so often), and how many seconds the
kills take: from the start of the processes, else from when each has logged something."""
OTHER_KILLS = min(max(KILLS // 10, 8), 40)
"""Processes each of the other tests kills, for one store."""
EPOCHS = 20
"""Epochs of each session that is pruned, or kept."""

pytestmark = pytest.mark.filterwarnings("ignore:.*hold no whole record:casket.CasketWarning")


def kill_at_random(
    crew: Crew, victims: Iterable[BaseProcess], chance: random.Random, longest: float
) -> None:
    """Kill processes, each at a moment of its own, within `longest` seconds."""
    moments = sorted((chance.uniform(0, longest), i, v) for i, v in enumerate(victims))
    began = time.monotonic()
    for moment, _, victim in moments:
        time.sleep(max(began + moment - time.monotonic(), 0))
        victim.kill()
    crew.kill(*(victim for _, _, victim in moments))


class Ledger:
    """The records acknowledged to the writers of a file, and the content of the file."""

    def __init__(self, runs: Path, folder: Path) -> None:
        self.runs, self._folder = runs, folder
        self._written: dict[str, int] = {}
        self.logging = 0
        self.interrupted = 0

    def check(self, names: Iterable[str], *, killed: bool = True) -> None:
        """Compare the acknowledged records with the content of the file."""
        promised = {name: list(acknowledged(self._folder / name)) for name in names}
        views = self.read()
        for name, lines in promised.items():
            session = next((words[1] for words in lines if words[0] == "session"), None)
            if session is None:
                continue  # killed before its session had begun
            assert session in views, f"the session of {name} is gone"
            logged = sum(words[0] == "epoch" for words in lines)
            self._check_session(name, views[session], logged, killed)
            self.logging += killed and logged > 0
        for session, count_before in self._written.items():
            assert len(views[session].epochs) >= count_before, "epochs seen before are gone"
        self._written = {session: len(view.epochs) for session, view in views.items()}

    def _check_session(self, name: str, view: SessionView, logged: int, killed: bool) -> None:
        epochs = view.epochs
        there = len(epochs)
        assert there >= logged, f"{name}: {logged} acknowledged"
        for k, epoch in enumerate(epochs, 1):
            wanted = workers.content(name, k)
            assert {key: epoch[key] for key in wanted} == wanted
            assert epoch["epoch_num"] == k
        if killed:
            assert view.status == "killed"
            assert there <= logged + 1
            self.interrupted += there > logged

    def read(self) -> dict[str, SessionView]:
        with casket.open(self.runs) as opened:
            return {session.id: session for session in opened.sessions()}


def check_whole(runs: Path) -> None:
    """Check that the file is a whole document, as any program reads it."""
    if runs.suffix == ".json":
        numbers = [int(number) for number in json.loads(runs.read_bytes())["_default"]]
        assert numbers == sorted(set(numbers))
    else:
        import sqlite3

        connection = sqlite3.connect(runs)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


def test_every_acknowledged_epoch_survives_kills_and_params_can_be_run_again(
    runs: Path, crew: Crew
) -> None:
    chance = random.Random(f"{runs.suffix} {KILLS}")
    kills = logging = interrupted = 0
    for chapter in count():
        if kills >= KILLS // 2:
            break
        ledger = Ledger(runs.with_name(f"{chapter}-{runs.name}"), crew.folder)
        survivor = f"survivor.{chapter}"
        surviving = crew.start(workers.log_until_killed, ledger.runs, survivor, 0.005)
        for turn, seconds in ROUNDS.items():
            victims = [f"victim{i}.{chapter}.{turn}" for i in range(VICTIMS)]
            members = [
                crew.start(workers.log_until_killed, ledger.runs, victim) for victim in victims
            ]
            if turn != "starting":
                await_word(crew, "epoch", victims)
            if turn == list(ROUNDS)[-1]:
                members.append(surviving)
            kill_at_random(crew, members, chance, seconds)
            kills += len(members)
            ledger.check(victims)
            ledger.check([survivor], killed=surviving in members)
        race_for_killed(crew, ledger)
        logging += ledger.logging
        interrupted += ledger.interrupted
    print(f"{kills} kills, {logging} of them while logging, {interrupted} between write and return")
    assert logging > kills // 2, "most were killed before they logged anything"


def await_word(crew: Crew, word: str, names: Iterable[str]) -> None:
    """Wait until each of some processes has acknowledged something."""
    for name in names:
        log = crew.folder / name
        eventually(
            lambda log=log: any(words[0] == word for words in acknowledged(log)),
            f"{name} acknowledges nothing",
        )


def race_for_killed(crew: Crew, ledger: Ledger) -> None:
    """Let two processes contest the params of killed sessions: each is won once."""
    before = ledger.read()
    killed = sorted({view.params["victim"] for view in before.values()})[-2:]
    params = [{"victim": name} for name in killed]
    names = [f"{ledger.runs.stem}-racer{i}" for i in range(2)]
    together = context.Barrier(len(names))
    for name in names:
        crew.start(workers.take_over, ledger.runs, name, params, together)
    crew.finish()
    won = [words[0] for name in names for words in acknowledged(crew.folder / name)]
    assert sorted(won) == killed
    after = ledger.read()
    assert {name: after[name].epochs for name in before} == {
        name: view.epochs for name, view in before.items()
    }
    new = [view for name, view in after.items() if name not in before]
    assert sorted(view.params["victim"] for view in new) == killed
    assert {view.status for view in new} == {"completed"}
    check_whole(ledger.runs)


def test_a_write_cut_anywhere_by_the_death_of_its_process_is_healed_by_the_next(
    runs: Path, crew: Crew
) -> None:
    chance = random.Random(4)
    ledger = Ledger(runs, crew.folder)
    workers.append_once(runs)
    for i in range(OTHER_KILLS):
        name = f"victim.{i}"
        bytes_ = chance.choice([chance.randrange(3_000), chance.randrange(300_000)])
        member = crew.start(workers.log_until_cut, runs, name, bytes_)
        member.join(PATIENCE)
        assert member.exitcode == -signal.SIGXFSZ, crew.errors()
        crew.members.remove(member)
        ledger.check([name])
        workers.append_once(runs)
        ledger.check([name])
        check_whole(runs)
    print(f"{OTHER_KILLS} writes cut, {ledger.logging} of epochs")
    assert ledger.logging > OTHER_KILLS // 3


def test_artifacts_acknowledged_before_a_kill_are_whole(runs: Path, crew: Crew) -> None:
    chance = random.Random(1)
    kills = promised = 0
    while kills < OTHER_KILLS:
        names = [f"a{kills}-{i}" for i in range(VICTIMS)]
        members = [crew.start(workers.add_artifacts_until_killed, runs, name) for name in names]
        await_word(crew, "kept", names[:1])
        kill_at_random(crew, members, chance, 0.15)
        kills += len(members)
        sessions = {view.params["of"]: view for view in casket.open(runs).sessions()}
        for name in names:
            for _, k, sha256 in acknowledged(crew.folder / name):
                promised += 1
                assert sessions[name].artifacts[f"{k}.bin"].sha256 == sha256
        for view in sessions.values():
            assert view.status == "killed"
            for artifact in view.artifacts.values():
                data = artifact.load()
                assert hashlib.sha256(data).hexdigest() == artifact.sha256
                assert len(data) == artifact.size
    print(f"{kills} kills, {promised} artifacts acknowledged")


def test_sessions_killed_around_their_start_and_end_read_as_what_was_acknowledged(
    runs: Path, crew: Crew
) -> None:
    chance = random.Random(2)
    kills = ended = 0
    while kills < OTHER_KILLS:
        names = [f"s{kills}-{i}" for i in range(VICTIMS)]
        members = [crew.start(workers.begin_and_end_until_killed, runs, name) for name in names]
        await_word(crew, "ended", names[:1])
        kill_at_random(crew, members, chance, 0.15)
        kills += len(members)
        sessions = casket.open(runs).sessions()
        for name in names:
            of_name = {view.params["k"]: view for view in sessions if view.params["of"] == name}
            logged = {"started": 0, "logged": 0, "ended": 0}
            logged |= {word: int(k) for word, k in acknowledged(crew.folder / name)}
            ended += logged["ended"]
            assert list(of_name) == list(range(1, len(of_name) + 1))
            assert len(of_name) - logged["started"] in {0, 1}
            for k, view in of_name.items():
                assert view.status in {"completed", "killed"}
                assert view.status == "completed" or k > logged["ended"]
                assert view.results() == [{"k": k}] or k > logged["logged"]
    print(f"{kills} kills, {ended} ends acknowledged")


def test_kills_while_sessions_are_pruned_lose_nothing_of_the_others(runs: Path, crew: Crew) -> None:
    chance = random.Random(3)
    kills = pruned = 0
    while kills < OTHER_KILLS:
        ledger = Ledger(runs.with_name(f"{kills}-{runs.name}"), crew.folder)
        kept, condemned = workers.sessions_to_prune(ledger.runs, 40, EPOCHS)
        survivor, writer, pruner = (f"{name}.{kills}" for name in ("survivor", "writer", "pruner"))
        surviving = crew.start(workers.log_until_killed, ledger.runs, survivor)
        writing = crew.start(workers.log_until_killed, ledger.runs, writer)
        pruning = crew.start(workers.prune_until_killed, ledger.runs, pruner, condemned)
        await_word(crew, "epoch", [survivor, writer])
        await_word(crew, "pruned", [pruner])
        kill_at_random(crew, [writing, pruning], chance, 0.06)
        time.sleep(0.02)  # for the survivor, who may have waited for the pruner
        ledger.check([survivor], killed=False)
        crew.kill(surviving)
        kills += 3
        ledger.check([survivor, writer])
        gone = [words[1] for words in acknowledged(crew.folder / pruner)]
        pruned += len(gone)
        left = ledger.read()
        assert not left.keys() & set(gone)
        assert workers.tombstones(ledger.runs) == set(condemned) - left.keys()
        for session in [*kept, *condemned[len(gone) + 1 :]]:
            assert left[session].status == "completed"
            assert [e["epoch_num"] for e in left[session].epochs] == list(range(1, EPOCHS + 1))
        crew.start(workers.append_once, ledger.runs)
        crew.finish()
        check_whole(ledger.runs)
    print(f"{kills} kills, {pruned} prunings acknowledged")


CREATE = """
from casket import Experiment as E
E.use({runs!r}, exp_id="e")
"""
CALLS_OF_CREATION = {
    ".json": [("pwrite64", 1), ("flock", 2), ("fdatasync", 1), ("fsync", 1)],
    ".sqlite": [("fdatasync", n) for n in (1, 4, 7, 8)] + [("pwrite64", 9), ("pwrite64", 10)],
}


@needs_strace
def test_a_file_whose_creator_was_killed_can_be_read_and_used(runs: Path) -> None:
    killed = 0
    for call, number in CALLS_OF_CREATION[runs.suffix]:
        created = runs.with_name(f"{call}-{number}-{runs.name}")
        killed += run_and_kill_at(CREATE.format(runs=str(created)), runs.parent, call, number)
        with casket.open(created) as opened:
            assert len(opened.experiments) <= 1
        workers.append_once(created)
        with casket.open(created) as opened:
            assert [view.status for view in opened.sessions()] == ["completed"]
        check_whole(created)
    assert killed > 2, "creating a file makes other calls than these"


PRUNE = """
from pathlib import Path
from casket.format.records import Writer, deletion
from tests.crash import workers

store = workers.model(Path({runs!r})).backend.store
store.prune(deletion(Writer(), sessions=[{session!r}]))
"""

CALLS = {
    ".json": [("write", 1), ("fsync", 1), *[("rename", 1), ("fsync", 2), ("ftruncate", 1)] * 2],
    ".sqlite": [("pwrite64", 3), ("pwrite64", 12), *[("fdatasync", n) for n in (1, 2, 3, 4)]],
}
"""System calls of a pruning, and which of them."""


@needs_strace
def test_a_pruner_killed_at_its_system_calls_loses_nothing_of_a_writer(
    runs: Path, crew: Crew
) -> None:
    ledger = Ledger(runs, crew.folder)
    kept, condemned = workers.sessions_to_prune(runs, 10, 1)
    survivor = "light-survivor.0"
    surviving = crew.start(workers.log_until_killed, runs, survivor, 0.001)
    await_word(crew, "epoch", [survivor])
    for (call, number), session in zip(CALLS[runs.suffix], condemned, strict=False):
        code = PRUNE.format(runs=str(runs), session=session)
        assert run_and_kill_at(code, crew.folder, call, number), f"{call} {number} is not made"
    crew.kill(surviving)
    ledger.check([survivor])
    left = ledger.read()
    assert workers.tombstones(runs) == set(condemned) - left.keys()
    for session in [*kept, *condemned[len(CALLS[runs.suffix]) :]]:
        assert len(left[session].epochs) == 1
    crew.start(workers.append_once, runs)
    crew.finish()
    check_whole(runs)
