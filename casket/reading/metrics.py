"""Properties implied by the name of a metric.

The direction of a metric, and whether it is measured on held-out data, are decided only here: the
page receives them with its first answer (`facts_of`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from casket.reading.rows import Mode

_LOWER = re.compile(
    r"(^|[._/ -])(loss|error|err|mse|mae|rmse|mape|nll|bce|wer|cer|ppl|perplexity|fid|eer|"
    r"regret|brier|divergence|kl|bpb|bpc)($|[._/@ -])|(loss|error|distance)$"
)
_HIGHER = re.compile(
    r"(^|[._/ -])(acc|accuracy|auc|auroc|ap|map|f1|fbeta|precision|recall|score|r2|iou|dice|bleu|"
    r"rouge|reward|return|psnr|ssim|mcc|kappa|top\d+|miou|ndcg|mrr|auprc|(pass|hits)(?=@))"
    r"($|[._/@ -])|(accuracy|score|precision|recall)$"
)

_NEITHER = re.compile(r"(^|[./ ])(std|rank)_|[._/ -](time|seconds|duration)s?$|\.std$")

_PART = re.compile(
    r"^(train(?:ing)?|val(?:id(?:ation)?)?|test|dev|eval)(?:[_./ -])(?P<base>.+)$", re.IGNORECASE
)
_HELD_OUT = re.compile(r"(^|[_./ -])(val|valid|validation|test|dev|eval)([_./ -]|$)", re.IGNORECASE)
_TRAINING = re.compile(r"(^|[_./ -])train(ing)?([_./ -]|$)", re.IGNORECASE)
_PLUMBING = re.compile(
    r"(^|[./ ])((n|num|std|rank|split\d*)_[^./ ]*|"
    r"[^./ ]*_(time|seconds|duration|samples|count|index|idx|std)s?|"
    r"time|seconds|duration|std|timestamp|candidate|split|fold|rank|index|idx|count|"
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


def main_metric(tables: Iterable[Iterable[str]]) -> str | None:
    """Return the metric that best describes the quality of sessions, as the page chooses it.

    Args:
        tables: the names of the metrics of each session that have a best value.

    Returns:
        The most relevant of the metrics that many sessions have, or None without any.
    """
    counts = Counter(name for names in tables for name in names)
    most = max(counts.values(), default=0)
    common = [name for name, count in counts.items() if count >= most / 2]
    return min(common, key=lambda name: (-weight(name), better(name) != "max", name), default=None)


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
