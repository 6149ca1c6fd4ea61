"""transformers: `Trainer(..., callbacks=[CasketCallback(model)])` logs the training.

Supports transformers 5 and the trainers of TRL. Trainer calls no callback when `train` raises an
exception, so importing this module wraps `Trainer.train`, which has no effect without a
`CasketCallback`.
"""

# ruff: noqa: ARG002 - the signatures of the events are those of transformers
from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from casket.errors import missing
from casket.format.described import described
from casket_integrations.calls import Arguments, ending_sessions
from casket_integrations.hyperparameters import changed
from casket_integrations.recorder import Recorder, Recording

try:
    from transformers import Trainer, TrainerCallback  # type: ignore[import-untyped, unused-ignore]
except ModuleNotFoundError as error:
    raise missing(error, "transformers", "transformers") from error

_OF_THE_RUN = (
    "_dir",
    "_path",
    "run_name",
    "resume_from_checkpoint",
    "report_to",
    "disable_tqdm",
    "accelerator_config",
)
"""Ends of the names of arguments that do not affect the result of a training."""


class CasketCallback(Recording, TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Logs every `train` as a session, each log as a batch and each epoch's latest metrics.

    The params are the training arguments that differ from their defaults, without paths, and the
    values of a trial of a hyperparameter search; all arguments are in
    `meta["training_arguments"]`. Batches are numbered by the global step. Epochs count from 1; the
    epoch of a log is the one that it was made in. A `train` with `resume_from_checkpoint` continues
    the last session with the same params that is not running. An `evaluate` after `train` is added
    to the session as a result with the index `"evaluate"`. If `train` ends with an exception, the
    logged records are kept and the session has the status failed.

    See `Recording` for the arguments.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Start or continue the session."""
        if not state.is_world_process_zero:
            self.recorder.is_logging = False
        self.describe(args, state.trial_params)
        if self.recorder.start(resumes=state.global_step > 0):
            config = getattr(more.get("model"), "config", None)
            facts = {"training_arguments": args, "transformers_model": config}
            self.recorder.meta({name: described(_dict(each)) for name, each in facts.items()})

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any
    ) -> None:
        """Log a batch."""
        metrics = {name: value for name, value in (logs or {}).items() if name != "epoch"}
        self.recorder.step(state.global_step, metrics, max(1, math.ceil(state.epoch or 0)))

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Log the previous epoch, if any, after its evaluation."""
        self.recorder.end_epoch()

    def on_evaluate(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Add the result of an `evaluate` after `train` to the session of the training."""
        self.recorder.late_result(more["metrics"], index_by="evaluate")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End the session."""
        self.recorder.end()

    def describe(self, args: Any, trial: Mapping[str, Any] | None) -> None:
        """Take the params from the arguments of the training and of the trial, if any."""
        self.recorder.describe({**changed(args, _OF_THE_RUN), **described(trial)})


def _dict(config: Any) -> Any:
    return config.to_dict() if hasattr(config, "to_dict") else None


def _expected(arguments: Arguments) -> Iterator[Recorder]:
    """Yield the recorders of the callbacks of a Trainer, each expecting the training."""
    for callback in arguments["self"].callback_handler.callbacks if arguments else ():
        if isinstance(callback, CasketCallback):
            callback.recorder.expect(resumes=bool(arguments["resume_from_checkpoint"]))
            callback.describe(arguments["self"].args, None)
            yield callback.recorder


Trainer.train = ending_sessions(Trainer.train, _expected)  # type: ignore[method-assign]
