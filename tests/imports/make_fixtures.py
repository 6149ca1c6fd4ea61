"""Makes the files in `tests/imports/data` with the trackers themselves.

It is run by hand, not by the tests, in an environment of its own:

    python3 -m venv /tmp/fixtures-venv
    /tmp/fixtures-venv/bin/pip install mlflow-skinny==3.17.2 sqlalchemy==2.1.9 alembic sqlparse \
        tensorboard==2.21.0 tensorboardX==2.6.5 sacred==0.8.7 'setuptools<81' trackio==0.43.0 \
        torch==2.13.0 lightning==2.6.6 keras==3.15.1 wandb==0.31.0 \
        ray[tune]==2.60.0 optuna==5.0.0 transformers==5.24.0 accelerate==1.15.0 \
        dvclive==3.49.1 hydra-core==1.3.8
    /tmp/fixtures-venv/bin/pip install --no-deps --target /tmp/wandb-reader \
        wandb==0.21.4 'protobuf<7' sentry-sdk
    export WANDB_READER=/tmp/wandb-reader   # versions up to 0.21 read `.wandb` files in Python
    /tmp/fixtures-venv/bin/python tests/imports/make_fixtures.py [mlflow sacred ...]

(torch in its build for the CPU.) These versions made the fixtures of the repository.
`expected.json` holds the values as the tools read them back by their own API; Sacred, Lightning
and Keras have no API for reading, so it holds the values that their objects logged. The files name
nothing of the machine: the script replaces host name and paths, and checks that none is left.
"""

import gzip
import json
import math
import os
import platform
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import OrderedDict
from datetime import date, datetime
from pathlib import Path

os.environ.update(
    MLFLOW_DISABLE_TELEMETRY="true",
    MLFLOW_ALLOW_FILE_STORE="true",
    DO_NOT_TRACK="1",
    KERAS_BACKEND="torch",
    LOGNAME="someone",
    TRACKIO_DIR="trackio",
    TRACKIO_LOCAL_ONLY="1",
    GIT_PYTHON_REFRESH="quiet",
    CUDA_VISIBLE_DEVICES="",
)
DATA = Path(__file__).absolute().parent / "data"
HOST = platform.node()
WHERE = "/data/project"
LOSSES = [0.9, 0.5, 0.30000000000000004, 0.2, 1e-7]


def main():
    chosen = sys.argv[1:] or MAKERS
    sys.argv = ["train.py"]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        expected = json.loads((DATA / "expected.json").read_text())
        for name in chosen:
            expected.update(plain(MAKERS[name]()))
        replace_texts(folder)
        check_nothing_is_left(folder)
        Path("expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")
        os.chdir(DATA)
        for new in Path(folder).iterdir():
            shutil.rmtree(DATA / new.name, ignore_errors=True)
        shutil.copytree(folder, DATA, dirs_exist_ok=True)


def plain(value):
    """Return a value as strict JSON can hold it."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, (date, Path, complex)):
        return str(value)
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


# MLflow.


def mlflow_runs():
    expected = {"mlflow_db": mlflow_store("sqlite:///mlflow.db")}
    expected["mlflow_files"] = mlflow_store("file:filestore")
    with sqlite3.connect("mlflow.db") as database:
        here = os.getcwd()
        for table, column in (("runs", "artifact_uri"), ("experiments", "artifact_location")):
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (here, WHERE)
            )
    database.execute("VACUUM")
    database.close()
    Path("mlflow").mkdir()
    Path("mlflow/mlflow.db.gz").write_bytes(gzip.compress(Path("mlflow.db").read_bytes(), mtime=0))
    for path in Path().glob("mlflow.db*"):
        path.unlink()
    shutil.move("mlruns", "mlflow/mlruns")
    return expected


# Params that look like numbers.
TEXTS = {"python": "3.10", "sha": "8123e45", "zip": "00501", "v": "1.0", "n": "1e3", "neg": "-0"}


def mlflow_store(uri):
    import mlflow
    import numpy

    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("digits")
    # Without a folder for artifacts given, MLflow takes `mlruns` here.
    with mlflow.start_run(run_name="svm", tags={"team": "vision", "flag": ""}) as run:
        mlflow.log_params({"C": 1, "gamma": 0.001, "kernel": "rbf", "shrinking": True, "id": "007"})
        for step, loss in enumerate(LOSSES):
            mlflow.log_metric("loss", loss, step=step)
            if step % 2 == 0:
                mlflow.log_metric("val/acc", 1 - loss, step=step)
        mlflow.log_metric("loss", 0.25, step=3)
        mlflow.log_metric("odd", math.nan, step=1)
        mlflow.log_metric("odd", math.inf, step=2)
        mlflow.log_metric("odd", -math.inf, step=3)
        mlflow.log_metric("test_acc", 0.97)
        mlflow.log_text("a report\n", "reports/report.txt")
        mlflow.log_dict({"classes": 10}, "about.json")
        with mlflow.start_run(run_name="fold 1", nested=True):
            mlflow.log_metric("acc", 0.5)
    try:
        with mlflow.start_run(run_name="diverged"):
            mlflow.log_param("lr", "1e-3")
            mlflow.log_metric("loss", 3.5, step=-1)
            raise RuntimeError("diverged")
    except RuntimeError:
        pass
    client = mlflow.MlflowClient()
    killed = mlflow.start_run(run_name="killed")
    mlflow.log_metric("loss", 1, step=7)
    mlflow.end_run("KILLED")
    running = mlflow.start_run(run_name="running")
    mlflow.log_metric("loss", 2.5, step=0)
    mlflow.log_metric("loss", 2.25, step=1)
    client.set_terminated(running.info.run_id, "FINISHED")
    mlflow.end_run()
    client.update_run(running.info.run_id, status="RUNNING")
    with mlflow.start_run(run_name="no steps"):
        mlflow.log_params(TEXTS)
        for loss in LOSSES:
            mlflow.log_metric("loss", loss)
            time.sleep(0.002)
        mlflow.log_metric("test_acc", 0.9)
        mlflow.log_input(mlflow.data.from_numpy(numpy.arange(3.0), name="train"))
        mlflow.initialize_logged_model(name="net")
        with mlflow.start_span("predict"):
            pass
        mlflow.flush_trace_async_logging()
    with mlflow.start_run(run_name="deleted") as deleted:
        mlflow.log_metric("loss", 9)
    client.delete_run(deleted.info.run_id)
    assert len({run.info.run_id, killed.info.run_id}) == 2
    runs = client.search_runs([run.info.experiment_id], order_by=["attributes.start_time"])
    return [mlflow_run(client, each) for each in runs]


def mlflow_run(client, run):
    return {
        "run_id": run.info.run_id,
        "name": run.info.run_name,
        "status": run.info.status,
        "parent": run.data.tags.get("mlflow.parentRunId"),
        "start_time": run.info.start_time,
        "end_time": run.info.end_time,
        "params": run.data.params,
        "tags": {k: v for k, v in run.data.tags.items() if not k.startswith("mlflow.")},
        "metrics": {
            name: [
                [point.step, point.value, point.timestamp]
                for point in client.get_metric_history(run.info.run_id, name)
            ]
            for name in run.data.metrics
        },
        "artifacts": sorted(mlflow_artifacts(client, run.info.run_id)),
    }


def mlflow_artifacts(client, run_id, folder=None):
    for each in client.list_artifacts(run_id, folder):
        if each.is_dir:
            yield from mlflow_artifacts(client, run_id, each.path)
        else:
            yield each.path


# TensorBoard.


def tensorboard_runs():
    root = Path("tensorboard")
    torch_runs(root)
    tensorboardx_run(root)
    tensor_run(root)
    restarted_run(root)
    for path in sorted(root.rglob("*tfevents*")):
        path.rename(path.with_name(path.name.replace(HOST, "host")))
    folders = sorted({path.parent for path in root.rglob("*tfevents*")})
    return {"tensorboard": {f.relative_to(root).as_posix(): tensorboard_run(f) for f in folders}}


def torch_runs(root):
    import torch
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(root / "torch")) as writer:
        for step, loss in enumerate(LOSSES):
            writer.add_scalar("loss/train", loss, step)
            writer.add_scalar("acc", 1 - loss, step, new_style=True)
        writer.add_scalar("odd", math.nan, 1)
        writer.add_scalar("odd", math.inf, 2)
        writer.add_text("notes", "a *note*", 3)
        writer.add_histogram("weights", torch.arange(4.0), 0)
        hparams = {"lr": 0.1, "layers": 2, "opt": "adam", "bias": True}
        writer.add_hparams(hparams, {"hparam/acc": 0.75}, run_name="hparams")
    # A run that was resumed: another file in the same folder.
    with SummaryWriter(str(root / "torch"), filename_suffix=".resumed") as writer:
        for step, loss in enumerate(LOSSES[:2], 4):
            writer.add_scalar("loss/train", loss, step)


def tensorboardx_run(root):
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(root / "deep" / "x")) as writer:
        for step, loss in enumerate(LOSSES):
            writer.add_scalar("loss", loss, step * 100)
        writer.add_text("notes", "from tensorboardX", 0)


def tensor_run(root):
    """Write scalars as TensorFlow 2 and Keras do."""
    from tensorboard.summary import Writer

    writer = Writer(str(root / "tensors"))
    for step, loss in enumerate(LOSSES):
        writer.add_scalar("loss", loss, step, description="the loss")
    writer.close()


def restarted_run(root):
    """Write whole numbers, a scalar without a step after the training, and a restart at step 3."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(root / "restarted")) as writer:
        for step, loss in enumerate(LOSSES):
            writer.add_scalar("loss", loss, step, walltime=1.7e9 + step)
            writer.add_scalar("tokens", 2**31 + 512 * step, step, walltime=1.7e9 + step)
        writer.add_text("notes", "orphan", 4, walltime=1.7e9 + 4)
    restart = {"purge_step": 3, "filename_suffix": ".restarted"}
    with SummaryWriter(str(root / "restarted"), **restart) as writer:
        writer.add_scalar("loss", 0.25, 3, walltime=1.7e9 + 10)
        writer.add_scalar("test_acc", 0.9, walltime=1.7e9 + 900)


def tensorboard_run(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2
    from tensorboard.util import tensor_util

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0}).Reload()
    tags = events.Tags()
    scalars = {
        tag: [[e.wall_time, e.step, e.value] for e in events.Scalars(tag)]
        for tag in tags["scalars"]
    }
    texts = {}
    for tag in tags["tensors"]:
        plugin = events.SummaryMetadata(tag).plugin_data.plugin_name
        read = [
            [each.wall_time, each.step, tensor_util.make_ndarray(each.tensor_proto)]
            for each in events.Tensors(tag)
        ]
        if plugin == "text":
            texts[tag] = [[time, step, array.ravel()[0].decode()] for time, step, array in read]
        elif plugin == "scalars":
            scalars[tag] = [[time, step, array.item()] for time, step, array in read]
    hparams = {}
    # It raises a KeyError where the plugin was not used.
    contents = events.PluginTagToContent("hparams") if folder.name == "hparams" else {}
    for content in contents.values():
        data = plugin_data_pb2.HParamsPluginData.FromString(content)
        for name, value in data.session_start_info.hparams.items():
            hparams[name] = getattr(value, value.WhichOneof("kind"))
    return {
        "scalars": scalars,
        "texts": texts,
        "hparams": hparams,
        "first": events.FirstEventTimestamp(),
    }


# Sacred.


def read_sacred(run, name):
    """Return the content of a file as Sacred itself restores it."""
    from sacred.serializer import restore

    return restore(json.loads(Path("sacred", run._id, name).read_text()))


def sacred_runs():
    import numpy
    from sacred import Experiment
    from sacred.observers import FileStorageObserver

    experiment = Experiment("digits", save_git_info=False)
    observer = FileStorageObserver("sacred", copy_sources=False)
    experiment.observers.append(observer)
    Path("confusion.txt").write_text("5 1\n0 4\n")
    Path("digits.csv").write_text("1,2\n")

    @experiment.config
    def config():
        C = 1.0  # noqa: F841
        layers = (32, 16)  # noqa: F841
        opt = {"name": "adam", "lr": 1e-3}  # noqa: F841
        fate = "completed"  # noqa: F841

    experiment.add_config(weights=numpy.arange(100.0).reshape(50, 2))

    @experiment.main
    def train(fate, _run):
        for step, loss in enumerate(LOSSES):
            _run.log_scalar("loss", loss, step * 10)
        _run.log_scalar("acc", 0.5)
        _run.log_scalar("acc", 0.75)
        _run.log_scalar("odd", math.inf, 20)
        _run.log_scalar("numpy", numpy.array(2.5), 20)
        _run.info["classes"] = [0, 1]
        _run.info["scalars"] = [numpy.float64(1.5), numpy.float32(0.1), numpy.int32(4)]
        _run.info["arrays"] = [numpy.arange(4).reshape(2, 2), numpy.array([True, False])]
        _run.info["flags"] = numpy.arange(40) % 2 == 0
        _run.info["dates"] = [datetime(2020, 1, 2, 3, 4, 5, 6), date(2020, 1, 2)]
        _run.info["others"] = [{1, 2}, Path("a/b"), OrderedDict(a=1), {1: 2}, 1 + 2j]
        if fate == "failed":
            raise ValueError("no data")
        if fate == "interrupted":
            raise KeyboardInterrupt
        _run.add_artifact("confusion.txt")
        _run.add_resource("digits.csv")
        print("trained")
        return {"acc": numpy.float64(0.97), "confusion": numpy.array([[5, 1], [0, 4]])}

    expected = []
    for fate in ("completed", "failed", "interrupted"):
        try:
            run = experiment.run(
                config_updates={"fate": fate}, options={"--comment": f"to be {fate}"}
            )
        except (ValueError, KeyboardInterrupt):
            run = experiment.current_run
        expected.append(
            {
                "id": run._id,
                "config": read_sacred(run, "config.json"),
                "status": run.status,
                "result": read_sacred(run, "run.json")["result"],
                "info": read_sacred(run, "info.json"),
                "started": run.start_time.isoformat(),
                "stopped": run.stop_time.isoformat(),
                "metrics": {
                    "loss": [[step * 10, loss] for step, loss in enumerate(LOSSES)],
                    "acc": [[0, 0.5], [1, 0.75]],
                    "odd": [[20, math.inf]],
                    "numpy": [[20, 2.5]],
                },
            }
        )
    return {"sacred": expected}


# Trackio.


def trackio_runs():
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    for name, config in (("first", {"lr": 0.1, "opt": {"name": "adam"}}), ("second", {"lr": 1})):
        trackio.init(project="digits", name=name, config=config, embed=False, auto_log_gpu=False)
        for loss in LOSSES:
            trackio.log({"loss": loss, "nested": {"acc": 1 - loss}})
        trackio.log({"odd": math.nan, "loss": math.inf}, step=9)
        trackio.log({"val": 0.5}, step=9)
        trackio.finish()
    expected = [
        {
            "name": run.name,
            "id": run.id,
            "config": {k: v for k, v in run.config.items() if not k.startswith("_")},
            "created": run.config["_Created"],
            "logs": SQLiteStorage.get_logs("digits", run.name, run_id=run.id),
        }
        for run in trackio.Api().runs("digits")
    ]
    with sqlite3.connect("trackio/digits.db") as database:
        database.execute("PRAGMA journal_mode = DELETE")
        for run, config in database.execute("SELECT run_id, config FROM configs").fetchall():
            scrubbed = json.dumps({**json.loads(config), "_Username": "someone"})
            database.execute("UPDATE configs SET config = ? WHERE run_id = ?", (scrubbed, run))
    database.execute("VACUUM")
    database.close()
    Path("only").mkdir()
    packed = gzip.compress(Path("trackio/digits.db").read_bytes(), mtime=0)
    Path("only/digits.db.gz").write_bytes(packed)
    shutil.rmtree("trackio")
    Path("only").rename("trackio")
    return {"trackio": expected}


# Lightning.


def lightning_runs():
    import torch
    from lightning import LightningModule, Trainer
    from lightning.fabric.loggers import CSVLogger as FabricLogger
    from lightning.pytorch.callbacks import LearningRateMonitor
    from lightning.pytorch.loggers import CSVLogger
    from torch.utils.data import DataLoader, TensorDataset

    class Net(LightningModule):
        def __init__(self, lr=0.1, betas=(0.9, 0.999), opt=None, where=None):
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch, _):
            loss = self.layer(batch[0]).square().mean()
            self.log("loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch, _):
            self.log("val_loss", self.layer(batch[0]).square().mean())

        def test_step(self, batch, index):
            self.log("accuracy", (self.layer(batch[0]) > 0).float().mean())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), self.hparams.lr)

    logged = []

    class Recording(CSVLogger):
        def log_metrics(self, metrics, step=None):
            logged[-1].append([step, {name: float(value) for name, value in metrics.items()}])
            super().log_metrics(metrics, step)

    torch.manual_seed(0)
    data = DataLoader(TensorDataset(torch.rand(8, 2)), batch_size=2)
    for lr in (0.1, 0.01):
        logged.append([])
        trainer = Trainer(
            max_epochs=3, logger=Recording("lightning"), log_every_n_steps=2, accelerator="cpu",
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        net = Net(lr, opt={"name": "sgd", 1: None}, where=Path(WHERE, "data"))
        trainer.fit(net, data, data)
    logged.append([])
    monitored = Trainer(
        max_epochs=3, logger=Recording("lightning", name="monitored"), log_every_n_steps=1,
        callbacks=[LearningRateMonitor()], accelerator="cpu",
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    net = Net(0.1)
    monitored.fit(net, data, data)
    monitored.test(net, data, verbose=False)
    fabric = FabricLogger("lightning", name="fabric")
    logged.append([])
    for step, loss in enumerate(LOSSES):
        logged[-1].append([step, {"loss": loss}])
        fabric.log_metrics({"loss": loss}, step)
    fabric.save()
    return {"lightning": logged}


# Keras.


def keras_run():
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    network.compile("sgd", "mse", metrics=["mae"])
    x, y = np.random.rand(8, 2), np.random.rand(8)
    Path("keras").mkdir()
    logger = keras.callbacks.CSVLogger("keras/training.csv")
    history = network.fit(x, y, epochs=4, validation_data=(x, y), callbacks=[logger], verbose=0)
    return {"keras": {"epochs": history.epoch, "history": history.history}}


# W&B.


def wandb_runs():
    import wandb

    os.environ.update(
        WANDB_MODE="offline", WANDB_SILENT="true", WANDB_ERROR_REPORTING="false",
        WANDB_DISABLE_CODE="true", WANDB_DISABLE_GIT="true", WANDB_USERNAME="someone",
        WANDB_HOST="host", WANDB_PROGRAM="train.py",
    )  # fmt: skip
    config = {"lr": 0.1, "opt": {"name": "adam", "betas": [0.9, 0.999]}, "none": None}
    labels = {"group": "seeds", "job_type": "train", "tags": ["a", "b"], "notes": "a note"}
    with wandb.init(project="digits", name="svm", id="first", config=config, **labels) as run:
        for loss in LOSSES:
            run.log({"loss": loss, "nested": {"acc": 1 - loss}, "flag": loss > 0.4, "n": 2**53})
        run.log({"odd": math.nan, "inf": -math.inf, "text": "hello", "list": [1, 2.5]}, step=9)
        run.log({"more": 1}, step=9)
        run.log({"weights": wandb.Histogram([1, 2, 3])})
        run.config.update({"late": 3, "long": "x" * 70_000})
        run.summary["best"] = 1e-7
        run.summary["loss"] = 0.125
    failed = wandb.init(project="digits", id="second", config={"lr": 1})
    failed.log({"loss": 3.5})
    failed.finish(exit_code=3)
    time.sleep(1.1)  # the folder of a run is named by the second
    with wandb.init(project="digits", id="second", resume="allow") as resumed:
        resumed.log({"loss": 2.5}, step=4)
    Path("wandb/latest-run").unlink()
    for path in sorted(Path("wandb").rglob("*")):
        if path.is_dir() and path.name in {"logs", "tmp"}:
            shutil.rmtree(path)
        elif path.name.startswith("debug") or path.name == "requirements.txt":
            path.unlink(missing_ok=True)
    for path in sorted(Path("wandb").rglob("*.wandb")):
        scrub_wandb(path)
    reader = [sys.executable, str(DATA.parent / "read_wandb.py"), "wandb"]
    environment = {**os.environ, "PYTHONPATH": os.environ["WANDB_READER"]}
    said = subprocess.run(reader, env=environment, capture_output=True, check=True, text=True)
    return {"wandb": json.loads(said.stdout)}


def scrub_wandb(path):
    """Replace paths and the host by texts of the same length, chunk by chunk."""
    content = bytearray(path.read_bytes())
    at = 7
    while at < len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        data = bytes(content[at + 7 : at + 7 + length])
        for secret in sorted({os.getcwd(), sys.prefix, sys.base_prefix, HOST}, key=len)[::-1]:
            data = data.replace(
                secret.encode(), WHERE.ljust(len(secret), "_")[: len(secret)].encode()
            )
        content[at + 7 : at + 7 + length] = data
        struct.pack_into("<I", content, at, zlib.crc32(data, zlib.crc32(bytes([kind]))))
        at += 7 + length
    path.write_bytes(content)


# Ray Tune.


def ray_runs():
    import ray
    from ray import tune

    # Ray stores the paths of its own files in folders that must be short.
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)

    def train(config):
        for step, loss in enumerate(LOSSES[:3]):
            if config["lr"] > 0.25 and step == 2:
                raise ValueError("diverged")
            tune.report({"loss": loss * config["lr"], "odd": math.nan, "nested": {"step": step}})

    space = {"lr": tune.grid_search([0.1, 0.3]), "opt": {"name": "sgd"}}
    where = tune.RunConfig(name="digits", storage_path=os.path.abspath("ray"), verbose=0)
    results = tune.Tuner(train, param_space=space, run_config=where).fit()
    ray.shutdown()
    expected = [ray_run(result) for result in results]
    for path in Path("ray").rglob("*"):
        if path.suffix == ".pkl" or path.name.startswith(("basic-variant", ".validate")):
            path.unlink()
        elif "tfevents" in path.name:
            path.rename(path.with_name(path.name.replace(HOST, "host")))
        elif path.name.startswith("experiment_state"):
            path.write_text(json.dumps({"trial_data": ray_states(path)}))
        elif path.name in {"result.json", "progress.csv"}:
            text = re.sub(r"\b\d+\.\d+\.\d+\.\d+\b", "127.0.0.1", path.read_text())
            path.write_text(text.replace(HOST, "host"))
        elif path.name == "error.txt":
            path.write_text(re.sub(r"(?m)^(Fail|\S*ray::|  File).*\n", "", path.read_text()))
    return {"ray": expected}


def ray_states(path):
    """Return the trials of an experiment without the pickles that hold paths."""
    trials = [json.loads(trial) for trial, _ in json.loads(path.read_text())["trial_data"]]
    kept = ("trial_id", "status", "experiment_tag", "relative_logdir")
    return [[json.dumps({name: trial[name] for name in kept}), "{}"] for trial in trials]


def ray_run(result):
    rows = result.metrics_dataframe.to_dict("records")
    own = {"pid", "hostname", "node_ip"}
    return {
        "folder": Path(result.path).name,
        "config": result.config,
        "error": str(result.error).strip().split("\n")[-1] if result.error else None,
        "rows": [{name: row[name] for name in row if name not in own} for row in rows],
    }


# Optuna.


def optuna_studies():
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    Path("optuna").mkdir()
    stores = {
        "optuna_db": "sqlite:///optuna/studies.db",
        "optuna_journal": JournalStorage(JournalFileBackend("optuna/studies.log")),
    }
    expected = {name: optuna_store(optuna, store) for name, store in stores.items()}
    Path("optuna/studies.log.lock").unlink(missing_ok=True)
    database = Path("optuna/studies.db")
    Path("optuna/studies.db.gz").write_bytes(gzip.compress(database.read_bytes(), mtime=0))
    database.unlink()
    return expected


def optuna_store(optuna, storage):
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(storage=storage, study_name="digits", sampler=sampler)
    study.set_user_attr("owner", "someone")

    def objective(trial):
        x = trial.suggest_float("x", -1, 1)
        trial.suggest_float("lr", 1e-5, 1, log=True)
        trial.suggest_int("layers", 1, 9)
        trial.suggest_categorical("opt", ["adam", None, True, 3])
        trial.set_user_attr("seed", trial.number)
        for step, value in enumerate([x, math.inf, -math.inf]):
            trial.report(value, step * 10)
        if trial.number == 1:
            raise ValueError("no data")
        if trial.number == 2:
            raise optuna.TrialPruned
        return x**2

    study.optimize(objective, n_trials=4, catch=ValueError)
    study.add_trial(
        optuna.create_trial(
            params={"x": 0.5},
            distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
            value=0.25,
            intermediate_values={3: 0.5},
        )
    )
    study.ask()
    study.enqueue_trial({"x": 0.5})
    several = optuna.create_study(
        storage=storage, study_name="several", directions=["minimize", "maximize"], sampler=sampler
    )
    several.optimize(lambda trial: (trial.suggest_float("x", 0, 1), math.inf), n_trials=1)
    several.set_metric_names(["loss", "accuracy"])
    gone = optuna.create_study(storage=storage, study_name="gone")
    gone.optimize(lambda trial: 1.0, n_trials=1)
    optuna.delete_study(study_name="gone", storage=storage)
    return [
        optuna_trial(study_name, trial)
        for study_name in ("digits", "several")
        for trial in optuna.load_study(study_name=study_name, storage=storage).trials
        if trial.state.name != "WAITING"
    ]


def optuna_trial(study_name, trial):
    return {
        "study": study_name,
        "number": trial.number,
        "state": trial.state.name,
        "params": trial.params,
        "values": trial.values,
        "intermediate": list(trial.intermediate_values.items()),
        "user_attrs": trial.user_attrs,
        "started": trial.datetime_start and trial.datetime_start.isoformat(),
        "ended": trial.datetime_complete and trial.datetime_complete.isoformat(),
    }


# Hugging Face's Trainer.


def trainer_runs():
    import torch
    from transformers import Trainer, TrainingArguments

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def forward(self, x, labels=None):
            output = self.layer(x)
            return {"loss": (output - labels).square().mean(), "logits": output}

    torch.manual_seed(0)
    data = [{"x": torch.rand(2), "labels": torch.rand(1)} for _ in range(8)]
    expected = {}
    for name, epochs in (("small", 2), ("large", 3)):
        arguments = TrainingArguments(
            f"transformers/{name}", num_train_epochs=epochs, per_device_train_batch_size=2,
            logging_steps=2, eval_strategy="epoch", save_strategy="epoch", report_to="none",
            use_cpu=True, disable_tqdm=True, metric_for_best_model="loss", seed=epochs,
        )  # fmt: skip
        trainer = Trainer(Net(), arguments, train_dataset=data, eval_dataset=data)
        trainer.train()
        if name == "small":
            trainer.save_state()
        expected[name] = {
            "rows": trainer.state.log_history,
            "best_metric": trainer.state.best_metric,
            "max_steps": trainer.state.max_steps,
        }
    for path in Path("transformers").rglob("*"):
        if path.is_file() and path.name != "trainer_state.json":
            path.unlink()
    return {"transformers": expected}


# DVCLive.


def dvclive_run():
    from dvclive import Live
    from dvclive.utils import parse_metrics

    params = {
        "lr": 0.1, "small": 1e-5, "opt": {"name": "adam"}, "none": None, "betas": [0.9, 0.999],
        "flag": True, "no": "no", "date": "2026-01-01",
    }  # fmt: skip
    where = "dvclive/net"
    with Live(where, save_dvc_exp=False, dvcyaml=None, report=None) as live:
        live.log_params(params)
        for loss in LOSSES:
            live.log_metric("train/loss", loss, timestamp=True)
            live.log_metric("acc", 1 - loss)
            live.next_step()
        live.log_metric("odd", math.nan)
        live.log_metric("inf", -math.inf)
        live.log_metric("final", 0.5, plot=False)
        history, latest = parse_metrics(live)
    tables = Path(where, "plots", "metrics")
    named = {Path(p).relative_to(tables).with_suffix("").as_posix(): history[p] for p in history}
    return {"dvclive": {"params": params, "history": named, "latest": latest}}


# Hydra.

CONFIG = """
opt: {name: adam, lr: 1e-4}
warm: "${opt.lr}"
name: run-${opt.name}-${seed}
seed: 3
flag: "no"
steps: [1, "${seed}"]
"""
JOB = """
import hydra
from hydra.core.hydra_config import HydraConfig
from tensorboardX import SummaryWriter

@hydra.main(version_base=None, config_path="configs", config_name="digits")
def main(config):
    with SummaryWriter(HydraConfig.get().runtime.output_dir + "/logs") as writer:
        writer.add_scalar("loss", config.opt.lr, 0)

main()
"""


def hydra_job():
    from omegaconf import OmegaConf

    Path("configs").mkdir()
    Path("configs/digits.yaml").write_text(CONFIG)
    Path("train.py").write_text(JOB)
    options = ["opt.name=sgd", "+extra=1e-05", "hydra.run.dir=hydra/job"]
    subprocess.run([sys.executable, "train.py", *options], check=True)
    Path("train.py").unlink()
    shutil.rmtree("configs")
    Path("hydra/job/train.log").unlink(missing_ok=True)
    for path in Path("hydra").rglob("*tfevents*"):
        path.rename(path.with_name(path.name.replace(HOST, "host")))
    # The rest is settings of logging and of the machine.
    settings = Path("hydra/job/.hydra/hydra.yaml")
    job = OmegaConf.load(settings).hydra.job
    OmegaConf.save({"hydra": {"job": {"name": job.name}}}, settings)
    config = OmegaConf.load("hydra/job/.hydra/config.yaml")
    overrides = OmegaConf.load("hydra/job/.hydra/overrides.yaml")
    return {
        "hydra": {
            "config": OmegaConf.to_container(config, resolve=True),
            "overrides": OmegaConf.to_container(overrides),
        }
    }


# Must not be in the files.


def replace_texts(folder):
    replaced = {folder: WHERE, os.path.realpath(folder): WHERE, str(DATA.parent): WHERE}
    replaced |= {sys.prefix: "/venv", sys.base_prefix: "/python", HOST: "host"}
    for path in Path().rglob("*"):
        is_tag = path.parent.name == "tags"
        is_text = is_tag or path.suffix in {".json", ".yaml", ".txt", ".log", ""}
        if path.is_file() and is_text:
            text = before = path.read_text()
            for secret, instead in replaced.items():
                text = word(secret).sub(instead, text)
            if text != before:
                path.write_text(text)
    for path in Path("sacred").glob("*/run.json"):
        run = json.loads(path.read_text())
        run["host"] = {**run["host"], "hostname": "host", "ENV": {}, "cpu": "a processor"}
        run["host"]["os"] = ["Linux", "Linux"]
        path.write_text(json.dumps(run, indent=2, sort_keys=True))


def word(secret):
    return re.compile(rf"(?<!\w){re.escape(secret)}(?!\w)")


def check_nothing_is_left(folder):
    secrets = {folder, HOST, str(DATA), sys.prefix, str(Path.home()), Path.home().name}
    for path in Path().rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".gz":
                content = gzip.decompress(content)
            text = f"{path.name} {content.decode('latin-1')}"
            leaks = [secret for secret in secrets if word(secret).search(text)]
            assert not leaks, f"{path} holds {leaks}"
    for name in ("confusion.txt", "digits.csv"):
        Path(name).unlink(missing_ok=True)


MAKERS = {
    "mlflow": mlflow_runs,
    "tensorboard": tensorboard_runs,
    "sacred": sacred_runs,
    "trackio": trackio_runs,
    "lightning": lightning_runs,
    "keras": keras_run,
    "wandb": wandb_runs,
    "ray": ray_runs,
    "transformers": trainer_runs,
    "dvclive": dvclive_run,
    "hydra": hydra_job,
    "optuna": optuna_studies,
}

if __name__ == "__main__":
    main()
