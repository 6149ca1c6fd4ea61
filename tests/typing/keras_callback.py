"""The type of `casket.DBCallback`, which is imported lazily."""

from typing import assert_type

import casket
from casket import DBCallback
from casket_integrations.recorder import Recorder


def fitting(model: casket.Model) -> None:
    callback = DBCallback(model, {"lr": 0.1}, 2, batches=True, ensure_unique=False)
    assert_type(callback, casket.DBCallback)
    assert_type(callback.recorder, Recorder)
    DBCallback("runs.json", exp_id="digits", model_id="dense", on_error="raise")


def mistakes(model: casket.Model) -> None:
    DBCallback(model, batches="all")  # type: ignore[arg-type]
    DBCallback(model, on_error="ignore")  # type: ignore[arg-type]
    DBCallback(7)  # type: ignore[arg-type]
