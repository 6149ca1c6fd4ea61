"""The results of a search: each candidate with each scorer, and finally the best candidates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from casket_integrations.sklearn.describe import to_jsonable

Named = Iterator[tuple[str, dict[str, Any]]]
"""Pairs of scorer name and result."""


def single_name(scoring: Any) -> str:
    """Return the name of the only scorer of a search."""
    return scoring if isinstance(scoring, str) else "score"


def scorer_names(scoring: Any, outcomes: Iterable[Mapping[str, Any]]) -> list[str] | None:
    """Return the names of the scorers, as far as they are known from completed folds.

    Args:
        scoring: the `scoring` argument of the search.
        outcomes: the outcomes of the folds.

    Returns:
        The names; None if `scoring` is a function and all folds failed before calling it.
    """
    for outcome in outcomes:
        scores = outcome["test_scores"]
        if isinstance(scores, Mapping):
            return list(scores)
        if not callable(scoring) or outcome.get("fit_error") is None:
            return [single_name(scoring)]
    return None


def of_candidate(
    number: int, params: Any, outcomes: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> Named:
    """Yield the results of a candidate from its folds; `number` is its index in `cv_results_`."""
    times = [[outcome[time] for outcome in outcomes] for time in ("fit_time", "score_time")]
    scores = [[_score(outcome["test_scores"], name) for outcome in outcomes] for name in names]
    yield from _results(number, params, names, [*times, *scores])


def of_cv_results(search: Any) -> Named:
    """Yield the results of all candidates of a finished search."""
    cv_results = search.cv_results_
    scorers = _scorers(search)
    splits = range(search.n_splits_)
    for i, params in enumerate(cv_results["params"]):
        times = [
            [cv_results[f"mean_{time}"][i]] * len(splits) for time in ("fit_time", "score_time")
        ]
        scores = [
            [cv_results[f"split{split}_test_{key}"][i] for split in splits] for key, _ in scorers
        ]
        yield from _results(i, params, [name for _, name in scorers], [*times, *scores])


def best(search: Any) -> Named:
    """Yield the best candidate of a finished search for each scorer.

    The scorer used for refitting yields the refitted candidate; each other scorer yields the first
    candidate with rank 1.
    """
    cv_results = search.cv_results_
    for key, name in _scorers(search):
        ranks = cv_results[f"rank_test_{key}"]
        has_chosen = hasattr(search, "best_index_") and key in ("score", search.refit)
        index = int(search.best_index_ if has_chosen else np.argmin(ranks))
        yield (
            name,
            {
                "best_params": to_jsonable(cv_results["params"][index]),
                "best_score": float(cv_results[f"mean_test_{key}"][index]),
                "best_index": index,
                "ranks": ranks.tolist(),
            },
        )


def _scorers(search: Any) -> list[tuple[str, str]]:
    """Return pairs of a scorer's name in `cv_results_` and its name in the log."""
    prefix = "mean_test_"
    keys = [key.removeprefix(prefix) for key in search.cv_results_ if key.startswith(prefix)]
    if search.multimetric_:
        return [(key, key) for key in keys]
    return [(key, single_name(search.scoring)) for key in keys]


def _score(scores: Any, name: str) -> Any:
    # A failed fold may have a single score for all scorers.
    return scores[name] if isinstance(scores, Mapping) else scores


def _results(
    number: int, params: Any, names: Sequence[str], rows: Sequence[Sequence[Any]]
) -> Named:
    """Yield a candidate's results from rows of times and scores with a column per fold."""
    table = np.array(rows, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # infinite scores; scikit-learn warns of them
        means = _means(table)
        deviations = np.sqrt(_means((table - means[:, np.newaxis]) ** 2))
    fit_time, score_time, *mean_scores = means.tolist()
    _, _, *splits = table.tolist()
    jsonable = to_jsonable(params)
    for name, mean, deviation, scores in zip(
        names, mean_scores, deviations[2:].tolist(), splits, strict=True
    ):
        yield (
            name,
            {
                "candidate": number,
                "grid_search_params": jsonable,
                "dev_scores": {"mean": mean, "std": deviation, "splits": scores},
                "fit_time": fit_time,
                "score_time": score_time,
            },
        )


def _means(table: Any) -> Any:
    """Return the means of rows, equal to `numpy.mean` in `cv_results_` but faster."""
    return np.add.reduce(table, axis=1) / table.shape[1]
