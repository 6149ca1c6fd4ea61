"""A training that continues where it stopped: python resume_from_checkpoint.py [STORE] [STOP_AT].

Interrupt it (Ctrl-C, `kill -9`, or STOP_AT, the epoch at which it fails) and start it again: it
loads the checkpoint of the last logged epoch and continues the same session.
"""

import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from casket import Experiment, Session

EPOCHS = 12


def train(session: Session, checkpoints: Path, stop_at: int) -> None:
    """Train the remaining epochs; fail before the epoch `stop_at`."""
    X, y = load_digits(return_X_y=True)
    X_train, X_val, y_train, y_val = train_test_split(X, y, random_state=0)
    network, last = MLPClassifier([32], random_state=0), session.last_epoch or 0
    if last:
        network = joblib.load(checkpoints / f"epoch-{last}.joblib")
        print(f"continuing after epoch {last}")
    for epoch in range(last + 1, EPOCHS + 1):
        if epoch == stop_at:
            raise RuntimeError(f"stopped before epoch {epoch}, as requested")
        network.partial_fit(X_train, y_train, classes=range(10))
        # The checkpoint is saved first, so that every logged epoch has one.
        joblib.dump(network, checkpoints / f"epoch-{epoch}.joblib")
        session.add_epoch(epoch, {"loss": network.loss_, "val_acc": network.score(X_val, y_val)})


def main(store: str = "runs.json", stop_at: str = "0") -> None:
    """Continue the last session, or start one."""
    model = Experiment.use(store, exp_id="digits").model("MLP, resumed")
    with model.resume_last({"hidden": 32, "epochs": EPOCHS}) as session:
        checkpoints = Path("checkpoints") / session.id
        checkpoints.mkdir(parents=True, exist_ok=True)
        train(session, checkpoints, int(stop_at))
        print(f"session {session.name}: {session.last_epoch} epochs")


if __name__ == "__main__":
    main(*sys.argv[1:])
