"""Casket, the experiment file: the output of machine-learning experiments in a single file.

from casket import Experiment as E

model = E.use("runs.json", exp_id="digits").model("SVM", {"kernel": "rbf"})
with model.session({"C": 10}) as session:
    session.add_epoch(1, {"loss": 0.3})
    session.add_result({"test_acc": 0.97})
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from casket.errors import (
    BadExpression,
    BadLocation,
    BadSpace,
    CasketError,
    CasketWarning,
    DamagedFile,
    ExistingExperimentError,
    MissingDependency,
    NoSuchSession,
    NotACasketFile,
    NotFound,
    NotInASession,
    OpenedForReading,
    SessionsRunning,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    UnknownMode,
    UnstorableValue,
    UntrustedArtifact,
)
from casket.stores.location import register_store
from casket.writing.experiment import Experiment, Model
from casket.writing.refusal import ExistingParamsException
from casket.writing.session import Session

if TYPE_CHECKING:
    from casket.maintenance.editing import EditableCasket
    from casket.maintenance.editing import open_store as open  # noqa: A004 - the contract's name
    from casket.reading.casket import Casket
    from casket.reading.views import SessionView
    from casket.system.preemption import on_preemption
    from casket.writing.attaching import attach
    from casket.writing.capture.gpus import register_accelerators
    from casket_integrations.keras import DBCallback as DBCallback

__version__ = "0.1.0"

__all__ = [
    "BadExpression",
    "BadLocation",
    "BadSpace",
    "Casket",
    "CasketError",
    "CasketWarning",
    "DamagedFile",
    "EditableCasket",
    "ExistingExperimentError",
    "ExistingParamsException",
    "Experiment",
    "MissingDependency",
    "Model",
    "NoSuchSession",
    "NotACasketFile",
    "NotFound",
    "NotInASession",
    "OpenedForReading",
    "Session",
    "SessionView",
    "SessionsRunning",
    "StoreFull",
    "StoreRefused",
    "StoreUnavailable",
    "UnknownMode",
    "UnstorableValue",
    "UntrustedArtifact",
    "attach",
    "on_preemption",
    "open",
    "register_accelerators",
    "register_store",
]

# Names that a training script does not need are imported on first access. Names that need a
# framework are not in __all__, because `from casket import *` would import the framework, or fail.
_LAZY = {
    "Casket": ("casket.reading.casket", "Casket"),
    "DBCallback": ("casket_integrations.keras", "DBCallback"),
    "EditableCasket": ("casket.maintenance.editing", "EditableCasket"),
    "SessionView": ("casket.reading.views", "SessionView"),
    "attach": ("casket.writing.attaching", "attach"),
    "on_preemption": ("casket.system.preemption", "on_preemption"),
    "open": ("casket.maintenance.editing", "open_store"),
    "register_accelerators": ("casket.writing.capture.gpus", "register_accelerators"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'casket' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_LAZY})
