"""How much of the variance of a metric a param explains, as on the page."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from math import fsum
from typing import Any

FEWEST = 6
"""Number of scores below which nothing is computed."""

_MOST_GROUPS = 8


def importance(values: Sequence[Any], scores: Sequence[float]) -> float | None:
    """Return how much of the variance of scores a param explains alone, from 0 to 1.

    This is omega squared of a one-way analysis of variance: the share of the variance between
    unlike values of the param, less the share expected by chance. Numbers with many distinct values
    are cut into groups of equal size.

    Args:
        values: the value of the param for each score; None if it has none.
        scores: the scores, finite numbers.

    Returns:
        The share, or None if there are too few scores, or too few for each value.
    """
    groups = _groups(values)
    members: defaultdict[Any, list[float]] = defaultdict(list)
    for group, score in zip(groups, scores, strict=True):
        members[group].append(score)
    count, kinds = len(scores), len(members)
    if count < FEWEST or kinds > count / 2:
        return None
    total = _squares(scores)
    if total == 0:
        return 0.0
    within = fsum(map(_squares, members.values()))
    error = within / (count - kinds)
    return max((total - within - (kinds - 1) * error) / (total + error), 0.0)


def _squares(sample: Sequence[float]) -> float:
    mean = fsum(sample) / len(sample)
    return fsum((each - mean) ** 2 for each in sample)


def _groups(values: Sequence[Any]) -> Sequence[Any]:
    # Equal numbers are one value: 1 and 1.0.
    keys = [v if _is_number(v) else json.dumps(v, sort_keys=True) for v in values]
    given = [value for value in values if value is not None]
    if len(set(keys)) <= _MOST_GROUPS or not all(map(_is_number, given)):
        return keys
    ordered = sorted(given)
    count = max(2, min(_MOST_GROUPS, len(ordered) // 5))

    def group(value: float | None) -> int | None:
        if value is None:
            return None
        # The mean rank of equal numbers, from 0.
        rank = (bisect_left(ordered, value) + bisect_right(ordered, value)) / 2
        return min(int(rank / len(ordered) * count), count - 1)

    return [group(value) for value in values]


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and value == value
