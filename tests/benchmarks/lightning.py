"""What the Lightning logger adds to a training.

Usage: python -m tests.benchmarks.lightning
"""

import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import lightning.pytorch as lightning
import torch
from lightning.pytorch.loggers import CSVLogger
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from casket import Experiment
from casket_integrations.lightning import CasketLogger

if TYPE_CHECKING:
    from tests.benchmarks.__main__ import Figure

STEPS = 100
ROUNDS = 21


class Net(lightning.LightningModule):
    """A small convolutional net for the digits; a step takes about 8 ms on one quiet core."""

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


class Took(NamedTuple):
    """What a training took, in seconds; its processor time tells more on a busy machine."""

    wall: float
    processor: float


def train(logger: Any, data: DataLoader[Any], folder: Path) -> Took:
    """Measure 100 steps that are all logged."""
    trainer = lightning.Trainer(
        logger=logger, max_steps=STEPS, max_epochs=-1, log_every_n_steps=1, accelerator="cpu",
        default_root_dir=folder, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False,
    )  # fmt: skip
    net = Net()
    begun = Took(time.perf_counter(), time.process_time())
    trainer.fit(net, data)
    return Took(time.perf_counter() - begun.wall, time.process_time() - begun.processor)


def medians(loggers: list[Callable[[int], Any]], data: DataLoader[Any], folder: Path) -> list[Took]:
    """Return each logger's median; they take turns, and each in turn begins a round."""
    took: list[list[Took]] = [[] for _ in loggers]
    for n in range(ROUNDS):
        for i in sorted(range(len(loggers)), key=lambda i: (i + n) % len(loggers)):
            took[i].append(train(loggers[i](n), data, folder))
    return [Took(*map(statistics.median, zip(*column, strict=True))) for column in took]


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
        none, csv, ours = medians(
            [
                lambda n: False,
                lambda n: CSVLogger(folder, version=n),
                lambda n: CasketLogger(model, {"round": n}),
            ],
            data,
            folder,
        )
    torch.set_num_threads(threads)
    over_none = (
        f"{none.wall * 1e3:.0f} ms; processor {percent(ours.processor, none.processor):+.1f} %"
    )
    over_csv = f"processor {ours.processor / csv.processor:.2f} x"
    title = "Lightning, 100 logged steps"
    return [
        Figure(f"{title}, over no logger", percent(ours.wall, none.wall), 3, "%", over_none),
        Figure(f"{title}, times CSVLogger", ours.wall / csv.wall, 1, "x", over_csv),
    ]


def percent(value: float, base: float) -> float:
    """Return how much more a value is than another."""
    return (value / base - 1) * 100


def main() -> int:
    """Print the figures; return 1 if a limit was missed."""
    with tempfile.TemporaryDirectory() as folder:
        figures = logging_steps(Path(folder))
    print(*figures, sep="\n")
    return int(any(figure.value > figure.limit for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
