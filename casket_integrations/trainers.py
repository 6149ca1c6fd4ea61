"""Read from a Lightning Trainer what it is doing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from traceback import walk_stack, walk_tb
from typing import Any, NamedTuple

from casket_integrations.steps import Run


class FailedFit(NamedTuple):
    """A `fit` that an exception has left.

    Attributes:
        run: the fit.
        hyperparameters: those that the Trainer logs, once it comes to it.
    """

    run: Run
    hyperparameters: dict[str, Any]


def trainer_of(model: Any) -> Any:
    """Return the Trainer that a module is attached to; None if there is none."""
    with suppress(AttributeError, RuntimeError):  # raised by a module without a Trainer
        return model.trainer
    return None


def run_of(trainer: Any) -> Run:
    """Return what a Trainer begins to do."""
    goes_on = trainer.global_step > 0
    return Run(
        trainer.state.fn.value,
        epoch=lambda: trainer.current_epoch,
        resumes=lambda: goes_on or trainer.ckpt_path,
        can_resume_later=trainer.strategy.restore_checkpoint_after_setup,
    )


def run_at_work(logger: Any) -> Run | None:
    """Return what the Trainer that called a logger, directly or not, is doing.

    A Trainer with `enable_autolog_hparams=False` never hands itself to its loggers.
    """
    for frame, _ in walk_stack(None):
        trainer: Any = frame.f_locals.get("trainer")
        if logger in getattr(trainer, "loggers", ()) and trainer.state.status == "running":
            return run_of(trainer)
    return None


def failed_fit(error: BaseException | None, logger: Any) -> FailedFit | None:
    """Return the fit that an exception is leaving.

    A Trainer hands itself to its loggers only after `setup`, `configure_optimizers` and
    `on_fit_start`, so an exception in one of these is asked where it came from.

    Args:
        error: the exception; None: there is none.
        logger: a logger.

    Returns:
        The fit; None if the exception leaves none of this process with this logger.
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
    """Return the hyperparameters of a module or a datamodule, if it wants them logged."""
    return part.hparams_initial if getattr(part, "_log_hyperparams", False) else {}
