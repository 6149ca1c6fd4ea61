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
from typing import TYPE_CHECKING, Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import DummyLogger
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from casket import Experiment
from casket_integrations.lightning import CasketLogger

if TYPE_CHECKING:
    from tests.benchmarks.__main__ import Figure

STEPS = 100
ROUNDS = 15


class Net(lightning.LightningModule):
    """A small convolutional net for the digits, of some milliseconds a step."""

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


def logging_steps(folder: Path) -> list["Figure"]:
    """100 steps with `log_every_n_steps=1`: against no logger, and against CSVLogger."""
    from tests.benchmarks.__main__ import Figure

    X, y = load_digits(return_X_y=True)
    images = torch.tensor(X / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    data = DataLoader(TensorDataset(images[:1600], torch.tensor(y)[:1600]), batch_size=64)
    model = Experiment.use(folder / "runs.json", exp_id="bench").model("net")
    loggers: list[Callable[[int], Any]] = [
        lambda n: False,
        lambda n: DummyLogger(),
        lambda n: CSVLogger(folder, version=n),
        lambda n: CasketLogger(model, {"round": n}, ensure_unique=True),
    ]
    took: list[list[float]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for n in range(ROUNDS):
            # Each in turn begins a round: what comes first finds another machine.
            order = sorted(range(len(loggers)), key=lambda i: (i + n) % len(loggers))
            times = {i: seconds(loggers[i](n), data, folder) for i in order}
            took.append([times[i] for i in range(len(loggers))])
    none, dummy, csv, ours = (statistics.median(column) for column in zip(*took, strict=True))
    detail = (
        f"{none * 1e3:.0f} ms without, {(ours - dummy) / STEPS * 1e6:+.0f} µs a step over a logger "
        f"that does nothing"
    )
    return [
        Figure(
            "Lightning, 100 logged steps, over no logger", (ours / none - 1) * 100, 3, "%", detail
        ),
        Figure("Lightning, 100 logged steps, times CSVLogger", ours / csv, 1, "x", ""),
    ]


def main() -> int:
    """Print the figures; return 1 if a limit was missed."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        figures = logging_steps(Path(folder))
    print(*figures, sep="\n")
    return int(any(figure.value > figure.limit for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
