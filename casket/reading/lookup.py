"""The session that a text means: an id, otherwise the beginning of an id, otherwise a name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from casket.errors import NoSuchSession
from casket.reading.views import SessionView

LAST = "@last"
"""The text that means the latest session that is no child."""


def find(sessions: Sequence[SessionView], text: str, location: str) -> SessionView:
    """Return the session that a text means.

    Args:
        sessions: the sessions, children included, in order of their start.
        text: an id, the beginning of an id, a name, or `@last`.
        location: the path or URL of the store, for the message.

    Raises:
        NoSuchSession: no session, or more than one, is meant.
        TypeError: `text` is not text.
    """
    if not isinstance(text, str):
        raise TypeError(f"{text!r}: give an id, the beginning of an id, or a name as text")
    matching = list(_matching(sessions, text))
    if len(matching) != 1:
        raise NoSuchSession(text, location, [session.id for session in matching])
    return matching[0]


def _matching(sessions: Sequence[SessionView], text: str) -> Iterable[SessionView]:
    if text == LAST:
        return [session for session in sessions if session.parent is None][-1:]
    exact = [session for session in sessions if session.id == text]
    beginning = exact or [session for session in sessions if session.id.startswith(text)]
    return beginning or [session for session in sessions if session.name == text]


def is_condition(text: str) -> bool:
    """Return whether a text is a condition, as opposed to an id or a name."""
    return any(sign in text for sign in " <>=(")
