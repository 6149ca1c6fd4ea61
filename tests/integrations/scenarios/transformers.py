"""transformers: a tiny network trained by a Trainer that logs each step."""

import math
import tempfile
import warnings

import torch
import transformers

from casket_integrations.transformers import CasketCallback
from tests.integrations.scenarios import Record

Hook = CasketCallback
DATA = [{"x": torch.tensor([i % 2, 1.0]), "labels": i % 2} for i in range(16)]


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)

    def forward(self, x, labels):
        logits = self.layer(x)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


class Interrupt(transformers.TrainerCallback):
    def __init__(self, interrupt):
        self.interrupt = interrupt

    def on_step_end(self, args, state, control, **_):
        if state.global_step == 3:
            self.interrupt()


def train(hook, interrupt):
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*pin_memory")
        trainer = transformers.Trainer(
            Net(),
            transformers.TrainingArguments(
                folder, num_train_epochs=2, per_device_train_batch_size=8, logging_steps=1,
                learning_rate=0.1, save_strategy="no", report_to="none", disable_tqdm=True,
                use_cpu=True,
            ),
            train_dataset=DATA,
            callbacks=[hook, Interrupt(interrupt)],
        )  # fmt: skip
        trainer.pop_callback(transformers.PrinterCallback)
        trainer.train()
    rows = [
        {"batch_num": row["step"], **row, "epoch": math.ceil(row["epoch"])}
        for row in trainer.state.log_history
    ]
    for row in rows:
        del row["step"]
    return Record("batches", rows, {"learning_rate": 0.1, "num_train_epochs": 2})
