"""Lightning: `Trainer(logger=CasketLogger(...))` logs the training.

Written against Lightning 2, whether it is imported as `lightning.pytorch` or `pytorch_lightning`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from casket import MissingDependency, Model
from casket_integrations.recorder import OnError
from casket_integrations.steps import Steps
from casket_integrations.trainers import failed_fit, run_at_work, run_of, trainer_of

LOGGERS = ("lightning.pytorch.loggers.logger", "pytorch_lightning.loggers.logger")
"""One framework under two names, whose classes are not the same."""
CHECKPOINT_FACTS = ("best_model_path", "best_model_score", "last_model_path", "best_k_models")


def _logger_module() -> Any:
    """Return the Logger's module of the Lightning in use; none yet: of the first installed."""
    for name in [name for name in LOGGERS if name in sys.modules] or LOGGERS:
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name.partition(".")[0]:
                raise
    raise MissingDependency("lightning", "lightning")


_module = _logger_module()
if TYPE_CHECKING:
    from lightning.pytorch.loggers.logger import Logger
else:
    Logger = _module.Logger

from lightning_utilities.core.rank_zero import rank_zero_only  # noqa: E402 - comes with Lightning


class CasketLogger(Logger):
    """Logs each `fit` as a session: each call is a batch, each epoch's latest metrics an epoch.

    The session begins with the first metric or checkpoint, or when `experiment` is used; the
    hyperparameters logged until then are its params, later ones its `meta["hyperparameters"]`. It
    ends with the Trainer's run. `test` and `validate` add to it, and their results are filed under
    their names. A `fit` that resumes from a checkpoint (`ckpt_path`, or that of a requeued Slurm
    job) continues the last session of the same params that is not running, and a further `fit` of
    the same Trainer continues its own, unless its hyperparameters are others. A `fit` that fails
    before its first step is a failed session, too. Epochs and steps count from 0, as Lightning's
    do. Steps of a Trainer that follow each other quickly are written twice a second. Where no
    Trainer ends the session, call
    `finalize("success")`.

    Args:
        model: a casket Model, or the URL of a store; then `exp_id` and `model_id` name the rest.
        params: hyperparameters, besides those that Lightning logs.
        prefix: what to put before the names of metrics, with a hyphen.
        ensure_unique: refuse params that were run already; else begin a repetition of them.
        exp_id: the experiment, with a URL.
        model_id: the model, with a URL.
        save_dir: where checkpoints go, in `save_dir/name/version/checkpoints`; by default the
            Trainer's `default_root_dir`. `LightningCLI` needs it.
        log_model: keep the files of checkpoints as artifacts; their paths are kept anyway.
        on_error: `"warn"`: a failure to log is one warning and the training goes on; `"raise"`.

    Raises:
        ExistingParamsException: at the start of `fit`: the params were run already.
    """

    def __init__(
        self,
        model: Model | str,
        params: Mapping[str, Any] | None = None,
        *,
        prefix: str = "",
        ensure_unique: bool = False,
        exp_id: str | None = None,
        model_id: str | None = None,
        save_dir: str | os.PathLike[str] | None = None,
        log_model: bool = False,
        on_error: OnError = "warn",
    ) -> None:
        super().__init__()
        self._steps = Steps(
            model, params, ensure_unique=ensure_unique, exp_id=exp_id, model_id=model_id,
            on_error=on_error, is_logging=getattr(rank_zero_only, "rank", 0) == 0,
        )  # fmt: skip
        self._prefix = f"{prefix}-" if prefix else ""
        self._save_dir = None if save_dir is None else os.fspath(save_dir)
        self._log_model = log_model
        # The Trainer of the other name takes it for one of its own, too.
        for module in filter(None, map(sys.modules.get, LOGGERS)):
            module.Logger.register(type(self))

    @property
    @_module.rank_zero_experiment  # type: ignore[untyped-decorator]  # either Lightning's
    def experiment(self) -> Any:
        """The casket Session, which begins when it is used; another rank's does nothing."""
        self._steps.look_for_run(lambda: run_at_work(self))  # the Trainer asks when a run begins
        return self._steps.handle

    @property
    def name(self) -> str | None:
        """The id of the experiment."""
        return self._steps.name

    @property
    def version(self) -> str:
        """What tells this logger from others; its sessions have it as `meta["version"]`."""
        return self._steps.version

    @property
    def save_dir(self) -> str | None:
        """The folder given; casket's own records are in its store."""
        return self._save_dir

    @property
    def root_dir(self) -> str | None:
        """The folder of all versions."""
        return self._save_dir and os.path.join(self._save_dir, str(self.name))

    @property
    def log_dir(self) -> str | None:
        """The folder of this version."""
        return self.root_dir and os.path.join(self.root_dir, self.version)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Take hyperparameters as params of the session; once it has begun, as its meta."""
        self._steps.hyperparameters(params)

    @rank_zero_only
    def log_graph(self, model: Any, input_array: Any = None) -> None:  # noqa: ARG002
        """Keep the model's layers; the Trainer calls this at the start of each of its runs."""
        facts = {"class_name": type(model).__name__, "layers": model}
        trainer = trainer_of(model)
        self._steps.run(trainer and run_of(trainer), {"lightning_model": facts})

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log a batch."""
        named = {self._prefix + name: metrics[name] for name in metrics if name != "epoch"}
        self._steps.metrics(named, step, metrics.get("epoch"))

    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Keep the paths and scores of the checkpoints there are, and their files if asked for."""
        facts = {name: getattr(checkpoint_callback, name, None) for name in CHECKPOINT_FACTS}
        paths = [
            *(facts["best_k_models"] or ()),
            facts["best_model_path"],
            facts["last_model_path"],
        ]
        monitor = str(getattr(checkpoint_callback, "monitor", None))
        self._steps.checkpoints(monitor, facts, paths if self._log_model else ())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the session; the Trainer calls this at the end of each of its runs."""
        if status in ("success", "finished"):
            self._steps.end(None)
        else:
            self._steps.end(f"finalize({status!r})", *(failed_fit(sys.exc_info()[1], self) or ()))
