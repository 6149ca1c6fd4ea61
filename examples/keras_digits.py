"""A Keras network on scikit-learn's handwritten digits, logged by a callback.

Each epoch is written as it ends, so a run that is interrupted keeps what it has; the score on
held-out digits is added to the session afterwards.

Usage: python keras_digits.py [FILE]
"""

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "torch")  # or jax, or tensorflow

import keras
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import casket
from casket import DBCallback
from casket import Experiment as E

PARAMS = {"units": 64, "dropout": 0.2, "learning_rate": 0.01, "batch_size": 64, "seed": 0}


def build() -> keras.Model:
    """Return the network, ready to be trained."""
    network = keras.Sequential(
        [
            layers.Input((64,)),
            layers.Rescaling(1 / 16),
            layers.Dense(PARAMS["units"], activation="relu"),
            layers.Dropout(PARAMS["dropout"], seed=PARAMS["seed"]),
            layers.Dense(10, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.Adam(PARAMS["learning_rate"])
    network.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return network


def train(model: casket.Model) -> None:
    """Train until the validation loss stops falling, then test."""
    keras.utils.set_random_seed(PARAMS["seed"])
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=PARAMS["seed"])
    network = build()
    logging = DBCallback(model, PARAMS)
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True)
    network.fit(
        X_train,
        y_train,
        batch_size=PARAMS["batch_size"],
        epochs=12,
        validation_split=0.2,
        verbose=0,
        callbacks=[logging, stopping],
    )
    network.evaluate(X_test, y_test, verbose=0, callbacks=[logging])


def main(url: str) -> None:
    """Train, unless it was done before, and show the curve."""
    model = E.use(url, exp_id="digits").model("keras network")
    try:
        train(model)
    except casket.ExistingParamsException as existing:
        print(f"not run again: {existing}\n")

    with casket.open(url) as runs:
        session = runs.sessions(model="keras network")[-1]
        for row in session.epochs:
            bar = "#" * round(row["val_loss"] * 30)
            print(f"epoch {row['epoch_num']:2}  val_loss {row['val_loss']:.3f}  {bar}")
        (test,) = session.results("evaluate")
        print(f"best val_loss {session.best('val_loss'):.3f}, test {test['accuracy']:.1%}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs.json")
