"""The scores of a grid search by its params, as the cells of a heat map."""

from __future__ import annotations

from typing import Any

from casket.dashboard.answers.encoding import json_of
from casket.dashboard.answers.requests import RequestError
from casket.reading.rows import is_number
from casket.reading.summary import as_json
from casket.reading.views import SessionView

MOST_CELLS = 20_000


def heatmap(session: SessionView) -> dict[str, Any]:
    """Return the candidates' scores of a search logged by `LoggedGridSearchCV` or a similar class.

    Raises:
        RequestError: the session did not log a search.
    """
    cells: dict[bytes, dict[str, Any]] = {}
    scorers: dict[str, None] = {}
    left_out = 0
    logged = session.logged("result")
    for index, result in zip(logged.numbers["index"], logged.results(), strict=True):
        params, scores = result.get("grid_search_params"), result.get("dev_scores")
        if not isinstance(params, dict) or not isinstance(scores, dict):
            continue
        scorer = "score" if index is None else str(index)
        params = as_json(params)
        key = json_of(dict(sorted(params.items())))
        if key not in cells and len(cells) == MOST_CELLS:
            left_out += 1
            continue
        cell = cells.setdefault(key, {"params": params, "scores": {}})
        cell["scores"][scorer] = {name: as_json(scores.get(name)) for name in ("mean", "std")}
        scorers[scorer] = None
    if not cells:
        raise RequestError("the session logged no grid search", "session", 404)
    candidates = list(cells.values())
    return {
        "params": _values(candidates),
        "scorers": list(scorers),
        "cells": candidates,
        "left_out": left_out,
    }


def _values(cells: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return the distinct values of each param, with numbers sorted."""
    names = dict.fromkeys(name for cell in cells for name in cell["params"])
    return {name: _in_order([c["params"][name] for c in cells if name in c["params"]])
            for name in names}  # fmt: skip


def _in_order(values: list[Any]) -> list[Any]:
    distinct = list({json_of(value): value for value in values}.values())
    return sorted(distinct) if all(map(is_number, distinct)) else distinct
