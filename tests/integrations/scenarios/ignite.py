"""Ignite: a trainer whose averaged loss is logged after each epoch."""

import torch
from ignite.engine import Engine, Events
from ignite.metrics import RunningAverage

from casket_integrations.ignite import CasketLogger
from tests.integrations.scenarios import Record

Hook = CasketLogger


def trainer_of():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)

    def step(engine, batch):
        optimizer.zero_grad()
        loss = net(batch).square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    trainer = Engine(step)
    RunningAverage(output_transform=lambda loss: loss).attach(trainer, "loss")
    return trainer, optimizer


def train(hook, interrupt):
    trainer, _ = trainer_of()
    rows = []

    @trainer.on(Events.EPOCH_COMPLETED)
    def note(engine):
        rows.append({"epoch_num": engine.state.epoch, "train/loss": engine.state.metrics["loss"]})

    hook.attach_output_handler(trainer, Events.EPOCH_COMPLETED, tag="train", metric_names="all")
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=3), lambda _: interrupt())
    trainer.run(torch.rand(8, 4, 2), max_epochs=4)
    hook.close()
    return Record("epochs", rows, {})
