"""The session that is open around a call, so that a search inside becomes a child of it."""

from __future__ import annotations

import weakref
from contextvars import ContextVar
from typing import Protocol

from casket.writing import claims
from casket.writing.parent import Parent
from casket.writing.starting import SessionsModel


class OpenSession(Protocol):
    """The part of a session that is used here."""

    @property
    def as_parent(self) -> Parent:
        """The session as the parent of others."""

    def is_of(self, model: SessionsModel) -> bool:
        """Return whether this is a session of a model, perhaps by another handle."""


Stack = tuple["weakref.ref[OpenSession]", ...]

_opened_here: ContextVar[Stack] = ContextVar("opened_here", default=())
"""The sessions opened in this context, which a thread does not inherit, the innermost last."""

_opened: weakref.WeakSet[OpenSession] = weakref.WeakSet()
"""The open sessions of this process."""


def enter(session: OpenSession) -> None:
    """Note that a session was opened."""
    _opened.add(session)
    _opened_here.set((*(each for each in _opened_here.get() if each()), weakref.ref(session)))


def leave(session: OpenSession) -> None:
    """Note that a session has ended."""
    _opened.discard(session)


def parent_around(model: SessionsModel) -> Parent | None:
    """Return the innermost open session of a model, otherwise None.

    In a thread that did not open it, it must be the only open session of the model in this process.
    A copy of the model in another process knows the session that was open when it was copied.
    """
    here = [session for ref in _opened_here.get() if (session := ref()) in _opened]
    for sessions in (here, list(_opened)):
        own = [each for each in sessions if each is not None and each.is_of(model)]
        if own and (sessions is here or len(own) == 1):
            return own[-1].as_parent
    copied = model.copied_within
    if copied is None or not claims.look_at(model.backend, copied.id).may_run:
        return None
    return copied
