"""Sixteen processes share a file, and another reads it all the time."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import casket
from casket.stores.base import StoreOptions
from casket.stores.location import Location
from tests.crash.crew import Crew, acknowledged, context
from tests.crash.scripts import run_python
from tests.crash.workers import (
    append_once,
    come_and_go,
    contest_and_leave,
    continue_together,
    log_and_contest,
    model,
)
from tests.waiting import eventually

PROCESSES, EPOCHS, CONTESTS = 16, 300, 30
TOGETHER, EPOCHS_TOGETHER = 6, 200
LEAVING, LEAVING_CONTESTS = 8, int(os.environ.get("CASKET_CONTESTS", "50"))
COMING, VISITS = 4, {".json": 40, ".sqlite": 80}


class Reader:
    """Reads while others write, and remembers the sessions it has seen."""

    def __init__(self) -> None:
        self.looks = 0
        self.unfinished_looks = 0
        self._seen: dict[str, int] = defaultdict(int)

    def look(self, opened: casket.Casket) -> None:
        self.looks += 1
        sessions = opened.sessions()
        owners = [session for session in sessions if "own" in session.params]
        for session in owners:
            numbers = [epoch["epoch_num"] for epoch in session.epochs]
            assert numbers == list(range(1, len(numbers) + 1))
            assert len(numbers) >= self._seen[session.id], "epochs seen before are gone"
            if numbers:
                assert session.last["loss"] == 1 / len(numbers)
            self._seen[session.id] = len(numbers)
        holders = Counter(s.params["contest"] for s in sessions if "contest" in s.params)
        assert not holders or max(holders.values()) == 1
        self.unfinished_looks += any(0 < self._seen[s.id] < EPOCHS for s in owners)


def test_nothing_is_lost_or_out_of_order_and_each_contest_is_won_once(
    runs: Path, crew: Crew
) -> None:
    together = context.Barrier(PROCESSES)
    names = range(PROCESSES)
    for name in names:
        crew.start(log_and_contest, runs, name, EPOCHS, CONTESTS, together)
    reader = Reader()
    eventually(runs.exists, "nobody created the file")
    with casket.open(runs) as kept_open:
        while any(member.is_alive() for member in crew.members):
            reader.look(kept_open)
            with casket.open(runs) as opened:
                reader.look(opened)
    crew.finish()
    assert reader.unfinished_looks > 2, "it was not read while it was written"

    sessions = casket.open(runs).sessions()
    assert {session.status for session in sessions} == {"completed"}
    own = {s.params["own"]: s for s in sessions if "own" in s.params}
    assert sorted(own) == list(names)
    for name, session in own.items():
        wanted = [{"epoch_num": k, "loss": 1 / k, "of": name} for k in range(1, EPOCHS + 1)]
        got = [{key: epoch[key] for key in wanted[0]} for epoch in session.epochs]
        assert got == wanted
    won = {(int(k), name) for name in names for [k] in acknowledged(crew.folder / f"won-{name}")}
    assert sorted(contest for contest, _ in won) == list(range(1, CONTESTS + 1))
    contested = [s for s in sessions if "contest" in s.params]
    assert {(s.params["contest"], s.last["winner"]) for s in contested} == won
    assert len(sessions) == PROCESSES + CONTESTS
    assert len({name for _, name in won}) > 1, "one process won all: there was no contest"
    if runs.suffix == ".json":
        numbers = [int(number) for number in json.loads(runs.read_bytes())["_default"]]
        assert numbers == list(range(1, len(numbers) + 1))


def test_of_processes_that_leave_at_once_one_wins_each_contest(runs: Path, crew: Crew) -> None:
    """`CASKET_CONTESTS=3000` runs more of them than usual."""
    together = context.Barrier(LEAVING)
    for _ in range(LEAVING):
        crew.start(contest_and_leave, runs, LEAVING_CONTESTS, together)
    crew.finish()
    sessions = casket.open(runs).sessions()
    assert {session.status for session in sessions} == {"completed"}
    assert sorted(s.params["contest"] for s in sessions) == list(range(LEAVING_CONTESTS))


def test_processes_that_continue_one_session_at_once_keep_all_their_records(
    runs: Path, crew: Crew
) -> None:
    together = context.Barrier(TOGETHER)
    for name in range(TOGETHER):
        crew.start(continue_together, runs, name, EPOCHS_TOGETHER, together)
    crew.finish()
    (session,) = casket.open(runs).sessions()
    assert session.status == "completed"
    stored = Location.of(runs).open(StoreOptions(), writing=False).records(kinds={"epoch"})
    writers = [record["body"]["result"]["of"] for _, record in stored]
    assert sum(one != next_one for one, next_one in pairwise(writers)) > 2 * TOGETHER, "in turn"
    shown = [epoch["of"] for epoch in session.epochs]
    assert sum(one != next_one for one, next_one in pairwise(shown)) == TOGETHER - 1, "by writer"
    by_process = defaultdict(list)
    for epoch in session.epochs:
        by_process[epoch["of"]].append(epoch["epoch_num"])
    assert by_process == {name: list(range(1, EPOCHS_TOGETHER + 1)) for name in range(TOGETHER)}


def test_processes_that_come_and_go_lose_nothing(runs: Path, crew: Crew) -> None:
    append_once(runs)
    visits = VISITS[runs.suffix]
    for name in range(COMING):
        crew.start(come_and_go, runs, name, visits)
    sessions = 0
    while any(member.is_alive() for member in crew.members):
        with casket.open(runs) as opened:
            seen = len(opened.sessions())
        assert seen >= sessions, "sessions seen before are gone"
        sessions = seen
    crew.finish()
    with casket.open(runs) as opened:
        visits_seen = [(v.params["of"], v.params["k"]) for v in opened.sessions() if v.epochs]
    assert sorted(visits_seen) == [(name, k) for name in range(COMING) for k in range(visits)]


def test_a_process_that_also_reads_its_file_keeps_it_when_others_leave(
    runs: Path, crew: Crew
) -> None:
    with model(runs).session({"a": 1}) as session:
        session.add_epoch(1, {})
        with casket.open(runs) as opened:
            opened.sessions()
        model(runs).add_result({"by": "another handle"})
        crew.start(append_once, runs)
        crew.finish()
        session.add_epoch(2, {})
        code = f"import casket; print(len(casket.open({str(runs)!r}).sessions()[0].epochs))"
        assert run_python(code, crew.folder).stdout.strip() == "2"
