"""The mean of a sample and its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

NORMAL_QUANTILE = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


class Interval(NamedTuple):
    """The mean of a sample with its 95 % confidence interval.

    Attributes:
        mean: the mean.
        margin: half the width of the interval, by Student's t; NaN if `n` is 1.
        n: the size of the sample.
    """

    mean: float
    margin: float
    n: int


def interval(sample: Sequence[float]) -> Interval:
    """Return the mean of a sample and its 95 % confidence interval; never raises.

    The mean of a sample that is empty or contains NaN is NaN. Sums are scaled to avoid overflow;
    equal values have a margin of exactly 0.
    """
    mean, deviation, scale = _moments(sample)
    n = len(sample)
    margin = _student_t(n - 1) * deviation / math.sqrt(n) if n > 1 else math.nan
    return Interval(mean * scale, margin * scale, n)


def mean_and_deviation(sample: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation, which is NaN for less than two values.

    Never raises; see `interval` for numbers that are not finite or very large.
    """
    mean, deviation, scale = _moments(sample)
    return mean * scale, deviation * scale


def _moments(sample: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean and the standard deviation, and the factor by which both are scaled down."""
    numbers = [as_float(value) for value in sample]
    n = len(numbers)
    if n == 0 or not all(map(math.isfinite, numbers)):
        return (sum(numbers) / n if n else math.nan), math.nan, 1.0
    least, most = min(numbers), max(numbers)
    if least == most:
        return least, 0.0 if n > 1 else math.nan, 1.0
    # Scaling by a power of two is exact; half of it keeps the sum of squares from overflowing.
    scale = 2.0 ** (math.frexp(max(most, -least))[1] - 1)
    scaled = [value / scale for value in numbers]
    mean = math.fsum(scaled) / n
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in scaled) / (n - 1)), scale


def as_float(number: float) -> float:
    """Return a number as a float; integers that are too large become infinite."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _student_t(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t distribution.

    Exact for 1 and 2 degrees of freedom; beyond, the expansion by Cornish and Fisher (Abramowitz
    and Stegun, Handbook of Mathematical Functions, 26.7.5), within 0.1 % of the exact value.
    """
    if freedom == 1:
        return math.tan(math.pi * 0.475)
    if freedom == 2:
        return 0.95 * math.sqrt(2 / (1 - 0.95**2))
    x = NORMAL_QUANTILE
    terms = (
        x,
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return math.fsum(term / freedom**i for i, term in enumerate(terms))
