"""Hydra: a job that logs to `casket.attach()`, composed and run as Hydra runs it."""

import tempfile

from hydra import compose, initialize
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import run_job
from hydra.types import HydraContext

import casket
from casket_integrations.hydra import CasketCallback
from tests.integrations.scenarios import Record

Hook = CasketCallback


def run(job, *hooks):
    """Run a job as `hydra.main` does, and raise its exception, if any."""
    with initialize(version_base=None, config_path=None), tempfile.TemporaryDirectory() as folder:
        overrides = ["+lr=0.5", "+net.layers=[3,4]", f"hydra.run.dir={folder}"]
        config = compose(overrides=overrides, return_hydra_config=True)
        callbacks = Callbacks()
        callbacks.callbacks.extend(hooks)
        context = HydraContext(GlobalHydra.instance().config_loader(), callbacks)
        done = run_job(job, config, "hydra.run.dir", None, context, configure_logging=False)
        _ = done.return_value  # raises the exception of the job


def train(hook, interrupt):
    rows = [{"epoch_num": epoch, "loss": 1 / (epoch + 1)} for epoch in range(4)]

    def job(config):
        session = casket.attach()
        for row in rows:
            session.add_epoch(row["epoch_num"], {"loss": row["loss"]})
            if row["epoch_num"] == 2:
                interrupt()

    run(job, hook)
    return Record("epochs", rows, {"lr": 0.5, "net": {"layers": [3, 4]}})
