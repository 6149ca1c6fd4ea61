"""The Lightning logger: real trainings on real digits, compared with CSVLogger."""

import csv
import importlib
import io
import os
import pickle
import signal
import sys
import textwrap
import threading
import tokenize
import types
from argparse import Namespace
from collections.abc import Mapping
from copy import copy, deepcopy
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("lightning")

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers.logger import DummyExperiment
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities import rank_zero_only
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import casket
from casket import Experiment
from casket_integrations import lightning as adapter
from casket_integrations.lightning import CasketLogger

pytestmark = [
    pytest.mark.frameworks,
    # Lightning's own.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*was called without a model"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
    pytest.mark.filterwarnings("ignore:.*this may affect the sampler|.*no `val_dataloader`"),
]

STEPS = 10
"""Of an epoch."""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The nets are small; threads only fight for the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y))
    train, val, test = torch.utils.data.random_split(
        data, [STEPS * 32, 200, len(data) - STEPS * 32 - 200], torch.Generator().manual_seed(0)
    )
    return {
        "train": DataLoader(train, batch_size=32),
        "val": DataLoader(val, batch_size=100),
        "test": DataLoader(test, batch_size=500),
    }


def make_net(framework=lightning, **hyperparameters):
    """Make a classifier of the digits; a module of either Lightning."""

    class Net(framework.LightningModule):
        def __init__(self, lr=0.02, width=16, **more):
            super().__init__()
            self.save_hyperparameters()
            self.layers = torch.nn.Sequential(
                torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 10)
            )

        def loss(self, batch):
            return cross_entropy(self.layers(batch[0]), batch[1])

        def training_step(self, batch, _):
            loss = self.loss(batch)
            self.log("loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch, _):
            self.log("val_loss", self.loss(batch))

        def test_step(self, batch, index):
            self.log("test_loss", self.loss(batch))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), self.hparams["lr"])

    framework.seed_everything(0, verbose=False)
    return Net(**hyperparameters)


def make_trainer(logger, folder, framework=lightning, **options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    usual = {"max_epochs": 2, "log_every_n_steps": 3, "enable_checkpointing": False}
    return framework.Trainer(logger=logger, default_root_dir=folder, **quiet, **usual | options)


@pytest.fixture
def fit(digits, tmp_path):
    """Train a net and return its Trainer."""

    def fit(logger, net=None, ckpt_path=None, **options):
        trainer = make_trainer(logger, tmp_path, **options)
        trainer.fit(net or make_net(), digits["train"], digits["val"], ckpt_path=ckpt_path)
        return trainer

    return fit


def the_session(model):
    (session,) = model.sessions()
    return session


def epochs_of(model):
    return [[row["epoch_num"] for row in session.epochs] for session in model.sessions()]


def repeats_of(model):
    return [session.meta.get("repeat") for session in model.sessions()]


def without_time(rows):
    return [{name: row[name] for name in row if name != "timestamp"} for row in rows]


class Fails(Callback):
    """Raises in the middle of the second epoch."""

    def __init__(self, error):
        self.error = error

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == STEPS + 5:
            raise self.error


# Stored values


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_each_value_is_the_one_csv_logger_writes(package, memory, digits, tmp_path):
    framework = importlib.import_module(package)
    loggers = importlib.import_module(f"{package}.loggers")
    callbacks = importlib.import_module(f"{package}.callbacks")
    logger, csv_logger = CasketLogger(memory), loggers.CSVLogger(tmp_path)
    assert isinstance(logger, loggers.Logger)
    trainer = make_trainer(
        [logger, csv_logger],
        tmp_path,
        framework,
        callbacks=[callbacks.LearningRateMonitor(logging_interval="step")],
    )
    net = make_net(framework)
    trainer.fit(net, digits["train"], digits["val"])
    trainer.test(net, digits["test"], verbose=False)

    with (Path(csv_logger.log_dir) / "metrics.csv").open() as file:
        written = [
            {name: float(value) for name, value in row.items() if value}
            for row in csv.DictReader(file)
        ]
    session = the_session(memory)
    assert session.status == "completed"
    assert len(session.batches) == len(written) == 17
    for stored, row in zip(without_time(session.batches), written, strict=True):
        assert stored.pop("batch_num") == row.pop("step")
        epoch = stored.pop("epoch")
        assert epoch == row.pop("epoch", epoch)
        assert stored == row

    latest = [{}, {}]
    for batch in without_time(session.batches)[:-1]:
        latest[batch["epoch"]] |= batch
    for epoch, expected in zip(without_time(session.epochs), latest, strict=True):
        expected["epoch_num"] = expected.pop("epoch")
        del expected["batch_num"]
        assert epoch == expected
        assert epoch.keys() == {
            "epoch_num", "lr-SGD", "loss_step", "loss_epoch", "val_loss"
        }  # fmt: skip
    assert session.results("test") == [{"test_loss": session.last["test_loss"]}]


def test_batches_and_epochs_are_named_as_they_are_logged_in_a_fit_and_a_test(memory, fit, digits):
    trainer = fit(CasketLogger(memory), max_epochs=1, limit_train_batches=3, log_every_n_steps=1)
    trainer.test(trainer.model, digits["test"], verbose=False)
    rows = [
        (row["batch_num"], row["epoch"], *sorted(row.keys() - {"batch_num", "epoch", "timestamp"}))
        for row in the_session(memory).batches
    ]
    assert rows == [
        (0, 0, "loss_step"),
        (1, 0, "loss_step"),
        (2, 0, "loss_step"),
        (2, 0, "val_loss"),
        (2, 0, "loss_epoch"),
        (3, 1, "test_loss"),
    ]


def test_steps_of_a_fit_wait_for_each_other_until_somebody_looks(memory, fit, monkeypatch):
    monkeypatch.setattr("casket_integrations.batches.GATHER", 3600)
    written = []

    class Looks(Callback):
        def on_train_batch_start(self, trainer, module, batch, step):
            written.append(len(the_session(memory).batches) if step else 0)
            if step == 4:
                trainer.logger.experiment.add_meta({"looked": True})

    options = {"max_epochs": 1, "limit_train_batches": 6, "log_every_n_steps": 1}
    fit(CasketLogger(memory), callbacks=[Looks()], **options)
    assert written == [0, 1, 1, 1, 1, 4]
    numbers = [row["batch_num"] for row in the_session(memory).batches]
    assert numbers == [0, 1, 2, 3, 4, 5, 5, 5]


def test_a_metric_that_may_change_does_not_wait(memory, fit, monkeypatch):
    monkeypatch.setattr("casket_integrations.batches.GATHER", 3600)
    counted = torch.zeros(1)

    class Counts(Callback):
        def on_train_batch_end(self, trainer, *_):
            counted.add_(1)
            trainer.logger.log_metrics({"counted": counted}, trainer.global_step)

    fit(CasketLogger(memory), callbacks=[Counts()], max_epochs=1, limit_train_batches=3)
    rows = [row for row in the_session(memory).batches if "counted" in row]
    assert [row["counted"] for row in rows] == [[1.0], [2.0], [3.0]]


def test_a_prefix_is_joined_by_a_hyphen(memory):
    logger = CasketLogger(memory, prefix="tmp")
    logger.log_metrics({"test": 1.0, "epoch": 0}, step=0)
    logger.finalize("success")
    assert without_time(the_session(memory).batches) == [
        {"batch_num": 0, "epoch": 0, "tmp-test": 1.0}
    ]
    assert without_time(the_session(memory).epochs) == [{"epoch_num": 0, "tmp-test": 1.0}]


def test_without_a_step_steps_are_counted(memory):
    logger = CasketLogger(memory)
    for step in (None, 7, None):
        logger.log_metrics({"acc": 1.0}, step)
    assert [row["batch_num"] for row in the_session(memory).batches] == [0, 7, 8]
    logger.finalize("success")


def test_metrics_without_an_epoch_are_batches_only(memory):
    logger = CasketLogger(memory)
    logger.log_metrics({"acc": 1.0}, 3)
    logger.log_metrics({"acc": 1.0, "epoch": float("nan")}, 4)
    logger.finalize("success")
    session = the_session(memory)
    assert [row["epoch"] for row in session.batches] == [None, None]
    assert session.epochs == []


def test_an_epoch_is_logged_with_the_first_step_of_another(memory):
    logger = CasketLogger(memory)
    for step, epoch in enumerate([0, 0, 1.0, 0]):
        logger.log_metrics({"loss": step, f"only{step}": 1, "epoch": torch.tensor(epoch)}, step)
    assert without_time(the_session(memory).epochs) == [
        {"epoch_num": 0, "loss": 1, "only0": 1, "only1": 1},
        {"epoch_num": 1, "loss": 2, "only2": 1},
    ]
    logger.finalize("success")
    assert [row["epoch_num"] for row in the_session(memory).epochs] == [0, 1, 0]


def test_tensors_are_kept_without_their_graph_and_the_metrics_are_not_touched(memory):
    logger = CasketLogger(memory)
    weight = torch.ones(2, requires_grad=True)
    metrics = {"loss": (weight * 2).sum(), "epoch": 0}
    logger.log_metrics(metrics, 0)
    assert metrics.keys() == {"loss", "epoch"}
    assert metrics["loss"].requires_grad
    logger.finalize("success")
    assert the_session(memory).epochs[0]["loss"] == 4.0


# Hyperparameters


class Lazy(Mapping):
    """As OmegaConf's containers: a mapping that is no dict, with values that may be missing."""

    def __init__(self, **values):
        self.values_ = values

    def __getitem__(self, name):
        if self.values_[name] == "???":
            raise RuntimeError(f"missing value: {name}")
        return self.values_[name]

    def __iter__(self):
        return iter(self.values_)

    def __len__(self):
        return len(self.values_)

    def __str__(self):
        return str(self.values_)


@dataclass
class Optimizer:
    name: str
    function: object = None


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no")


def loop():
    itself = []
    itself.append(itself)
    return itself


HYPERPARAMETERS = {
    "nested": ({"a": {"b": [1, {"c": None}]}}, {"a": {"b": [1, {"c": None}]}}),
    "namespace": (Namespace(foo=Namespace(bar=3)), {"foo": {"bar": 3}}),
    "mapping": (Lazy(lr=0.1, sizes=Lazy(x=1)), {"lr": 0.1, "sizes": {"x": 1}}),
    "missing": ({"a": Lazy(lr="???"), "b": 1}, {"a": {"lr": "<RuntimeError>"}, "b": 1}),
    "keys": ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
    "dataclass": (Optimizer("sgd", 2), {"name": "sgd", "function": 2}),
    "in a dataclass": (
        {"o": Optimizer("sgd", loop)},
        {"name": "sgd", "function": f"{__name__}.loop"},
    ),
    "function": ({"f": loop}, {"f": f"{__name__}.loop"}),
    "lambda": ({"f": lambda: 0}, {"f": f"{__name__}.<lambda>"}),
    "class": ({"layer": torch.nn.ReLU}, {"layer": "torch.nn.modules.activation.ReLU"}),
    "module": ({"layer": torch.nn.ReLU()}, {"layer": "ReLU()"}),
    "object": ({"o": object()}, {"o": "<object object>"}),
    "bytes": ({"raw": b"\xff"}, {"raw": "b'\\xff'"}),
    "in a list": ({"layers": (1, torch.nn.ReLU())}, {"layers": [1, "ReLU()"]}),
    "tensor": ({"weights": torch.tensor([1, 2])}, {"weights": [1, 2]}),
    "unprintable": ({"u": Unprintable()}, {"u": "<Unprintable>"}),
    "half a letter": ({"t": "\ud800"}, {"t": "?"}),
    "no mapping": ("all of them", {"hyperparameters": "all of them"}),
    "none": (None, {}),
}


@pytest.mark.parametrize("kind", HYPERPARAMETERS)
def test_hyperparameters_become_params(kind, memory):
    given, expected = HYPERPARAMETERS[kind]
    if kind == "in a dataclass":
        expected = {"o": expected}
    logger = CasketLogger(memory)
    logger.log_hyperparams(given)
    logger.log_metrics({"loss": 1.0})
    logger.finalize("success")
    session = the_session(memory)
    assert session.params == expected
    assert CasketLogger(memory, given).experiment.params == expected


def test_what_contains_itself_becomes_text_at_some_depth(memory):
    logger = CasketLogger(memory, {"loop": loop()})
    logger.log_metrics({"loss": 1.0})
    logger.finalize("success")
    assert "[[...]]" in str(the_session(memory).params["loop"])


def test_hyperparameters_before_the_first_metric_are_params_and_later_ones_meta(memory):
    logger = CasketLogger(memory, {"seed": 1, "lr": 0.5})
    logger.log_hyperparams({"lr": 0.1})
    logger.log_hyperparams(Namespace(width=8), {"hp_metric": 0})
    assert memory.sessions() == []
    logger.log_metrics({"loss": 1.0})
    logger.log_hyperparams({"lr": 0.1})
    assert "hyperparameters" not in the_session(memory).meta
    logger.log_hyperparams({"lr": 0.2, "host": "mine"})
    logger.log_hyperparams({"dropout": 0.3})
    logger.finalize("success")
    session = the_session(memory)
    assert session.params == {"seed": 1, "lr": 0.1, "width": 8}
    assert session.meta["hyperparameters"] == {"lr": 0.2, "host": "mine", "dropout": 0.3}
    assert session.meta["host"] != "mine"


def test_a_fit_stores_the_modules_hyperparameters_and_layers(memory, fit):
    class LogsMore(Callback):
        def setup(self, trainer, *_, **__):
            assert isinstance(trainer.logger.experiment, casket.Session)

        def on_train_start(self, trainer, *_):
            trainer.logger.log_hyperparams({"steps": 10})

    logger = CasketLogger(memory, {"seed": 0})
    fit(logger, make_net(lr=0.1, act=torch.nn.ReLU), callbacks=[LogsMore()], max_epochs=1)
    session = the_session(memory)
    act = "torch.nn.modules.activation.ReLU"
    assert session.params == {"seed": 0, "lr": 0.1, "width": 16, "act": act, "steps": 10}
    assert session.meta["lightning_model"]["class_name"] == "Net"
    assert "Linear(in_features=64, out_features=16" in session.meta["lightning_model"]["layers"]
    assert session.meta["version"] == logger.version


def test_a_graph_may_be_logged_without_a_trainer(memory):
    logger = CasketLogger(memory)
    logger.log_graph(torch.nn.ReLU(), torch.ones(1))
    logger.log_metrics({"loss": 1.0})
    logger.log_graph(make_net())
    logger.finalize("success")
    assert the_session(memory).meta["lightning_model"]["class_name"] == "Net"


def test_a_fit_that_logs_nothing_is_a_session_too(memory, fit):
    net = make_net()
    net.log = lambda *_, **__: None
    fit(CasketLogger(memory), net)
    assert the_session(memory).params["width"] == 16
    assert the_session(memory).status == "completed"


def test_hyperparameters_alone_are_a_session_once_it_is_finalized(memory):
    logger = CasketLogger(memory)
    logger.log_hyperparams({"a": 1})
    logger.finalize("success")
    assert (the_session(memory).params, the_session(memory).status) == ({"a": 1}, "completed")


# The experiment, other ranks, pickles


def test_experiment_is_the_session(memory, fit):
    class Adds(Callback):
        def on_train_epoch_end(self, trainer, module):
            assert type(trainer.logger.experiment) is casket.Session
            module.logger.experiment.add_result({"epoch": trainer.current_epoch})

    fit(CasketLogger(memory), callbacks=[Adds()])
    session = the_session(memory)
    assert session.results() == [{"epoch": 0}, {"epoch": 1}]
    assert session.params == {"lr": 0.02, "width": 16}


def test_looking_at_experiment_begins_nothing_but_using_it_does(memory):
    logger = CasketLogger(memory, {"a": 1})
    experiment = logger.experiment
    assert isinstance(experiment, casket.Session)
    assert memory.sessions() == []
    experiment.add_result({"b": 2})
    assert experiment.id == logger.experiment.id == the_session(memory).id
    logger.finalize("success")


@pytest.mark.parametrize(
    "how", [copy, deepcopy, lambda it: pickle.loads(pickle.dumps(it)), lambda it: it]
)
def test_experiment_may_be_copied_before_it_begins(how, file_url):
    model = Experiment.use(file_url, exp_id="exp").model("net")
    logger = CasketLogger(model, {"a": 1})
    assert logger.experiment is logger.experiment
    copied = how(logger.experiment)
    assert isinstance(copied, casket.Session)
    assert model.sessions() == []
    copied.add_result({"b": 2})
    assert the_session(model).results() == [{"b": 2}]
    copied.end()


def test_no_thread_outlives_a_fit(memory, fit):
    before = set(threading.enumerate())
    fit(CasketLogger(memory), log_every_n_steps=1)
    assert set(threading.enumerate()) <= before


def test_other_ranks_log_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    path = tmp_path / "runs.json"
    logger = CasketLogger(str(path), exp_id="exp", save_dir=tmp_path)
    assert isinstance(logger.experiment, DummyExperiment)
    assert logger.experiment.something(foo="bar") is None
    logger.log_hyperparams({"a": 1})
    logger.log_graph(torch.nn.ReLU())
    logger.log_metrics({"loss": 1.0})
    logger.after_save_checkpoint(ModelCheckpoint())
    logger.finalize("success")
    assert logger.name == "exp"
    assert not path.exists()


def test_a_url_names_the_experiment_and_the_model(tmp_path):
    path = str(tmp_path / "runs.json")
    logger = CasketLogger(path, exp_id="digits", model_id="net")
    logger.log_metrics({"loss": 1.0})
    logger.finalize("success")
    with casket.open(path) as runs:
        assert len(runs.sessions(experiment="digits", model="net")) == 1
    assert logger.name == "digits"


@pytest.mark.parametrize("how", [lambda it: pickle.loads(pickle.dumps(it)), deepcopy])
def test_a_copy_of_the_trainer_goes_on_with_the_session(how, file_url):
    model = Experiment.use(file_url, exp_id="exp").model("net")
    logger = CasketLogger(model, {"a": 1}, save_dir="logs", prefix="p", ensure_unique=True)
    trainer = lightning.Trainer(logger=logger, max_epochs=1, accelerator="cpu")
    trainer.logger.log_metrics({"acc": 0.5, "epoch": 0})
    other = how(trainer).logger
    for attribute in ("name", "version", "save_dir", "root_dir", "log_dir"):
        assert getattr(other, attribute) == getattr(logger, attribute)
    other.log_metrics({"acc": 1.0, "epoch": 0})
    other.experiment.add_meta({"copied": True})
    other.finalize("success")
    logger.finalize("success")
    session = the_session(model)
    assert [(row["batch_num"], row["p-acc"]) for row in session.batches] == [(0, 0.5), (1, 1.0)]
    assert session.meta["copied"]
    assert session.status == "completed"


def test_a_logger_pickles_before_its_first_use(file_url):
    model = Experiment.use(file_url, exp_id="exp").model("net")
    logger = CasketLogger(model)
    logger.log_hyperparams({"a": 1})
    other = pickle.loads(pickle.dumps(logger))
    other.log_metrics({"acc": 1.0})
    other.finalize("success")
    assert the_session(model).params == {"a": 1}


def test_it_pickles_while_a_trainer_runs(file_url, fit):
    class Pickles(Callback):
        def on_train_epoch_end(self, trainer, *_):
            assert len(pickle.dumps(trainer.logger)) < 10_000

    fit(CasketLogger(Experiment.use(file_url).model("net")), callbacks=[Pickles()], max_epochs=1)


def test_the_learning_rate_finder_logs_nothing_and_gives_the_logger_back(memory, digits, tmp_path):
    from lightning.pytorch.tuner import Tuner

    logger = CasketLogger(memory)
    trainer = make_trainer(logger, tmp_path, enable_checkpointing=True)
    Tuner(trainer).lr_find(make_net(), digits["train"], num_training=5)
    assert trainer.logger is logger
    assert memory.sessions() == []


# Names and folders


def test_name_and_version_make_the_folders(memory, tmp_path):
    logger = CasketLogger(memory, save_dir=tmp_path)
    assert (logger.name, logger.save_dir) == ("exp", str(tmp_path))
    assert isinstance(logger.version, str)
    assert logger.version != CasketLogger(memory).version
    assert logger.root_dir == str(tmp_path / "exp")
    assert logger.log_dir == str(tmp_path / "exp" / logger.version)
    assert logger.group_separator == "/"
    logger.save()
    assert list(tmp_path.iterdir()) == []
    without = CasketLogger(memory)
    assert without.save_dir is without.root_dir is without.log_dir is None


def test_checkpoints_keep_paths_and_scores_and_with_log_model_the_files(tmp_path, fit):
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    logger = CasketLogger(model, save_dir=tmp_path / "logs", log_model=True)
    best = ModelCheckpoint(monitor="val_loss", save_last=True, save_top_k=2)
    latest = ModelCheckpoint(filename="newest")
    fit(logger, callbacks=[best, latest], enable_checkpointing=True)
    session = the_session(model)
    kept = session.meta["checkpoints"]
    assert kept.keys() == {"val_loss", "None"}
    assert kept["val_loss"]["best_model_path"] == best.best_model_path
    assert kept["val_loss"]["last_model_path"] == best.last_model_path
    assert kept["val_loss"]["best_model_score"] == pytest.approx(float(best.best_model_score))
    assert kept["val_loss"]["best_k_models"].keys() == best.best_k_models.keys()
    assert Path(best.best_model_path).parent == Path(logger.log_dir) / "checkpoints"
    assert session.artifacts.keys() == {
        "epoch=0-step=10.ckpt", "epoch=1-step=20.ckpt", "last.ckpt", "newest.ckpt"
    }  # fmt: skip
    for path in (best.best_model_path, best.last_model_path, latest.best_model_path):
        artifact = session.artifacts[Path(path).name]
        assert artifact.path.read_bytes() == Path(path).read_bytes()


def test_checkpoints_of_the_same_monitor_and_file_name_are_kept_apart(tmp_path, fit):
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    every = [
        ModelCheckpoint(tmp_path / folder, "best", monitor="val_loss", mode=mode)
        for folder, mode in (("one", "min"), ("two", "max"))
    ]
    fit(CasketLogger(model, log_model=True), callbacks=every, enable_checkpointing=True)
    session = the_session(model)
    kept = session.meta["checkpoints"]
    assert list(kept) == ["val_loss", "val_loss-2"]
    for facts, callback in zip(kept.values(), every, strict=True):
        assert facts["best_model_path"] == callback.best_model_path
    assert session.artifacts.keys() == {"best.ckpt", "two/best.ckpt"}
    for name, callback in zip(("best.ckpt", "two/best.ckpt"), every, strict=True):
        stored = session.artifacts[name].path.read_bytes()
        assert stored == Path(callback.best_model_path).read_bytes()


@pytest.mark.parametrize("exp_id", ["{}/elsewhere", "../elsewhere", "a/../../elsewhere", "..", "/"])
def test_an_experiment_id_puts_no_checkpoint_outside_the_save_dir(exp_id, tmp_path, fit):
    model = Experiment.use(":memory:", exp_id=exp_id.format(tmp_path)).model("net")
    logger = CasketLogger(model, save_dir=tmp_path / "logs")
    trainer = fit(logger, enable_checkpointing=True, max_epochs=1)
    path = Path(trainer.checkpoint_callback.best_model_path).resolve()
    assert path.is_relative_to(tmp_path / "logs")
    assert path.is_relative_to(Path(logger.log_dir).resolve())
    assert the_session(model).experiment == exp_id.format(tmp_path)


def test_without_log_model_no_file_is_kept(tmp_path, fit):
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    trainer = fit(CasketLogger(model), enable_checkpointing=True, max_epochs=1)
    session = the_session(model)
    path = trainer.checkpoint_callback.best_model_path
    assert session.meta["checkpoints"]["None"]["best_model_path"] == path
    assert path.startswith(str(tmp_path / "exp"))
    assert session.artifacts == {}


# Ends and continuations


def test_finalize_before_any_log_writes_nothing(memory):
    logger = CasketLogger(memory)
    for status in ("success", "failed", "finished"):
        logger.finalize(status)
    assert memory.sessions() == []


def test_finalize_any_number_of_times_ends_it_once(memory):
    logger = CasketLogger(memory)
    logger.log_metrics({"loss": 1.0, "epoch": 0})
    for status in ("finished", "success", "failed", "success"):
        logger.finalize(status)
    session = the_session(memory)
    assert session.status == "completed"
    assert len(session.epochs) == 1


def test_finalize_with_another_status_fails_it(memory):
    logger = CasketLogger(memory)
    logger.log_metrics({"loss": 1.0})
    logger.finalize("aborted")
    assert the_session(memory).status == "failed"
    assert "aborted" in the_session(memory).error


@pytest.mark.parametrize(
    ("error", "raised"), [(ValueError("boom"), ValueError), (KeyboardInterrupt(), SystemExit)]
)
def test_what_ends_a_fit_is_named_and_what_was_logged_stays(error, raised, memory, fit):
    with pytest.raises(raised):
        fit(CasketLogger(memory), callbacks=[Fails(error)])
    session = the_session(memory)
    assert session.status == "failed"
    assert session.error == casket.writing.session.describe(error)
    assert [row["epoch_num"] for row in session.epochs] == [0, 1]
    assert session.batches[-1]["batch_num"] == 11


def test_a_failure_before_the_first_metric_is_a_failed_session_with_its_params(memory, fit):
    net = make_net(width=7)
    net.training_step = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        fit(CasketLogger(memory), net)
    assert the_session(memory).status == "failed"
    assert the_session(memory).params["width"] == 7


def test_a_test_after_a_failed_fit_does_not_mend_it(memory, fit, digits, tmp_path):
    logger, net = CasketLogger(memory), make_net()
    with pytest.raises(ValueError, match="boom"):
        fit(logger, net, callbacks=[Fails(ValueError("boom"))])
    make_trainer(logger, tmp_path).test(net, digits["test"], verbose=False)
    session = the_session(memory)
    assert session.indexes == ["test"]
    assert (session.status, session.error) == ("failed", "ValueError: boom")


def test_a_resumed_fit_goes_on_with_the_session(memory, fit, tmp_path):
    checkpoints = ModelCheckpoint(tmp_path / "kept", filename="{epoch}")
    with pytest.raises(ValueError, match="boom"):
        fit(
            CasketLogger(memory, ensure_unique=True),
            callbacks=[checkpoints, Fails(ValueError("boom"))],
            enable_checkpointing=True,
        )
    resumed = {"ckpt_path": checkpoints.best_model_path, "enable_checkpointing": True}
    again = ModelCheckpoint(tmp_path / "kept", filename="{epoch}")
    for epochs in (3, 2):
        logger = CasketLogger(memory, ensure_unique=True)
        fit(logger, max_epochs=epochs, callbacks=[again], **resumed)
    session = the_session(memory)
    assert session.status == "completed"
    assert [row["epoch_num"] for row in session.epochs] == [0, 1, 1, 2, 1]
    assert [row["epoch_num"] for row in session.epochs.latest] == [0, 1, 2]


class RestoresLate(SingleDeviceStrategy):
    """Restores as the strategies of large models do, after the Trainer logged hyperparameters."""

    restore_checkpoint_after_setup = True


@pytest.mark.parametrize("autolog", [True, False])
@pytest.mark.parametrize("ensure_unique", [True, False])
@pytest.mark.parametrize("strategy", [SingleDeviceStrategy, RestoresLate])
def test_a_fit_from_a_checkpoint_continues_the_session_of_another_process(
    strategy, ensure_unique, autolog, memory, fit, tmp_path
):
    options = {"enable_checkpointing": True, "enable_autolog_hparams": autolog}
    for epochs in (1, 2):
        checkpoints = ModelCheckpoint(tmp_path / "kept", save_last=True)
        fit(
            CasketLogger(memory, ensure_unique=ensure_unique),
            ckpt_path=tmp_path / "kept" / "last.ckpt" if epochs == 2 else None,
            callbacks=[checkpoints],
            max_epochs=epochs,
            strategy=strategy(torch.device("cpu")),
            **options,
        )
    assert epochs_of(memory) == [[0, 1]]
    assert the_session(memory).status == "completed"


@pytest.mark.parametrize("autolog", [True, False])
def test_a_second_fit_goes_on_with_the_session(autolog, memory, fit, digits):
    options = {"max_epochs": 1, "enable_autolog_hparams": autolog}
    trainer = fit(CasketLogger(memory, ensure_unique=True), **options)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(trainer.model, digits["train"], digits["val"])
    session = the_session(memory)
    assert session.status == "completed"
    assert [row["epoch_num"] for row in session.epochs] == [0, 1]


def test_a_second_fit_with_other_hyperparameters_is_another_session(memory, fit):
    logger = CasketLogger(memory, ensure_unique=True)
    for lr in (0.1, 0.2):
        fit(logger, make_net(lr=lr), max_epochs=1)
    assert [session.params["lr"] for session in memory.sessions()] == [0.1, 0.2]
    assert [len(session.epochs) for session in memory.sessions()] == [1, 1]


def test_evaluations_go_on_with_the_session_of_the_fit(memory, fit, digits):
    logger = CasketLogger(memory, {"seed": 1}, ensure_unique=True)
    net = make_net()
    trainer = make_trainer(logger, None)
    trainer.validate(net, digits["val"], verbose=False)
    trainer = fit(logger, net)
    logger.log_hyperparams({"late": True})
    trainer.test(net, digits["test"], verbose=False)
    session = the_session(memory)
    assert session.status == "completed"
    assert session.indexes == ["validate", "test"]
    assert [row["epoch_num"] for row in session.epochs] == [0, 1]
    assert session.meta["hyperparameters"] == {"late": True}


def test_a_prediction_makes_no_session(memory, digits, tmp_path):
    net = make_net()
    net.predict_step = lambda batch, batch_idx: net.layers(batch[0])
    make_trainer(CasketLogger(memory), tmp_path).predict(net, digits["test"])
    assert memory.sessions() == []


def test_a_test_in_another_process_goes_on_with_the_session(memory, fit, digits, tmp_path):
    fit(CasketLogger(memory, ensure_unique=True))
    net = make_net()
    other = CasketLogger(memory, ensure_unique=True)
    make_trainer(other, tmp_path).test(net, digits["test"], verbose=False)
    assert the_session(memory).indexes == ["test"]


def test_params_that_were_run_are_refused_before_the_first_step(memory, fit):
    class Counts(Callback):
        steps = 0

        def on_train_batch_start(self, *_):
            Counts.steps += 1

    fit(CasketLogger(memory, ensure_unique=True), max_epochs=1)
    again = CasketLogger(memory, ensure_unique=True)
    for _ in range(2):
        with pytest.raises(casket.ExistingParamsException):
            fit(again, callbacks=[Counts()])
    assert Counts.steps == 0
    assert the_session(memory).status == "completed"
    fit(again, make_net(lr=0.3), max_epochs=1)
    assert [session.params["lr"] for session in memory.sessions()] == [0.02, 0.3]


def test_params_that_were_run_are_refused_with_the_first_metric_at_the_latest(memory):
    for expected in (casket.ExistingParamsException, None):
        logger = CasketLogger(memory, {"a": 1}, ensure_unique=expected is None)
        if expected is None:
            with pytest.raises(casket.ExistingParamsException):
                logger.log_metrics({"loss": 1.0})
        else:
            logger.log_metrics({"loss": 1.0})
        logger.finalize("success")
    assert len(the_session(memory).batches) == 1


# A fit is a session of its own


@pytest.mark.parametrize("autolog", [True, False])
@pytest.mark.parametrize("shares_logger", [True, False])
def test_each_fold_of_a_loop_is_a_session(shares_logger, autolog, memory, fit):
    logger = CasketLogger(memory)
    for _ in range(3):
        fit(logger if shares_logger else CasketLogger(memory), enable_autolog_hparams=autolog)
    assert epochs_of(memory) == [[0, 1]] * 3
    assert repeats_of(memory) == [None, 1, 2]
    assert {session.status for session in memory.sessions()} == {"completed"}


def test_a_logger_refuses_the_params_of_its_own_earlier_fit(memory, fit):
    logger = CasketLogger(memory, ensure_unique=True)
    fit(logger)
    with pytest.raises(casket.ExistingParamsException):
        fit(logger)
    assert epochs_of(memory) == [[0, 1]]
    assert the_session(memory).status == "completed"


class Begins(Callback):
    """Begins something in the middle of the second epoch."""

    def __init__(self, something):
        self.something = something

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == STEPS + 5:
            self.something()


@pytest.mark.parametrize("resumes", [True, False])
def test_a_fit_joins_no_running_one(resumes, file_url, fit, tmp_path):
    model = Experiment.use(file_url, exp_id="exp").model("net")
    checkpoints = ModelCheckpoint(tmp_path / "kept", save_last=True)

    def begin():
        path = checkpoints.last_model_path if resumes else None
        fit(CasketLogger(model), ckpt_path=path)

    fit(CasketLogger(model), callbacks=[checkpoints, Begins(begin)], enable_checkpointing=True)
    assert epochs_of(model) == [[0, 1], [1] if resumes else [0, 1]]
    assert repeats_of(model) == [None, 1]


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, and Slurm's signal")

TRAINING = """
    import os, signal, sys, time, warnings
    import torch
    warnings.simplefilter("ignore")
    import lightning.pytorch as lightning
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.strategies import SingleDeviceStrategy
    from casket_integrations.lightning import CasketLogger
    from torch.nn.functional import cross_entropy
    from torch.utils.data import DataLoader, TensorDataset

    class Net(lightning.LightningModule):
        def __init__(self, lr=0.1):
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(64, 10)

        def training_step(self, batch, _):
            loss = cross_entropy(self.layer(batch[0]), batch[1])
            self.log("loss", loss, on_step=True, on_epoch=True)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), self.hparams["lr"])

    class Acts(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, index):
            act(trainer)

    class RestoresLate(SingleDeviceStrategy):
        restore_checkpoint_after_setup = True

    def fit(url, unique, strategy=SingleDeviceStrategy):
        torch.set_num_threads(1)
        data = TensorDataset(torch.rand(256, 64), torch.randint(0, 10, (256,)))
        logger = CasketLogger(url, exp_id="exp", model_id="net", ensure_unique=unique)
        trainer = lightning.Trainer(
            logger=logger, max_epochs=3, log_every_n_steps=1, accelerator="cpu", devices=1,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
            callbacks=[Acts()], strategy=strategy(torch.device("cpu")),
        )
        trainer.fit(Net(), DataLoader(data, batch_size=32))
"""


@pytest.fixture(scope="module")
def server(fork_server):
    fork_server.load("lightning.pytorch")  # the adapter depends on what is imported before it
    return fork_server


def script_of(folder, code):
    script = folder / "train.py"
    script.write_text(textwrap.dedent(TRAINING) + textwrap.dedent(code))
    return script


@needs_fork
def test_processes_that_train_at_once_log_a_session_each(file_url, tmp_path, server):
    script = script_of(
        tmp_path,
        """
        def wait_for(name):
            while not os.path.exists(name):
                time.sleep(0.01)

        def act(trainer):
            if trainer.global_step == 12 and sys.argv[2] == "first":
                open("begun", "w").close()
                wait_for("ended")

        if sys.argv[2] == "second":
            wait_for("begun")
        fit(sys.argv[1], unique=False)
        if sys.argv[2] == "second":
            open("ended", "w").close()
        """,
    )
    first = server.start(script, file_url, "first")
    server.wait(server.start(script, file_url, "second"))
    server.wait(first)
    with casket.open(file_url) as runs:
        first, second = runs.sessions()
        for session in (first, second):
            assert [row["epoch_num"] for row in session.epochs] == [0, 1, 2]
            assert len([row for row in session.batches if "loss_step" in row]) == 24
        assert second.started < first.ended
        assert second.meta["repeat"] == 1


@pytest.mark.parametrize(
    ("ensure_unique", "strategy", "killed_at"),
    [
        (False, "SingleDeviceStrategy", 12),
        (True, "SingleDeviceStrategy", 14),
        (True, "RestoresLate", 12),
    ],
)
@needs_fork
def test_a_requeued_slurm_job_continues_its_session(
    ensure_unique, strategy, killed_at, tmp_path, server
):
    """Slurm itself is not here: its environment and `scontrol` are a script's."""
    url = tmp_path / "runs.json"
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/requeued\n')
    scontrol.chmod(0o755)
    script = script_of(
        tmp_path,
        f"""
        def act(trainer):
            if not os.path.exists("requeued") and trainer.global_step == 12:
                os.kill(os.getpid(), signal.SIGUSR1)
            if "SLURM_RESTART_COUNT" not in os.environ and trainer.global_step == {killed_at}:
                os.kill(os.getpid(), signal.SIGKILL)

        fit(sys.argv[1], unique={ensure_unique}, strategy={strategy})
        """,
    )
    slurm = {
        "PATH": f"{scontrol.parent}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "digits",
        "SLURM_NTASKS": "1",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
        "SLURM_PROCID": "0",
    }
    server.wait(server.start(script, url, **slurm), expecting=-signal.SIGKILL)
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"
    assert (tmp_path / "hpc_ckpt_1.ckpt").exists()
    with casket.open(url) as runs:
        (session,) = runs.sessions()
        assert session.status == ("completed" if killed_at == 12 else "killed")
    server.wait(server.start(script, url, SLURM_RESTART_COUNT="1", **slurm))
    with casket.open(url) as runs:
        (session,) = runs.sessions()
        assert session.status == "completed"
        steps = [row["batch_num"] for row in session.batches if "loss_step" in row]
        # Lightning logs a step after the callbacks, which kill it.
        assert set(range(24)) - set(steps) == ({11} if killed_at == 12 else set())
        assert len(steps) <= 24 + 3  # steps after the checkpoint are trained again
        assert [row["epoch_num"] for row in session.epochs.latest] == [0, 1, 2]


def test_a_job_that_was_to_be_requeued_and_goes_on_is_one_completed_session(
    memory, fit, monkeypatch
):
    class Requeues(Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 5:
                trainer.logger.finalize("finished")  # as Lightning's handler of Slurm's signal

    fit(CasketLogger(memory, ensure_unique=True), callbacks=[Requeues()], log_every_n_steps=1)
    session = the_session(memory)
    assert session.status == "completed"
    assert [row["epoch_num"] for row in session.epochs.latest] == [0, 1]
    steps = [row["batch_num"] for row in session.batches if "loss_step" in row]
    assert steps == list(range(2 * STEPS))


def test_what_was_validated_before_a_fit_makes_it_no_less_unique(memory, fit, digits, tmp_path):
    fit(CasketLogger(memory))
    logger, net = CasketLogger(memory, ensure_unique=True), make_net()
    make_trainer(logger, tmp_path).validate(net, digits["val"], verbose=False)
    with pytest.raises(casket.ExistingParamsException):
        fit(logger, net)
    assert epochs_of(memory) == [[0, 1]]
    assert the_session(memory).status == "completed"


def test_what_was_validated_before_a_fit_merges_no_trainings(memory, fit, digits, tmp_path):
    fit(CasketLogger(memory))
    logger, net = CasketLogger(memory), make_net()
    make_trainer(logger, tmp_path).validate(net, digits["val"], verbose=False)
    fit(logger, net)
    assert epochs_of(memory) == [[0, 1], [0, 1]]
    assert repeats_of(memory) == [None, 1]


@pytest.mark.parametrize("ensure_unique", [True, False])
def test_of_two_that_validate_first_the_first_is_unique(
    ensure_unique, memory, fit, digits, tmp_path
):
    pairs = [(CasketLogger(memory, ensure_unique=ensure_unique), make_net()) for _ in range(2)]
    for logger, net in pairs:
        make_trainer(logger, tmp_path).validate(net, digits["val"], verbose=False)
    fit(*pairs[0])
    if ensure_unique:
        with pytest.raises(casket.ExistingParamsException):
            fit(*pairs[1])
        assert epochs_of(memory) == [[0, 1]]
    else:
        fit(*pairs[1])
        assert epochs_of(memory) == [[0, 1], [0, 1]]


def test_a_validation_between_two_fits_merges_them_no_more(memory, fit, digits, tmp_path):
    logger, net = CasketLogger(memory), make_net()
    for _ in range(2):
        make_trainer(logger, tmp_path).validate(net, digits["val"], verbose=False)
        fit(logger, net)
    assert epochs_of(memory) == [[0, 1], [0, 1]]
    assert [session.indexes for session in memory.sessions()] == [["validate"], []]


# A fit that fails before it is announced


class FailsEarly(Callback):
    def __init__(self, hook, error):
        setattr(self, hook, self.fail)
        self.error = error

    def fail(self, *_, **__):
        raise self.error


def net_failing_in(hook, error):
    def fail(*_, **__):
        raise error

    net = make_net(width=7)
    setattr(net, hook, fail)
    return net


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
@pytest.mark.parametrize(
    "hook", ["prepare_data", "setup", "configure_model", "configure_optimizers", "on_fit_start"]
)
def test_an_early_failure_of_the_module_is_a_failed_session(
    package, hook, memory, digits, tmp_path
):
    framework = importlib.import_module(package)
    net = make_net(framework, width=7)

    def fail(*_, **__):
        raise ValueError("no")

    setattr(net, hook, fail)
    trainer = make_trainer(CasketLogger(memory, {"seed": 1}), tmp_path, framework)
    with pytest.raises(ValueError, match="no"):
        trainer.fit(net, digits["train"], digits["val"])
    session = the_session(memory)
    assert (session.status, session.error) == ("failed", "ValueError: no")
    assert session.params == {"seed": 1, "lr": 0.02, "width": 7}


@pytest.mark.parametrize("hook", ["setup", "on_fit_start"])
@pytest.mark.parametrize(
    ("error", "raised"), [(ValueError("no"), ValueError), (KeyboardInterrupt(), SystemExit)]
)
def test_an_early_failure_of_a_callback_is_a_failed_session(hook, error, raised, memory, fit):
    logger = CasketLogger(memory)
    with pytest.raises(raised):
        fit(logger, callbacks=[FailsEarly(hook, error)])
    assert (the_session(memory).status, the_session(memory).error) == (
        "failed",
        casket.writing.session.describe(error),
    )
    fit(logger)
    assert [session.status for session in memory.sessions()] == ["failed", "completed"]


def test_an_early_failure_of_a_resumed_fit_is_one_of_its_session(memory, fit, tmp_path):
    checkpoints = ModelCheckpoint(tmp_path / "kept", save_last=True)
    fit(CasketLogger(memory), callbacks=[checkpoints], enable_checkpointing=True)
    resumed = {"ckpt_path": checkpoints.last_model_path, "max_epochs": 3}
    with pytest.raises(ValueError, match="no"):
        fit(CasketLogger(memory), net_failing_in("setup", ValueError("no")), **resumed)
    failing = [FailsEarly("setup", ValueError("no"))]
    with pytest.raises(ValueError, match="no"):
        fit(CasketLogger(memory), callbacks=failing, **resumed)
    assert [session.params["width"] for session in memory.sessions()] == [16, 7]
    assert [session.status for session in memory.sessions()] == ["failed", "failed"]


def test_an_early_failure_of_params_that_were_run_shows_itself_only(memory, fit, recwarn):
    fit(CasketLogger(memory))
    failing = FailsEarly("setup", ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        fit(CasketLogger(memory, ensure_unique=True), callbacks=[failing])
    assert the_session(memory).status == "completed"
    assert not [each for each in recwarn if each.category is casket.CasketWarning]


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_an_early_failure_of_an_evaluation_leaves_the_trainings_as_they_are(
    stage, memory, fit, digits, tmp_path
):
    fit(CasketLogger(memory))
    net = net_failing_in("setup", ValueError("no"))
    net.forward = net.predict_step = lambda *_: None
    for logger in (CasketLogger(memory), CasketLogger(memory, {"other": 1})):
        with pytest.raises(ValueError, match="no"):
            getattr(make_trainer(logger, tmp_path), stage)(net, digits["test"])
    assert the_session(memory).status == "completed"


def test_hyperparameters_that_are_not_to_be_logged_are_no_params_of_a_failure(memory, fit):
    class Silent(type(make_net())):
        def __init__(self):
            super().__init__()
            self.save_hyperparameters({"secret": 1}, logger=False)

        def configure_optimizers(self):
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fit(CasketLogger(memory), Silent())
    assert the_session(memory).params == {}


def test_an_exception_of_another_trainer_makes_no_session(memory, fit):
    logger = CasketLogger(memory)
    with pytest.raises(ValueError, match="no"):  # noqa: PT012 - the exception is on its way
        try:
            fit(False, callbacks=[FailsEarly("setup", ValueError("no"))])
        except ValueError:
            logger.finalize("failed")
            raise
    assert memory.sessions() == []


def test_what_is_added_after_the_end_leaves_the_session_as_it_ended(run_python, tmp_path):
    run_python("""
        from casket import Experiment
        from casket_integrations.steps import Steps

        model = Experiment.use("runs.json", exp_id="exp").model("net")
        steps = [Steps(model, {"n": n}, ensure_unique=True, exp_id=None) for n in range(4)]
        for each in steps:
            each.metrics({"loss": 1.0}, step=0, epoch=0)
        for each, failure in zip(steps, (None, "it failed", None)):
            each.end(failure)
        steps[0].handle.add_result({"b": 1})
        steps[1].metrics({"loss": 2.0}, step=1, epoch=0)
        steps[2].hyperparameters({"late": 1})
    """)
    with casket.open(tmp_path / "runs.json") as runs:
        first, second, third, left_open = runs.sessions()
    assert (first.status, first.results()) == ("completed", [{"b": 1}])
    assert (second.status, second.error, len(second.batches)) == ("failed", "it failed", 2)
    assert (third.status, third.meta["hyperparameters"]) == ("completed", {"late": 1})
    assert left_open.status == "failed"


# Failing to log


def test_a_store_that_fails_is_one_warning_and_the_training_goes_on(
    memory, fit, monkeypatch, one_warning
):
    def fails(*_, **__):
        raise casket.StoreFull("runs.json", "make room", 28)

    class Uses(Callback):
        def on_train_epoch_end(self, trainer, *_):
            assert trainer.logger.experiment.add_result({"a": 1}) is None

    monkeypatch.setattr(casket.Model, "session", fails)
    logger = CasketLogger(memory)
    with one_warning("the training continues"):
        trainer = fit(logger, callbacks=[Uses()])
    assert trainer.current_epoch == 2
    with pytest.raises(casket.StoreFull):
        fit(CasketLogger(memory, on_error="raise"))


def test_an_unstorable_metric_is_one_warning_and_the_others_are_kept(memory):
    logger = CasketLogger(memory)
    with pytest.warns(casket.CasketWarning, match="bad"):
        logger.log_metrics({"loss": 1.0, "bad": object()})
    logger.finalize("success")
    assert the_session(memory).last == {"loss": 1.0}


# Either Lightning, or none


def test_both_lightnings_take_it_for_a_logger_of_theirs(memory):
    other = importlib.import_module("pytorch_lightning.loggers")
    logger = CasketLogger(memory)
    assert isinstance(logger, lightning.loggers.Logger)
    assert isinstance(logger, other.Logger)


@needs_fork
def test_the_class_is_a_logger_of_both_before_it_is_used(server, tmp_path):
    # LightningCLI asks for the class; it imports the other package later or never.
    script = tmp_path / "ask.py"
    code = """
        import lightning.pytorch.loggers, pytorch_lightning.loggers
        from casket_integrations.lightning import CasketLogger
        for package in (lightning.pytorch, pytorch_lightning):
            print(issubclass(CasketLogger, package.loggers.Logger))
    """
    script.write_text(textwrap.dedent(code))
    assert server.run(script).split() == ["True", "True"]


def test_what_lightning_cli_adds_to_hyperparameters_is_no_param(memory, fit):
    context = importlib.import_module("lightning.pytorch.core.mixins.hparams_mixin")
    with context._given_hyperparameters_context({"lr": 0.1}, "a.b.instantiate"):
        net = make_net()
    assert net.hparams_initial["_instantiator"] == "a.b.instantiate"
    fit(CasketLogger(memory), net, max_epochs=1)
    net.configure_optimizers = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        fit(CasketLogger(memory), net)
    assert [session.params for session in memory.sessions()] == [{"lr": 0.1}] * 2


def test_the_lightning_in_use_is_the_one_it_builds_on(monkeypatch):
    first, second = adapter.LOGGERS
    imported = []
    monkeypatch.setattr(adapter, "import_module", lambda name: imported.append(name) or name)
    for modules in ({first: 1}, {second: 1}, {first: 1, second: 1}, {}):
        for name in adapter.LOGGERS:
            monkeypatch.delitem(sys.modules, name, raising=False)
        for name in modules:
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        adapter._logger_module()
    assert imported == [first, second, first, first]


def test_without_lightning_the_error_names_the_extra(run_python):
    printed = run_python(
        """
        import casket
        try:
            import casket_integrations.lightning
        except casket.MissingDependency as error:
            print(error)
        """,
        without=("lightning", "pytorch_lightning"),
    )
    assert printed == "lightning is not installed: pip install 'casket[lightning]'"


@pytest.mark.parametrize("package", ["lightning", "pytorch_lightning"])
def test_a_broken_lightning_shows_its_own_error(package, run_python, tmp_path):
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("import a_package_nobody_has")
    printed = run_python(
        """
        try:
            import casket_integrations.lightning
        except ModuleNotFoundError as error:
            print(type(error).__name__, error.name)
        """,
        without=("lightning",) if package == "pytorch_lightning" else (),
    )
    assert printed == "ModuleNotFoundError a_package_nobody_has"


def test_pytorch_lightning_alone_is_enough(run_python, tmp_path):
    # A stand-in: the real package takes seconds to import, and is tested above.
    loggers = tmp_path / "pytorch_lightning" / "loggers"
    loggers.mkdir(parents=True)
    for package in (loggers, loggers.parent):
        (package / "__init__.py").touch()
    logger = "from abc import ABC\nclass Logger(ABC): pass\ndef rank_zero_experiment(f): return f"
    (loggers / "logger.py").write_text(logger)
    printed = run_python(
        """
        from casket_integrations.lightning import CasketLogger
        print(CasketLogger.__mro__[1].__module__)
        """,
        without=("lightning",),
    )
    assert printed == "pytorch_lightning.loggers.logger"


# Several processes

DISTRIBUTED = """
    import sys, warnings
    import torch
    from casket import Experiment
    warnings.simplefilter("ignore")
    import {package} as lightning
    from casket_integrations.lightning import CasketLogger
    from {package}.callbacks import Callback
    from {package}.loggers.logger import DummyExperiment
    from torch.nn.functional import cross_entropy
    from torch.utils.data import DataLoader, TensorDataset

    class Checks(Callback):
        def on_train_batch_start(self, trainer, module, *_):
            is_dummy = isinstance(trainer.logger.experiment, DummyExperiment)
            assert is_dummy is (trainer.global_rank > 0)
            assert trainer.world_size == 2

    class Net(lightning.LightningModule):
        def __init__(self, lr=0.1):
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(64, 10)

        def training_step(self, batch, _):
            loss = cross_entropy(self.layer(batch[0]), batch[1])
            self.log("loss", loss, on_step=True, on_epoch=True, sync_dist=True)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    if __name__ == "__main__":
        torch.set_num_threads(1)
        data = TensorDataset(torch.rand(256, 64), torch.randint(0, 10, (256,)))
        logger = CasketLogger(sys.argv[1], exp_id="exp", model_id="net", ensure_unique=True)
        trainer = lightning.Trainer(
            logger=logger, max_epochs=2, log_every_n_steps=1, accelerator="cpu", devices=2,
            strategy="{strategy}", enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, callbacks=[Checks()],
        )
        trainer.fit(Net(), DataLoader(data, batch_size=32))
"""


@pytest.mark.parametrize(
    ("strategy", "package"), [("ddp", "lightning.pytorch"), ("ddp_spawn", "pytorch_lightning")]
)
@needs_fork
def test_of_two_processes_each_metric_is_written_once(strategy, package, tmp_path, server):
    script = tmp_path / "train.py"
    code = DISTRIBUTED.replace("{package}", package).replace("{strategy}", strategy)
    script.write_text(textwrap.dedent(code))
    server.run(script, tmp_path / "runs.json")
    with casket.open(tmp_path / "runs.json") as runs:
        (session,) = runs.sessions(experiment="exp", model="net")
        assert session.status == "completed"
        assert session.params == {"lr": 0.1}
        steps = [row["batch_num"] for row in session.batches if "loss_step" in row]
        assert steps == list(range(8))
        assert [row["epoch_num"] for row in session.epochs] == [0, 1]


# Its size


def test_the_adapter_is_a_short_table_of_events():
    lines = set()
    source = Path(adapter.__file__).read_text()
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    is_first = True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        is_text = token.type == tokenize.STRING and is_first
        if token.type not in skipped and not is_text:
            lines.update(range(token.start[0], token.end[0] + 1))
        is_first = token.type in skipped - {tokenize.COMMENT} or (is_first and is_text)
    assert 50 < len(lines) < 100
