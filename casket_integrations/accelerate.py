"""Accelerate: `Accelerator(log_with=CasketTracker(model))` logs what `accelerator.log` is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from casket import Session
from casket.errors import missing
from casket_integrations.recorder import Recording

try:
    from accelerate.tracking import (  # type: ignore[import-untyped, unused-ignore]
        GeneralTracker,
        on_main_process,
    )
except ModuleNotFoundError as error:
    raise missing(error, "accelerate", "accelerate") from error


class CasketTracker(Recording, GeneralTracker):  # type: ignore[misc, unused-ignore]
    """Logs each training as a session, and each `accelerator.log` as a batch.

    The session starts with `init_trackers`, whose `config` is its params, or with the first log. It
    ends with `end_training`; without it, the session ends with the script. Batches are numbered by
    `step`; without it, from 0. If a log has a whole number as `epoch`, the latest metrics of each
    epoch are logged as an epoch, too.

    See `Recording` for the arguments.
    """

    name = "casket"
    requires_logging_directory = False
    ends_with_script = True

    @property
    def tracker(self) -> Session | None:
        """The session; None outside a training and in other processes than the main one."""
        return self.recorder.session

    @on_main_process  # type: ignore[untyped-decorator, unused-ignore]
    def start(self) -> None:
        """Expect a training; called by `init_trackers`."""
        self.recorder.expect()

    @on_main_process  # type: ignore[untyped-decorator, unused-ignore]
    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        """Start the session with the `config` of `init_trackers`."""
        self.recorder.describe(values)
        self.recorder.start()

    @on_main_process  # type: ignore[untyped-decorator, unused-ignore]
    def log(self, values: Mapping[str, Any], step: int | None = None, **_: Any) -> None:
        """Log a batch."""
        self.recorder.start()
        epoch = values.get("epoch")
        if isinstance(epoch, int):
            metrics = {name: value for name, value in values.items() if name != "epoch"}
            self.recorder.step(step, metrics, epoch)
        else:
            self.recorder.batch(step, values)

    @on_main_process  # type: ignore[untyped-decorator, unused-ignore]
    def finish(self) -> None:
        """End the session; called by `end_training`."""
        self.recorder.end()
