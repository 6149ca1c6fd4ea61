"""What the callbacks of the smaller adapters add to a training, and what `watch` adds to a step.

Usage: python -m tests.benchmarks.frameworks
"""

import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads on shared cores are all noise

import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

from casket import Experiment, Model

if TYPE_CHECKING:
    from tests.benchmarks.__main__ import Figure

ROUNDS = 15
STEPS = 300
STEP_SECONDS = 0.001
X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")

Train = Callable[[list[Any]], object]


def xgboost() -> tuple[Train, type]:
    """Boosted trees on the digits."""
    import xgboost

    from casket_integrations.xgboost import CasketCallback

    data = xgboost.DMatrix(X, Y)
    params = {"objective": "multi:softmax", "num_class": 10, "max_depth": 3, "nthread": 1}

    def train(hooks: list[Any]) -> None:
        xgboost.train(
            params, data, 100, evals=[(data, "train")], verbose_eval=False, callbacks=hooks
        )

    return train, CasketCallback


def lightgbm() -> tuple[Train, type]:
    """Boosted trees on the digits."""
    import lightgbm

    from casket_integrations.lightgbm import casket_callback

    params = {"objective": "multiclass", "num_class": 10, "num_threads": 1, "verbosity": -1}

    def train(hooks: list[Any]) -> None:
        data = lightgbm.Dataset(X, Y)
        lightgbm.train(params, data, 60, valid_sets=[data], valid_names=["t"], callbacks=hooks)

    return train, casket_callback


def optuna() -> tuple[Train, type]:
    """Ten trials of a classifier."""
    import optuna

    from casket_integrations.optuna import CasketCallback

    optuna.logging.disable_default_handler()

    def objective(trial: Any) -> float:
        model = SGDClassifier(alpha=trial.suggest_float("alpha", 1e-5, 1e-2, log=True))
        for epoch in range(50):
            score = float(model.partial_fit(X, Y, list(range(10))).score(X, Y))
            trial.report(score, epoch)
        return score

    def train(hooks: list[Any]) -> None:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        study.optimize(objective, n_trials=5, callbacks=hooks)

    return train, CasketCallback


def network() -> torch.nn.Sequential:
    """A small convolutional net; a step takes a few milliseconds."""
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 8, 8)), torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(16 * 64, 10), torch.nn.Softmax(dim=-1),
    )  # fmt: skip


def skorch() -> tuple[Train, type]:
    """Twenty epochs on the digits."""
    from skorch import NeuralNetClassifier

    from casket_integrations.skorch import CasketCallback

    def train(hooks: list[Any]) -> None:
        net = NeuralNetClassifier(network(), max_epochs=20, verbose=0, callbacks=hooks)
        net.fit(X, Y)

    return train, CasketCallback


def loop(log: Callable[[int, float], object]) -> None:
    """A loop of steps, each logged."""
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    images, labels = torch.tensor(X[:256]), torch.tensor(Y[:256])
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = torch.nn.functional.nll_loss(net(images), labels)
        loss.backward()
        optimizer.step()
        log(step, loss.item())


def accelerate() -> tuple[Train, type]:
    """A loop whose steps are logged."""
    from accelerate import Accelerator

    from casket_integrations.accelerate import CasketTracker

    def train(hooks: list[Any]) -> None:
        accelerator = Accelerator(log_with=hooks or None, cpu=True)
        accelerator.init_trackers("bench")
        loop(lambda step, loss: accelerator.log({"loss": loss}, step=step))
        accelerator.end_training()

    return train, CasketTracker


def ignite() -> tuple[Train, type]:
    """An engine whose iterations are logged."""
    from ignite.engine import Engine, Events

    from casket_integrations.ignite import CasketLogger

    def train(hooks: list[Any]) -> None:
        net = network()
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        labels = torch.tensor(Y[:256])

        def step(_: Any, images: torch.Tensor) -> float:
            optimizer.zero_grad()
            loss = torch.nn.functional.nll_loss(net(images), labels)
            loss.backward()
            optimizer.step()
            return loss.item()

        trainer = Engine(step)
        for hook in hooks:
            event = Events.ITERATION_COMPLETED
            hook.attach_output_handler(trainer, event, "train", output_transform=float)
        trainer.run([torch.tensor(X[:256])] * STEPS, max_epochs=1)
        for hook in hooks:
            hook.close()

    return train, CasketLogger


def hydra() -> tuple[Train, type]:
    """A job that trains."""
    from casket_integrations.hydra import CasketCallback
    from tests.integrations.scenarios.hydra import run

    def train(hooks: list[Any]) -> None:
        run(lambda _: loop(lambda *_: None), *hooks)

    return train, CasketCallback


def transformers() -> tuple[Train, type]:
    """A Trainer that logs each step."""
    import transformers

    from casket_integrations.transformers import CasketCallback

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = network()

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> Any:
            return {"loss": torch.nn.functional.nll_loss(self.layers(x), labels)}

    data = [{"x": torch.tensor(x), "labels": int(y)} for x, y in zip(X, Y, strict=True)]

    def train(hooks: list[Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            trainer = transformers.Trainer(
                Net(),
                transformers.TrainingArguments(
                    folder, max_steps=50, per_device_train_batch_size=256, logging_steps=1,
                    save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
                ),
                train_dataset=data,
                callbacks=hooks,
            )  # fmt: skip
            trainer.pop_callback(transformers.PrinterCallback)
            trainer.train()

    return train, CasketCallback


FRAMEWORKS = (xgboost, lightgbm, optuna, skorch, accelerate, ignite, hydra, transformers)


def overhead(name: str, model: Model) -> "Figure":
    """The processor's time of a training with the hook, over one without.

    Each in turn begins a round. What other processes take is not the hook's; a session waits for
    the disk besides, when it ends.
    """
    from tests.benchmarks.__main__ import Figure

    train, hook = globals()[name]()

    def seconds(is_logged: bool, n: int) -> float:
        hooks = [hook(model, {"round": n})] if is_logged else []
        begun = time.process_time()
        train(hooks)
        return time.process_time() - begun

    seconds(True, -1)
    rounds = []
    for n in range(ROUNDS):
        took = {is_logged: seconds(is_logged, n) for is_logged in (n % 2 == 0, n % 2 == 1)}
        rounds.append((took[False], took[True]))
    more = statistics.median(logged / plain - 1 for plain, logged in rounds)
    detail = f"{statistics.median(plain for plain, _ in rounds) * 1e3:.0f} ms without"
    return Figure(f"{name}, over no callback", more * 100, 2, "%", detail)


def watching(model: Model) -> "Figure":
    """What the hook of `watch` takes of steps of a millisecond, by its own clock."""
    from casket_integrations.torch import watch
    from tests.benchmarks.__main__ import Figure

    net = network()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    images, labels = torch.tensor(X[:8]), torch.tensor(Y[:8])
    steps, took = 1000, [0.0]
    with model.session(repeat=True) as session:
        watched = watch(session, net, every=100)
        hook = watched.before_step

        def clocked(*arguments: Any) -> None:
            begun = time.thread_time()  # what other processes take is not the hook's
            hook(*arguments)
            took.append(time.thread_time() - begun)

        watched.remove()
        optimizer.register_step_pre_hook(clocked)
        for _ in range(steps):
            until = time.perf_counter() + STEP_SECONDS
            optimizer.zero_grad()
            torch.nn.functional.nll_loss(net(images), labels).backward()
            optimizer.step()
            while time.perf_counter() < until:
                pass
    hundreds = [sum(took[i : i + 100]) for i in range(1, steps, 100)]
    cost = statistics.median(hundreds) / 100
    detail = f"{cost * 1e6:.1f} µs a step, every 100th measured"
    return Figure("watch, of steps of 1 ms", cost / STEP_SECONDS * 100, 1, "%", detail)


def hooks(folder: Path) -> list["Figure"]:
    """Measure all frameworks that are installed."""
    model = Experiment.use(folder / "runs.json", exp_id="bench").model("net")
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = [each.__name__ for each in FRAMEWORKS if find_spec(each.__name__)]
        return [watching(model), *(overhead(name, model) for name in names)]


def main() -> int:
    """Print the figures; return 1 if a limit was missed."""
    with tempfile.TemporaryDirectory() as folder:
        figures = hooks(Path(folder))
    print(*figures, sep="\n")
    return int(any(figure.value > figure.limit for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
