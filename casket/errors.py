"""What can go wrong, each error a sentence composed from typed facts.

Every error derives from `CasketError` and from the builtin that fits, names the file, key or
argument it is about, and says what to do. They pickle, so they cross process borders whole.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from casket.nearest import Near
    from casket.views import SessionView

__all__ = [
    "BadExpression",
    "BadLocation",
    "CasketError",
    "CasketWarning",
    "ExistingExperimentError",
    "ExistingParamsException",
    "MissingDependency",
    "NoSuchMetric",
    "NoSuchSession",
    "NotACasketFile",
    "NotFound",
    "NotInASession",
    "StoreFull",
    "StoreRefused",
    "StoreUnavailable",
    "UnstorableValue",
]


class CasketWarning(UserWarning):
    """Something was healed, skipped or left undone; nothing that was acknowledged is lost."""


class CasketError(Exception):
    """The base of all errors casket raises."""

    def __init__(self, *facts: Any) -> None:
        self.facts = facts
        super().__init__(self.sentence(*facts))

    # OSError would show its number and file name instead of the sentence, KeyError put quotes.
    __str__ = Exception.__str__

    @staticmethod
    def sentence(*facts: Any) -> str:
        """Compose the message from the facts the error was raised with."""
        return " ".join(map(str, facts))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.facts


class ExistingExperimentError(CasketError, ValueError):
    """`Experiment.new` found an experiment of that id in the store."""

    @staticmethod
    def sentence(experiment: str, place: str) -> str:
        return (
            f"experiment {experiment!r} is already in {place}: "
            "join it with Experiment.use(...), or give another exp_id"
        )


class ExistingParamsException(CasketError, ValueError):
    """A running or completed session of the model has these params."""

    def __init__(
        self,
        session: SessionView | Callable[[], SessionView],
        nearest: list[Near] | Callable[[], list[Near]],
    ) -> None:
        """Take the facts, or functions that read them: most refusals are caught and never shown."""
        self._session, self._nearest = session, nearest
        ValueError.__init__(self)

    @property
    def session(self) -> SessionView:
        """The session that exists."""
        if callable(self._session):
            self._session = self._session()
        return self._session

    @property
    def nearest(self) -> list[Near]:
        """The sessions of the same model whose params come next."""
        if callable(self._nearest):
            self._nearest = self._nearest()
        return self._nearest

    def __str__(self) -> str:
        return self.sentence(self.session, self.nearest)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.session, self.nearest)

    @staticmethod
    def sentence(session: SessionView, nearest: list[Near]) -> str:
        lines = [
            f"session {session.id} of model {session.model!r} in experiment "
            f"{session.experiment!r} has these params already: {session.params}",
            f"  it {session.summary()}",
            *(f"  near: {near.summary()}" for near in nearest),
            "To add to that session: model.session(params, ensure_unique=False). "
            "To run afresh: change the params, or remove the session with "
            f"`casket rm {session.id}` (`casket clean` removes killed ones).",
        ]
        return "\n".join(lines)


class UnstorableValue(CasketError, TypeError):
    """A value that no store can keep."""

    @staticmethod
    def sentence(path: str, value_type: str, hint: str) -> str:
        return f"{path or 'the value'} cannot be stored: {value_type}; {hint}"


class NotInASession(CasketError, RuntimeError):
    """Something was logged before a session began or after it ended."""

    @staticmethod
    def sentence(what: str, why: str) -> str:
        return (
            f"{what} {why}; log inside a session:\n\n"
            "    with model.session(params) as session:\n"
            f"        session.{what}(...)"
        )


class BadLocation(CasketError, ValueError):
    """A path, URL or store option that names no place casket can write to."""


class BadExpression(CasketError, ValueError):
    """A `where` expression that cannot be read; points at the mistake."""

    @staticmethod
    def sentence(expression: str, position: int, problem: str) -> str:
        start = max(expression.rfind("\n", 0, position) + 1, position - 80)
        line = expression[start : start + 160].partition("\n")[0]
        return f"{problem}\n    {line}\n    {' ' * (position - start)}^"


class NotFound(CasketError, FileNotFoundError):
    """A place that was to be read does not exist."""

    @staticmethod
    def sentence(place: str, advice: str = "nothing to read (Experiment.use creates it)") -> str:
        return f"{place} does not exist: {advice}"


class NotACasketFile(CasketError, ValueError):
    """A file that holds something else; it is left as it was."""

    @staticmethod
    def sentence(place: str, problem: str) -> str:
        return f"{place} is not casket's: {problem}. It was left as it is; choose another path"


class StoreUnavailable(CasketError, OSError):
    """The place cannot be read or written."""

    def __init__(self, place: str, advice: str, number: int = errno.EIO) -> None:
        super().__init__(place, advice, number)
        self.errno = number
        self.filename = place

    @staticmethod
    def sentence(place: str, advice: str, number: int) -> str:
        return f"{place}: {os.strerror(number)}; {advice}"


class StoreFull(StoreUnavailable):
    """There is no room for the record; all that was acknowledged is still there."""


class StoreRefused(StoreUnavailable):
    """The place answers and refuses: a wrong password, no permission, no such database.

    Trying again does not help, as it may with any other `StoreUnavailable`.
    """

    @staticmethod
    def sentence(place: str, advice: str, number: int) -> str:  # noqa: ARG004 - as its base has it
        return f"{place}: {advice}"


class NoSuchSession(CasketError, KeyError):
    """No session, or more than one, has an id that begins so."""

    @staticmethod
    def sentence(session: str, owner: str, matching: list[str]) -> str:
        if matching:
            return f"session {session!r} of {owner} is ambiguous: give one of {matching}"
        return f"{owner} has no session {session!r}: `casket ls` lists the sessions of a file"


class NoSuchMetric(CasketError, KeyError):
    """No number was logged under a name."""

    @staticmethod
    def sentence(metric: str, session: str, known: list[str]) -> str:
        return f"session {session} has no numbers named {metric!r}; choose one of {known}"


class MissingDependency(CasketError, ImportError):
    """A package that an extra of casket brings is not installed."""

    @staticmethod
    def sentence(package: str, extra: str | None, distribution: str = "casket") -> str:
        advice = f": pip install '{distribution}[{extra}]'" if extra else ""
        return f"{package} is not installed{advice}"


def missing(error: ModuleNotFoundError, package: str, extra: str) -> ImportError:
    """Return the error that names the extra, or the package's own if it is there but broken."""
    return MissingDependency(package, extra) if error.name == package else error
