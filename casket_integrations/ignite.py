"""Ignite: `CasketLogger(model)` is attached to engines like Ignite's own loggers.

Importing this module wraps `ignite.engine.Engine.run`, because a handler of its event for
exceptions would hide them. This has no effect on engines without a `CasketLogger`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from casket.errors import missing
from casket_integrations.calls import Arguments, ending_sessions
from casket_integrations.recorder import Recorder, Recording

try:
    from ignite.engine import Engine
    from ignite.engine.events import State
    from ignite.handlers.base_logger import (
        BaseLogger,
        BaseOptimizerParamsHandler,
        BaseOutputHandler,
    )
except ModuleNotFoundError as error:
    raise missing(error, "ignite", "ignite") from error

_loggers: WeakKeyDictionary[Engine, dict[int, CasketLogger]] = WeakKeyDictionary()


class CasketLogger(Recording, BaseLogger):
    """Logs the metrics of engines to a session, which lasts until `close` or the end of the script.

    Use it as Ignite's own loggers: `attach_output_handler`, `attach_opt_params_handler`, or
    `attach` with the handlers of this module, and `close`, or a `with` block. What is logged at
    `Events.EPOCH_COMPLETED`, and at the other events of epochs, is an epoch; what is logged at
    events of iterations is a batch. Both are numbered by the engine, or by `global_step_transform`.
    If `run` ends with an exception, the logged records are kept and the session has the status
    failed.

    See `Recording` for the arguments.
    """

    ends_with_script = True

    def attach(self, engine: Engine, *arguments: Any, **named: Any) -> Any:
        """Attach a handler to an engine; see Ignite for the arguments."""
        _loggers.setdefault(engine, {})[id(self)] = self
        return super().attach(engine, *arguments, **named)

    def log(self, engine: Engine, event: Any, number: int, metrics: dict[str, Any]) -> None:
        """Log the metrics of an event."""
        self.recorder.start()
        if State.event_to_attr[event] == "epoch":
            self.recorder.epoch(number, metrics)
        else:
            self.recorder.quick_batch(number, metrics, engine.state.epoch)

    def close(self) -> None:
        """End the session; a failed session stays failed."""
        self.recorder.end()

    def _create_output_handler(self, *arguments: Any, **named: Any) -> OutputHandler:
        return OutputHandler(*arguments, **named)

    def _create_opt_params_handler(self, *arguments: Any, **named: Any) -> OptimizerParamsHandler:
        return OptimizerParamsHandler(*arguments, **named)


class OutputHandler(BaseOutputHandler):
    """Logs the output, metrics and state of an engine; see Ignite's base class."""

    def __call__(self, engine: Engine, logger: CasketLogger, event_name: Any) -> None:
        """Log an event."""
        metrics = self._setup_output_metrics_state_attrs(engine, log_text=True, key_tuple=False)
        logger.log(engine, event_name, self.global_step_transform(engine, event_name), metrics)


class OptimizerParamsHandler(BaseOptimizerParamsHandler):
    """Logs a parameter of an optimizer, such as the learning rate; see Ignite's base class."""

    def __call__(self, engine: Engine, logger: CasketLogger, event_name: Any) -> None:
        """Log an event."""
        prefix = f"{self.tag}/" if self.tag else ""
        groups = enumerate(self.optimizer.param_groups)
        values = {f"{prefix}{self.param_name}/group_{i}": g[self.param_name] for i, g in groups}
        number = engine.state.get_event_attrib_value(event_name)
        logger.log(engine, event_name, number, values)


def _expected(arguments: Arguments) -> Iterator[Recorder]:
    """Start the sessions of the loggers of an engine, and yield their recorders."""
    for logger in _loggers.get(arguments["self"], {}).values():
        logger.recorder.start()
        yield logger.recorder


Engine.run = ending_sessions(Engine.run, _expected)  # type: ignore[method-assign]
