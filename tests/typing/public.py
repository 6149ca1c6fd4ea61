"""The types of the public names; `make lint` runs mypy over it."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, assert_type

import pandas as pd
import polars as pl

import casket
from casket import Experiment as E
from casket.reading.views import Status


class Mine(E):
    def get_id(self) -> str:
        return "mine"


def writing(path: Path) -> None:
    exp = E.use(path, exp_id="digits", tags=("svm",), sync="always", owner="me", n=3)
    assert_type(exp, casket.Experiment)
    assert_type(Mine.new("runs.json"), Mine)
    model = exp.model("SVM", {"kernel": "rbf"})
    assert_type(model, casket.Model)
    model.add_result({"accuracy": 0.97}, params={"C": 1})
    with model.session({"lr": 0.1}, ensure_unique=True) as session:
        assert_type(session, casket.Session)
        session.add_epoch(1, {"loss": 0.3}, timestamp=True)
        session.add_batch(17, {"loss": 0.31}, epoch=1)
        session.add_result({"test_acc": 0.97}, index_by="test")
        session.add_meta({"gpu": "none"})
        session.add_artifact("model.joblib", b"")
        assert_type(session.id, str)
        assert_type(session.params, dict[str, Any])
        with session.child({"fold": 1}, ensure_unique=False) as fold:
            assert_type(fold, casket.Session)
        assert_type(session.summarize_children(), dict[str, float])
        assert_type(model.within(session.id), casket.Model)


def reading(path: Path) -> None:
    with casket.open(path) as runs:
        assert_type(runs, casket.Casket)
        for s in runs.sessions(model="SVM", where=lambda s: s.params["lr"] < 1):
            assert_type(s, casket.SessionView)
            assert_type(s.started, datetime)
            assert_type(s.ended, datetime | None)
            assert_type(s.duration, timedelta)
            assert_type(s.tags, tuple[str, ...])
            assert_type(s.epochs[0], dict[str, Any])
            assert_type(s.artifacts["model.joblib"].path, Path)
            assert_type(s.parent, casket.SessionView | None)
            assert_type(s.children, list[casket.SessionView])
        assert_type(runs["8f3a"], casket.SessionView)
        assert_type(runs.to_pandas("epochs", where="lr < 1", children=True), pd.DataFrame)
        groups = runs.group_by("params.lr", "seed", status="failed")
        assert_type(groups[0].values, dict[str, Any])
        assert_type(groups[0].n, int)
        assert_type(groups[0].mean("loss"), float)
        assert_type(groups[0].interval("loss").margin, float)
        assert_type(groups[0].to_pandas(), pd.DataFrame)
        assert_type(groups.mean("loss")[0].mean, float)
        assert_type(groups.mean("loss").to_polars(), pl.DataFrame)
        best = runs.best("loss", "min", where=lambda s: s.status == "completed", top=3)
        assert_type(best[0].value, float)
        assert_type(best[0].session, casket.SessionView)
        assert_type(best.to_pandas(), pd.DataFrame)
        difference = runs.diff("lr == 1", runs.sessions(), all=True)
        assert_type(difference.params, dict[str, tuple[Any, Any]])
        assert_type(difference.to_polars(), pl.DataFrame)
        assert_type(runs.to_polars("sessions"), pl.DataFrame)


def changing(path: Path) -> None:
    with casket.open(path, writing=True) as runs:
        assert_type(runs, casket.EditableCasket)
        runs.tag("@last", "a", "b")
        runs.untag(runs["8f3a"], "a")
        runs.note(runs.experiments[0], "text")
        assert_type(runs.remove("8f3a", where="loss > 1", force=True).sessions["8f3a"], Status)


def mistakes(model: casket.Model) -> None:
    model.session({"lr": 0.1}, ensure_unique="no")  # type: ignore[arg-type]
    E.use("runs.json", sync="never")  # type: ignore[arg-type]
    model.to_pandas("rows")  # type: ignore[arg-type]
    model.to_pandas(wher="lr < 1")  # type: ignore[call-arg]
    casket.open("runs.json").tag("@last", "a")  # type: ignore[attr-defined]
