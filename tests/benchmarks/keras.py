"""What the Keras callback adds to a training.

Usage: python -m tests.benchmarks.keras
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads on shared cores are all noise

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

from casket import DBCallback, Experiment, Model

if TYPE_CHECKING:
    from tests.benchmarks.__main__ import Figure

EPOCHS = 50
ROUNDS = 15
BATCHES = 300
BATCH_SECONDS = 0.001


class Timed(DBCallback):
    """Adds up the time it spends on batches."""

    spent = 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        begun = time.perf_counter()
        super().on_train_batch_end(batch, logs)
        self.spent += time.perf_counter() - begun


class Steady(keras.Sequential):
    """Takes a millisecond for each batch, and never less."""

    def train_step(self, *arguments: Any, **named: Any) -> Any:
        until = time.perf_counter() + BATCH_SECONDS
        logs = super().train_step(*arguments, **named)
        while time.perf_counter() < until:
            pass
        return logs


def network(kind: type[keras.Sequential] = keras.Sequential) -> Any:
    """Return a small network, ready to be trained."""
    net = kind([layers.Input((64,)), layers.Dense(32, "relu"), layers.Dense(10, "softmax")])
    net.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return net


def digits() -> tuple[Any, Any]:
    """Return images and labels."""
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype("float32"), y


def seconds(net: Any, callbacks: Sequence[DBCallback]) -> float:
    """Return how long a fit of 50 epochs of four batches takes, validation included."""
    X, y = digits()
    options = {"epochs": EPOCHS, "batch_size": 128, "validation_split": 1 / 3, "verbose": 0}
    begun = time.perf_counter()
    net.fit(X[:768], y[:768], callbacks=list(callbacks), **options)
    return time.perf_counter() - begun


def short_epochs(model: Model) -> "Figure":
    """A fit of 50 short epochs with the callback, over one without."""
    from tests.benchmarks.__main__ import Figure

    net = network()
    seconds(net, [])
    plain, logged = [], []
    for n in range(ROUNDS):
        # Each in turn begins a round: what comes first finds another machine.
        for is_logged in (n % 2 == 0, n % 2 == 1):
            callbacks = [DBCallback(model, {"round": n})] if is_logged else []
            (logged if is_logged else plain).append(seconds(net, callbacks))
    floor, cost = statistics.median(plain), statistics.median(logged)
    detail = f"{floor * 1e3:.0f} ms without, {(cost - floor) * 1e3:+.1f} ms"
    return Figure("Keras, fit of 50 short epochs", (cost / floor - 1) * 100, 2, "%", detail)


def logged_batches(model: Model) -> "Figure":
    """The time that `batches=True` takes of a training of a millisecond a batch."""
    from tests.benchmarks.__main__ import Figure

    net, (X, y) = network(Steady), digits()
    X, y = np.resize(X, (BATCHES * 8, 64)), np.resize(y, BATCHES * 8)
    shares, costs = [], []
    for n in range(ROUNDS):
        callback = Timed(model, {"batches": n}, batches=True)
        begun = time.perf_counter()
        net.fit(X, y, batch_size=8, verbose=0, callbacks=[callback])
        took = max(time.perf_counter() - begun, BATCHES * BATCH_SECONDS)
        shares.append(callback.spent / took)
        costs.append(callback.spent / BATCHES)
    share = statistics.median(costs) / BATCH_SECONDS
    detail = (
        f"{statistics.median(costs) * 1e6:.1f} µs a batch; of a real fit "
        f"{statistics.median(shares):.2%}"
    )
    return Figure("Keras, batches=True at 1 ms a batch", share * 100, 1, "%", detail)


def logging_fits(folder: Path) -> list["Figure"]:
    """What epochs and what batches cost."""
    model = Experiment.use(folder / "runs.json", exp_id="bench").model("net")
    return [short_epochs(model), logged_batches(model)]


def main() -> int:
    """Print the figures; return 1 if a limit was missed."""
    with tempfile.TemporaryDirectory() as folder:
        figures = logging_fits(Path(folder))
    print(*figures, sep="\n")
    return int(any(figure.value > figure.limit for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
