"""Attaching to the session that another process started for this one."""

from __future__ import annotations

import os
from pathlib import Path

from casket.errors import CasketError, NoSuchSession
from casket.stores.base import StoreOptions
from casket.stores.location import Location
from casket.writing.experiment import Experiment
from casket.writing.session import Session

VARIABLE = "CASKET_SESSION"
"""The environment variable with the store and the id of the session, separated by `#`."""

_attached: dict[tuple[str, int], Session] = {}


def attach() -> Session:
    """Return the session that was started for this process, such as by `casket sweep`.

    The session is read from `$CASKET_SESSION`. Calls in one process return the same handle.

    Raises:
        CasketError: no session was started for this process.
        NoSuchSession: the store does not have the session.
        StoreUnavailable: the store cannot be read or written.
    """
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
