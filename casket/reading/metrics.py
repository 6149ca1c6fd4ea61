"""Properties implied by the name of a metric, and means over several sessions.

The direction of a metric, and whether it is measured on held-out data, are decided only here: the
page receives them with its first answer (`facts_of`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from casket.reading.rows import Mode

_LOWER = re.compile(
    r"(^|[._/ -])(loss|error|err|mse|mae|rmse|mape|nll|bce|wer|cer|ppl|perplexity|fid|eer|"
    r"regret|brier|divergence|kl)($|[._/ -])|(loss|error|distance)$"
)
_HIGHER = re.compile(
    r"(^|[._/ -])(acc|accuracy|auc|auroc|ap|map|f1|fbeta|precision|recall|score|r2|iou|dice|bleu|"
    r"rouge|reward|return|psnr|ssim|mcc|kappa|top\d+)($|[._/ -])|(accuracy|score|precision|recall)$"
)

_NEITHER = re.compile(r"(^|[./ ])(std|rank)_|[._/ -](time|seconds|duration)s?$")

_PART = re.compile(
    r"^(train(?:ing)?|val(?:id(?:ation)?)?|test|dev|eval)(?:[_./ -])(?P<base>.+)$", re.IGNORECASE
)
_HELD_OUT = re.compile(r"(^|[_./ -])(val|valid|validation|test|dev|eval)([_./ -]|$)", re.IGNORECASE)
_TRAINING = re.compile(r"(^|[_./ -])train(ing)?([_./ -]|$)", re.IGNORECASE)
_PLUMBING = re.compile(
    r"(^|[./ ])((n|num|std|rank|split\d*)_[^./ ]*|"
    r"[^./ ]*_(time|seconds|duration|samples|count|index|idx|std)s?|"
    r"time|seconds|duration|timestamp|candidate|split|fold|rank|index|idx|count|"
    r"(global_)?step|iteration|epoch|batch)$",
    re.IGNORECASE,
)


@lru_cache(maxsize=4096)
def better(metric: str) -> Mode | None:
    """Return the direction in which a metric improves, as implied by its name.

    Args:
        metric: the flat name of the metric, such as `val_loss` or `test.acc`.

    Returns:
        `"min"`, `"max"`, or None if the name implies neither.
    """
    name = metric.lower()
    if _NEITHER.search(name):
        return None
    if _LOWER.search(name):
        return "min"
    return "max" if _HIGHER.search(name) else None


def is_held_out(metric: str) -> bool:
    """Return whether the name of a metric implies held-out data."""
    return bool(_HELD_OUT.search(metric))


@lru_cache(maxsize=4096)
def weight(metric: str) -> int:
    """Return the relevance of a metric to the quality of a session, 0 to 4, by its name.

    0: times, counts and similar; 1: unknown; 2: training data; 3: unspecified data; 4: held-out
    data.
    """
    if _PLUMBING.search(metric):
        return 0
    if not better(metric):
        return 1
    if is_held_out(metric):
        return 4
    return 2 if _TRAINING.search(metric) else 3


def facts_of(metric: str) -> dict[str, Any]:
    """Return the properties implied by the name of a metric, as JSON.

    Returns:
        `better` (`"min"`, `"max"` or None), `held_out`, `weight` (0 to 4) and `base`, the name
        without the data split: `loss` for `val_loss`.
    """
    part = _PART.match(metric)
    return {
        "better": better(metric),
        "held_out": is_held_out(metric),
        "weight": weight(metric),
        "base": part["base"] if part else metric,
    }


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
    numbers = [as_float(value) for value in sample]
    n = len(numbers)
    if n == 0 or not all(map(math.isfinite, numbers)):
        return Interval(sum(numbers) / n if n else math.nan, math.nan, n)
    least, most = min(numbers), max(numbers)
    if least == most:
        return Interval(least, 0.0 if n > 1 else math.nan, n)
    # Scaling by a power of two is exact; half of it keeps the sum of squares from overflowing.
    scale = 2.0 ** (math.frexp(max(most, -least))[1] - 1)
    scaled = [value / scale for value in numbers]
    mean = math.fsum(scaled) / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in scaled) / (n - 1))
    margin = _student_t(n - 1) * deviation / math.sqrt(n)
    return Interval(mean * scale, margin * scale, n)


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
