"""A Lightning training on scikit-learn's handwritten digits, logged by one line.

The module's hyperparameters become the session's params, every logged step a batch, every epoch
an epoch; the checkpoints are kept beside the file. Run it twice: the second time it is refused.

Usage: python lightning_digits.py [FILE]
"""

import sys
import tempfile

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset, random_split

import casket
from casket import Experiment as E
from casket_integrations.lightning import CasketLogger


class Digits(pl.LightningModule):
    """A small network that tells digits apart."""

    def __init__(self, hidden: int = 64, lr: float = 0.005) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(64, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 10)
        )

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        """Return the loss of a batch, and log it."""
        return self.score(batch, "train")

    def validation_step(self, batch: list[torch.Tensor]) -> None:
        """Log how good the network is by now."""
        self.score(batch, "val")

    def test_step(self, batch: list[torch.Tensor]) -> None:
        """Log how good it has become."""
        self.score(batch, "test")

    def score(self, batch: list[torch.Tensor], name: str) -> torch.Tensor:
        """Log loss and accuracy; return the loss."""
        images, labels = batch
        scores = self.layers(images)
        loss = cross_entropy(scores, labels)
        accuracy = (scores.argmax(dim=1) == labels).float().mean()
        self.log_dict({f"{name}_loss": loss, f"{name}_acc": accuracy})
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.Adam(self.parameters(), self.lr)


def train(model: casket.Model, folder: str) -> None:
    """Train the network and test the best of its epochs."""
    pl.seed_everything(0, verbose=False)
    X, y = load_digits(return_X_y=True)
    digits = TensorDataset(torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y))
    parts = random_split(digits, [0.6, 0.2, 0.2])
    train, val, test = (DataLoader(part, batch_size=64) for part in parts)
    trainer = pl.Trainer(
        logger=CasketLogger(model, ensure_unique=True, log_model=True),
        callbacks=[ModelCheckpoint(folder, filename="best", monitor="val_loss")],
        max_epochs=8,
        log_every_n_steps=5,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Digits(), train, val)
    trainer.test(dataloaders=test, ckpt_path="best", verbose=False)


def main(url: str) -> None:
    """Train, unless it was done before, and show the curve."""
    model = E.use(url, exp_id="digits").model("Lightning network")
    try:
        with tempfile.TemporaryDirectory() as folder:
            train(model, folder)
    except casket.ExistingParamsException as existing:
        print(f"not run again: {existing}\n")

    session = model.sessions()[-1]
    print(f"session {session.id} is {session.status}, params {session.params}")
    for row in session.epochs:
        bar = "#" * round(row["val_loss"] * 30)
        print(f"epoch {row['epoch_num']:2}  val_loss {row['val_loss']:.3f}  {bar}")
    print(f"test accuracy {session.last['test_acc']:.1%}, weights {list(session.artifacts)}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs.json")
