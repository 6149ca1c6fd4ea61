"""skorch: `NeuralNet(..., callbacks=[CasketCallback(model)])` logs each `fit`.

skorch calls no callback when a training raises an exception, and hides Ctrl-C from its callbacks,
so importing this module wraps the methods of `skorch.NeuralNet` that train, which has no effect
without a `CasketCallback`.
"""

# ruff: noqa: ARG002, N803 - the signatures of the events are skorch's
from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from casket.errors import missing
from casket.format.described import described
from casket_integrations.calls import Arguments, callbacks_of, ending_sessions
from casket_integrations.hyperparameters import changed_arguments
from casket_integrations.recorder import Recorder, Recording

try:
    from skorch import NeuralNet  # type: ignore[import-untyped, unused-ignore]
    from skorch.callbacks import Callback  # type: ignore[import-untyped, unused-ignore]
except ModuleNotFoundError as error:
    raise missing(error, "skorch", "skorch") from error

_OF_THE_RUN = ("_", "callbacks", "verbose", "device", "warm_start")
"""Beginnings of the names of parameters that do not affect the result of a training."""


class CasketCallback(Recording, Callback):  # type: ignore[misc, unused-ignore]
    """Logs every `fit` as a session, with the row of each epoch in `net.history`.

    The params are the parameters of the net that differ from their defaults; all are in
    `meta["net"]`. A `partial_fit`, or a `fit` with `warm_start`, that goes on after earlier epochs
    continues the last session with the same params that is not running. If the training ends with
    an exception or Ctrl-C, the logged epochs are kept and the session has the status failed. A row
    has the scores of the callbacks that precede this one. Clones of the net, as a grid search makes
    them, log their own sessions.

    See `Recording` for the arguments.
    """

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **_: Any) -> None:
        """Start or continue the session."""
        self.describe(net)
        if self.recorder.start(resumes=bool(net.history)):
            self.recorder.meta({"net": described(_params(net))})

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        """Log an epoch."""
        row = {name: value for name, value in net.history[-1].items() if name != "batches"}
        self.recorder.epoch(row.pop("epoch"), row)

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **_: Any) -> None:
        """End the session."""
        self.recorder.end()

    def describe(self, net: Any) -> None:
        """Take the params from the parameters of the net."""
        self.recorder.describe(changed_arguments(type(net), _params(net)))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return no parameters: those of the callback are not to be searched or set."""
        return {}

    def __sklearn_clone__(self) -> CasketCallback:
        return copy.deepcopy(self)


def _params(net: Any) -> dict[str, Any]:
    params = net.get_params(deep=False)
    return {name: params[name] for name in params if not name.startswith(_OF_THE_RUN)}


def _expecting(attribute: str) -> Callable[[Arguments], Iterator[Recorder]]:
    """Return a function that yields the recorders of a net, each expecting the training."""

    def expected(arguments: Arguments) -> Iterator[Recorder]:
        net = arguments["self"]
        for callback in callbacks_of({"callbacks": getattr(net, attribute, net.callbacks)}):
            if isinstance(callback, CasketCallback):
                if callback.recorder.session is None:
                    callback.recorder.expect()
                    callback.describe(net)
                yield callback.recorder

    return expected


# A `fit` initializes the callbacks anew.
for _name, _attribute in (
    ("fit", "callbacks"),
    ("partial_fit", "callbacks_"),
    ("fit_loop", "callbacks_"),
):
    setattr(NeuralNet, _name, ending_sessions(getattr(NeuralNet, _name), _expecting(_attribute)))
