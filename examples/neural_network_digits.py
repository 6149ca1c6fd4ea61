"""A neural network on scikit-learn's handwritten digits, in a plain training loop.

Every tenth batch and every epoch is logged as it happens; the best epoch so far is logged as an
early result, so that a run that is killed has something to show.

Usage: python neural_network_digits.py [FILE]
"""

import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import casket
from casket import Experiment as E

PARAMS = {"hidden": [64], "learning_rate": 0.005, "batch_size": 64, "epochs": 12, "seed": 0}


def train(session: casket.Session) -> None:
    """Train the network and log batches, epochs and results."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=PARAMS["seed"])
    X_train, X_dev, y_train, y_dev = train_test_split(X_train, y_train, random_state=1)
    network = MLPClassifier(
        PARAMS["hidden"],
        learning_rate_init=PARAMS["learning_rate"],
        random_state=PARAMS["seed"],
    )
    shuffled = np.random.default_rng(PARAMS["seed"])
    step, best = 0, 0.0
    for epoch in range(1, PARAMS["epochs"] + 1):
        order = shuffled.permutation(len(X_train))
        for batch in np.array_split(order, len(order) // PARAMS["batch_size"]):
            network.partial_fit(X_train[batch], y_train[batch], classes=np.unique(y))
            step += 1
            if step % 10 == 0:
                session.add_batch(step, {"loss": network.loss_}, epoch=epoch)
        accuracy = network.score(X_dev, y_dev)
        dev_loss = log_loss(y_dev, network.predict_proba(X_dev))
        session.add_epoch(epoch, {"loss": network.loss_, "val_loss": dev_loss, "val_acc": accuracy})
        if accuracy > best:
            best = accuracy
            session.add_result({"epoch": epoch, "val_acc": accuracy}, index_by="best so far")
    session.add_result({"test_acc": network.score(X_test, y_test)})
    session.add_artifact("network.joblib", network)


def main(url: str) -> None:
    """Train, unless it was done before, and show the curve."""
    model = E.use(url, exp_id="digits").model("neural network")
    try:
        with model.session(PARAMS) as session:
            train(session)
    except casket.ExistingParamsException as existing:
        print(f"not run again: {existing}\n")

    with casket.open(url) as runs:
        session = runs.sessions(model="neural network")[-1]
        for row in session.epochs:
            bar = "#" * round(row["val_loss"] * 30)
            print(f"epoch {row['epoch_num']:2}  val_loss {row['val_loss']:.3f}  {bar}")
        print(f"best val_loss {session.best('val_loss'):.3f}, test {session.last['test_acc']:.1%}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs.json")
