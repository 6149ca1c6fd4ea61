"""PyTorch on scikit-learn's handwritten digits, with Accelerate, skorch, Ignite, and a plain loop.

Each trains the same small network and logs it as a session.

Usage: python torch_digits.py [FILE]
"""

import sys

import torch
from accelerate import Accelerator
from ignite.engine import Engine, Events
from ignite.metrics import RunningAverage
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from torch.nn.functional import cross_entropy

from casket import Experiment as E
from casket_integrations.accelerate import CasketTracker
from casket_integrations.ignite import CasketLogger
from casket_integrations.skorch import CasketCallback
from casket_integrations.torch import watch

EPOCHS, LR = 5, 0.5
exp = E.use(sys.argv[1] if len(sys.argv) > 1 else "runs.json", exp_id="digits")
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
batches = list(zip(X.split(128), y.split(128), strict=True))
torch.manual_seed(0)


def network():
    """Return a small network and its optimizer."""
    net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    return net, torch.optim.SGD(net.parameters(), LR)


# A plain loop, with the norms of gradients and weights.
net, optimizer = network()
with exp.model("PyTorch").session({"lr": LR}, ensure_unique=False) as session:
    watch(session, net, every=10)
    for epoch in range(EPOCHS):
        for images, labels in batches:
            optimizer.zero_grad()
            loss = cross_entropy(net(images), labels)
            loss.backward()
            optimizer.step()
        session.add_epoch(epoch, {"loss": loss})

# Accelerate
accelerator = Accelerator(log_with=CasketTracker(exp.model("Accelerate")), cpu=True)
accelerator.init_trackers("digits", config={"lr": LR})
net, optimizer = accelerator.prepare(*network())
for epoch in range(EPOCHS):
    for images, labels in batches:
        optimizer.zero_grad()
        loss = cross_entropy(net(images), labels)
        accelerator.backward(loss)
        optimizer.step()
        accelerator.log({"loss": loss.item(), "epoch": epoch})
accelerator.end_training()

# Ignite
net, optimizer = network()


def step(_, batch):
    """Train on a batch; return the loss."""
    optimizer.zero_grad()
    loss = cross_entropy(net(batch[0]), batch[1])
    loss.backward()
    optimizer.step()
    return loss.item()


trainer = Engine(step)
RunningAverage(output_transform=lambda loss: loss).attach(trainer, "loss")
with CasketLogger(exp.model("Ignite"), {"lr": LR}) as logger:
    logger.attach_output_handler(trainer, Events.EPOCH_COMPLETED, "train", metric_names="all")
    trainer.run(batches, max_epochs=EPOCHS)

# skorch
NeuralNetClassifier(
    network()[0],
    criterion=torch.nn.CrossEntropyLoss,
    max_epochs=EPOCHS,
    lr=LR,
    verbose=0,
    callbacks=[CasketCallback(exp.model("skorch"))],
).fit(X.numpy(), y.numpy())

for session in exp.sessions():
    losses = [session.last[name] for name in session.last if name.endswith("loss")]
    print(f"{session.model}: {session.status}, {len(session.epochs)} epochs, loss {losses[0]:.3f}")
