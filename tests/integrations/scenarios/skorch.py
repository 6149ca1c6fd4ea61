"""skorch: a small classifier."""

import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback

from casket_integrations.skorch import CasketCallback
from tests.integrations.scenarios import Record

Hook = CasketCallback


class Interrupt(Callback):
    def __init__(self, interrupt):
        self.interrupt = interrupt

    def on_epoch_end(self, net, **_):
        if len(net.history) == 3:
            self.interrupt()


def classifier(*callbacks, **options):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Softmax(dim=-1))
    options = {"max_epochs": 4, "lr": 0.1, "verbose": 0, **options}
    return NeuralNetClassifier(layers, callbacks=list(callbacks), **options)


def data():
    X = np.random.default_rng(0).random((40, 2), "float32")
    return X, (X[:, 0] > 0.5).astype("int64")


def train(hook, interrupt):
    net = classifier(hook, Interrupt(interrupt))
    net.fit(*data())
    return Record("epochs", rows_of(net.history), {"max_epochs": 4, "lr": 0.1})


def rows_of(history):
    rows = [{**row, "epoch_num": row["epoch"]} for row in history]
    return [{k: v for k, v in row.items() if k not in ("epoch", "batches")} for row in rows]
