"""Lightning: `Trainer(logger=CasketLogger(...))` logs the training.

Supports Lightning 2, imported as `lightning.pytorch` or `pytorch_lightning`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from casket import MissingDependency, Model
from casket_integrations import trainers
from casket_integrations.recorder import OnError
from casket_integrations.steps import Steps

LOGGERS = ("lightning.pytorch.loggers.logger", "pytorch_lightning.loggers.logger")
"""The logger modules of the two packages, whose classes are distinct."""


def _logger_module() -> Any:
    """Return the logger module of the imported Lightning package, or of the first installed."""
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
    """Logs each `fit` as a session, each call as a batch and each epoch's latest metrics.

    The session starts with the first metric or checkpoint, or when `experiment` is used. The
    hyperparameters logged before are its params; later hyperparameters are stored in
    `meta["hyperparameters"]`. It ends with the Trainer's run. `test` and `validate` add results
    indexed by their names. A `fit` that resumes from a checkpoint (`ckpt_path`, or the checkpoint
    of a requeued Slurm job) continues the last session with the same params that is not running,
    and another `fit` of the same Trainer continues its own session unless the hyperparameters
    differ. A `fit` that fails before its first step is logged as a failed session. Epochs and steps
    count from 0, as in Lightning. Steps of a Trainer in quick succession are written twice a
    second. Without a Trainer, call `finalize("success")` to end the session.

    Args:
        model: a casket Model, or the URL of a store, used with `exp_id` and `model_id`.
        params: hyperparameters in addition to those logged by Lightning.
        prefix: the prefix of metric names, joined with a hyphen.
        ensure_unique: whether to refuse params that were run already instead of starting a
            repetition of them.
        exp_id: the experiment id, if `model` is a URL.
        model_id: the model id, if `model` is a URL.
        save_dir: the root folder of checkpoints, stored in `save_dir/name/version/checkpoints`; by
            default, the Trainer's `default_root_dir`. Required by `LightningCLI`.
        log_model: whether to store checkpoint files as artifacts; their paths are always stored.
        on_error: `"warn"` to issue a single warning about a logging failure and continue the
            training, or `"raise"` to raise the error.

    Raises:
        ExistingParamsException: at the start of `fit`, if the params were run already.
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
        _register()

    @property
    @_module.rank_zero_experiment  # type: ignore[untyped-decorator]  # either Lightning's
    def experiment(self) -> Any:
        """The casket Session, which starts on first use; a no-op on other ranks than zero."""
        # Accessed by the Trainer when a run begins.
        self._steps.look_for_run(lambda: trainers.run_at_work(self))
        return self._steps.handle

    @property
    def name(self) -> str | None:
        """The experiment id as a relative path, which is a part of the folder of checkpoints."""
        return trainers.folder_of(self._steps.name)

    @property
    def version(self) -> str:
        """The unique id of this logger, stored in the `meta["version"]` of its sessions."""
        return self._steps.version

    @property
    def save_dir(self) -> str | None:
        """The `save_dir` given; casket's records are in its store."""
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
        """Add hyperparameters to the params of the session, or to its meta once it has started."""
        self._steps.hyperparameters(trainers.logged_hyperparameters(params))

    @rank_zero_only
    def log_graph(self, model: Any, input_array: Any = None) -> None:  # noqa: ARG002
        """Store the model's layers; called by the Trainer at the start of each run."""
        facts = {"class_name": type(model).__name__, "layers": model}
        trainer = trainers.trainer_of(model)
        self._steps.run(trainer and trainers.run_of(trainer), {"lightning_model": facts})

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log a batch."""
        named = {self._prefix + name: metrics[name] for name in metrics if name != "epoch"}
        self._steps.metrics(named, step, metrics.get("epoch"))

    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Store the paths and scores of existing checkpoints, and their files with `log_model`."""
        self._steps.checkpoints(trainers.checkpoints_of(checkpoint_callback), self._log_model)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the session; called by the Trainer at the end of each run."""
        if status in ("success", "finished"):
            self._steps.end(None)
        else:
            self._steps.end(
                f"finalize({status!r})", *(trainers.failed_fit(sys.exc_info()[1], self) or ())
            )


def _register() -> None:
    """Register the logger with both packages, so that either Trainer and CLI accepts it."""
    for module in filter(None, map(sys.modules.get, LOGGERS)):
        module.Logger.register(CasketLogger)


_register()
