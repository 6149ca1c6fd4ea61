"""The fold of records does not depend on the size of its batches."""

import random
import warnings

import pytest

from casket import CasketWarning
from casket.format.artifacts import ArtifactFolder
from casket.format.records import Writer, deletion
from casket.reading.casket import STATUSES
from casket.reading.fold import Fold

SESSIONS = [f"{i:016x}" for i in range(4)]


def some_records(rng):
    """Return records of a few sessions by several writers, in the disorder that merging makes."""
    writers = [Writer() for _ in range(3)]
    writer = writers[0]
    made = [
        writer.record("experiment", {"tags": ["first"], "facts": {}}, experiment="exp"),
        writer.record("model", {"config": {"kernel": "rbf"}}, experiment="exp", model="net"),
    ]
    for i in range(300):
        writer, session = rng.choice(writers), rng.choice(SESSIONS)
        owner = {"experiment": "exp", "model": "net", "session": session}
        kind = rng.choices(
            ["epoch", "batch", "result", "session", "meta", "tag", "end", "deleted", "copy"],
            [40, 20, 10, 5, 5, 5, 5, 1, 5],
        )[0]
        metrics = {"loss": i / 7} if rng.random() < 0.9 else {"loss": None, "note": "text"}
        bodies = {
            "epoch": {"epoch_num": i, "result": metrics},
            "batch": {"batch_num": i, "epoch": rng.choice([None, 1]), "result": metrics},
            "result": {"index": rng.choice([None, "test"]), "result": metrics},
            "session": {"params": {"i": i}, "meta": {"host": "a"}, "process": {}},
            "meta": {"i": i},
            "tag": {"add": [str(i)]},
            "end": {"status": "completed", "of": writer.id},
        }
        if kind == "deleted":
            made.append(deletion(writer, sessions=[session]))
        elif kind == "copy":
            made.append(rng.choice(made))
        else:
            made.append(writer.record(kind, bodies[kind], **owner))
    return made


def shown(fold):
    """Return all that can be asked of a fold's sessions, in their order."""
    return [
        (
            session.id, session.started, session.last_seen, session.status, session.params,
            session.config, session.meta, session.tags, session.epochs, session.batches,
            session.results(), session.results("test"), session.indexes, dict(session.last),
        )
        for session in fold.sessions.values()
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_records_taken_together_add_up_to_the_same_as_one_by_one(seed, tmp_path):
    records = some_records(random.Random(seed))
    alone, together, in_parts = (Fold(ArtifactFolder(tmp_path)) for _ in range(3))
    new = [record for each in records for record in alone.add([each])]
    assert together.add(records) == new
    assert [each for at in range(0, 400, 7) for each in in_parts.add(records[at : at + 7])] == new
    assert len(alone.sessions) >= 3
    assert shown(together) == shown(in_parts) == shown(alone)


@pytest.mark.parametrize(
    "edit",
    [{"body": {}}, {"body": None}, {"body": []}, {"v": "1"}, {"session": [1]}, {"time": None}],
    ids=str,
)
@pytest.mark.parametrize("kind", ["session", "end", "meta", "epoch"])
def test_a_record_that_somebody_edited_costs_no_other(kind, edit, tmp_path):
    fold, writer = Fold(ArtifactFolder(tmp_path)), Writer()
    owner = {"experiment": "exp", "model": "net", "session": SESSIONS[0]}
    epochs = [
        writer.record("epoch", {"epoch_num": i, "result": {"loss": 0.5}}, **owner) for i in range(4)
    ]
    odd = {**writer.record(kind, {"of": "x", "status": "failed", "epoch_num": 9}, **owner), **edit}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CasketWarning)
        fold.add([*epochs[:2], odd, *epochs[2:]])
    session = fold.sessions[SESSIONS[0]]
    assert [row["epoch_num"] for row in session.epochs if "loss" in row] == [0, 1, 2, 3]
    assert session.status in STATUSES


def test_a_record_that_somebody_edited_is_named(tmp_path):
    fold, writer = Fold(ArtifactFolder(tmp_path)), Writer()
    end = writer.record("end", {}, experiment="exp", model="net", session=SESSIONS[0])
    with pytest.warns(CasketWarning, match=f"'end', {writer.id}:1, has no 'of'"):
        fold.add([end])
