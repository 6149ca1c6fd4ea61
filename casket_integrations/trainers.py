"""Determine the current run of a Lightning Trainer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from traceback import walk_stack, walk_tb
from typing import Any, NamedTuple, cast

from casket_integrations.steps import Checkpoints, Run

CHECKPOINT_IDENTITY = ("state_key", "dirpath", "filename")
"""The attributes that distinguish the checkpoint callbacks of a Trainer."""
CHECKPOINT_FACTS = ("best_model_path", "best_model_score", "last_model_path", "best_k_models")


class FailedFit(NamedTuple):
    """A `fit` that raised an exception.

    Attributes:
        run: the run of the fit.
        hyperparameters: the hyperparameters that the Trainer would have logged.
    """

    run: Run
    hyperparameters: dict[str, Any]


def trainer_of(model: Any) -> Any:
    """Return the Trainer that a module is attached to, if any."""
    with suppress(AttributeError, RuntimeError):  # raised by a module without a Trainer
        return model.trainer
    return None


def run_of(trainer: Any) -> Run:
    """Return the run that a Trainer is starting."""
    goes_on = trainer.global_step > 0
    return Run(
        trainer.state.fn.value,
        epoch=lambda: trainer.current_epoch,
        resumes=lambda: goes_on or trainer.ckpt_path,
        can_resume_later=trainer.strategy.restore_checkpoint_after_setup,
    )


def run_at_work(logger: Any) -> Run | None:
    """Return the run of the Trainer that directly or indirectly called a logger.

    A Trainer with `enable_autolog_hparams=False` never passes itself to its loggers.
    """
    for frame, _ in walk_stack(None):
        trainer: Any = frame.f_locals.get("trainer")
        if logger in getattr(trainer, "loggers", ()) and trainer.state.status == "running":
            return run_of(trainer)
    return None


def failed_fit(error: BaseException | None, logger: Any) -> FailedFit | None:
    """Return the fit that is raising an exception.

    A Trainer passes itself to its loggers only after `setup`, `configure_optimizers` and
    `on_fit_start`. For exceptions in these methods, the Trainer is taken from the traceback.

    Args:
        error: the exception, if any.
        logger: the logger.

    Returns:
        The fit; None if the exception was not raised in a fit with this logger.
    """
    frames = [frame.f_locals for frame, _ in walk_tb(error.__traceback__ if error else None)]
    trainer: Any = next((each["trainer"] for each in frames if "trainer" in each), None)
    calls = [each for each in frames if trainer is not None and each.get("self") is trainer]
    if not calls or logger not in trainer.loggers or trainer.state.fn != "fit":
        return None
    is_resumed = any(call.get("ckpt_path") for call in calls)
    run = run_of(trainer)
    resumes = run.resumes
    return FailedFit(
        run._replace(resumes=lambda: is_resumed or resumes()),
        {**_hyperparameters(trainer.lightning_module), **_hyperparameters(trainer.datamodule)},
    )


def _hyperparameters(part: Any) -> Mapping[str, Any]:
    """Return the hyperparameters of a module or datamodule, if it has logging enabled."""
    logged = part.hparams_initial if getattr(part, "_log_hyperparams", False) else {}
    return cast("Mapping[str, Any]", logged_hyperparameters(logged))


def logged_hyperparameters(params: Any) -> Any:
    """Return hyperparameters without the name that `LightningCLI` adds for its own use."""
    if isinstance(params, Mapping) and "_instantiator" in params:
        return {name: params[name] for name in params if name != "_instantiator"}
    return params


def checkpoints_of(callback: Any) -> Checkpoints:
    """Return the checkpoints that a callback has saved."""
    facts = {name: getattr(callback, name, None) for name in CHECKPOINT_FACTS}
    paths = *(facts["best_k_models"] or ()), facts["best_model_path"], facts["last_model_path"]
    return Checkpoints(
        kind=str(getattr(callback, "monitor", None)),
        source=repr([getattr(callback, name, None) for name in CHECKPOINT_IDENTITY]),
        facts=facts,
        paths=list(filter(None, paths)),
    )


def folder_of(experiment: str | None) -> str | None:
    """Return an experiment id as the relative path of a folder that leads nowhere else."""
    parts = re.split(r"[/\\]", experiment or "")
    return experiment and "/".join(part for part in parts if part.strip("."))
