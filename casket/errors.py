"""The exceptions of casket, with messages composed from typed facts.

Every exception derives from `CasketError` and from the matching builtin, names the file, key or
argument it concerns, and suggests a remedy. Exceptions can be pickled, so that they can be passed
between processes.
"""

from __future__ import annotations

import errno
import os
import re
from typing import Any

__all__ = [
    "BadExpression",
    "BadLocation",
    "BadSpace",
    "CasketError",
    "CasketWarning",
    "ExistingExperimentError",
    "MissingDependency",
    "NoSuchMetric",
    "NoSuchSession",
    "NotACasketFile",
    "NotFound",
    "NotInASession",
    "OpenedForReading",
    "SessionsRunning",
    "StoreFull",
    "StoreRefused",
    "StoreUnavailable",
    "UnknownMode",
    "UnstorableValue",
    "UntrustedArtifact",
]


MOST_IDS = 6
"""The number of ids listed by a message."""

LONGEST_MESSAGE = 2_000
"""The maximum number of characters of a message."""


def shorten(text: str, limit: int = LONGEST_MESSAGE) -> str:
    """Return a text with its middle left out if it has more than `limit` characters."""
    if len(text) <= limit:
        return text
    mark = f"[... {len(text) - limit} characters ...]"
    kept = limit - len(mark)
    return text[: (kept + 1) // 2] + mark + text[len(text) - kept // 2 :]


class CasketWarning(UserWarning):
    """Data was repaired or skipped, or a task was not done; no acknowledged record is lost."""

    def __init__(self, message: str) -> None:
        super().__init__(shorten(message))


class CasketError(Exception):
    """Base class of all exceptions raised by casket."""

    def __init__(self, *facts: Any) -> None:
        self.facts = facts
        super().__init__(shorten(self.sentence(*facts)))

    # OSError would show its number and file name instead of the message, KeyError adds quotes.
    __str__ = Exception.__str__

    @staticmethod
    def sentence(*facts: Any) -> str:
        """Compose the message from the facts passed to the constructor."""
        return " ".join(map(str, facts))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.facts


class ExistingExperimentError(CasketError, ValueError):
    """`Experiment.new` was given an id that already exists in the store."""

    @staticmethod
    def sentence(experiment: str, location: str) -> str:
        return (
            f"experiment {experiment!r} already exists in {location}: "
            "open it with Experiment.use(...), or choose another exp_id"
        )


class UnstorableValue(CasketError, TypeError):
    """A value cannot be stored."""

    @staticmethod
    def sentence(path: str, value_type: str, hint: str) -> str:
        return f"{path or 'the value'} cannot be stored: {value_type}; {hint}"


class NotInASession(CasketError, RuntimeError):
    """A logging method was called before a session began or after it ended."""

    @staticmethod
    def sentence(method: str, reason: str) -> str:
        return (
            f"{method} {reason}; log inside a session:\n\n"
            "    with model.session(params) as session:\n"
            f"        session.{method}(...)"
        )


class BadLocation(CasketError, ValueError):
    """A path, URL or store option does not name a location that casket can use."""


class BadExpression(CasketError, ValueError):
    """A `where` expression cannot be parsed; the message points at the mistake."""

    @staticmethod
    def sentence(expression: str, position: int, problem: str) -> str:
        start = max(expression.rfind("\n", 0, position) + 1, position - 80)
        line = expression[start : start + 160].partition("\n")[0]
        return f"{problem}\n    {line}\n    {' ' * (position - start)}^"


class BadSpace(CasketError, ValueError):
    """Raised for a description of a sweep's space that cannot be swept."""


class NotFound(CasketError, FileNotFoundError):
    """A location to be read does not exist."""

    @staticmethod
    def sentence(location: str, advice: str = "nothing to read (Experiment.use creates it)") -> str:
        return f"{location} does not exist: {advice}"


class NotACasketFile(CasketError, ValueError):
    """A file is not a casket file; it is left unchanged."""

    @staticmethod
    def sentence(location: str, problem: str) -> str:
        return (
            f"{location} is not a casket file: {problem}. It was not changed; choose another path"
        )


class StoreUnavailable(CasketError, OSError):
    """The location cannot be read or written."""

    def __init__(self, location: str, advice: str, number: int = errno.EIO) -> None:
        # Drivers quote errors of the system, whose number says nothing beside their text.
        super().__init__(location, re.sub(r"\[Errno [^]]*\] ?", "", advice), number)
        self.errno = number
        self.filename = location

    @staticmethod
    def sentence(location: str, advice: str, number: int) -> str:
        return f"{location}: {os.strerror(number)}; {advice}"


class DamagedFile(StoreUnavailable):
    """A file of casket is damaged, and `casket doctor` can restore its records."""

    @staticmethod
    def sentence(location: str, advice: str, number: int = errno.EIO) -> str:  # noqa: ARG004
        copy = " on a copy on this machine" if "://" in location else ""
        return (
            f"{location} is damaged: {advice}. It was left as it is; `casket doctor --repair`"
            f"{copy} writes a file with all intact records and keeps the old one"
        )


class StoreFull(StoreUnavailable):
    """There is no space for the record; all acknowledged records are kept."""


class StoreRefused(StoreUnavailable):
    """The server refused access: a wrong password, no permission, no such database.

    Retrying does not help, unlike with any other `StoreUnavailable`.
    """

    @staticmethod
    def sentence(location: str, advice: str, number: int) -> str:  # noqa: ARG004 - as its base has it
        return f"{location}: {advice}"


class UntrustedArtifact(CasketError, ValueError):
    """A pickle was not written by this machine; unpickling it could run any code."""

    @staticmethod
    def sentence(path: str, name: str) -> str:
        return (
            f"{path}: artifact {name!r} is a pickle that was not written by this user on this "
            "machine, and loading a pickle can run any code: use load(trusted=True) if you trust "
            "its source"
        )


class NoSuchSession(CasketError, KeyError):
    """No session, or more than one session, has the given name or an id with the given prefix."""

    @property
    def matching(self) -> list[str]:
        """The ids of the sessions that the text may mean."""
        ids: list[str] = self.facts[2]
        return ids

    @staticmethod
    def sentence(session: str, owner: str, matching: list[str]) -> str:
        if not matching:
            return (
                f"no session of {owner} matches {session!r}: `casket ls` lists the sessions "
                "of a file"
            )
        more = f" and {len(matching) - MOST_IDS} more" if len(matching) > MOST_IDS else ""
        ids = ", ".join(matching[:MOST_IDS])
        return f"session {session!r} of {owner} is ambiguous: give the id, one of {ids}{more}"


class OpenedForReading(CasketError, AttributeError):
    """A method that changes a store was called on one that was opened for reading."""

    @staticmethod
    def sentence(method: str, location: str) -> str:
        return (
            f"{method}: {location} is opened for reading; open it by "
            "casket.open(path, writing=True)"
        )


class SessionsRunning(CasketError, RuntimeError):
    """Sessions that are to be removed may still be running."""

    @staticmethod
    def sentence(running: list[str]) -> str:
        sessions = "1 session" if len(running) == 1 else f"{len(running)} sessions"
        return (
            f"{sessions} may still be running, such as {running[0]}: end them first or give "
            "force=True (`--force` on the command line)"
        )


class UnknownMode(CasketError, ValueError):
    """No mode was given for a metric whose name does not imply one."""

    @staticmethod
    def sentence(metric: str) -> str:
        return (
            f"the name {metric!r} does not imply whether higher is better: give the mode, "
            "'min' or 'max' (`--mode` on the command line)"
        )


class NoSuchMetric(CasketError, KeyError):
    """No numeric values were logged under a name."""

    @staticmethod
    def sentence(metric: str, session: str, known: list[str]) -> str:
        return f"session {session} has no numbers named {metric!r}; choose one of {known}"


class MissingDependency(CasketError, ImportError):
    """An optional dependency, installed by an extra of casket, is missing."""

    @staticmethod
    def sentence(package: str, extra: str | None, distribution: str = "casket") -> str:
        wanted = f"{distribution}[{extra}]" if extra else distribution
        advice = f": pip install '{wanted}'" if wanted != "casket" else ""
        return f"{package} is not installed{advice}"


def missing(error: ModuleNotFoundError, package: str, extra: str) -> ImportError:
    """Return `MissingDependency` with the extra, or `error` itself if the package is broken."""
    return MissingDependency(package, extra) if error.name == package else error
