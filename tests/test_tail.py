"""The latest sessions, read without the records of the others, are those of a full reading."""

import random

import pytest

import casket
from casket.cli.listing import listing
from casket.format.records import Writer, deletion, utc
from casket.reading.query import Names
from casket.reading.summary import facts
from casket.reading.tail import read_tail
from casket.stores.base import StoreOptions
from casket.stores.jsonfile import scan
from casket.stores.location import Location

BEGUN = 1_790_000_000


class History:
    """Random records of some sessions, as writers, merges and removals leave them."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.writers = [Writer() for _ in range(3)]
        self.sessions = []
        self.records = []
        self.has_children = self.rng.random() < 0.2

    def add(self, kind, body, owner, writer=None):
        time = utc(BEGUN + self.rng.choice([0, 0.5, self.rng.random() * 1e5]))
        writer = writer or self.rng.choice(self.writers)
        self.records.append(writer.record(kind, body, time, **owner))

    def owner(self):
        number = self.rng.randrange(3)
        return {"experiment": f"e{number % 2}", "model": f"m{number}"}

    def start(self, owner, follows=0):
        self.sessions.append(owner)
        body = {"params": {"lr": self.rng.random()}, "meta": {}, "process": {"host": "elsewhere"}}
        body |= {"follows": follows} if follows else {}
        first = self.sessions[0]
        if self.has_children and owner["session"] != first["session"] and self.rng.random() < 0.2:
            body["parent"] = first["session"]
        self.add("session", body, owner)

    def step(self):
        """Add one or more records of a random kind."""
        rng, owner = self.rng, self.owner()
        known = rng.choice(self.sessions) if self.sessions else None
        kind = rng.choice(["start", "epoch", "epoch", "epoch", "end", "again", "tag", "head"])
        if kind == "start" or known is None:
            self.start({**owner, "session": f"{rng.getrandbits(64):016x}"})
        elif kind == "epoch":
            for epoch in range(rng.randrange(5)):
                self.add("epoch", {"epoch_num": epoch, "result": {"loss": rng.random()}}, known)
        elif kind == "end":
            body = {"status": rng.choice(["completed", "failed"]), "of": self.writers[0].id}
            self.add("end", body, known)
        elif kind == "again":
            self.start(known, follows=rng.randrange(3))
        elif kind == "tag":
            self.add(
                "tag",
                {"add": [f"tag {rng.randrange(3)}"]},
                rng.choice([known, {"experiment": "e1"}]),
            )
        else:
            self.add(
                "experiment", {"tags": ["t"], "facts": {}}, {"experiment": owner["experiment"]}
            )
            self.add("model", {"config": {"size": rng.randrange(9)}}, owner)

    def write(self, store):
        """Write the records, with removals among them."""
        rng = self.rng
        for _ in range(rng.randrange(1, 8)):
            for _ in range(rng.randrange(1, 8)):
                self.step()
            if self.records:
                store.append(self.records)
            self.records = []
            if rng.random() < 0.2:
                sessions = [each["session"] for each in rng.sample(self.sessions, 1)]
                models = [("e0", "m0")] if rng.random() < 0.3 else []
                store.prune(deletion(self.writers[0], sessions=sessions, models=models))
            if rng.random() < 0.1:  # as a merge leaves it
                store.append([deletion(self.writers[1], sessions=[self.sessions[-1]["session"]])])
            if rng.random() < 0.1:
                self.add(
                    "epoch", {"epoch_num": 1, "result": {}}, {**self.owner(), "session": "lost"}
                )


@pytest.fixture
def searched(monkeypatch):
    """Let small documents be searched as large ones are."""
    monkeypatch.setattr(scan, "EDITED", 0)


def shown(sessions):
    """Return the content of a listing, except values that depend on the current time."""
    rows = [{**facts(each), "age": None, "config": each.config} for each in sessions]
    return rows, listing(sessions, [], Names(sessions)) if sessions else ""


@pytest.mark.filterwarnings("ignore::casket.CasketWarning")
def test_the_quick_table_is_the_full_one(file_url, searched):
    location, quick = Location.of(file_url), 0
    for seed in range(120):
        location.path.unlink(missing_ok=True)
        history = History(seed)
        store = location.open(StoreOptions(), writing=True)
        history.write(store)
        store.close()
        with casket.open(file_url) as runs:
            sessions = runs.sessions()
        for _ in range(2):
            count, offset = history.rng.randrange(1, 6), history.rng.choice([0, 0, 1, 3, 50])
            tail = read_tail(file_url, count, offset)
            if tail is not None:
                quick += 1
                stop = max(len(sessions) - offset, 0)
                assert shown(tail.sessions) == shown(sessions[max(stop - count, 0) : stop]), seed
                assert tail.total == len(sessions), seed
    assert quick > 60
