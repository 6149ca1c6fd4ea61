"""The stored folds and results of a search, which a resumed search reuses.

A search with `resume=True` logs each fold as a batch, numbered in the order of the search:
`{"fingerprint": text, "candidate": n, "split": n, "outcome": {...}}`. The outcome is the return
value of scikit-learn's own function for the fold: scores, times and the error of a failed fit.
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
"""The function that computes a fold, with its positional and keyword arguments."""


class StoredFolds:
    """The stored outcomes of folds in a session, each of which is reused once.

    Args:
        session: the session to read; None for no outcomes.
    """

    def __init__(self, session: SessionView | None) -> None:
        self._outcomes: dict[str, deque[Outcome]] = {}
        for batch in session.batches if session else ():
            if isinstance(batch.get("outcome"), dict) and "fingerprint" in batch:
                self._outcomes.setdefault(batch["fingerprint"], deque()).append(batch["outcome"])

    def pop(self, key: str | None) -> Outcome | None:
        """Return and remove an outcome of a fold; None if there is none left."""
        outcomes = self._outcomes.get(key or "")
        return outcomes.popleft() if outcomes else None


class StoredResults:
    """The stored results of a session, so that a resumed search does not add them again.

    Args:
        session: the session to read; None for no results.
    """

    def __init__(self, session: SessionView | None) -> None:
        self._count: Counter[bytes] = Counter()
        if session is not None:
            for index in session.indexes:
                self._count.update(_text(index, row) for row in session.results(index_by=index))

    def remove(self, index: str, result: Mapping[str, Any]) -> bool:
        """Remove a result and return whether it was present."""
        if not self._count:
            return False
        text = _text(index, result)
        is_there = self._count[text] > 0
        self._count[text] -= is_there
        return is_there


class Keys:
    """The keys of the folds of a fit, derived from the inputs of their scores.

    Attributes:
        problems: the distinct reasons why folds have no key.
    """

    def __init__(self) -> None:
        self.problems: dict[str, None] = {}
        self._known: dict[tuple[str, int], tuple[Any, str | None]] = {}

    def of(self, task: Task) -> str | None:
        """Return the key of a fold; None if it cannot be distinguished from others."""
        _, _, named = task
        parts = [self._once("search", None, partial(fingerprint.of_search, *task))]
        for name in ("parameters", "train", "test"):
            value = named.get(name)
            parts.append(self._once(name, value, partial(fingerprint.digest, name, value)))
        if None in parts:
            return None
        return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:32]

    def _once(self, name: str, value: Any, find: Callable[[], str]) -> str | None:
        """Return the result of `find`, cached by object because folds share most parts."""
        key = (name, id(value))
        if key not in self._known:
            # Stored with the object, so that its id is not reused.
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
