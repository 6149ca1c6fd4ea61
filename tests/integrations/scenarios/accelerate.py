"""Accelerate: a loop over steps, with a second tracker that notes what Accelerate hands it."""

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

from casket_integrations.accelerate import CasketTracker
from tests.integrations.scenarios import Record

Hook = CasketTracker


class Notes(GeneralTracker):
    name = "notes"
    requires_logging_directory = False
    tracker = None

    def __init__(self):
        super().__init__()
        self.rows = []

    def store_init_configuration(self, values):
        self.params = values

    def log(self, values, step=None, **_):
        self.rows.append({"batch_num": step, **values})


def train(hook, interrupt):
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    notes = Notes()
    accelerator = Accelerator(log_with=[hook, notes], cpu=True)
    accelerator.init_trackers("digits", config={"lr": 0.1})
    net = torch.nn.Linear(2, 1)
    net, optimizer = accelerator.prepare(net, torch.optim.SGD(net.parameters(), 0.1))
    for step in range(6):
        loss = net(torch.tensor([[step / 6, 1.0]])).square().mean()
        accelerator.backward(loss)
        optimizer.step()
        accelerator.log({"loss": loss.item(), "epoch": step // 3}, step=step)
        if step == 3:
            interrupt()
    accelerator.end_training()
    return Record("batches", notes.rows, notes.params)
