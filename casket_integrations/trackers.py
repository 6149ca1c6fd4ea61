"""What the modules that stand in for other trackers share: the file, warnings and refusals."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from casket import CasketWarning, Experiment, Session, attach
from casket.writing.attaching import VARIABLE
from casket.writing.capture.choices import Capture

MODEL = "run"
"""The model of runs, which other trackers do not group by model."""

_warned: set[str] = set()
_attached: set[tuple[str, int]] = set()
"""The sessions of commands of `casket sweep` that are a run of this process, and its pid."""


def place() -> str:
    """Return the path or URL of the store.

    It is that of `casket sweep` in its commands, otherwise `$CASKET_FILE`, or `runs.json` in the
    current folder.
    """
    store = os.environ.get(VARIABLE, "").rpartition("#")[0]
    return store or os.environ.get("CASKET_FILE") or "runs.json"


def session_of_command() -> Session | None:
    """Return the session of the command of `casket sweep` that this process runs.

    It is returned once, for the first run of the process; later runs are sessions of their own.
    """
    command = os.environ.get(VARIABLE, "")
    if not command or (command, os.getpid()) in _attached:
        return None
    session = attach()
    _attached.add((command, os.getpid()))
    return session


def experiment_of(name: str, location: str | None = None, capture: Capture = None) -> Experiment:
    """Return the experiment of a project, created if it does not exist.

    Args:
        name: the name of the project.
        location: the path or URL of the store; by default `place()`.
        capture: as for `Experiment.use`.
    """
    return Experiment.use(location or place(), exp_id=name, capture=capture)


def warn_once(message: str) -> None:
    """Issue a warning, unless this process has issued it before."""
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, CasketWarning, stacklevel=3)


def ignoring(name: str) -> Callable[..., bool]:
    """Return a function in place of a function that needs a server.

    Args:
        name: the name of the function in scripts.
    """

    def ignored(*_: Any, **__: Any) -> bool:
        warn_once(f"{name} has no effect: casket has no server, and logs into {place()}")
        return True

    return ignored


def lacking(owner: str, name: str, instead: Mapping[str, str]) -> AttributeError:
    """Return the error for a name of the other tracker that casket does not provide.

    Args:
        owner: the module or the object, as scripts call it.
        name: the name.
        instead: what to write instead, by name.
    """
    advice = instead.get(name, "a session of casket, see docs/logging.md")
    return AttributeError(f"casket has no {owner}.{name}: use {advice}")
