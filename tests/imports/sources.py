"""The sources that the tests import, and functions that read the results."""

import math
from pathlib import Path

import casket

DATA = Path(__file__).parent / "data"

PLACES = {
    "mlflow": "mlflow/mlflow.db",
    "mlflow files": "filestore",
    "sacred": "sacred",
    "trackio": "trackio/digits.db",
    "lightning": "lightning",
    "keras": "keras/training.csv",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "optuna": "optuna/studies.db",
    "optuna journal": "optuna/studies.log",
    "ray": "ray",
    "transformers": "transformers",
    "dvclive": "dvclive",
}


def sessions(path):
    with casket.open(path) as runs:
        return runs.sessions(children=True)


def read(value):
    """Return a number of `expected.json`, where NaN and the infinities are text."""
    return float(value) if value in {"nan", "inf", "-inf"} else value


def points(session):
    """Return every (metric, step, value) of a session's epochs, sorted, NaN as text."""
    return in_order(
        (name, epoch["epoch_num"], value)
        for epoch in session.epochs
        for name, value in epoch.items()
        if name not in {"epoch_num", "timestamp"}
    )


def in_order(rows):
    return sorted((name, step, "nan" if is_nan(value) else value) for name, step, value in rows)


def is_nan(value):
    return isinstance(value, float) and math.isnan(value)
