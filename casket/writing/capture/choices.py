"""The arguments `capture` and `system_metrics`, and their environment variables."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

from casket.errors import BadLocation, missing

Part = Literal["code", "packages", "output"]
PARTS: tuple[Part, ...] = get_args(Part)
DEFAULT: tuple[Part, ...] = ("code", "packages")
CAPTURE = "CASKET_CAPTURE"
SYSTEM_METRICS = "CASKET_SYSTEM_METRICS"
USUAL_INTERVAL = 15.0
"""Seconds between two samples of the system if `system_metrics` is True."""

Capture = Iterable[str] | None
SystemMetrics = float | bool | None


class Plan(NamedTuple):
    """What a session records besides what its script logs.

    Attributes:
        parts: the parts to capture.
        interval: the seconds between two samples of the system; None for no samples.
    """

    parts: tuple[Part, ...] = ()
    interval: float | None = None

    @property
    def collected(self) -> tuple[Part, ...]:
        """The parts that are collected once, at the start."""
        return tuple(part for part in self.parts if part != "output")

    @classmethod
    def of(cls, captures: Sequence[Capture], system_metrics: Sequence[SystemMetrics]) -> Plan:
        """Return the plan of a session; see `chosen_parts` and `chosen_interval`.

        Raises:
            BadLocation: an argument or an environment variable is not valid.
            MissingDependency: the packages for system metrics are not installed.
        """
        plan = cls(chosen_parts(*captures), chosen_interval(*system_metrics))
        if plan.interval is not None:
            require_psutil()
        return plan


NOTHING = Plan()


def require_psutil() -> None:
    """Check that the packages for system metrics are installed.

    Raises:
        MissingDependency: psutil is not installed.
    """
    try:
        import psutil  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing(error, "psutil", "system") from error


def chosen_parts(*given: Capture) -> tuple[Part, ...]:
    """Return the parts to capture.

    Args:
        given: the arguments `capture`, the most specific one first; the first that is not None
            counts. Without any, `$CASKET_CAPTURE` does, a list with commas.

    Raises:
        BadLocation: a part is unknown.
    """
    choice = next((each for each in given if each is not None), None)
    if choice is not None:
        return _checked([choice] if isinstance(choice, str) else choice, "capture")
    variable = os.environ.get(CAPTURE)
    if variable is None:
        return DEFAULT
    return _checked(filter(None, map(str.strip, variable.split(","))), f"${CAPTURE}")


def _checked(choice: Iterable[str], name: str) -> tuple[Part, ...]:
    parts = set(choice)
    if not parts <= set(PARTS):
        unknown = ", ".join(map(repr, sorted(map(str, parts - set(PARTS)))))
        raise BadLocation(f"{name}: {unknown} cannot be captured; give any of {PARTS}")
    return tuple(part for part in PARTS if part in parts)


def chosen_interval(*given: SystemMetrics) -> float | None:
    """Return the seconds between two samples of the system; None for no samples.

    Args:
        given: the arguments `system_metrics`, the most specific one first; the first that is not
            None counts. Without any, `$CASKET_SYSTEM_METRICS` does.

    Raises:
        BadLocation: the value is not a positive number, True or False.
    """
    choice = next((each for each in given if each is not None), None)
    if choice is None:
        return _interval_of(os.environ.get(SYSTEM_METRICS, "").strip().lower())
    if isinstance(choice, bool):
        return USUAL_INTERVAL if choice else None
    if isinstance(choice, (int, float)) and 0 < choice < math.inf:
        return float(choice)
    raise _no_interval("system_metrics", choice)


def _interval_of(variable: str) -> float | None:
    if variable in {"", "0", "false", "no", "off"}:
        return None
    if variable in {"true", "yes", "on"}:
        return USUAL_INTERVAL
    try:
        seconds = float(variable)
    except ValueError:
        seconds = math.nan
    if 0 < seconds < math.inf:
        return seconds
    raise _no_interval(f"${SYSTEM_METRICS}", variable)


def _no_interval(name: str, value: object) -> BadLocation:
    return BadLocation(f"{name}={value!r}: give the seconds between two samples, or True for 15")
