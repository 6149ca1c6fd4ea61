"""The exception for params that have been run before."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from casket.errors import CasketError, shorten

if TYPE_CHECKING:
    from casket.reading.nearest import Near
    from casket.reading.views import SessionView


_OPEN_HERE = "This very process has that session open: end it with session.end()."


class ExistingParamsException(CasketError, ValueError):
    """Raised if a running or completed session of the model has the same params."""

    def __init__(
        self,
        session: SessionView | Callable[[], SessionView],
        nearest: list[Near] | Callable[[], list[Near]],
        is_open_here: bool = False,
    ) -> None:
        """Accept values or functions that read them, since most refusals are never shown.

        Args:
            session: the existing session.
            nearest: the other sessions of the model with the nearest params.
            is_open_here: whether this process has the session open.
        """
        self._session, self._nearest = session, nearest
        self.is_open_here = is_open_here
        ValueError.__init__(self)

    @property
    def session(self) -> SessionView:
        """The existing session."""
        if callable(self._session):
            self._session = self._session()
        return self._session

    @property
    def nearest(self) -> list[Near]:
        """The other sessions of the model with the nearest params."""
        if callable(self._nearest):
            self._nearest = self._nearest()
        return self._nearest

    def __str__(self) -> str:
        return shorten(self.sentence(self.session, self.nearest, self.is_open_here))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.session, self.nearest, self.is_open_here)

    @staticmethod
    def sentence(session: SessionView, nearest: list[Near], is_open_here: bool = False) -> str:
        call = "model.session" if session.parent_id is None else "session.child"
        lines = [
            f"session {session.id} of model {session.model!r} in experiment "
            f"{session.experiment!r} has these params already: {shorten(str(session.params), 400)}",
            f"  it {shorten(session.summary(), 250)}",
            *(f"  nearest: {shorten(near.summary(), 250)}" for near in nearest),
            *([_OPEN_HERE] if is_open_here else []),
            f"To continue that session, use {call}(params, ensure_unique=False). "
            f"To repeat the run, use {call}(params, repeat=True). "
            "Otherwise change the params, or remove the session with "
            f"`casket rm {session.id}` (`casket clean` removes killed sessions).",
        ]
        return "\n".join(lines)
