"""What a session holds of a search: the folds that need not be computed again.

A search with `resume=True` logs each fold as a batch, numbered as the search counts them:
`{"fingerprint": text, "candidate": n, "split": n, "outcome": {...}}`. The outcome is what
scikit-learn's own function returned for the fold: scores, times, the error of a failed fit.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from casket.format.values import Encoder
from casket_integrations.sklearn import fingerprint

if TYPE_CHECKING:
    from casket import SessionView

Outcome = dict[str, Any]
Task = tuple[Any, tuple[Any, ...], dict[str, Any]]
"""What computes a fold, and what it is called with."""


class StoredFolds:
    """The outcomes of folds that a session holds, each of which is given away once.

    Args:
        session: the session; None if there is nothing to read.
    """

    def __init__(self, session: SessionView | None) -> None:
        self._outcomes: dict[str, deque[Outcome]] = {}
        for batch in session.batches if session else ():
            if isinstance(batch.get("outcome"), dict) and "fingerprint" in batch:
                self._outcomes.setdefault(batch["fingerprint"], deque()).append(batch["outcome"])

    def take(self, key: str | None) -> Outcome | None:
        """Return the outcome of a fold, if there is one that was not taken."""
        outcomes = self._outcomes.get(key or "")
        return outcomes.popleft() if outcomes else None


class StoredResults:
    """The results a session holds, so that a resumed search adds none a second time.

    Args:
        session: the session; None if there is nothing to read.
    """

    def __init__(self, session: SessionView | None) -> None:
        self._count: Counter[bytes] = Counter()
        if session is not None:
            for index in session.indexes:
                self._count.update(_text(index, row) for row in session.results(index_by=index))

    def take(self, index: str, result: Mapping[str, Any]) -> bool:
        """Tell whether a result is there that was not taken, and take it."""
        if not self._count:
            return False
        text = _text(index, result)
        is_there = self._count[text] > 0
        self._count[text] -= is_there
        return is_there


class Keys:
    """Tells the folds of one fit apart by what their scores follow from.

    Attributes:
        problems: why some cannot be told apart, each reason once.
    """

    def __init__(self) -> None:
        self.problems: dict[str, None] = {}
        self._known: dict[tuple[str, int], tuple[Any, str | None]] = {}

    def of(self, task: Task) -> str | None:
        """Return the key of a fold; None if it cannot be told apart from others."""
        _, _, named = task
        parts = [self._once("search", None, partial(fingerprint.of_search, *task))]
        for name in ("parameters", "train", "test"):
            value = named.get(name)
            parts.append(self._once(name, value, partial(fingerprint.digest, name, value)))
        if None in parts:
            return None
        return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:32]

    def _once(self, name: str, value: Any, find: Callable[[], str]) -> str | None:
        """Return what `find` finds, or found for this object: folds share all but one part."""
        key = (name, id(value))
        if key not in self._known:
            # With the object, so that no other one takes its place in memory.
            self._known[key] = (value, self._tried(find))
        return self._known[key][1]

    def _tried(self, find: Callable[[], str]) -> str | None:
        try:
            return find()
        except fingerprint.Unknown as problem:
            self.problems[str(problem)] = None
            return None


def _text(index: Any, result: Mapping[str, Any]) -> bytes:
    encoded = Encoder().mapping(result, "result")
    return orjson.dumps([index, encoded], option=orjson.OPT_SORT_KEYS)
