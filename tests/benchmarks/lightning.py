"""The overhead of the Lightning logger in a training.

Usage: python -m tests.benchmarks.lightning
"""

import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import lightning.pytorch as lightning
import torch
from lightning.pytorch.loggers import CSVLogger
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from casket import Experiment, Model
from casket_integrations.lightning import CasketLogger

if TYPE_CHECKING:
    from tests.benchmarks.__main__ import Figure

STEPS = 100
ROUNDS = 41


class Net(lightning.LightningModule):
    """A small convolutional net for the digits; a step takes about 8 ms on a quiet core."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(1, 32, 3, padding=1), torch.nn.ReLU(),
            torch.nn.Conv2d(32, 32, 3, padding=1), torch.nn.ReLU(),
            torch.nn.Flatten(), torch.nn.Linear(32 * 64, 10),
        )  # fmt: skip

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        logits = self.layers(batch[0])
        loss = cross_entropy(logits, batch[1])
        self.log("loss", loss)
        self.log("acc", (logits.argmax(1) == batch[1]).float().mean())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.05)


class Round(NamedTuple):
    """The times of trainings in seconds; `own`: the time in the calls of our logger."""

    none: float
    csv: float
    ours: float
    own: float


def seconds(logger: Any, data: DataLoader[Any], folder: Path) -> float:
    """Return how long 100 steps take that are all logged."""
    trainer = lightning.Trainer(
        logger=logger, max_steps=STEPS, max_epochs=-1, log_every_n_steps=1, accelerator="cpu",
        default_root_dir=folder, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False,
    )  # fmt: skip
    net = Net()
    begun = time.perf_counter()
    trainer.fit(net, data)
    return time.perf_counter() - begun


def clocked(logger: CasketLogger) -> list[float]:
    """Let a logger note how long each call of it takes, in seconds; return the notes."""
    notes: list[float] = []

    def timed(call: Callable[..., None]) -> Callable[..., None]:
        def event(*arguments: Any, **named: Any) -> None:
            begun = time.perf_counter()
            call(*arguments, **named)
            notes.append(time.perf_counter() - begun)

        return event

    for name in ("log_hyperparams", "log_graph", "log_metrics", "save", "finalize"):
        setattr(logger, name, timed(getattr(logger, name)))
    return notes


def rounds(model: Model, data: DataLoader[Any], folder: Path) -> Iterator[Round]:
    """Train with each logger in turn; each in turn begins a round."""
    for n in range(ROUNDS):
        ours = CasketLogger(model, {"round": n})
        notes = clocked(ours)
        loggers = [False, CSVLogger(folder, version=n), ours]
        took = {i: seconds(loggers[i], data, folder) for i in (n % 3, (n + 1) % 3, (n + 2) % 3)}
        yield Round(took[0], took[1], took[2], sum(notes))


def logging_steps(folder: Path) -> list["Figure"]:
    """100 steps with `log_every_n_steps=1`: against no logger, and against CSVLogger."""
    from tests.benchmarks.__main__ import Figure

    X, y = load_digits(return_X_y=True)
    images = torch.tensor(X / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    data = DataLoader(TensorDataset(images[:1600], torch.tensor(y)[:1600]), batch_size=128)
    model = Experiment.use(folder / "runs.json", exp_id="bench").model("net")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measured = list(rounds(model, data, folder))
    torch.set_num_threads(threads)
    # Ratios within a round: between rounds the machine's speed may change.
    more = statistics.median(each.ours / each.none - 1 for each in measured)
    times_csv = statistics.median(each.ours / each.csv for each in measured)
    none, own = (
        statistics.median(column) * 1e3 for column in list(zip(*measured, strict=True))[::3]
    )
    detail = f"{none:.0f} ms without; {own:.1f} ms in the logger's own calls"
    title = "Lightning, 100 logged steps"
    return [
        Figure(f"{title}, over no logger", more * 100, 3, "%", detail),
        Figure(f"{title}, times CSVLogger", times_csv, 1, "x", ""),
    ]


def main() -> int:
    """Print the figures; return 1 if a limit was missed."""
    with tempfile.TemporaryDirectory() as folder:
        figures = logging_steps(Path(folder))
    print(*figures, sep="\n")
    return int(any(figure.value > figure.limit for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
