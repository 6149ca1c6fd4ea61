"""What scripts use reads the same from a far store as from a file.

Captured files and system metrics are left out: it depends on time whether a short session has them.
"""

import numpy as np
import pytest

import casket
from casket import Experiment
from casket.cli.app import app


def run_script(url, folder):
    """Use everything that a session offers; return the id of the first session."""
    data = folder / "data"
    (data / "deep").mkdir(parents=True, exist_ok=True)
    (data / "a.txt").write_text("a")
    (data / "deep" / "b.txt").write_text("b")
    experiment = Experiment.use(url, exp_id="digits")
    model = experiment.model("net", {"units": 8})
    with model.session({"lr": 0.1}, tags=["old"], group="sweep") as session:
        session.add_params({"seed": 1})
        session.name = "warm start"
        session.add_tag("new")
        session.remove_tag("old")
        session.note("a note")
        session.log({"loss": 0.5})
        session.log({"loss": 0.4}, step=7)
        session.add_epoch(1, {"val_loss": 0.3})
        session.add_epoch(1, {"f1": 0.7})
        session.add_result({"acc": 0.9}, index_by="test")
        session.add_data("train", np.arange(6.0).reshape(3, 2))
        session.add_artifact("data", data)
        session.add_artifact("note.md", text="first")
        session.add_artifact("note.md", text="second", step=2)
        session.alert("high loss", "still 0.4", level="warning")
        for fold in (1, 2):
            with session.child({"fold": fold}, name=f"fold {fold}") as child:
                child.add_result({"acc": fold / 4})
        session.summarize_children()
    failed = model.session({"lr": 0.2})
    failed.add_epoch(3, {"val_loss": 0.8})
    failed.end("failed", error="ZeroDivisionError: division by zero")
    with model.resume(failed.id[:8]) as resumed:
        assert (resumed.is_continued, resumed.last_epoch) == (True, 3)
        resumed.add_epoch(4, {"val_loss": 0.2})
    with model.session({"lr": 0.2}, repeat=True) as again:
        again.add_epoch(1, {"val_loss": 0.4})
    experiment.close()
    return session.id


def seen(runs):
    """Return what a reader sees of all sessions, but for ids, times and processes."""
    return [
        {
            "name": view.named,
            "params": dict(view.params),
            "config": dict(view.config),
            "status": view.status,
            "tags": view.tags,
            "note": view.note,
            "group": view.group,
            "parent": view.parent and view.parent.named,
            "children": [child.named for child in view.children],
            "last": dict(view.last),
            "epochs": [dict(row, timestamp=None) for row in view.epochs],
            "batches": [dict(row, timestamp=None) for row in view.batches],
            "results": [dict(row, timestamp=None) for row in view.results()],
            "alerts": [(alert.title, alert.text, alert.level) for alert in view.alerts],
            "repeat": view.meta.get("repeat"),
            "data": view.meta.get("data"),
            "starts": len(view.meta.get("starts", ())),
            "artifacts": {
                name: [(one.step, one.load()) for one in artifact.history]
                for name, artifact in view.artifacts.items()
            },
        }
        for view in runs.sessions(children=True)
    ]


def test_everything_that_a_session_offers_reads_as_from_a_file(far, tmp_path, capsys):
    check(far.url, tmp_path, capsys)


def test_everything_that_a_session_offers_reads_from_blitzdb_as_from_a_file(tmp_path, capsys):
    pytest.importorskip("blitzdb")
    check(f"blitz:{tmp_path / 'blitz'}", tmp_path, capsys)


def check(url, tmp_path, capsys):
    local = str(tmp_path / "runs.sqlite")
    run_script(local, tmp_path)
    first = run_script(url, tmp_path)
    with casket.open(local) as wanted, casket.open(url) as runs:
        assert seen(runs) == seen(wanted)
        for one in (runs, wanted):
            assert [each.value for each in one.best("val_loss")] == [0.2, 0.3, 0.4]
            assert [group.n for group in one.group_by("params.lr")] == [1, 2]
            assert one.diff(*one.sessions()[:2]).params == {"lr": (0.1, 0.2), "seed": (1, None)}
        assert list(runs.to_pandas().columns) == list(wanted.to_pandas().columns)
    with casket.open(url, writing=True) as runs:
        runs.rename(first, "renamed")
        runs.tag(first, "paper")
        runs.note(first, "another note")
        renamed = runs["renamed"]
        assert (renamed.id, renamed.note) == (first, "another note")
        assert "paper" in renamed.tags
        runs.remove(where="lr == 0.2")
        assert [view.id for view in runs.sessions()] == [first]
    app(["show", url, "renamed"], standalone_mode=False)
    assert "high loss" in capsys.readouterr().out
