"""Secrets and endless texts of other trackers: errors and commands are filtered as casket's own."""

from datetime import UTC, datetime

import pytest

import casket
from casket.format.records import Record
from casket.imports import load
from casket.imports.report import Report
from casket.imports.runs import Known, Names, Run, Translator
from tests.imports.sources import PLACES, sessions

FAILED = "OperationalError: postgresql://me:hush@db/runs refused password=hush"


def records_of(run: Run) -> list[Record]:
    translator = Translator("mlflow", Names(), None, Known([]), Report("mlflow", "mlruns"))
    return list(translator.records(run))


def test_the_error_of_an_imported_trial_holds_no_secret(data, target):
    (error,) = (data / PLACES["ray"]).rglob("error.txt")
    error.write_text(f"Traceback (most recent call last):\n{FAILED}\n")
    load(data / PLACES["ray"], target)
    (failed,) = (session for session in sessions(target) if session.status == "failed")
    assert failed.error == "OperationalError: postgresql://me:***@db/runs refused password=***"


@pytest.mark.parametrize("status", ["failed", "killed"])
def test_no_run_of_any_source_brings_a_secret_along(status):
    run = Run(["id"], "net", "digits", datetime.now(UTC), status=status, error=FAILED)
    run.meta = {"command": "train.py --token hush --lr 0.1", "user": "me"}
    start, end = (record for record in records_of(run) if record["kind"] in {"session", "end"})
    assert start["body"]["meta"]["command"] == "train.py --token *** --lr 0.1"
    assert "hush" not in end["body"]["error"]
    assert run.meta["command"].startswith("train.py --token hush")


def test_a_problem_of_an_import_is_short_and_holds_no_secret():
    report = Report("mlflow", "mlruns")
    report.problem("x" * 5_000, f"{FAILED} {'y' * 5_000}\nmore")
    ((what, why),) = report.problems
    assert len(what) == len(why) == 2_000
    assert "hush" not in why


def test_a_warning_is_short():
    with pytest.warns(casket.CasketWarning) as caught:
        casket.stores.base.warn("damaged: " + "x" * 5_000)
    assert len(str(caught[0].message)) == 2_000
