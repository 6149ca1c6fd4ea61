"""The exception for params that have been run before."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from casket.errors import CasketError, shorten

if TYPE_CHECKING:
    from casket.reading.nearest import Near
    from casket.reading.views import SessionView


class ExistingParamsException(CasketError, ValueError):
    """Raised if a running or completed session of the model has the same params."""

    def __init__(
        self,
        session: SessionView | Callable[[], SessionView],
        nearest: list[Near] | Callable[[], list[Near]],
    ) -> None:
        """Accept values or functions that read them, since most refusals are never shown."""
        self._session, self._nearest = session, nearest
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
        return shorten(self.sentence(self.session, self.nearest))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.session, self.nearest)

    @staticmethod
    def sentence(session: SessionView, nearest: list[Near]) -> str:
        call = "model.session" if session.parent_id is None else "session.child"
        lines = [
            f"session {session.id} of model {session.model!r} in experiment "
            f"{session.experiment!r} has these params already: {shorten(str(session.params), 400)}",
            f"  it {shorten(session.summary(), 250)}",
            *(f"  nearest: {shorten(near.summary(), 250)}" for near in nearest),
            f"To continue that session, use {call}(params, ensure_unique=False). "
            f"To repeat the run, use {call}(params, repeat=True). "
            "Otherwise change the params, or remove the session with "
            f"`casket rm {session.id}` (`casket clean` removes killed sessions).",
        ]
        return "\n".join(lines)
