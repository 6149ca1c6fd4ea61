"""The outcome of a session, derived from the exception that left it."""

from __future__ import annotations


def describe(error: BaseException) -> str:
    """Return the type and message of an exception."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def is_pruning(error: BaseException) -> bool:
    """Return whether an exception ends a run that is complete nevertheless."""
    names = {(base.__module__.partition(".")[0], base.__name__) for base in type(error).__mro__}
    return ("optuna", "TrialPruned") in names or (
        getattr(error, "casket_status", None) == "completed"
    )
