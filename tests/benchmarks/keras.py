"""The overhead of the Keras callback in a training.

Usage: python -m tests.benchmarks.keras
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
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
ROUNDS = 41
EVENTS = ("on_train_begin", "on_epoch_begin", "on_train_batch_end", "on_epoch_end", "on_train_end")
BATCHES = 300
BATCH_SECONDS = 0.001


class Idle(keras.callbacks.Callback):
    """Does nothing with a batch; its event takes as long as the clock itself."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        pass


def clocked(callback: Any) -> dict[str, list[float]]:
    """Let a callback note how long each of its events takes, in seconds; return the notes."""
    took: dict[str, list[float]] = {event: [] for event in EVENTS}

    def timed(call: Callable[..., None], notes: list[float]) -> Callable[..., None]:
        def event(*arguments: Any, **named: Any) -> None:
            begun = time.perf_counter()
            call(*arguments, **named)
            notes.append(time.perf_counter() - begun)

        return event

    for name, notes in took.items():
        setattr(callback, name, timed(getattr(callback, name), notes))
    return took


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
    """The ratio of a fit of 50 short epochs with the callback and without it."""
    from tests.benchmarks.__main__ import Figure

    net = network()
    seconds(net, [])
    took: dict[bool, list[float]] = {False: [], True: []}
    own = []
    for n in range(ROUNDS):
        callback = DBCallback(model, {"round": n})
        events = clocked(callback)
        # Each in turn begins a round: the first of a round runs on a colder machine.
        for is_logged in (n % 2 == 0, n % 2 == 1):
            took[is_logged].append(seconds(net, [callback] if is_logged else []))
        own.append(sum(map(sum, events.values())))
    more = statistics.median(
        logged / plain - 1 for plain, logged in zip(took[False], took[True], strict=True)
    )
    floor = statistics.median(took[False])
    detail = (
        f"{floor * 1e3:.0f} ms without; "
        f"{statistics.median(own) * 1e3:.1f} ms in the callback's own events"
    )
    return Figure("Keras, fit of 50 short epochs", more * 100, 2, "%", detail)


def short_batches(model: Model) -> "Figure":
    """The callback's share of a training with a millisecond per batch, by its own clock."""
    from tests.benchmarks.__main__ import Figure

    net, (X, y) = network(Steady), digits()
    X, y = np.resize(X, (BATCHES * 8, 64)), np.resize(y, BATCHES * 8)
    callback, idle = DBCallback(model, {"in fit": True}, batches=True), Idle()
    events, clock = clocked(callback), clocked(idle)["on_train_batch_end"]
    net.fit(X, y, batch_size=8, epochs=ROUNDS, verbose=0, callbacks=[callback, idle])
    batches = np.reshape(np.subtract(events["on_train_batch_end"], clock), (ROUNDS, BATCHES))
    cost = float(np.median(batches.sum(axis=1) + events["on_epoch_end"])) / BATCHES
    detail = f"{cost * 1e6:.1f} µs a batch, {np.median(clock) * 1e6:.1f} of the clock taken off"
    return Figure("Keras, batches=True at 1 ms", cost / BATCH_SECONDS * 100, 1, "%", detail)


def logging_fits(folder: Path) -> list["Figure"]:
    """Measure the costs of epochs and batches."""
    model = Experiment.use(folder / "runs.json", exp_id="bench").model("net")
    return [short_epochs(model), short_batches(model)]


def main() -> int:
    """Print the figures; return 1 if a limit was missed."""
    with tempfile.TemporaryDirectory() as folder:
        figures = logging_fits(Path(folder))
    print(*figures, sep="\n")
    return int(any(figure.value > figure.limit for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
