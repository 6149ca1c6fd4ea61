"""The choice of the session of a training: new, a repetition, or an earlier session."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from casket import ExistingParamsException, Model, Session
from casket.writing import claims
from casket.writing.starting import claim_of
from casket_integrations.hyperparameters import params_key


class Openings:
    """Starts or continues the sessions of a recorder.

    Args:
        model: the casket Model; None in a process that does not log.
        ensure_unique: whether to refuse params that were run already.
    """

    def __init__(self, model: Model | None, ensure_unique: bool) -> None:
        self.model = model
        self._ensure_unique = ensure_unique
        self._own: tuple[str, str] | None = None
        self._copies = _Copies()
        self._copy = object()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_copy": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _copy=object())

    def open(
        self, model: Model, params: Mapping[str, Any], session_id: str | None, resumes: bool
    ) -> Session:
        """Start a session, or continue the session of the resumed training.

        Args:
            model: the casket Model.
            params: the params of the session.
            session_id: the id of the session to continue; it overrides `resumes`.
            resumes: whether to continue the last session with these params, if any.
        """
        session = self._opened(model, params, session_id, resumes)
        self._own = params_key(params), session.id
        return session

    def _opened(
        self, model: Model, params: Mapping[str, Any], session_id: str | None, resumes: bool
    ) -> Session:
        if session_id is not None:
            return model.resume(session_id)
        if resumes:
            own = self._own_to_resume(model, params)
            return model.resume(own) if own else model.resume_last(params)
        is_repetition = not self._ensure_unique or self._copies.ran(params, self._copy)
        session = model.session(params, repeat=is_repetition)
        self._copies.add(params, self._copy)
        return session

    def _own_to_resume(self, model: Model, params: Mapping[str, Any]) -> str | None:
        """Return the id of the last session opened here if it has these params and has ended."""
        key, session_id = self._own or ("", "")
        if key != params_key(params):
            return None
        holder = claims.look_at(model.backend, session_id)
        return session_id if len(holder.life) and not holder.may_run else None

    def earlier(self, params: Mapping[str, Any]) -> list[claims.Holder]:
        """Return the sessions with the given params, in order of start."""
        model = self.model
        if model is None:
            return []
        return [*claims.holders(model.backend, claim_of(model, params))][::-1]

    def refuse_known(self, params: Mapping[str, Any], before: str | None = None) -> None:
        """Refuse known params, as at the start of a training with `ensure_unique`.

        Args:
            params: the params to check.
            before: the id of a session; only sessions started before it count.

        Raises:
            ExistingParamsException: a running or completed session has these params.
        """
        model = self.model
        holders = takewhile(lambda holder: holder.session != before, self.earlier(params))
        known = next((each for each in holders if each.may_run or each.is_completed), None)
        if known is not None and model is not None:
            raise ExistingParamsException(
                model.view_of(known), lambda: model.nearest_but(known.session, params)
            )


class _Copies:
    """The params run by a recorder and its copies in this process.

    Deep copies share it; a copy in another process starts empty.
    """

    def __init__(self) -> None:
        self._first: dict[str, object] = {}

    def __deepcopy__(self, memo: Any) -> _Copies:
        return self

    def __reduce__(self) -> Any:
        return _Copies, ()

    def add(self, params: Mapping[str, Any], copy: object) -> None:
        """Record that a copy runs params."""
        self._first.setdefault(params_key(params), copy)

    def ran(self, params: Mapping[str, Any], copy: object) -> bool:
        """Return whether another copy ran params first."""
        return self._first.get(params_key(params), copy) is not copy
