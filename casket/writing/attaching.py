"""Attaching to the session that another process, or a hook in this process, started."""

from __future__ import annotations

import os
from pathlib import Path

from casket.errors import CasketError, NoSuchSession
from casket.stores import urls
from casket.stores.base import StoreOptions
from casket.stores.location import Location
from casket.writing.experiment import Experiment
from casket.writing.refusal import ExistingParamsException
from casket.writing.session import Session

VARIABLE = "CASKET_SESSION"
"""The environment variable with the store and the id of the session, separated by `#`."""

_attached: dict[tuple[str, int], Session] = {}
_refusals: list[ExistingParamsException] = []
"""The refusal of the params of the code that runs, if any."""


def attach() -> Session:
    """Return the session that was started for this process, such as by `casket sweep`.

    The session is read from `$CASKET_SESSION`. Calls in one process return the same handle.

    Raises:
        CasketError: no session was started for this process.
        ExistingParamsException: a hook in this process refused the params, which were run already.
        NoSuchSession: the store does not have the session.
        StoreUnavailable: the store cannot be read or written.
    """
    for refusal in _refusals:
        raise refusal
    text = os.environ.get(VARIABLE)
    if not text:
        raise CasketError(
            f"casket.attach(): ${VARIABLE} is not set; run the script with `casket sweep`, or use "
            "model.session(params)"
        )
    key = (text, os.getpid())
    if key not in _attached:
        _attached[key] = _resume(*text.rpartition("#")[::2])
    return _attached[key]


def announce(session: Session) -> None:
    """Let `attach` return a session in this process, and in commands that it starts."""
    withdraw()
    location = session._log.backend.location
    url = urls.without_password(location.url) if location.url else str(location.path)
    os.environ[VARIABLE] = text = variable_for(url, session.id)
    _attached[text, os.getpid()] = session


def refuse(refusal: ExistingParamsException) -> None:
    """Let `attach` raise the refusal of the params of the code that this process runs."""
    withdraw()
    _refusals.append(refusal)


def withdraw() -> None:
    """Undo `announce` or `refuse`."""
    _refusals.clear()
    _attached.pop((os.environ.pop(VARIABLE, ""), os.getpid()), None)


def variable_for(url: str, session_id: str) -> str:
    """Return the value of `$CASKET_SESSION` for a session.

    Args:
        url: the path or URL of the store; a path may be relative to the current folder.
        session_id: the id of the session.
    """
    location = Location.of(url)
    return f"{url if location.url else Path(url).absolute()}#{session_id}"


def _resume(url: str, session_id: str) -> Session:
    location = Location.of(url)
    store = location.open(StoreOptions(), writing=False)
    try:
        records = store.records(session=session_id, kinds={"session"})
        start = next((record for _, record in records), None)
    finally:
        store.close()
    if start is None:
        raise NoSuchSession(session_id, f"{location}, which ${VARIABLE} names", [])
    experiment = Experiment.use(url, exp_id=start["experiment"])
    return experiment.model(start["model"]).resume(session_id)
